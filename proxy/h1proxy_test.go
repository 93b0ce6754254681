package proxy

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// TestConformReverseProxy: what a client of httputil.ReverseProxy gets is to the
// byte the same, whichever transport that has.
func TestConformReverseProxy(t *testing.T) {
	const get = "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\n\r\n"
	cases := []struct{ name, request, answer string }{
		{"plain", get, good},
		{"no length", get, "HTTP/1.1 200 OK\r\n\r\nuntil the end<close>"},
		{"HEAD", "HEAD" + get[3:], "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"},
		{"304", get, "HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"},
		{"204", get, "HTTP/1.1 204 No Content\r\n\r\n"},
		{"hop-by-hop fields", get, "HTTP/1.1 200 OK\r\nConnection: X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n"},
		{"early hints", get, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b>\r\n\r\n" + good},
		{"announced trailers", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"},
		{"other trailers", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n"},
		{"a body that breaks off", get, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf<close>"},
		{"chunks that break off", get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n<close>"},
		{"no answer", get, "<close>"},
		{"no HTTP", get, "SSH-2.0\r\n<close>"},
		{"events", get, "HTTP/1.1 203 Events\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n<close>"},
		{"a body", "POST / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello", good},
		{"chunks and trailers", "POST / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", good},
		{"an expectation", "POST / HTTP/1.1\r\nHost: app.example\r\nConnection: close\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello", good},
		{"an upgrade", "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", switched + "and more<close>"},
		{"an upgrade that is refused", "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"},
		{"another upgrade than asked for", "GET / HTTP/1.1\r\nHost: app.example\r\nConnection: Upgrade, close\r\nUpgrade: echo\r\n\r\n", switched + "<close>"},
		{"an upgrade that nobody asked for", get, switched + "<close>"},
	}
	var stories []story
	for _, c := range cases {
		stories = append(stories, story{name: c.name, play: func(b *conformBed) {
			// With a type nothing is guessed from what comes first.
			b.answers(strings.Replace(c.answer, " 200 OK\r\n", " 200 OK\r\nContent-Type: x/y\r\n", 1))
			b.note("%q", throughProxy(b, c.request))
		}})
	}
	conform(t, stories)
}

var dateLine = regexp.MustCompile("Date: [^\r]*\r\n")

// throughProxy sends bytes and returns all that comes back.
func throughProxy(b *conformBed, request string) string {
	to, err := url.Parse(b.url)
	if err != nil {
		b.t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Transport: b.rt,
		Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
	})
	front.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	front.Start()
	defer front.Close()
	c, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, request)
	got, _ := io.ReadAll(c)
	return dateLine.ReplaceAllString(string(got), "")
}

// TestClientGoesAway: the upstream learns of it, wherever the exchange is.
func TestClientGoesAway(t *testing.T) {
	for name, say := range map[string]string{
		"before the answer": "",
		"in its body":       "HTTP/1.1 200 OK\r\n\r\nhalf",
		"in a stream":       "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n",
		"in an upgrade":     switched,
	} {
		asked, gone := make(chan bool, 1), make(chan bool, 1)
		up := rawUpstream(t, func(c net.Conn) {
			in := bufio.NewReader(c)
			http.ReadRequest(in)
			io.WriteString(c, say)
			asked <- true
			in.ReadByte()
			gone <- true
		})
		to, _ := url.Parse(up)
		front := httptest.NewServer(&httputil.ReverseProxy{
			Transport: openTransports(t).get(mustTarget(t, up), 0),
			Rewrite:   func(pr *httputil.ProxyRequest) { pr.SetURL(to) },
			ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, 0),
		})
		c, err := net.Dial("tcp", front.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		upgrade := ""
		if name == "in an upgrade" {
			upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
		}
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: app.example\r\n"+upgrade+"\r\n")
		<-asked
		if say != "" {
			if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		c.Close()
		<-gone
		front.Close()
	}
}

// TestRequestsAtOnce: connections are never mixed up.
func TestRequestsAtOnce(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if len(r.URL.Path)%3 == 0 {
			w.(http.Flusher).Flush() // chunks
		}
		io.WriteString(w, r.URL.Path+string(body))
	}))
	defer up.Close()
	rt := openTransports(t).get(mustTarget(t, up.URL), 0)
	done := make(chan bool)
	for i := range 20 {
		go func() {
			defer func() { done <- true }()
			for n := range 50 {
				path, sent := "/"+strings.Repeat("p", i*n%977), strings.Repeat("s", i*n*7%40_000)
				var body io.Reader
				if n%2 == 0 {
					body = strings.NewReader(sent)
				} else {
					sent = ""
				}
				res, err := rt.RoundTrip(upstreamRequest(t, "PUT", up.URL+path, body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(res.Body)
				if string(got) != path+sent || err != nil {
					t.Errorf("got %d bytes, %v, want %d", len(got), err, len(path+sent))
				}
				res.Body.Close()
			}
		}()
	}
	for range 20 {
		<-done
	}
}
