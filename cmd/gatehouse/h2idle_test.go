package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"weak"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gatehouse/config"
)

// An h2Client speaks HTTP/2 frame by frame.
type h2Client struct {
	*http2.Framer
	conn   *tls.Conn
	block  bytes.Buffer
	fields *hpack.Encoder
	stream uint32 // of the next request
}

// beginHTTP2 sends the preface, but not the settings that are to follow.
func beginHTTP2(t *testing.T, f *front) *h2Client {
	t.Helper()
	return beginHTTP2On(t, dial(t, f).Conn)
}

func beginHTTP2On(t *testing.T, plain net.Conn) *h2Client {
	t.Helper()
	conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &h2Client{Framer: http2.NewFramer(conn, conn), conn: conn, stream: 1}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	return c
}

func dialHTTP2(t *testing.T, f *front) *h2Client {
	t.Helper()
	c := beginHTTP2(t, f)
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

func headOf(path string) [][2]string {
	return [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a"}, {":path", path}}
}

// ask begins a request, and returns its stream.
func (c *h2Client) ask(head [][2]string, complete bool) uint32 {
	c.block.Reset()
	for _, field := range head {
		_ = c.fields.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
	}
	c.stream += 2
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.stream - 2, BlockFragment: c.block.Bytes(), EndHeaders: complete, EndStream: true})
	return c.stream - 2
}

// last reads to the end of the connection. It returns the last GOAWAY, if any, and how
// many answers were complete before the end.
func (c *h2Client) last() (away *http2.GoAwayFrame, answers int, err error) {
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			return away, answers, err
		}
		switch frame := frame.(type) {
		case *http2.GoAwayFrame:
			away = &http2.GoAwayFrame{LastStreamID: frame.LastStreamID, ErrCode: frame.ErrCode}
		case *http2.DataFrame:
			if frame.StreamEnded() {
				answers++
			}
		case *http2.MetaHeadersFrame:
			if frame.StreamEnded() {
				answers++
			}
		}
	}
}

// A connection without a request ends in peace, whatever else its client does.
func TestIdleHTTP2(t *testing.T) {
	const idle = 3 * time.Second
	f := startFront(t, config.Limits{IdleTimeout: idle}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(2 * idle)
		}
		_, _ = io.WriteString(w, "hello")
	})
	for name, test := range map[string]struct {
		does    func(c *h2Client)
		answers int
		peace   bool // the client is told before the end
	}{
		"nothing":               {func(*h2Client) {}, 0, true},
		"a request":             {func(c *h2Client) { c.ask(headOf("/"), true) }, 1, true},
		"requests in a row":     {func(c *h2Client) { c.ask(headOf("/"), true); time.Sleep(idle / 3); c.ask(headOf("/"), true) }, 2, true},
		"one that takes longer": {func(c *h2Client) { c.ask(headOf("/slow"), true); c.ask(headOf("/"), true) }, 2, true},
		"pings": {func(c *h2Client) {
			for c.WritePing(false, [8]byte{}) == nil {
				time.Sleep(idle / 50)
			}
		}, 0, true},
		"half a frame": {func(c *h2Client) { _, _ = c.conn.Write([]byte{0, 0, 8, 6, 0, 0}) }, 0, false},
		"half a head":  {func(c *h2Client) { c.ask(headOf("/"), false) }, 0, false},
		"a head that is complete later": {func(c *h2Client) {
			stream := c.ask(headOf("/"), false)
			time.Sleep(idle + idle/10)
			_ = c.WriteContinuation(stream, true, nil)
		}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			c := dialHTTP2(t, f)
			var does sync.WaitGroup
			defer does.Wait()
			defer c.conn.Close()
			does.Go(func() { test.does(c) })
			away, answers, err := c.last()
			if took := time.Since(begun); took < idle || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it ended after %s, %v", took, err)
			}
			if answers != test.answers {
				t.Errorf("%d answers, want %d", answers, test.answers)
			}
			if (away != nil) != test.peace {
				t.Errorf("told %+v, want to be told: %v", away, test.peace)
			}
			if away != nil && (away.ErrCode != http2.ErrCodeNo || int(away.LastStreamID) != max(0, 2*test.answers-1)) {
				t.Errorf("told %s, and of requests up to %d, want those of %d answers", away.ErrCode, away.LastStreamID, test.answers)
			}
			if err != io.EOF && err != io.ErrUnexpectedEOF && test.peace {
				t.Errorf("the end is %v", err)
			}
		})
	}
}

// A client that says nothing is not blamed for what the gateway makes of it.
func TestSilentHTTP2(t *testing.T) {
	f := startFront(t, config.Limits{IdleTimeout: 100 * time.Millisecond}, pairConfig(t), func(http.ResponseWriter, *http.Request) {})
	var log lockedBuffer
	f.guard.Log = slog.New(slog.NewTextHandler(&log, nil))
	c := beginHTTP2(t, f)
	defer c.conn.Close()
	if away, _, err := c.last(); away != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("told %+v, then %v", away, err)
	}
	if strings.Contains(log.String(), "refused") {
		t.Errorf("the log says %q", log.String())
	}
}

// Idle connections of HTTP/1 end as well, with TLS and without, each as it was said
// when it was made.
func TestIdleHTTP1(t *testing.T) {
	f := startFront(t, config.Limits{IdleTimeout: time.Second}, nil, func(http.ResponseWriter, *http.Request) {})
	ends := func(c net.Conn, early time.Duration) {
		t.Helper()
		begun := time.Now()
		_ = c.SetDeadline(begun.Add(20 * time.Second))
		_, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
		if err == nil {
			_, err = io.ReadAll(c)
		}
		if took := time.Since(begun); took < early || err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("it ended after %s, %v, want %s", took, err, early)
		}
	}
	before := dial(t, f)
	ends(dial(t, f).Conn, time.Second)
	f.use(&config.Config{Limits: config.Limits{IdleTimeout: 2 * time.Second}}, 0, pairConfig(t))
	ends(tls.Client(dial(t, f).Conn, &tls.Config{InsecureSkipVerify: true}), 2*time.Second)
	ends(before.Conn, time.Second)
}

// A client that drops its connections with requests under way leaves nothing of
// them, long before an idle one would end.
func TestDroppedHTTP2(t *testing.T) {
	const connections, requests = 20, 5
	begun := make(chan weak.Pointer[patience])
	f := startFront(t, config.Limits{IdleTimeout: time.Hour}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		begun <- weak.Make(r.Context().Value(patienceKey{}).(*patience))
		<-r.Context().Done()
	})
	held := map[weak.Pointer[patience]]bool{}
	for range connections {
		c := dialHTTP2(t, f)
		for range requests {
			c.ask(headOf("/"), true)
		}
		for range requests {
			held[<-begun] = true
		}
		c.conn.Close()
	}
	if len(held) != connections {
		t.Fatalf("%d connections, want %d", len(held), connections)
	}
	await(t, 20*time.Second, "the memory of the connections", func() bool {
		runtime.GC()
		for p := range held {
			if p.Value() == nil {
				delete(held, p)
			}
		}
		return len(held) == 0
	})
}
