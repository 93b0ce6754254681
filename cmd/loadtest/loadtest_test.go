package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain plays the roles for the processes that the tests start.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		if err := playRole(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestRun is a whole run with one connection: it proves the tool, not the
// proxies.
func TestRun(t *testing.T) {
	var out, log bytes.Buffer
	plots := filepath.Join(t.TempDir(), "plots")
	begin := sweeps
	defer func() { sweeps = begin }()
	sweeps = append([]sweep(nil), sweeps[1])
	sweeps[0].values = []int{0, 5}
	err := run(t.Context(), []string{"-rounds", "1", "-duration", "200ms", "-connections", "1", "-idle", "3", "-generator", "own",
		"-only", "Gatehouse ES256,", "-revoked", "1000", "-plots", plots}, &out, &log)
	if err != nil {
		t.Fatalf("run: %v\n%s", err, &log)
	}
	for _, want := range []string{"| " + bareName + " | ", " | 1.00 | ", "| Gatehouse ES256, access log | ", "| Gatehouse ES256, SQLite accounts | ",
		"| Gatehouse ES256, 10,000 routes on 1,000 hosts | ", "| Gatehouse ES256, Redis, 1,000 revoked | ", "| Gatehouse ES256, strict Redis | ", " KiB |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s%s", want, &out, &log)
		}
	}
	if strings.Contains(log.String(), "not measured") || strings.Contains(out.String(), "HAProxy") {
		t.Errorf("%s%s", &out, &log)
	}
	svg, err := os.ReadFile(filepath.Join(plots, "headers.svg"))
	if err != nil {
		t.Fatal(err)
	}
	wellFormed(t, string(svg))
	if !strings.Contains(string(svg), bareName) {
		t.Errorf("no line of the bare proxy in %s", svg)
	}
}

// TestMayBeMeasured: no figure for a contender that lets a forged token in.
func TestMayBeMeasured(t *testing.T) {
	for _, c := range []struct {
		name, token, forged string
		status              func(authorization string) int
		refused             string
	}{
		{"good", "good", "forged", func(a string) int {
			if a == "Bearer good" {
				return 200
			}
			return 401
		}, ""},
		{"open", "good", "forged", func(string) int { return 200 }, "answered 200, want 401"},
		{"open to nobody", "good", "forged", func(a string) int {
			if a == "Bearer forged" {
				return 401
			}
			return 200
		}, "answered 200, want 401"},
		{"forbids", "good", "forged", func(a string) int { return 403 }, "answered 403, want 401"},
		{"untried", "good", "", func(string) int { return 401 }, "no forged token"},
		{"silent", "", "", func(string) int { return 200 }, "its name does not say so"},
		{"silent, no authentication", "", "", func(string) int { return 200 }, ""},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(c.status(r.Header.Get("Authorization")))
		}))
		tried := &contender{name: c.name, path: "/", token: c.token, forged: c.forged, address: server.Listener.Addr().String()}
		err := tried.mayBeMeasured()
		server.Close()
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: %v, want %q", c.name, err, c.refused)
		}
	}
}

// TestEnter: such a contender is left out and named.
func TestEnter(t *testing.T) {
	var log bytes.Buffer
	b := &bench{log: &log, dir: t.TempDir(), self: os.Args[0]}
	defer b.close()
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	open := &contender{name: "open", path: "/", token: "a", forged: "b", command: func(address string) (string, []string, error) {
		return b.self, []string{"role", "upstream", address}, nil
	}}
	broken := &contender{name: "broken", path: "/", command: func(string) (string, []string, error) {
		return b.self, []string{"role", "nothing", address}, nil
	}}
	if entered := b.enter(t.Context(), []*contender{open, broken}); len(entered) != 0 {
		t.Errorf("entered %v, want none", entered[0].name)
	}
	for _, want := range []string{"open: not measured: it has to refuse a forged token", "broken: not measured: ended: role"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log %q, want %q", &log, want)
		}
	}
}

func TestReadWrk(t *testing.T) {
	const good = `Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.01ms    1.50ms  12.00ms   71.00%
  Latency Distribution
     50%    1.71ms
     75%    3.00ms
     90%    4.00ms
     99%  870.00us
  3012 requests in 1.00s, 3.60MB read
Requests/sec:   3011.00
`
	o, err := readWrk(good)
	if want := (outcome{3012, time.Second, 1710 * time.Microsecond, 870 * time.Microsecond}); err != nil || o != want {
		t.Errorf("readWrk = %+v, %v, want %+v", o, err, want)
	}
	for _, bad := range []string{"", good + "  Non-2xx or 3xx responses: 3\n", good + "  Socket errors: connect 0, read 3, write 0, timeout 0\n", strings.Replace(good, "3012", "0", 1)} {
		if o, err := readWrk(bad); err == nil {
			t.Errorf("readWrk(%q) = %+v", bad, o)
		}
	}
}

