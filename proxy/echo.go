package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// echoPreview is how much of a body the echo: app shows.
const echoPreview = 4 << 10

// echoed is a request as an upstream receives it: what the echo: app answers.
type echoed struct {
	Method   string      `json:"method"`
	Host     string      `json:"host"`
	Path     string      `json:"path"` // as it came, nothing decoded
	Query    string      `json:"query"`
	Protocol string      `json:"protocol"`
	Headers  http.Header `json:"headers"`
	Identity http.Header `json:"identity"` // those headers that say who the user is
	Body     echoedBody  `json:"body"`
	Trailers http.Header `json:"trailers,omitempty"`
}

type echoedBody struct {
	Size      int64  `json:"size"`
	Text      string `json:"text,omitempty"` // the first bytes, if they are text
	Truncated bool   `json:"truncated,omitempty"`
}

// echo is the built-in app behind "upstream: echo:". It shows a request exactly
// as an upstream would receive it: a page for browsers, JSON for programs. It
// does nothing else; a request to upgrade is shown like any other, which
// RFC 9110, section 7.8, allows.
type echo struct {
	identity map[string]bool // canonical names
}

func newEcho(identity ...string) *echo {
	e := &echo{identity: map[string]bool{
		"X-Forwarded-User": true, "X-Forwarded-Email": true, "X-Forwarded-Preferred-Username": true,
		"X-Forwarded-Groups": true, "X-Gatehouse-Assertion": true,
	}}
	for _, name := range identity {
		e.identity[http.CanonicalHeaderKey(name)] = true
	}
	return e
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen, err := e.read(r)
	if err != nil {
		http.Error(w, "the request body could not be read", http.StatusBadRequest)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Vary", "Accept")
	var page bytes.Buffer
	if e.forBrowser(r.Header) {
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", echoPolicy)
		err = echoPage.Execute(&page, seen)
	} else {
		h.Set("Content-Type", "application/json")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		enc := json.NewEncoder(&page)
		enc.SetIndent("", "  ")
		err = enc.Encode(seen)
	}
	if err != nil {
		http.Error(w, "the request could not be shown", http.StatusInternalServerError)
		return
	}
	h.Set("Content-Length", strconv.Itoa(page.Len()))
	if r.Method != http.MethodHead {
		w.Write(page.Bytes())
	}
}

// read takes the request in, body and trailers included.
func (e *echo) read(r *http.Request) (echoed, error) {
	path, query, _ := strings.Cut(r.RequestURI, "?")
	seen := echoed{
		Method: r.Method, Host: r.Host, Path: path, Query: query, Protocol: r.Proto,
		Headers: r.Header.Clone(), Identity: http.Header{},
	}
	// The server takes the framing out of the header; an upstream sees it.
	if len(r.TransferEncoding) > 0 {
		seen.Headers["Transfer-Encoding"] = r.TransferEncoding
	}
	if len(r.Trailer) > 0 {
		seen.Headers.Set("Trailer", strings.Join(slices.Sorted(maps.Keys(r.Trailer)), ", "))
	}
	for name, values := range seen.Headers {
		if e.identity[name] {
			seen.Identity[name] = values
		}
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, echoPreview))
	if err != nil {
		return echoed{}, err
	}
	rest, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return echoed{}, err
	}
	seen.Body = echoedBody{Size: int64(len(start)) + rest, Text: echoText(start, rest > 0)}
	seen.Body.Truncated = rest > 0 && seen.Body.Text != ""
	for name, values := range r.Trailer { // filled once the body has been read
		if len(values) > 0 {
			if seen.Trailers == nil {
				seen.Trailers = http.Header{}
			}
			seen.Trailers[name] = values
		}
	}
	return seen, nil
}

// echoText is b if it is text in UTF-8, else "". A character that was cut in two
// at the end is left out.
func echoText(b []byte, cut bool) string {
	for i := 0; cut && i < utf8.UTFMax-1 && !utf8.Valid(b); i++ {
		b = b[:len(b)-1]
	}
	control := func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f }
	if !utf8.Valid(b) || bytes.ContainsFunc(b, control) {
		return ""
	}
	return string(b)
}

// forBrowser tells whether Accept names text/html, as browsers' does.
func (e *echo) forBrowser(h http.Header) bool {
	for _, line := range h["Accept"] {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, err := mime.ParseMediaType(item)
			if err != nil || kind != "text/html" {
				continue
			}
			q, err := strconv.ParseFloat(params["q"], 64)
			return err != nil || q > 0
		}
	}
	return false
}

//go:embed echo.html
var echoSource string

//go:embed echo.css
var echoStyle string

var (
	echoPage = template.Must(template.New("echo").Funcs(template.FuncMap{
		"style": func() template.CSS { return template.CSS(echoStyle) },
		"names": func(h http.Header) []string { return slices.Sorted(maps.Keys(h)) },
	}).Parse(echoSource))
	echoPolicy = "default-src 'none'; style-src 'sha256-" + styleHash(echoStyle) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

func styleHash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// echoTransport reaches the echo: app without a socket. The request is
// written out and read in again as on a connection, so that what is shown is
// what the wire would carry, framing and trailers included.
type echoTransport struct{ app http.Handler }

// newEchoTransport is the RoundTripper of echo: upstreams. The headers that
// are named in identity are highlighted beside the default ones.
func newEchoTransport(identity ...string) http.RoundTripper {
	return echoTransport{newEcho(identity...)}
}

func (t echoTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	body := &failingBody{ReadCloser: r.Body}
	if r.Body != nil {
		defer r.Body.Close()
		out := *r
		out.Body = body
		r = &out
	}
	in, wire := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := r.Write(wire)
		wire.CloseWithError(err)
		written <- err
	}()
	answer := &echoAnswer{header: http.Header{}, status: http.StatusOK}
	received, err := http.ReadRequest(bufio.NewReader(in))
	if err == nil {
		t.app.ServeHTTP(answer, received.WithContext(r.Context()))
	}
	in.CloseWithError(errors.New("echo: has answered"))
	sent := <-written
	switch {
	case body.err != nil:
		return nil, &clientBodyError{body.err}
	case err != nil:
		return nil, fmt.Errorf("echo: %w", err)
	case sent != nil:
		return nil, fmt.Errorf("echo: %w", sent)
	}
	return answer.response(r), nil
}

// failingBody remembers why a body could not be read: http.Request.Write does
// not let errors.As look for it.
type failingBody struct {
	io.ReadCloser
	err error
}

func (b *failingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

// echoAnswer is a response in memory.
type echoAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *echoAnswer) Header() http.Header         { return a.header }
func (a *echoAnswer) WriteHeader(status int)      { a.status = status }
func (a *echoAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

func (a *echoAnswer) response(r *http.Request) *http.Response {
	length, err := strconv.ParseInt(a.header.Get("Content-Length"), 10, 64)
	if err != nil {
		length = int64(a.body.Len())
	}
	return &http.Response{
		Status:     strconv.Itoa(a.status) + " " + http.StatusText(a.status),
		StatusCode: a.status,
		Proto:      "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        a.header,
		Body:          io.NopCloser(&a.body),
		ContentLength: length,
		Request:       r,
	}
}
