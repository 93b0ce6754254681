package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A job is what one turn asks for.
type job struct {
	address     string
	path        string
	token       string
	connections int
	headers     int // beside those that every request has
	duration    time.Duration
}

// An outcome is what came of it.
type outcome struct {
	requests int // answered with 200
	took     time.Duration
	p50, p99 time.Duration
}

// load runs one job, and calls begin when the load that counts begins.
func (b *bench) load(ctx context.Context, j job, begin func() error) (outcome, error) {
	program := found("wrk")
	switch {
	case b.generator == "wrk" && program == "":
		return outcome{}, errors.New("wrk is not on PATH")
	case b.generator == "own" || program == "":
		return generate(ctx, j, begin)
	}
	if err := begin(); err != nil {
		return outcome{}, err
	}
	return b.wrk(ctx, program, j)
}

// fields are the headers of a request.
func (j job) fields() []string {
	var fields []string
	if j.token != "" {
		fields = append(fields, "Authorization: Bearer "+j.token)
	}
	for i := range j.headers {
		fields = append(fields, fmt.Sprintf("X-Some-Field-%d: the value of field number %d", i, i))
	}
	return fields
}

func (b *bench) wrk(ctx context.Context, program string, j job) (outcome, error) {
	arguments := []string{"-t1", "-c", strconv.Itoa(j.connections), "-d", strconv.Itoa(max(1, int(j.duration.Round(time.Second).Seconds()))) + "s",
		"--timeout", "10s", "--latency"}
	for _, f := range j.fields() {
		arguments = append(arguments, "-H", f)
	}
	program, arguments = b.onProcessor(false, program, append(arguments, "http://"+j.address+j.path)...)
	out, err := exec.CommandContext(ctx, program, arguments...).CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return readWrk(string(out))
}

var (
	wrkTotal   = regexp.MustCompile(`(?m)^\s*(\d+) requests in ([\d.]+(?:us|ms|s|m|h))`)
	wrkLatency = regexp.MustCompile(`(?m)^\s*(50|99)%\s+([\d.]+(?:us|ms|s|m|h))`)
	wrkTrouble = regexp.MustCompile(`(?m)^.*(Non-2xx|Socket errors).*$`)
)

// readWrk reads what wrk 4 prints. A run with an answer other than 2xx or 3xx
// counts for nothing.
func readWrk(out string) (outcome, error) {
	if trouble := wrkTrouble.FindString(out); trouble != "" && !strings.Contains(trouble, "connect 0, read 0, write 0, timeout 0") {
		return outcome{}, errors.New("wrk: " + strings.TrimSpace(trouble))
	}
	total := wrkTotal.FindStringSubmatch(out)
	if total == nil {
		return outcome{}, fmt.Errorf("wrk printed no total: %q", out)
	}
	var o outcome
	var err error
	if o.requests, err = strconv.Atoi(total[1]); err != nil {
		return o, err
	}
	if o.took, err = time.ParseDuration(total[2]); err != nil {
		return o, err
	}
	for _, line := range wrkLatency.FindAllStringSubmatch(out, -1) {
		d, err := time.ParseDuration(line[2])
		if err != nil {
			return o, err
		}
		if line[1] == "50" {
			o.p50 = d
		} else {
			o.p99 = d
		}
	}
	if o.requests == 0 {
		return o, errors.New("no request was answered")
	}
	return o, nil
}

// generate is the load of our own: each connection asks again as soon as it was
// answered. All of them have been answered once when it calls begin.
func generate(ctx context.Context, j job, begin func() error) (outcome, error) {
	clients := make([]client, j.connections)
	defer func() {
		for i := range clients {
			clients[i].close()
		}
	}()
	together := make(chan struct{}, connectTogether)
	each := func(do func(*client) error) error {
		errs := make([]error, len(clients))
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() { errs[i] = do(&clients[i]) })
		}
		all.Wait()
		return errors.Join(errs...)
	}
	err := each(func(c *client) error {
		together <- struct{}{}
		defer func() { <-together }()
		return c.connect(ctx, j)
	})
	if err != nil {
		return outcome{}, err
	}
	if err := begin(); err != nil {
		return outcome{}, err
	}
	began := time.Now()
	if err := each(func(c *client) error { return c.askUntil(ctx, began.Add(j.duration)) }); err != nil {
		return outcome{}, err
	}
	var took []time.Duration
	for i := range clients {
		took = append(took, clients[i].times...)
	}
	if len(took) == 0 {
		return outcome{}, errors.New("no request was answered")
	}
	slices.Sort(took)
	return outcome{len(took), time.Since(began), took[len(took)/2], took[len(took)*99/100]}, nil
}

// connectTogether is how many connections are made at a time: fewer than a
// listener lets wait.
const connectTogether = 64

func (j job) request() []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", j.path, j.address, strings.Join(append(j.fields(), ""), "\r\n"))
}

// once asks over conn, and leaves it open.
func (j job) once(conn net.Conn) error {
	if _, err := conn.Write(j.request()); err != nil {
		return err
	}
	return skipAnswer(bufio.NewReader(conn))
}

// A client is one connection of the load.
type client struct {
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	times   []time.Duration
}

// connect opens the connection and asks once over it.
func (c *client) connect(ctx context.Context, j job) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", j.address)
	if err != nil {
		return err
	}
	c.conn, c.in, c.request = conn, bufio.NewReader(conn), j.request()
	return c.ask(time.Now())
}

func (c *client) ask(now time.Time) error {
	_ = c.conn.SetDeadline(now.Add(10 * time.Second)) // fails where reading will
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	return skipAnswer(c.in)
}

func (c *client) askUntil(ctx context.Context, end time.Time) error {
	for began := time.Now(); began.Before(end) && ctx.Err() == nil; {
		if err := c.ask(began); err != nil {
			return err
		}
		now := time.Now()
		c.times = append(c.times, now.Sub(began))
		began = now
	}
	return ctx.Err()
}

func (c *client) close() {
	if c.conn != nil {
		closeQuietly(c.conn)
	}
}

// skipAnswer reads past an answer with 200 and a Content-Length.
func skipAnswer(in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if !strings.HasPrefix(line, "HTTP/1.1 200") {
		return fmt.Errorf("answered %q", strings.TrimSpace(line))
	}
	length := -1
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if line = strings.TrimSpace(line); line == "" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return errors.New("an answer without Content-Length")
	}
	_, err = io.CopyN(io.Discard, in, int64(length))
	return err
}
