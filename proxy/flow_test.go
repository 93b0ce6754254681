package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"gatehouse/authn"
	"gatehouse/config"
)

// TestFlow tells the stories of testdata/flow. Each is a gateway.yaml, then
// requests with what the upstream saw, what the client got, and what the log
// says. Requests go over raw sockets, and the upstream notes raw bytes.
//
//	-- request (as ann) --        with ann's Bearer token; "by cookie" for her cookie
//	-- upstream saw --            the request's head and body; headers sorted, the gateway's
//	                              own X-Forwarded-*, X-Real-Ip, X-Request-Id left out
//	-- upstream saw all --        nothing left out
//	-- upstream saw nothing --
//	-- response --                status, headers that must be there (!Name: must not), body
//	-- log --                     attributes that the access log line must have
//	-- upstream answers --        for the following requests, raw
//
// $UPSTREAM, $HOST (the gateway) and $ID (any request id) are filled in; \xNN
// and \r stand for bytes.
func TestFlow(t *testing.T) {
	files, err := filepath.Glob("testdata/flow/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no flow cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runFlow(t, archive)
		})
	}
}

// people are who the tokens of the tests prove.
var people = map[string]*authn.Identity{
	"ann": {ID: "u-ann", Email: "ann@example.com", Name: "Ann", Roles: []string{"user"}, Session: "s-ann", Claims: map[string]any{"team": "blue"}},
	"ops": {ID: "u-ops", Email: "ops@example.com", Name: "Oskar Öl", Roles: []string{"user", "ops", "on,call"}, Session: "s-ops"},
	"eve": {Issuer: "https://elsewhere.example", ID: "u-ann"},
}

// knownTokens is a Verifier: a person's name is a good token.
type knownTokens struct{}

func (knownTokens) Verify(_ context.Context, token string) (*authn.Identity, error) {
	switch token {
	case "expired":
		return nil, authn.ErrInvalidToken.Because(errors.New("expired")).Describing("The token expired")
	case "unsure":
		return nil, errors.New("keys of the issuer cannot be fetched")
	}
	if id := people[token]; id != nil {
		return id, nil
	}
	return nil, authn.ErrInvalidToken.Because(errors.New("unknown"))
}

// ownPages are endpoints for the tests.
type ownPages struct{}

func (ownPages) Match(r *http.Request) HandlerFunc {
	switch r.URL.Path {
	case "/login", "/.gatehouse/login":
	default:
		return nil
	}
	return func(w http.ResponseWriter, r *http.Request) error {
		if r.Method != http.MethodPost {
			return authn.ErrMethodNotAllowed
		}
		c := authn.CallerOf(r.Context())
		fmt.Fprintf(w, "client %s, token %q, known %q, navigates %v, %v", c.Address, c.Token, c.Known, c.Navigates, c.CrossOrigin)
		return nil
	}
}

// capture is an upstream that notes every byte and answers as it is told.
type capture struct {
	net.Listener
	mu     sync.Mutex
	answer string
	seen   []string
}

func newCapture(t *testing.T) *capture {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &capture{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.serve(conn)
		}
	}()
	return c
}

func (c *capture) serve(conn net.Conn) {
	defer conn.Close()
	var raw bytes.Buffer
	br := bufio.NewReader(io.TeeReader(conn, &raw))
	r, err := http.ReadRequest(br)
	if err == nil {
		_, err = io.Copy(io.Discard, r.Body)
	}
	c.mu.Lock()
	seen := raw.String()
	if err != nil {
		seen += fmt.Sprintf("\n(%v)", err)
	}
	c.seen = append(c.seen, seen)
	answer := c.answer
	c.mu.Unlock()
	io.WriteString(conn, answer)
}

func (c *capture) take() (seen []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, c.seen = c.seen, nil
	return seen
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nok"

// syncBuffer holds log lines that other goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// testGateway serves yaml and returns its address and its log.
func testGateway(t testing.TB, yaml string) (*httptest.Server, *syncBuffer) {
	t.Helper()
	c, err := config.Parse("gateway.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	logged := &syncBuffer{}
	m := NewMetrics("", "")
	pace := &Pace{Metrics: m}
	g := New(Options{Log: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})), Metrics: m, Pace: pace})
	t.Cleanup(g.Close)
	s, err := g.NewSnapshot(SnapshotOptions{
		Config: c, Endpoints: ownPages{}, Verifier: knownTokens{},
		Assert: func(id *authn.Identity, audience string, _ time.Duration) (string, error) {
			return "assertion-of-" + id.ID + "-for-" + audience, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Use(s)
	server := httptest.NewUnstartedServer(g)
	server.Config.DisableGeneralOptionsHandler = true
	server.Config.ErrorLog = ErrorLog(slog.New(slog.NewTextHandler(logged, nil)))
	server.Config.ConnState = GuardState
	server.Listener = &guardedListener{server.Listener, &Guard{Log: g.log, Metrics: m, Pace: pace}, nil}
	server.Start()
	t.Cleanup(server.Close)
	return server, logged
}

func runFlow(t *testing.T, archive *txtar.Archive) {
	upstream := newCapture(t)
	upstream.answer = plainAnswer
	var server *httptest.Server
	var logged *syncBuffer
	var response, status, lines string
	fill := strings.NewReplacer("$UPSTREAM", "http://"+upstream.Addr().String(), "$PORT", upstream.Addr().String())
	mark := 0
	for _, section := range archive.Files {
		text := fill.Replace(string(section.Data))
		if server != nil {
			text = strings.ReplaceAll(text, "$HOST", server.Listener.Addr().String())
		}
		name, options, _ := strings.Cut(section.Name, " (as ")
		switch name {
		case "gateway.yaml":
			server, logged = testGateway(t, text)
		case "upstream answers":
			upstream.mu.Lock()
			upstream.answer = rawBytes(text)
			upstream.mu.Unlock()
		case "request":
			if left := upstream.take(); left != nil {
				t.Errorf("upstream saw more than was told:\n%s", left)
			}
			mark = len(logged.String())
			status, response = exchangeRaw(t, server.Listener.Addr().String(), rawBytes(asPerson(text, strings.TrimSuffix(options, ")"))))
			lines = waitForLog(t, logged, mark)
		case "upstream saw", "upstream saw all":
			seen := upstream.take()
			if len(seen) != 1 {
				t.Fatalf("upstream saw %d requests: %q", len(seen), seen)
			}
			compareText(t, section.Name, tidyHead(seen[0], name == "upstream saw all"), tidyHead(rawBytes(text), true))
		case "upstream saw nothing":
			if seen := upstream.take(); seen != nil {
				t.Errorf("upstream saw %q, want nothing", seen)
			}
		case "response":
			compareResponse(t, status, response, text)
			upstream.take()
		case "log":
			for want := range strings.FieldsSeq(text) {
				if !strings.Contains(lines, want) {
					t.Errorf("log line %q, want %q in it", lines, want)
				}
			}
		default:
			t.Fatalf("unknown section %q", section.Name)
		}
	}
}
