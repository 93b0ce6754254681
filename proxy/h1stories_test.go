package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// broken is a body that fails in the middle.
func broken(after string) io.Reader {
	return io.NopCloser(io.MultiReader(strings.NewReader(after), errorReader{errClientBroke}))
}

// with changes a request.
func with(r *http.Request, change func(r *http.Request)) *http.Request {
	change(r)
	return r
}

func withFields(pairs ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			r.Header[pairs[i]] = append(r.Header[pairs[i]], pairs[i+1])
		}
	}
}

// TestConformRequests: the upstream sees the same of every request.
func TestConformRequests(t *testing.T) {
	unsized := func(s string) io.Reader { return io.NopCloser(strings.NewReader(s)) }
	big := strings.Repeat("0123456789", 30_000)
	requests := map[string]func(b *conformBed) *http.Request{
		"query":                func(b *conformBed) *http.Request { return b.request("GET", "/a%2Fb?x=1&y=%20;z", nil) },
		"empty path":           func(b *conformBed) *http.Request { return b.request("GET", "", nil) },
		"only a question mark": func(b *conformBed) *http.Request { return b.request("GET", "/a?", nil) },
		"opaque": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.URL.Opaque = "/a|b" })
		},
		"no method": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Method = "" })
		},
		"own method": func(b *conformBed) *http.Request { return b.request("PURGE", "/", nil) },
		"bad method": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Method = "G T" })
		},
		"other host": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Host = "other.example:81" })
		},
		"unicode host": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Host = "bücher.example" })
		},
		"zone in host": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Host = "[fe80::1%25eth0]:80" })
		},
		"headers": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), withFields("X-A", " padded\t", "X-A", "second", "X-Empty", "", "x-lower", "kept", "X-Obs", "caf\xe9"))
		},
		"user agents": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Header["User-Agent"] = []string{"one", "two"} })
		},
		"bad name":   func(b *conformBed) *http.Request { return with(b.request("GET", "/", nil), withFields("X A", "b")) },
		"empty name": func(b *conformBed) *http.Request { return with(b.request("GET", "/", nil), withFields("", "b")) },
		"bad value": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), withFields("X-A", "b\r\nX-B: c"))
		},
		"own framing": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), withFields("Content-Length", "5", "Transfer-Encoding", "chunked", "Host", "x", "Trailer", "Y"))
		},
		"close": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), func(r *http.Request) { r.Close = true })
		},
		"close by header": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", nil), withFields("Connection", "close"))
		},
		"no body":         func(b *conformBed) *http.Request { return b.request("POST", "/", nil) },
		"NoBody":          func(b *conformBed) *http.Request { return b.request("PUT", "/", http.NoBody) },
		"sized body":      func(b *conformBed) *http.Request { return b.request("POST", "/", strings.NewReader("hello")) },
		"GET with a body": func(b *conformBed) *http.Request { return b.request("GET", "/", strings.NewReader("hello")) },
		"large body":      func(b *conformBed) *http.Request { return b.request("PUT", "/", strings.NewReader(big)) },
		"unsized body":    func(b *conformBed) *http.Request { return b.request("POST", "/", unsized("hello")) },
		"large unsized":   func(b *conformBed) *http.Request { return b.request("PATCH", "/", unsized(big)) },
		"empty unsized":   func(b *conformBed) *http.Request { return b.request("POST", "/", unsized("")) },
		"chunked GET": func(b *conformBed) *http.Request {
			return with(b.request("GET", "/", unsized("hello")), func(r *http.Request) { r.TransferEncoding = []string{"chunked"} })
		},
		"trailers": func(b *conformBed) *http.Request {
			return with(b.request("POST", "/", unsized("hello")), func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"1"}, "X-Two": {"a", "b"}} })
		},
		"trailers of a sized body": func(b *conformBed) *http.Request {
			return with(b.request("POST", "/", strings.NewReader("hello")), func(r *http.Request) { r.Trailer = http.Header{"X-Sum": {"1"}} })
		},
	}
	var stories []story
	for name, make := range requests {
		stories = append(stories, story{name: name, play: func(b *conformBed) {
			b.answers(good, good)
			b.do(make(b))
			b.do(b.request("GET", "/next", nil))
		}})
	}
	for name, spoil := range map[string]func(*http.Request){
		"control in URL": func(r *http.Request) { r.URL.Opaque = "/a\r\nX: y" },
		"space in URL":   func(r *http.Request) { r.URL.Opaque = "/a HTTP/1.1" },
		"bad host":       func(r *http.Request) { r.Host = "a b" },
		"bad trailer": func(r *http.Request) {
			r.Body, r.ContentLength, r.Trailer = io.NopCloser(strings.NewReader("x")), -1, http.Header{"Content-Length": {"1"}}
		},
	} {
		stories = append(stories, story{name: name, why: "refused before anything is written", play: func(b *conformBed) {
			b.answers(good, good)
			b.do(with(b.request("POST", "/", nil), spoil))
			b.do(b.request("GET", "/next", nil))
		}, ours: []string{"failed: refused", gotGood, bodyGood, "connections: 1"}})
	}
	conform(t, stories)
}

