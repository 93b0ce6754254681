package proxy

import (
	"bytes"
	"io"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzH2Follow: in whatever pieces a client's bytes come, they take the same, and
// what x/net/http2 says that they take: the two see the same frames.
func FuzzH2Follow(f *testing.F) {
	var b bytes.Buffer
	framer := http2.NewFramer(&b, nil)
	_ = framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x82\x84\x87"), EndHeaders: true, PadLength: 3})
	_ = framer.WriteDataPadded(1, false, nil, []byte{0, 0})
	_ = framer.WriteData(1, false, nil)
	_ = framer.WriteWindowUpdate(0, 1)
	_ = framer.WriteRSTStream(1, http2.ErrCodeCancel)
	_ = framer.WriteDataPadded(1, false, []byte("a"), []byte{0, 0})
	_ = framer.WritePing(false, [8]byte{})
	_ = framer.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	f.Add(b.Bytes(), uint16(1))
	f.Add(b.Bytes(), uint16(9))
	f.Add([]byte("\xff\xff\xff\x00\x00\x00\x00\x00\x01x"), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		want, in := 0, bytes.NewReader(b)
		for {
			h, err := http2.ReadFrameHeader(in)
			if err != nil {
				break
			}
			payload := make([]byte, min(h.Length, uint32(in.Len())))
			_, _ = io.ReadFull(in, payload)
			empty := h.Length == 0
			if h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataPadded) && h.Length > 0 {
				if len(payload) == 0 {
					break // it is not known yet
				}
				empty = int(h.Length) <= 1+int(payload[0])
			}
			if h.Type == http2.FrameRSTStream && len(payload) < int(min(4, h.Length)) || h.Type == http2.FrameGoAway && len(payload) < int(min(8, h.Length)) {
				break
			}
			switch {
			case h.Type == http2.FrameData && (!empty || h.Flags.Has(http2.FlagDataEndStream)),
				h.Type == http2.FrameContinuation && (!empty || h.Flags.Has(http2.FlagContinuationEndHeaders)),
				h.Type == http2.FrameWindowUpdate:
			default:
				want += h2Frame
			}
		}
		c := watched(nil)
		c.granted.Store(1 << 62)
		got := 0
		for rest := b; len(rest) > 0; {
			n := min(max(1, int(piece)), len(rest))
			got += c.follow(rest[:n])
			rest = rest[n:]
		}
		if got != want {
			t.Errorf("%x in pieces of %d takes %d, want %d", b, piece, got, want)
		}
	})
}
