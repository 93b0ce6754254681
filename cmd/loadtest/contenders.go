package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A contender is a proxy to be measured.
type contender struct {
	name  string
	main  bool   // in short runs, too
	path  string // asked for
	token string // "": it verifies none
	// forged is refused, or the contender is not measured.
	forged string
	// command makes what is to be run, listening on address.
	command func(address string) (name string, arguments []string, err error)
	prepare func(ctx context.Context) error // before it is started; nil: nothing
	profile string                          // address of /debug/pprof; "": none

	address string
	process *process
	started time.Duration // until its first answer
	idle    int           // bytes resident after it
}

const bareName = "bare ReverseProxy, no authentication"

// bench is the surroundings of all contenders.
type bench struct {
	options
	log      io.Writer
	root     string // of the repository
	dir      string // temporary
	keys     *keys
	self     string // this program
	upstream string // URL
	running  []*process
}

func newBench(ctx context.Context, o options, log io.Writer) (b *bench, err error) {
	b = &bench{options: o, log: log}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.self, err = os.Executable(); err != nil {
		return b, err
	}
	if b.root, err = repository(); err != nil {
		return b, err
	}
	if b.dir, err = os.MkdirTemp("", "loadtest-"); err != nil {
		return b, err
	}
	if b.keys, err = newKeys(b.dir); err != nil {
		return b, err
	}
	address, err := freeAddress()
	if err != nil {
		return b, err
	}
	name, arguments := b.onProcessor(false, b.self, "role", "upstream", address)
	p, err := start(b.dir, name, arguments...)
	if err != nil {
		return b, err
	}
	b.running = append(b.running, p)
	b.upstream = "http://" + address
	return b, p.await(ctx, func() error { return answers(b.upstream+"/", "", http.StatusOK) })
}

func (b *bench) close() {
	for _, p := range b.running {
		p.stop()
	}
	if b.dir != "" {
		_ = os.RemoveAll(b.dir)
	}
}

// repository is the folder of go.mod.
func repository() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, e := os.Stat(filepath.Join(dir, "go.mod")); e == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this in the repository")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// onProcessor is a command on the contender's processor, or on the others, if
// they are to be kept apart.
func (b *bench) onProcessor(contender bool, name string, arguments ...string) (string, []string) {
	if !b.pin {
		return name, arguments
	}
	processors := "0"
	if !contender {
		processors = fmt.Sprintf("1-%d", runtime.NumCPU()-1)
	}
	return "taskset", append([]string{"-c", processors, name}, arguments...)
}

// contenders are all that this machine can run.
func (b *bench) contenders(ctx context.Context) ([]*contender, error) {
	all := []*contender{{
		name: bareName, main: true, path: "/",
		command: func(address string) (string, []string, error) {
			return b.self, []string{"role", "bare", address, b.upstream}, nil
		},
	}}
	gatehouses, err := b.gatehouses(ctx)
	if err != nil {
		return nil, err
	}
	peers, err := b.peers()
	if err != nil {
		return nil, err
	}
	return append(append(all, gatehouses...), peers...), nil
}

// enter starts the contenders and keeps those that may be measured.
func (b *bench) enter(ctx context.Context, all []*contender) []*contender {
	var entered []*contender
	for _, c := range all {
		if err := b.admit(ctx, c); err != nil {
			fmt.Fprintf(b.log, "%s: not measured: %v\n", c.name, err)
			continue
		}
		entered = append(entered, c)
	}
	return entered
}

// admit starts a contender and tries it: a good token must pass, a forged one
// must be refused.
func (b *bench) admit(ctx context.Context, c *contender) (err error) {
	if c.prepare != nil {
		if err := c.prepare(ctx); err != nil {
			return err
		}
	}
	if c.address, err = freeAddress(); err != nil {
		return err
	}
	name, arguments, err := c.command(c.address)
	if err != nil {
		return err
	}
	began := time.Now()
	name, arguments = b.onProcessor(true, name, arguments...)
	if c.process, err = start(b.dir, name, arguments...); err != nil {
		return err
	}
	b.running = append(b.running, c.process)
	if err := c.process.await(ctx, func() error { return answers(c.url(), c.token, http.StatusOK) }); err != nil {
		return err
	}
	c.started = time.Since(began)
	if err := c.mayBeMeasured(); err != nil {
		return err
	}
	u, err := c.process.usage()
	c.idle = u.rss
	return err
}

func (c *contender) url() string { return "http://" + c.address + c.path }

// mayBeMeasured is the rule for contenders that verify tokens: 401 for a forged
// one, and for none.
func (c *contender) mayBeMeasured() error {
	if c.token == "" {
		if !strings.Contains(c.name, "no authentication") {
			return errors.New("it verifies no tokens, and its name does not say so")
		}
		return nil
	}
	if c.forged == "" || c.forged == c.token {
		return errors.New("there is no forged token to try it with")
	}
	for _, bad := range []string{c.forged, ""} {
		if err := answers(c.url(), bad, http.StatusUnauthorized); err != nil {
			return fmt.Errorf("it has to refuse a forged token, and none: %w", err)
		}
	}
	return nil
}

// answers asks once, on a connection of its own.
func answers(url, token string, want int) error {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		return err
	}
	defer closeQuietly(res.Body)
	if res.StatusCode != want {
		return fmt.Errorf("%s answered %d, want %d", url, res.StatusCode, want)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

// found is the path of a program, or "".
func found(name string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
			if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path
			}
		}
		return ""
	}
	return path
}
