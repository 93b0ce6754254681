package proxy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

const switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"

// frame is a frame of a server; first is FIN, the reserved bits and the opcode.
func frame(first byte, payload int) string {
	b := []byte{first}
	switch {
	case payload < 126:
		b = append(b, byte(payload))
	case payload < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(payload))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(payload))
	}
	return string(b) + strings.Repeat("\x88", payload) // looks like close frames
}

func TestFrames(t *testing.T) {
	const text, binaryFrame, more, last, ping, bye = 0x81, 0x82, 0x00, 0x80, 0x89, 0x88
	between := func(name, sent string) {
		t.Helper()
		if !framesAfter(t, sent).between() {
			t.Errorf("%s: no frame may follow, want that one may", name)
		}
	}
	within := func(name, sent string) {
		t.Helper()
		if f := framesAfter(t, sent); f.between() {
			t.Errorf("%s: a frame may follow, want that none may", name)
		}
	}
	within("nothing", "")
	within("half a head", switched[:len(switched)-1])
	between("a head", switched)
	between("a head with odd line ends", "HTTP/1.1 101 X\r\r\nA: \r\r\n\r\n")
	within("a head with bare line ends", "HTTP/1.1 101 X\n\n")

	for _, n := range []int{0, 1, 125, 126, 127, 65535, 65536, 1 << 20} {
		whole := switched + frame(text, n)
		between(fmt.Sprintf("a frame of %d bytes", n), whole)
		between(fmt.Sprintf("two frames of %d bytes", n), whole+frame(binaryFrame, n))
		within(fmt.Sprintf("a frame of %d bytes less one", n), whole[:len(whole)-1])
		within(fmt.Sprintf("a byte after a frame of %d bytes", n), whole+"\x81")
	}
	between("a compressed frame", switched+frame(0xc1, 5))
	between("a length in more bytes than it needs", switched+"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x01x")
	within("the longest frame", switched+"\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff and its beginning")

	fragments := switched + frame(0x01, 5) + frame(more, 300)
	between("between fragments", fragments)
	between("a ping between fragments", fragments+frame(ping, 4))
	between("the last fragment", fragments+frame(ping, 4)+frame(last, 0))
	within("within the last fragment", fragments+frame(last, 1)[:2])

	within("the server's own goodbye", switched+frame(bye, 2))
	within("and what comes after it", switched+frame(bye, 2)+frame(text, 5))
	within("half a goodbye", switched+frame(bye, 2)[:3])

	within("a masked frame", switched+"\x81\x85maskhello")
	within("what follows a masked frame", switched+"\x81\x80mask"+frame(text, 5))
	within("an empty masked frame", switched+"\x81\x80")
	within("a ping in fragments", switched+frame(0x09, 2))
	within("a long ping", switched+frame(ping, 126))
	within("a length with its first bit set", switched+"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00")
}

// framesAfter passes sent in pieces of several sizes; they must not matter.
func framesAfter(t *testing.T, sent string) *frames {
	t.Helper()
	whole := new(frames)
	whole.pass([]byte(sent))
	for _, size := range []int{1, 3, 1000} {
		f := new(frames)
		for rest := []byte(sent); len(rest) > 0; {
			n := min(size, len(rest))
			f.pass(rest[:n])
			rest = rest[n:]
		}
		if *f != *whole {
			t.Errorf("in pieces of %d: %+v, want %+v", size, f, whole)
		}
	}
	return whole
}

// FuzzFrames compares with a reader that has everything at hand: a frame may be
// put in exactly where its list of whole frames ends, however the bytes come.
func FuzzFrames(f *testing.F) {
	for _, seed := range []string{"", frame(0x81, 5), frame(0x82, 126) + frame(0x89, 0), frame(0x82, 65536), frame(0x88, 2),
		"\x81\x85mask", "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "\x82\x7e\x00"} {
		f.Add([]byte(seed), uint(1))
		f.Add([]byte(seed), uint(7))
	}
	f.Fuzz(func(t *testing.T, sent []byte, cut uint) {
		fr := new(frames)
		fr.pass([]byte(switched))
		n := int(cut % uint(len(sent)+1))
		fr.pass(sent[:n])
		fr.pass(sent[n:])
		if got, want := fr.between(), wholeFrames(sent); got != want {
			t.Errorf("after %x cut at %d: a frame may follow: %v, want %v", sent, n, got, want)
		}
	})
}

// wholeFrames reports whether b is good frames of a server, none of them a close
// frame, and nothing else.
func wholeFrames(b []byte) bool {
	for len(b) > 0 {
		if len(b) < 2 || b[0]&0x0f == 8 || b[1]&0x80 != 0 {
			return false
		}
		size, n := uint64(b[1]), 2
		if b[0]&0x08 != 0 && (b[0]&0x80 == 0 || size > 125) {
			return false
		}
		switch size {
		case 126:
			if len(b) < 4 {
				return false
			}
			size, n = uint64(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			if len(b) < 10 {
				return false
			}
			size, n = binary.BigEndian.Uint64(b[2:]), 10
		}
		if size > uint64(len(b)-n) {
			return false
		}
		b = b[n+int(size):]
	}
	return true
}

func TestGoodbyeIsAFrame(t *testing.T) {
	f := new(frames)
	f.pass([]byte(switched))
	said := goodbye("The token expired")
	f.pass(said)
	if f.state != afterClose || !bytes.HasSuffix(said, []byte("\x03\xf0The token expired")) {
		t.Errorf("the goodbye %x leads to state %d, want a close frame with 1008", said, f.state)
	}
}