// once answers the first request of each connection with f and then reads on.
func (b *conformBed) once(f func(c net.Conn, in *bufio.Reader)) {
	b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
		if b.readRequest(in) {
			f(c, in)
		}
	})
}

// TestConformStories are those in which time matters.
func TestConformStories(t *testing.T) {
	// short runs out in the story, long must not before its answer comes.
	short, long := 300*time.Millisecond, time.Second
	conform(t, []story{
		{name: "an answer before the body is sent", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
				http.ReadRequest(in)
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				io.Copy(io.Discard, in)
			})
			body, client := io.Pipe()
			defer client.Close()
			b.do(with(b.request("POST", "/", body), func(r *http.Request) { r.ContentLength = 1 << 20 }))
			client.CloseWithError(errClientBroke)
			b.do(b.request("GET", "/next", nil)) // over another connection
		}},
		{name: "both ways at once", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
				r, _ := http.ReadRequest(in)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				lines := bufio.NewScanner(r.Body)
				for lines.Scan() {
					fmt.Fprintf(c, "%x\r\n%s\r\n", len(lines.Text()), strings.ToUpper(lines.Text()))
				}
				io.WriteString(c, "0\r\n\r\n")
			})
			body, client := io.Pipe()
			res, err := b.rt.RoundTrip(b.request("POST", "/", body))
			if err != nil {
				b.note("failed: %s", class(err))
				return
			}
			for _, word := range []string{"one", "two"} {
				io.WriteString(client, word+"\n")
				p := make([]byte, 3)
				_, err := io.ReadFull(res.Body, p)
				b.note("%s %s", p, class(err))
			}
			client.Close()
			_, err = io.ReadAll(res.Body)
			b.note("end: %s", class(err))
		}},
		{name: "more than both sides can buffer", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
				r, _ := http.ReadRequest(in)
				fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", r.ContentLength)
				io.Copy(c, r.Body)
			})
			b.do(b.request("POST", "/", strings.NewReader(strings.Repeat("0123456789abcdef", 1<<19))))
		}},
		{name: "the client's body breaks", play: func(b *conformBed) {
			b.answers(good)
			b.do(b.request("POST", "/", broken("half")))
			b.do(with(b.request("POST", "/", broken("half")), func(r *http.Request) { r.ContentLength = 10 }))
		}},
		{name: "100 Continue", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
				r, _ := http.ReadRequest(in)
				io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
				body, err := io.ReadAll(r.Body)
				b.see("%q %s", body, class(err))
				io.WriteString(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ngood")
			})
			b.do(with(b.request("POST", "/", strings.NewReader("hello")), withFields("Expect", "100-continue")))
			b.do(with(b.request("POST", "/", io.NopCloser(strings.NewReader("hello"))), withFields("Expect", "100-Continue")))
		}},
		{name: "no 100 Continue comes", play: func(b *conformBed) {
			b.answers(good, good)
			b.do(with(b.request("POST", "/", strings.NewReader("hello")), withFields("Expect", "100-continue")))
			b.do(with(b.request("GET", "/", nil), withFields("Expect", "100-continue")))
		}},
		{name: "refused instead of 100 Continue", play: func(b *conformBed) {
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) {
				http.ReadRequest(in)
				io.WriteString(c, "HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				rest, err := io.ReadAll(in)
				b.see("%q %s", rest, class(err))
			})
			b.do(with(b.request("POST", "/", strings.NewReader("hello")), withFields("Expect", "100-continue")))
		}},
		{name: "no answer", timeout: short, play: func(b *conformBed) {
			b.once(func(c net.Conn, in *bufio.Reader) { io.Copy(io.Discard, in) })
			b.do(b.request("GET", "/", nil))
			b.do(b.request("POST", "/", strings.NewReader("hello")))
			b.do(b.request("POST", "/", io.NopCloser(strings.NewReader("hello"))))
		}},
		{name: "half an answer", timeout: short, play: func(b *conformBed) {
			b.once(func(c net.Conn, in *bufio.Reader) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nX-A:")
				io.Copy(io.Discard, in)
			})
			b.do(b.request("GET", "/", nil))
		}},
		{name: "the body may take longer than the header", timeout: long, play: func(b *conformBed) {
			b.once(func(c net.Conn, in *bufio.Reader) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
				time.Sleep(2 * long)
				io.WriteString(c, "late")
				b.readRequest(in)
				io.WriteString(c, good)
			})
			b.do(b.request("GET", "/", nil))
			b.do(b.request("GET", "/next", nil))
		}},
		{name: "a kept connection may lie idle for longer than the timeout", timeout: long, play: func(b *conformBed) {
			b.answers(good, good)
			b.do(b.request("GET", "/", nil))
			time.Sleep(2 * long)
			b.do(b.request("POST", "/", nil))
		}},
		{name: "cancelled while waiting", play: func(b *conformBed) {
			ctx, cancel := context.WithCancel(b.t.Context())
			b.once(func(c net.Conn, in *bufio.Reader) {
				cancel()
				_, err := in.ReadByte()
				b.see("%s", class(err))
			})
			b.do(b.request("GET", "/", nil).WithContext(ctx))
		}},
		{name: "cancelled with a cause", play: func(b *conformBed) {
			ctx, cancel := context.WithCancelCause(b.t.Context())
			b.once(func(c net.Conn, in *bufio.Reader) { cancel(errClientBroke); in.ReadByte() })
			b.do(b.request("GET", "/", nil).WithContext(ctx))
		}},
		{name: "cancelled before", play: func(b *conformBed) {
			ctx, cancel := context.WithCancel(b.t.Context())
			cancel()
			b.answers(good)
			b.do(b.request("POST", "/", strings.NewReader("hello")).WithContext(ctx))
		}},
		{name: "a deadline", play: func(b *conformBed) {
			ctx, cancel := context.WithTimeout(b.t.Context(), short)
			defer cancel()
			b.once(func(c net.Conn, in *bufio.Reader) { in.ReadByte() })
			b.do(b.request("GET", "/", nil).WithContext(ctx))
		}},
		{name: "cancelled in the answer", play: func(b *conformBed) {
			ctx, cancel := context.WithCancel(b.t.Context())
			defer cancel()
			b.once(func(c net.Conn, in *bufio.Reader) {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
				_, err := in.ReadByte()
				b.see("%s", class(err))
			})
			res, err := b.rt.RoundTrip(b.request("GET", "/", nil).WithContext(ctx))
			if err != nil {
				b.note("failed: %s", class(err))
				return
			}
			_, err = io.ReadFull(res.Body, make([]byte, 4))
			b.note("half: %s", class(err))
			cancel()
			_, err = res.Body.Read(make([]byte, 4))
			b.note("then: %s", class(err))
			res.Body.Close()
		}},
		{name: "cancelled while writing", play: func(b *conformBed) {
			ctx, cancel := context.WithTimeout(b.t.Context(), short)
			defer cancel()
			b.serve(func(c net.Conn, in *bufio.Reader, _ int) { <-b.over })
			b.do(b.request("POST", "/", io.NopCloser(zeros{})).WithContext(ctx))
		}},
		{name: "an answer that is not read to its end", play: func(b *conformBed) {
			b.answers(good, good)
			res, err := b.rt.RoundTrip(b.request("GET", "/", nil))
			if err != nil {
				b.note("failed: %s", class(err))
				return
			}
			io.ReadFull(res.Body, make([]byte, 2))
			b.note("closed: %v", res.Body.Close())
			_, err = res.Body.Read(make([]byte, 2))
			b.note("read: %s", class(err))
			b.do(b.request("GET", "/next", nil))
		}},
		{name: "an error of the interim hook", play: func(b *conformBed) {
			b.answers("HTTP/1.1 103 Early Hints\r\n\r\n" + good)
			_, err := b.rt.RoundTrip(tracing(b.request("GET", "/", nil), func() error { return errClientBroke }))
			b.note("%v", errors.Is(err, errClientBroke))
		}},
	})
}
