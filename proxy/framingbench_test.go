package proxy

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// What a browser sends, more or less.
const browserHead = "GET /app/items?page=2&sort=name HTTP/1.1\r\nHost: gw.example\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nReferer: https://gw.example/app/items\r\n" +
	"Cookie: theme=dark; session=0123456789abcdef0123456789abcdef0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n" +
	"Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: same-origin\r\nPriority: u=0, i\r\n\r\n"

// serveGuarded serves with a Guard in front, or without one.
func serveGuarded(t testing.TB, with bool, handler http.HandlerFunc) net.Addr {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	serving := l
	if with {
		server.ConnState = GuardState
		serving = &guardedListener{l, &Guard{Log: slog.New(slog.DiscardHandler)}, nil}
	}
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(serving) })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	return l.Addr()
}

// BenchmarkGuard is requests over one kept connection each, with a Guard and
// without.
func BenchmarkGuard(b *testing.B) {
	big := strings.Repeat("0123456789abcdef", 4<<10)
	for _, c := range []struct{ name, request string }{
		{"get", browserHead},
		{"post64k", fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(big), big)},
		{"chunked64k", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1000\r\n"+big[:4<<10]+"\r\n", 16) + "0\r\n\r\n"},
	} {
		for _, with := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/guard=%v", c.name, with), func(b *testing.B) {
				conn, err := net.Dial("tcp", serveGuarded(b, with, func(w http.ResponseWriter, r *http.Request) {
					io.Copy(io.Discard, r.Body)
					w.Header()["Content-Length"] = []string{"2"}
					io.WriteString(w, "ok")
				}).String())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				request, br := []byte(c.request), bufio.NewReader(conn)
				b.ReportAllocs()
				for b.Loop() {
					conn.Write(request)
					for { // the answer's head, then its body
						line, err := br.ReadSlice('\n')
						if err != nil {
							b.Fatal(err)
						}
						if len(line) == 2 {
							break
						}
					}
					br.Discard(2)
				}
			})
		}
	}
}

// BenchmarkFramer is the grammar alone.
func BenchmarkFramer(b *testing.B) {
	head := []byte(browserHead)
	f := framer{limit: testHeaderBytes}
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	for b.Loop() {
		if n, wrong := f.scan(head); n != len(head) || wrong != nil {
			b.Fatal(n, wrong)
		}
	}
}

// TestGuardAllocatesNothing per request, once a connection is there.
func TestGuardAllocatesNothing(t *testing.T) {
	said := []byte(strings.Repeat(browserHead+"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 2))
	client := &scriptedConn{piece: 4 << 10}
	c := (&Guard{}).Conn(client, 0, 0).(*guarded)
	p := make([]byte, 4<<10)
	read := func() {
		client.said = said
		for range 4 {
			if n, err := c.Read(p); n == 0 || err != nil || !c.answering {
				t.Fatal(n, err)
			}
			c.changed(http.StateIdle)
		}
	}
	read() // the pool has a buffer from here on
	if n := testing.AllocsPerRun(100, read); n > 0.1 {
		t.Errorf("%v allocations for four requests, want none", n)
	}
	if c.rest != nil {
		t.Error("an idle connection keeps a buffer")
	}
}

// TestIdleConnectionsCostLittle compares the memory of kept connections with a
// Guard and without.
func TestIdleConnectionsCostLittle(t *testing.T) {
	const connections = 400
	cost := func(with bool) int64 {
		address := serveGuarded(t, with, func(http.ResponseWriter, *http.Request) {}).String()
		before := heapInUse()
		for range connections {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			// Pipelined, so that what is beyond a message had to be kept.
			io.WriteString(conn, browserHead+browserHead)
			br := bufio.NewReaderSize(conn, 16)
			for range 2 {
				if res, err := http.ReadResponse(br, nil); err != nil || res.StatusCode != 200 {
					t.Fatal(res, err)
				}
			}
		}
		return (heapInUse() - before) / connections
	}
	without, with := cost(false), cost(true)
	t.Logf("an idle connection: %d bytes without a guard, %d with", without, with)
	if with > without+1024 {
		t.Errorf("an idle connection: %d bytes without a guard, %d with", without, with)
	}
}

func heapInUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
