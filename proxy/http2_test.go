package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestHTTP2Targets: what HTTP/2 can carry and a request line cannot must not
// reach the upstream's request line.
func TestHTTP2Targets(t *testing.T) {
	upstream := newCapture(t)
	upstream.answer = plainAnswer
	plain, _ := testGateway(t, fmt.Sprintf(`routes:
  - {path: /, access: public, upstream: "http://%s"}
  - {path: /private, upstream: "http://%[1]s"}
`, upstream.Addr()))
	front := httptest.NewUnstartedServer(plain.Config.Handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)

	for _, c := range []struct {
		method, authority, path string
		more                    []string
		want                    string
	}{
		{"GET", "gw.example", "/a", nil, "200"},
		{"GET", "gw.example", "/a?b=c", []string{"host", "gw.example"}, "200"},
		{"GET", "", "/a", []string{"host", "gw.example"}, "200"},
		{"GET", "gw.example", "/private", nil, "401"},
		{"GET", "gw.example", "/private HTTP/1.1", nil, "400"},
		{"GET", "gw.example", "/a /private", nil, "400"},
		{"GET", "gw.example", "/a?x /private", nil, "400"},
		{"GET", "gw.example", "/a#/private", nil, "400"},
		{"GET", "gw.example", "https://gw.example/a", nil, "400"},
		{"GET", "gw.example", "/a", []string{"host", "other.example"}, "400"},
		{"GET", "", "/a", []string{"host", "gw.example", "host", "other.example"}, "400"},
		{"GE T", "gw.example", "/a", nil, "400"},
		{"TRACE", "gw.example", "/a", nil, "405"},
	} {
		upstream.take()
		status := roundTripHTTP2(t, front.Listener.Addr().String(), c.method, c.authority, c.path, c.more)
		seen := upstream.take()
		if status != c.want && !(c.want == "400" && status == "reset") {
			t.Errorf("%q %q %q %q: %s, want %s", c.method, c.authority, c.path, c.more, status, c.want)
		}
		if (len(seen) > 0) != (c.want == "200") {
			t.Errorf("%q %q: upstream saw %q", c.method, c.path, seen)
		}
	}
}

// roundTripHTTP2 sends exactly these fields and returns the status, or "reset".
func roundTripHTTP2(t *testing.T, addr, method, authority, path string, more []string) string {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, http2.ClientPreface)
	framer := http2.NewFramer(conn, conn)
	framer.WriteSettings()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	fields := []string{":method", method, ":scheme", "https", ":path", path}
	if authority != "" {
		fields = append(fields, ":authority", authority)
	}
	fields = append(fields, more...)
	for i := 0; i < len(fields); i += 2 {
		enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndStream: true, EndHeaders: true})
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return "reset"
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return "reset"
		}
	}
}
