package proxy

import "encoding/binary"

// frames follows what a server sends on an upgraded connection (RFC 6455,
// section 5.2): the head of the 101 answer, then frames. It tells whether a
// frame of the gateway's own may be put in, and reads no content.
type frames struct {
	state   frameState
	matched uint8   // of the empty line that ends the head
	control bool    // the frame is a control frame
	closing bool    // it is a close frame
	field   [8]byte // of the extended length
	have    uint8   // bytes of it
	want    uint8   // 2 or 8
	left    uint64  // of the payload
}

type frameState uint8

const (
	inHead   frameState = iota
	atFrame             // between two frames
	atLength            // the first byte of a frame has passed
	inLength            // within the extended length
	inPayload
	afterClose // the server has said goodbye itself
	offTrack   // what passes are no frames of a server
)

const headEnd = "\r\n\r\n"

// pass takes note of what was sent.
func (f *frames) pass(b []byte) {
	for len(b) > 0 {
		switch f.state {
		case inHead:
			f.head(b[0])
		case atFrame:
			f.first(b[0])
		case atLength:
			f.length(b[0])
		case inLength:
			f.extended(b[0])
		case inPayload:
			n := min(uint64(len(b)), f.left)
			b, f.left = b[n:], f.left-n
			f.payload()
			continue
		default:
			return
		}
		b = b[1:]
	}
}

func (f *frames) head(c byte) {
	switch {
	case c == headEnd[f.matched]:
		f.matched++
	case c == '\r':
		f.matched = 1
	default:
		f.matched = 0
	}
	if int(f.matched) == len(headEnd) {
		f.state = atFrame
	}
}

// first reads FIN, the reserved bits, which belong to extensions, and the opcode.
func (f *frames) first(c byte) {
	opcode := c & 0x0f
	f.control, f.closing = opcode >= 8, opcode == 8
	f.state = atLength
	if f.control && c&0x80 == 0 {
		f.state = offTrack // control frames cannot be fragments (section 5.4)
	}
}

func (f *frames) length(c byte) {
	n := c & 0x7f
	f.have = 0
	switch {
	case c&0x80 != 0, f.control && n > 125:
		f.state = offTrack // servers do not mask (section 5.1); control frames are short (section 5.5)
	case n == 126:
		f.want, f.state = 2, inLength
	case n == 127:
		f.want, f.state = 8, inLength
	default:
		f.left = uint64(n)
		f.payload()
	}
}

func (f *frames) extended(c byte) {
	f.field[f.have] = c
	if f.have++; f.have < f.want {
		return
	}
	if f.want == 2 {
		f.left = uint64(binary.BigEndian.Uint16(f.field[:2]))
	} else {
		f.left = binary.BigEndian.Uint64(f.field[:])
	}
	if f.left > 1<<63-1 {
		f.state = offTrack // the most significant bit must be 0
		return
	}
	f.payload()
}

func (f *frames) payload() {
	switch {
	case f.left > 0:
		f.state = inPayload
	case f.closing:
		f.state = afterClose
	default:
		f.state = atFrame
	}
}

// between reports that a frame may be put in here. Control frames may stand
// between the fragments of a message (section 5.4).
func (f *frames) between() bool { return f.state == atFrame }
