package proxy

import "iter"

// h2Frames finds the frames in the bytes of one direction of an HTTP/2 connection
// (RFC 9113, section 4.1), in whatever pieces they come. The zero value is ready.
type h2Frames struct {
	head [h2HeadBytes + h2PeekBytes]byte
	have int    // bytes of head
	left uint32 // of a frame's payload, beyond what is in head
}

const (
	h2HeadBytes = 9
	h2PeekBytes = 8 // of the payload, where it has to be seen
)

func (f *h2Frames) length() uint32 {
	return uint32(f.head[0])<<16 | uint32(f.head[1])<<8 | uint32(f.head[2])
}

func (f *h2Frames) kind() byte  { return f.head[3] }
func (f *h2Frames) flags() byte { return f.head[4] }

// peek is how many bytes of the payload have to be seen.
func (f *h2Frames) peek() int {
	switch {
	case f.kind() == h2Data && f.flags()&h2Padded != 0:
		return int(min(1, f.length()))
	case f.kind() == h2RSTStream:
		return int(min(4, f.length()))
	case f.kind() == h2GoAway:
		return int(min(8, f.length()))
	}
	return 0
}

// code is why a stream was reset, or the connection is given up.
func (f *h2Frames) code() uint32 {
	p := f.head[h2HeadBytes:]
	if f.kind() == h2GoAway {
		p = p[4:]
	}
	return uint32(p[0])<<24 | uint32(p[1])<<16 | uint32(p[2])<<8 | uint32(p[3])
}

// empty reports whether there is nothing in the frame but padding.
func (f *h2Frames) empty() bool {
	if f.peek() == 1 {
		return f.length()-1 <= uint32(f.head[h2HeadBytes])
	}
	return f.length() == 0
}

// between reports whether all of every frame that has begun was seen.
func (f *h2Frames) between() bool { return f.have == 0 && f.left == 0 }

// each gives f at every frame that begins in b, or of which b has the rest that
// has to be seen.
func (f *h2Frames) each(b []byte) iter.Seq[*h2Frames] {
	return func(yield func(*h2Frames) bool) {
		for len(b) > 0 {
			if f.left > 0 {
				n := min(uint32(len(b)), f.left)
				b, f.left = b[n:], f.left-n
				continue
			}
			want := h2HeadBytes
			if f.have >= h2HeadBytes {
				want += f.peek()
			}
			n := copy(f.head[f.have:want], b)
			b = b[n:]
			if f.have += n; f.have < h2HeadBytes || f.have < h2HeadBytes+f.peek() {
				continue
			}
			f.left = f.length() - uint32(f.have-h2HeadBytes)
			f.have = 0
			if !yield(f) {
				return
			}
		}
	}
}
