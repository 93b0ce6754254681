package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTransport compares httputil.ReverseProxy with a tuned http.Transport
// and with ours, by what a request costs the proxy's process: proxies and app are
// processes of their own. Rounds alternate, since a machine is never as fast as a
// minute before; the figures are medians, and only the ratio means anything.
//
//	go test -run '^$' -bench BenchmarkTransport -benchtime 20000x ./proxy
func BenchmarkTransport(b *testing.B) {
	if role := os.Getenv("BENCH_ROLE"); role != "" {
		benchProcess(role, os.Getenv("BENCH_UPSTREAM"))
		return
	}
	app := startBench(b, "app", "")
	bare, ours := startBench(b, "bare", app.addr), startBench(b, "ours", app.addr)
	const kib, mib = 1 << 10, 1 << 20
	for _, c := range []struct{ conns, answer, upload int }{
		{1, kib, 0}, {64, kib, 0}, {512, kib, 0}, {4096, kib, 0}, {64, 64 * kib, 0}, {16, mib, 0}, {64, kib, kib}, {16, kib, mib},
	} {
		b.Run(fmt.Sprintf("conns=%d/answer=%d/upload=%d", c.conns, c.answer, c.upload), func(b *testing.B) {
			request := fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: app.example\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", c.answer)
			if c.upload > 0 {
				request = fmt.Appendf(nil, "POST /%d HTTP/1.1\r\nHost: app.example\r\nUser-Agent: bench\r\nContent-Length: %d\r\n\r\n%s",
					c.answer, c.upload, strings.Repeat("x", c.upload))
			}
			n := max(b.N*2048/(2048+c.answer/8+c.upload/8), 2*c.conns) // large ones are fewer
			bare.load(b, c.conns, n/4, request)
			ours.load(b, c.conns, n/4, request)
			const rounds = 5
			var costs, bares, ratios []float64
			for range rounds {
				was, is := bare.load(b, c.conns, n/rounds, request), ours.load(b, c.conns, n/rounds, request)
				bares, costs, ratios = append(bares, was), append(costs, is), append(ratios, is/was)
			}
			b.ReportMetric(median(bares), "bare-µs/request")
			b.ReportMetric(median(costs), "ours-µs/request")
			b.ReportMetric(median(ratios), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// benchProxy is a process that tells its own CPU time.
type benchProxy struct {
	addr  string
	ask   io.Writer
	lines *bufio.Scanner
}

func startBench(b *testing.B, role, upstream string) *benchProxy {
	cmd := exec.Command(os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkTransport$", "-test.benchtime=1x")
	cmd.Env = append(os.Environ(), "BENCH_ROLE="+role, "BENCH_UPSTREAM="+upstream)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close() // ends it
		cmd.Wait()
	})
	p := &benchProxy{ask: in, lines: bufio.NewScanner(out)}
	for p.lines.Scan() {
		if addr, ok := strings.CutPrefix(p.lines.Text(), "listening "); ok {
			p.addr = addr
			return p
		}
	}
	b.Fatalf("%s said nothing: %v", role, p.lines.Err())
	return nil
}

func (p *benchProxy) cpu(b *testing.B) time.Duration {
	io.WriteString(p.ask, "cpu\n")
	if !p.lines.Scan() {
		b.Fatal("the proxy has gone")
	}
	n, err := strconv.Atoi(p.lines.Text())
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// load sends n requests over conns connections and returns the microseconds of
// CPU that each of them cost.
func (p *benchProxy) load(b *testing.B, conns, n int, request []byte) float64 {
	var (
		left atomic.Int64
		done atomic.Int64
		wait sync.WaitGroup
	)
	left.Store(int64(n))
	opened := make([]net.Conn, conns)
	for i := range opened {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		opened[i] = conn
	}
	before := p.cpu(b)
	for _, conn := range opened {
		wait.Go(func() {
			in := bufio.NewReaderSize(conn, 8<<10)
			for left.Add(-1) >= 0 {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil || res.StatusCode != 200 {
					b.Errorf("%v, %v", res, err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	wait.Wait()
	return float64((p.cpu(b) - before).Nanoseconds()) / 1e3 / float64(max(done.Load(), 1))
}

// benchProcess serves until its standard input ends.
func benchProcess(role, upstream string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	handler := http.Handler(http.HandlerFunc(benchApp))
	if role != "app" {
		t, err := parseTarget("http://" + upstream)
		if err != nil {
			panic(err)
		}
		handler = benchForwarder(role, t.url)
	}
	go http.Serve(l, handler)
	fmt.Printf("listening %s\n", l.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var used syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &used)
		fmt.Println(used.Utime.Nano() + used.Stime.Nano())
	}
	os.Exit(0)
}

func benchForwarder(role string, to *url.URL) http.Handler {
	tuned := http.DefaultTransport.(*http.Transport).Clone()
	tuned.Proxy, tuned.DisableCompression = nil, true
	tuned.MaxIdleConns, tuned.MaxIdleConnsPerHost = 0, 4096
	tuned.ResponseHeaderTimeout = time.Minute
	p := &httputil.ReverseProxy{
		Transport:  tuned,
		BufferPool: buffers,
		Rewrite:    func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
	}
	if role == "ours" {
		t, _ := parseTarget(to.String())
		p.Transport = newTransports(slog.New(slog.DiscardHandler)).get(t, time.Minute)
	}
	return p
}

var benchBody = make([]byte, 1<<20)

// benchApp answers with as many bytes as its path says.
func benchApp(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Path[1:])
	io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(n))
	w.Write(benchBody[:n])
}
