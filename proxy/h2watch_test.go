package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// sent is what a client sends after the preface.
func sent(t *testing.T, write func(*http2.Framer)) []byte {
	t.Helper()
	var b bytes.Buffer
	write(http2.NewFramer(&b, nil))
	return b.Bytes()
}

func watched(pace *Pace) *h2Conn {
	c := &h2Conn{guard: &Guard{Log: slog.New(slog.DiscardHandler), Pace: pace}, client: netip.MustParseAddr("192.0.2.1"), spare: h2Spare, since: time.Now()}
	c.granted.Store(h2WindowsFirst * h2Window)
	return c
}

// What each frame takes, in whatever pieces it comes.
func TestH2Follow(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 100)
	for _, test := range []struct {
		name  string
		write func(*http2.Framer)
		want  int
	}{
		{"nothing", func(f *http2.Framer) {}, 0},
		{"a request", func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: long, EndHeaders: true, EndStream: true})
		}, h2Frame},
		{"a request in two parts, and its body", func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: long})
			f.WriteContinuation(1, true, long)
			f.WriteData(1, false, long)
			f.WriteData(1, true, nil)
		}, h2Frame},
		{"an empty continuation", func(f *http2.Framer) { f.WriteContinuation(1, false, nil) }, h2Frame},
		{"data without any", func(f *http2.Framer) { f.WriteData(1, false, nil) }, h2Frame},
		{"data without any, and a flag that means nothing", func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, 0x02, 1, nil) }, h2Frame},
		{"data that is all padding", func(f *http2.Framer) {
			f.WriteDataPadded(1, false, nil, []byte{})
			f.WriteDataPadded(1, false, nil, make([]byte, 255))
			f.WriteDataPadded(1, true, nil, make([]byte, 255))
			f.WriteDataPadded(1, false, []byte("a"), make([]byte, 255))
		}, 2 * h2Frame},
		{"data that says nothing of its padding", func(f *http2.Framer) { f.WriteRawFrame(http2.FrameData, h2Padded, 1, nil) }, h2Frame},
		{"a ping", func(f *http2.Framer) { f.WritePing(false, [8]byte{}) }, h2Frame},
		{"settings", func(f *http2.Framer) { f.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 14}) }, h2Frame},
		{"a request taken back", func(f *http2.Framer) {
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: long, EndHeaders: true})
			f.WriteRSTStream(1, http2.ErrCodeCancel)
		}, 2 * h2Frame},
		{"a priority", func(f *http2.Framer) { f.WritePriority(1, http2.PriorityParam{Weight: 1}) }, h2Frame},
		{"what nobody knows", func(f *http2.Framer) { f.WriteRawFrame(0x0a, 0, 0, long) }, h2Frame},
		{"window updates", func(f *http2.Framer) {
			for range h2WindowsFirst {
				f.WriteWindowUpdate(0, 1)
			}
		}, 0},
		{"more window updates than there was something for", func(f *http2.Framer) {
			for range h2WindowsFirst + 3 {
				f.WriteWindowUpdate(0, 1)
			}
		}, 3 * h2Frame},
	} {
		b := sent(t, test.write)
		for _, piece := range []int{1, 2, 5, 9, 10, len(b)} {
			c, got := watched(nil), 0
			for rest := b; len(rest) > 0; {
				n := min(piece, len(rest))
				got += c.follow(rest[:n])
				rest = rest[n:]
			}
			if got != test.want || c.in.left != 0 || c.in.have != 0 {
				t.Errorf("%s in pieces of %d: %d, want %d; %d and %d bytes are missing", test.name, piece, got, test.want, c.in.left, c.in.have)
			}
		}
	}
}

// What is sent to a client lets it open its windows.
func TestH2Windows(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go io.Copy(io.Discard, there)
	c := watched(nil)
	c.Conn = here
	c.granted.Store(0)
	if _, err := c.Write(make([]byte, 16<<10)); err != nil {
		t.Fatal(err)
	}
	updates := sent(t, func(f *http2.Framer) {
		for range 16<<10/h2Window + h2WindowsPerWrite {
			f.WriteWindowUpdate(0, 1)
		}
	})
	if taken := c.follow(updates); taken != 0 {
		t.Errorf("updates took %d", taken)
	}
}

