package proxy

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A client of HTTP/2 that shuts its window gets its streams reset, whether the
// answer is long or short, however alive the connection is. One that takes its
// answer slowly gets it.
func TestShutWindow(t *testing.T) {
	t.Parallel()
	const large = 200 << 10
	upstream := upstreamFunc(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/silent" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		n := 10
		if r.URL.Path == "/large" {
			n = large
		}
		_, _ = w.Write(make([]byte, n))
	})
	server, _ := testGateway(t, fmt.Sprintf("limits: {idle_timeout: 1s}\nroutes: [{path: /, access: public, upstream: %q}]", upstream))
	front := httptest.NewUnstartedServer(server.Config.Handler)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)

	conn, err := tls.Dial("tcp", front.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	said := []error{framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}), framer.WriteWindowUpdate(0, 1<<30)}
	const shutLarge, shutSmall, slow, silent = 1, 3, 5, 7
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i, path := range []string{"/large", "/small", "/large", "/silent"} {
		block.Reset()
		for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "a.example"}, {":path", path}} {
			_ = encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		said = append(said, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	}
	if err := errors.Join(said...); err != nil {
		t.Fatal(err)
	}
	took, reset := 0, map[uint32]http2.ErrCode{}
	for len(reset) < 2 || took < large {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatalf("reset %v, %d bytes taken slowly: %v", reset, took, err)
		}
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			reset[f.StreamID] = f.ErrCode
		case *http2.DataFrame:
			if took += len(f.Data()); f.StreamID != slow {
				t.Errorf("%d bytes of stream %d, whose window is shut", len(f.Data()), f.StreamID)
			}
			time.Sleep(150 * time.Millisecond) // altogether twice as long as a client may do nothing
			if took < large {
				err = framer.WriteWindowUpdate(slow, 16<<10)
			}
		case *http2.SettingsFrame:
			if !f.IsAck() {
				err = errors.Join(framer.WriteSettingsAck(), framer.WriteWindowUpdate(slow, 16<<10))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, ok := reset[silent]; ok {
		t.Error("a stream on which the upstream is silent was reset")
	}
	for _, stream := range []uint32{shutLarge, shutSmall} {
		if code, ok := reset[stream]; !ok || code != http2.ErrCodeInternal {
			t.Errorf("stream %d: reset %v with %v", stream, ok, code)
		}
	}
}