func TestUsage(t *testing.T) {
	b := &bench{dir: t.TempDir()}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	// A child of a shell counts as well.
	p, err := start(b.dir, "sh", "-c", fmt.Sprintf("%q role upstream %s; true", os.Args[0], address))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		for _, pid := range family(p.cmd.Process.Pid)[1:] {
			if child, err := os.FindProcess(pid); err == nil {
				_ = child.Kill()
			}
		}
		p.stop()
	}()
	if err := p.await(t.Context(), func() error { return answers("http://"+address, "", 200) }); err != nil {
		t.Fatal(err)
	}
	var before usage
	begin := func() (err error) {
		before, err = p.usage()
		return err
	}
	if o, err := generate(t.Context(), job{address: address, path: "/bytes/100000", connections: 2, duration: 200 * time.Millisecond}, begin); err != nil || o.requests == 0 || o.p50 > o.p99 {
		t.Fatalf("generate = %+v, %v", o, err)
	}
	after, err := p.usage()
	if err != nil || after.cpu <= before.cpu || after.rss < 1<<20 {
		t.Errorf("usage %+v, then %+v, %v", before, after, err)
	}
}

func TestSetRatios(t *testing.T) {
	of := func(name string, cpus ...float64) *result {
		r := &result{contender: &contender{name: name}}
		for _, cpu := range cpus {
			r.turns = append(r.turns, turn{cpu: cpu})
		}
		return r
	}
	bare, other := of(bareName, 100), of("other", 80)
	setRatios([]*result{other, bare})
	bare.turns, other.turns = append(bare.turns, turn{cpu: 200}, turn{cpu: 100}), append(other.turns, turn{cpu: 100}, turn{cpu: 90})
	setRatios([]*result{bare, other})
	other.turns[1].ratio = 0.5
	if other.summarise(); other.median.ratio != 0.8 || other.worst != 0.9 || other.median.cpu != 90 {
		t.Errorf("median %+v, worst %v", other.median, other.worst)
	}
}

func TestCompare(t *testing.T) {
	file := filepath.Join(t.TempDir(), "figures.json")
	of := func(name string, ratio float64) *result {
		return &result{contender: &contender{name: name}, median: turn{ratio: ratio}}
	}
	if err := saveFigures(file, []*result{of(bareName, 1), of("Gatehouse A", 0.7), of("HAProxy", 0.5)}, "here", time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		a, h          float64
		prints, fails string
	}{
		{0.72, 0.5, "0.70 → 0.72   +3 %  as before", ""},
		{0.9, 0.5, "+29 %  WORSE", ""},
		{0.5, 0.5, "-29 %  better", ""},
		{0.7, 2, "+300 %  WORSE", ""},
		{1.2, 0.5, "+71 %  WORSE", "Gatehouse A: 1.20 of the bare proxy, was 0.70"},
	} {
		var out strings.Builder
		err := compareFigures(&out, file, []*result{of(bareName, 1), of("Gatehouse A", c.a), of("HAProxy", c.h), of("new", 1)})
		if !strings.Contains(out.String(), c.prints) || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("compare: %v, printed %q, want %q and %q", err, &out, c.prints, c.fails)
		}
	}
}

func wellFormed(t *testing.T, svg string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(svg))
	for {
		_, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
	}
}

func TestSVG(t *testing.T) {
	c := chart{title: "a < b & c", across: `"x"`, up: "µs", show: thousands, log: true, lines: []line{
		{"first", []point{{1, 10}, {4096, 1234}}}, {"second <&>", []point{{1, 0}, {64, 55.5}}},
	}}
	svg := c.svg()
	wellFormed(t, svg)
	for _, want := range []string{"a &lt; b &amp; c", "second &lt;&amp;&gt;", "4,096", "1,500", "55.5 µs"} {
		if !strings.Contains(svg, want) {
			t.Errorf("no %q in %s", want, svg)
		}
	}
	for _, odd := range []chart{{show: thousands}, {show: thousands, lines: []line{{"one", []point{{0, 0}}}}}} {
		svg := odd.svg()
		wellFormed(t, svg)
		if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
			t.Errorf("a number is none in %s", svg)
		}
	}
	for v, want := range map[float64]float64{0: 1, 0.3: 0.5, 1: 1, 1.1: 2, 3: 5, 7: 10, 300: 500} {
		if got := niceStep(v); math.Abs(got-want) > 1e-9 {
			t.Errorf("niceStep(%v) = %v, want %v", v, got, want)
		}
	}
}

func TestUsageOfFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-nothing"}, {"word"}, {"-duration", "0s"}, {"-connections", "-1"}} {
		if err := run(context.Background(), args, io.Discard, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("run %q: %v, want wrong usage", args, err)
		}
	}
}

func TestSkipAnswer(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc": "",
		"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n":    "answered",
		"HTTP/1.1 200 OK\r\n\r\n":                         "without Content-Length",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc": "EOF",
		"": "EOF",
	} {
		client, server := net.Pipe()
		go func() {
			_, _ = io.CopyN(io.Discard, server, int64(len(job{}.request())))
			_, _ = io.WriteString(server, answer)
			server.Close()
		}()
		err := job{}.once(client)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("once with %q: %v, want %q", answer, err, want)
		}
		client.Close()
	}
}