// Who pings for ever has to wait, and others behind another address do not.
func TestH2HoldUp(t *testing.T) {
	var p Pace
	now := time.Now()
	c := watched(&p)
	c.spare = -paceBurst * h2Frame // a flood, read at once
	c.holdUp(now)
	if wait := p.wait(c.client, 1, now); wait <= 0 {
		t.Errorf("after a flood a refusal waits %s", wait)
	}
	if wait := p.wait(netip.MustParseAddr("192.0.2.2"), 1, now); wait > 0 {
		t.Errorf("a neighbour waits %s", wait)
	}
	if c.spare != 0 {
		t.Errorf("spare %d, want 0", c.spare)
	}
	// A few pings per second are nobody's loss, for ever.
	for range 100 * h2Spare {
		now = now.Add(time.Second / (h2SparePerSec / h2Frame))
		c.since, c.spare = now.Add(-time.Second/(h2SparePerSec/h2Frame)), -h2Frame
		c.holdUp(now)
	}
	if wait := p.wait(c.client, 1, now); wait > 0 {
		t.Errorf("after steady pings a refusal waits %s", wait)
	}
}

// What asks for something earns its pings and its resets: a client of gRPC pings
// for every answer that it measures.
func TestH2Earn(t *testing.T) {
	here, there := net.Pipe()
	defer here.Close()
	go io.Copy(io.Discard, there)
	var p Pace
	c := watched(&p)
	c.Conn = here
	answer := sent(t, func(f *http2.Framer) { f.WriteData(1, false, []byte("a message")) })
	exchange := sent(t, func(f *http2.Framer) {
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: answer, EndHeaders: true, EndStream: true})
		f.WritePing(false, [8]byte{})
	})
	now := time.Now()
	for range 100 * paceBurst {
		GuardAnswered(c)
		if _, err := c.Write(answer); err != nil {
			t.Fatal(err)
		}
		if c.spare -= c.follow(exchange); c.spare < 0 {
			c.holdUp(now)
		}
	}
	if len(p.clients) > 0 {
		t.Errorf("%v were charged", p.clients)
	}
	c.earned.Store(0)
	acks := sent(t, func(f *http2.Framer) { f.WritePing(true, [8]byte{}) })
	if _, err := c.Write(acks); err != nil || c.earned.Load() > 0 {
		t.Errorf("an acknowledgement earns something, or %v", err)
	}
}

// What the server has to reset, in whatever pieces it says so, counts as what the
// client asked for.
func TestH2Resets(t *testing.T) {
	for code, want := range map[http2.ErrCode]int64{http2.ErrCodeStreamClosed: h2Frame, http2.ErrCodeProtocol: h2Frame, http2.ErrCodeNo: 0} {
		b := sent(t, func(f *http2.Framer) {
			f.WriteSettings()
			f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("head"), EndHeaders: true})
			f.WriteData(1, false, bytes.Repeat([]byte("x"), 100))
			f.WriteRSTStream(1, code)
			f.WriteData(3, true, nil)
		})
		for _, piece := range []int{1, 3, 9, 11, len(b)} {
			c := watched(nil)
			c.Conn, _ = net.Pipe()
			c.handled.Add(1)
			for rest := b; len(rest) > 0; {
				n := min(piece, len(rest))
				c.sent(rest[:n])
				rest = rest[n:]
			}
			if got := c.owed.Load(); got != want {
				t.Errorf("%v in pieces of %d: owed %d, want %d", code, piece, got, want)
			}
			if got := c.refused.Load(); got != (code == http2.ErrCodeProtocol) {
				t.Errorf("%v in pieces of %d: refused %v", code, piece, got)
			}
		}
	}
	// It is paid at the next reading, which takes nothing by itself.
	here, there := net.Pipe()
	defer here.Close()
	c := watched(nil)
	c.Conn, c.greeted = here, true
	c.owed.Store(7 * h2Frame)
	go there.Write(sent(t, func(f *http2.Framer) { f.WriteData(1, false, []byte("x")) }))
	if _, err := c.Read(make([]byte, 64)); err != nil || c.spare != h2Spare-7*h2Frame || c.owed.Load() != 0 {
		t.Errorf("spare %d, owed %d, %v", c.spare, c.owed.Load(), err)
	}
}

