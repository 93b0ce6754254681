package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// h1Outgoing is a request, ready to be written.
type h1Outgoing struct {
	head    []byte
	request *http.Request
	length  int64 // of the body; -1: chunked
	waits   bool  // for a 100 Continue before the body
}

var outgoings = sync.Pool{New: func() any { return &h1Outgoing{head: make([]byte, 0, 4<<10)} }}

func (out *h1Outgoing) free() {
	if cap(out.head) > 64<<10 {
		return
	}
	*out = h1Outgoing{head: out.head[:0]}
	outgoings.Put(out)
}

// streams reports whether there is a body to be sent after the head.
func (out *h1Outgoing) streams() bool { return out.length != 0 }

// compose renders the head of r (RFC 9112, section 3). Nothing in it can be taken
// for more than it is: every name, value and the target are looked through.
func (t *h1Transport) compose(r *http.Request) (*h1Outgoing, error) {
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	if r.URL == nil || r.Header == nil {
		return nil, errors.New("request without URL or header")
	}
	target := r.URL.RequestURI()
	if !consists(method, &tokenBytes) || !consists(target, &targetBytes) {
		return nil, fmt.Errorf("malformed request line %q", method+" "+target)
	}
	host, err := hostOf(r)
	if err != nil {
		return nil, err
	}
	out := outgoings.Get().(*h1Outgoing)
	out.request, out.length = r, bodyLength(r)
	b := append(out.head, method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, host...)
	b = append(b, "\r\n"...)
	if b, err = out.framing(b); err == nil {
		b, err = appendFields(b, r.Header)
	}
	if err != nil {
		out.free()
		return nil, err
	}
	if (r.Close || t.retired.Load()) && !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "close") {
		b = append(b, "Connection: close\r\n"...)
	}
	out.head = append(b, "\r\n"...)
	return out, nil
}

// framing says how the body is framed, and what comes behind it.
func (out *h1Outgoing) framing(b []byte) ([]byte, error) {
	r := out.request
	switch {
	case out.length > 0:
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, out.length, 10)
		b = append(b, "\r\n"...)
	case out.length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		names := slices.Sorted(maps.Keys(r.Trailer))
		for _, name := range names {
			if !consists(name, &tokenBytes) || !httpguts.ValidTrailerHeader(http.CanonicalHeaderKey(name)) {
				return b, fmt.Errorf("trailer %q: want a field that may be one", name)
			}
		}
		if len(names) > 0 {
			b = append(b, "Trailer: "...)
			b = append(b, strings.Join(names, ",")...)
			b = append(b, "\r\n"...)
		}
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		// RFC 9110, section 8.6: these methods are expected to have one.
		b = append(b, "Content-Length: 0\r\n"...)
	}
	out.waits = out.length != 0 && httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue")
	return b, nil
}

// bodyLength is how long the body of r is; -1 is unknown.
func bodyLength(r *http.Request) int64 {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return 0
	case len(r.TransferEncoding) > 0 || r.ContentLength <= 0:
		return -1
	}
	return r.ContentLength
}

// hostOf is the Host of r, without the zone of an IPv6 address (RFC 6874,
// section 3, has them removed).
func hostOf(r *http.Request) (string, error) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	host, err := httpguts.PunycodeHostPort(host)
	if err != nil {
		return "", err
	}
	if !consists(host, &hostBytes) {
		return "", fmt.Errorf("host %q: want a name or an address", host)
	}
	if from := strings.IndexByte(host, '%'); from > 0 && host[0] == '[' {
		if to := strings.LastIndexByte(host, ']'); to > from {
			host = host[:from] + host[to:]
		}
	}
	return host, nil
}

// appendFields writes all of h but what compose has written. Their order is
// none: fields of different names have none (RFC 9110, section 5.3).
func appendFields(b []byte, h http.Header) ([]byte, error) {
	for name, values := range h {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer":
			continue
		case "User-Agent":
			// ReverseProxy sets an empty one to say that there should be none.
			if len(values) == 0 || values[0] == "" {
				continue
			}
			values = values[:1]
		}
		if !consists(name, &tokenBytes) {
			return b, fmt.Errorf("header name %q: want a token", name)
		}
		for _, value := range values {
			if span([]byte(value), &valueBytes) < len(value) {
				return b, fmt.Errorf("header %s: control characters in the value", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, strings.Trim(value, " \t")...)
			b = append(b, "\r\n"...)
		}
	}
	return b, nil
}

// consists reports whether s is not empty and all of its bytes are of a kind.
func consists(s string, kind *[256]bool) bool {
	for i := 0; i < len(s); i++ {
		if !kind[s[i]] {
			return false
		}
	}
	return s != ""
}
