package main

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"runtime"
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

func dialHTTP2(t *testing.T, f *front) *h2Client {
	t.Helper()
	conn := tls.Client(dial(t, f).Conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &h2Client{Framer: http2.NewFramer(conn, conn), conn: conn, stream: 1}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fields = hpack.NewEncoder(&c.block)
	_, _ = io.WriteString(conn, http2.ClientPreface)
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
	const idle = 500 * time.Millisecond
	f := startFront(t, config.Limits{IdleTimeout: idle}, pairConfig(t), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(4 * idle)
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
		"requests in a row":     {func(c *h2Client) { c.ask(headOf("/"), true); time.Sleep(idle / 2); c.ask(headOf("/"), true) }, 2, true},
		"one that takes longer": {func(c *h2Client) { c.ask(headOf("/slow"), true); c.ask(headOf("/"), true) }, 2, true},
		"pings": {func(c *h2Client) {
			for c.WritePing(false, [8]byte{}) == nil {
				time.Sleep(idle / 10)
			}
		}, 0, true},
		"half a frame": {func(c *h2Client) { _, _ = c.conn.Write([]byte{0, 0, 8, 6, 0, 0}) }, 0, false},
		"half a head":  {func(c *h2Client) { c.ask(headOf("/"), false) }, 0, false},
		"a head that is complete later": {func(c *h2Client) {
			stream := c.ask(headOf("/"), false)
			time.Sleep(2 * idle)
			_ = c.WriteContinuation(stream, true, nil)
		}, 1, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialHTTP2(t, f)
			begun := time.Now()
			var does sync.WaitGroup
			defer does.Wait()
			defer c.conn.Close()
			does.Go(func() { test.does(c) })
			away, answers, err := c.last()
			if took := time.Since(begun); took < idle {
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