// Whom the server gives up is not read from any more; a server that only ends goes on.
func TestH2GoAway(t *testing.T) {
	for code, want := range map[http2.ErrCode]bool{http2.ErrCodeNo: false, http2.ErrCodeProtocol: true, http2.ErrCodeEnhanceYourCalm: true} {
		b := sent(t, func(f *http2.Framer) { f.WriteGoAway(7, code, []byte("debug")) })
		for piece := range len(b) {
			c := watched(nil)
			c.Conn, _ = net.Pipe()
			c.sent(b[:piece])
			c.sent(b[piece:])
			if got := c.refused.Load(); got != want {
				t.Errorf("%v in two pieces, at %d: refused %v, want %v", code, piece, got, want)
			}
		}
	}
}

// Who does not stop is not read from any more; who stops for a while starts again.
func TestH2Patience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := watched(&Pace{})
		flood := func() time.Duration { return floods(c) }
		if wait := flood(); wait <= 0 || c.err != nil {
			t.Fatalf("held for %s, %v", wait, c.err)
		}
		c.held = h2Patience
		time.Sleep(h2Patience + time.Second)
		if flood(); c.err != nil {
			t.Errorf("after a pause: %v", c.err)
		}
		c.held = h2Patience
		if flood(); c.err == nil {
			t.Error("a flood without a pause is read on")
		}
	})
}

// floods is for how long c is held up for a flood.
func floods(c *h2Conn) time.Duration {
	c.guard.Pace.wait(c.client, 1<<20, time.Now()) // others of the same network
	c.spare, c.since = -h2Frame, time.Now()
	begun := time.Now()
	c.holdUp(begun)
	return time.Since(begun)
}

// A mortal connection can be closed from below.
type mortal struct {
	net.Conn
	lifetime context.Context
}

func (m mortal) Lifetime() context.Context { return m.lifetime }

// A connection that is closed keeps nothing until its client has paid.
func TestHeldUpUntilClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lifetime, end := context.WithCancel(t.Context())
		c := watched(&Pace{})
		c.Conn = tls.Server(mortal{lifetime: lifetime}, nil)
		time.AfterFunc(time.Millisecond, end)
		if wait := floods(c); wait != time.Millisecond {
			t.Errorf("the reader was held up for %s, want 1ms", wait)
		}
	})
}

// No more than h2Held refusals of a connection are held up at a time, those included
// that nobody takes; those of others, whom a trusted proxy speaks for, are not its own.
func TestH2Held(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p Pace
		c := watched(&p)
		ctx := GuardContext(t.Context(), c)
		refusal := func(client string) *exchange {
			r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
			return &exchange{ResponseWriter: httptest.NewRecorder(), request: r, peer: peer{client: netip.MustParseAddr(client)}}
		}
		const own, other = "::ffff:192.0.2.1", "192.0.2.2"
		var told []*exchange
		for range h2Held {
			told = append(told, refusal(own))
			go func() {
				if x := told[len(told)-1]; !x.holdUp(&p, time.Second) || x.held != time.Second {
					t.Errorf("a refusal was held up for %s, want 1s", x.held)
				}
			}()
			synctest.Wait()
		}
		dropped := func(when string) {
			if x := refusal(own); x.holdUp(&p, time.Second) || x.held != -1 {
				t.Errorf("%s one more is held up for %s, want -1", when, x.held)
			}
			if !c.guard.Drops(c) {
				t.Errorf("%s one more would be refused", when)
			}
		}
		dropped("while they wait")
		if x := refusal(other); !x.holdUp(&p, 0) {
			t.Error("one more of another client is dropped")
		}
		time.Sleep(2 * time.Second)
		dropped("while nobody takes them")
		told[0].handOver()
		if c.guard.Drops(c) {
			t.Error("when one was taken the next is dropped")
		}
		if x := refusal(own); !x.holdUp(&p, 0) {
			t.Error("when one was taken the next is not held up")
		}
		if got := c.handled.Load(); got != -4 {
			t.Errorf("%d handled, want four less than before", got)
		}
	})
}
