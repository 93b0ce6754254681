package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// final makes res the answer: what follows its head is a body, framed as RFC 9112,
// section 6.3, says, or after a 101 another protocol. An answer that says twice
// where it ends is refused, even where both ways agree: section 6.3 calls it an
// attempt to split answers.
func (x *h1Exchange) final(res *http.Response) error {
	h := res.Header
	length, err := contentLength(h)
	if err != nil {
		return err
	}
	chunked, err := isChunked(res)
	if err != nil {
		return err
	}
	if chunked && length >= 0 {
		return errors.New("malformed HTTP response: Transfer-Encoding and Content-Length")
	}
	if chunked {
		delete(h, "Transfer-Encoding")
		res.TransferEncoding = []string{"chunked"}
		if res.Trailer, err = announced(h); err != nil {
			return err
		}
	}
	res.ContentLength = length
	// What an HTTP/1.0 upstream means by keep-alive has been understood in too
	// many ways (RFC 9112, appendix C.2.2).
	res.Close = res.ProtoMinor == 0 || httpguts.HeaderValuesContainsToken(h["Connection"], "close")
	reusable := !res.Close && !x.request.Close

	switch {
	case res.StatusCode == http.StatusSwitchingProtocols:
		return x.handOver(res)
	case x.request.Method == http.MethodHead:
		x.close(res, reusable)
	case res.StatusCode == http.StatusNoContent, res.StatusCode == http.StatusNotModified:
		res.ContentLength = 0
		// No body comes behind a 204, but an upstream that announces one may
		// think otherwise.
		x.close(res, reusable && (res.StatusCode == http.StatusNotModified || !chunked && length <= 0))
	case length == 0:
		x.close(res, reusable)
	case chunked:
		x.open(res, -1, httputil.NewChunkedReader(x.conn.in), reusable)
	case length > 0:
		x.open(res, length, nil, reusable)
	default:
		res.Close = true
		x.open(res, -1, nil, false)
	}
	return nil
}

// close ends an exchange without a body.
func (x *h1Exchange) close(res *http.Response, reusable bool) {
	res.Body = http.NoBody
	if x.upload != nil {
		x.upload.answered()
	}
	x.leave(reusable)
}

// open leaves the rest of the answer to its body, which may take its time.
func (x *h1Exchange) open(res *http.Response, length int64, chunks io.Reader, reusable bool) {
	b := &x.body
	b.exchange, b.response, b.left, b.chunks, b.reusable = x, res, length, chunks, reusable
	res.Body = b
	switch {
	case x.upload != nil:
		x.upload.answered()
	case length < 0 || int64(x.conn.in.Buffered()) < length:
		x.conn.limit(0)
	}
}

// handOver gives the connection to the caller.
func (x *h1Exchange) handOver(res *http.Response) error {
	res.ContentLength = 0
	if !httpguts.HeaderValuesContainsToken(res.Header["Connection"], "upgrade") {
		return errors.New("malformed HTTP response: 101 without an upgrade")
	}
	if x.upload != nil {
		x.upload.answered()
	} else {
		x.conn.limit(0)
	}
	if x.unwatch != nil && !x.unwatch() {
		return net.ErrClosed
	}
	res.Body = &h1Upgraded{conn: x.conn, early: x.conn.in}
	return nil
}

// contentLength is what Content-Length says; -1 if there is none.
func contentLength(h http.Header) (int64, error) {
	values, ok := h["Content-Length"]
	if !ok {
		return -1, nil
	}
	if len(values) == 1 && values[0] != "" && strings.Trim(values[0], "0123456789") == "" {
		if n, err := strconv.ParseInt(values[0], 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("malformed HTTP response: Content-Length %q", values)
}

// isChunked reports whether the body comes in chunks. No other coding is known.
func isChunked(res *http.Response) (bool, error) {
	values, ok := res.Header["Transfer-Encoding"]
	if !ok {
		return false, nil
	}
	if res.ProtoMinor == 0 || len(values) != 1 || !strings.EqualFold(values[0], "chunked") {
		return false, fmt.Errorf("malformed HTTP response: Transfer-Encoding %q in %s", values, res.Proto)
	}
	return true, nil
}

// announced are the names of trailers to come, without values.
func announced(h http.Header) (http.Header, error) {
	values := h["Trailer"]
	delete(h, "Trailer")
	var trailer http.Header
	for _, list := range values {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); name == "" {
				continue
			}
			if !consists(name, &tokenBytes) || !httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(name)) {
				return nil, fmt.Errorf("malformed HTTP response: trailer %q announced", name)
			}
			if trailer == nil {
				trailer = http.Header{}
			}
			trailer[http.CanonicalHeaderKey(name)] = nil
		}
	}
	return trailer, nil
}

// readTrailer reads what follows the last chunk. What would not be let through
// as a header's equal is left out (RFC 9110, section 6.5.1).
func (x *h1Exchange) readTrailer(res *http.Response) error {
	if b, _ := x.conn.in.Peek(2); string(b) == "\r\n" { // most have none
		x.conn.in.Discard(2)
		return nil
	}
	s, err := readHead(x.conn.in, upstreamHeaderBytes)
	if err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	fields, err := parseFields(s)
	if err != nil {
		return err
	}
	for name, values := range fields {
		if !httpguts.ValidTrailerHeader(name) {
			continue
		}
		if res.Trailer == nil {
			res.Trailer = http.Header{}
		}
		res.Trailer[name] = values
	}
	return nil
}
