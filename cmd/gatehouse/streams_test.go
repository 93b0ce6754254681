package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// A browser's websocket outlives its access token, refreshed or not, until the
// browser signs out; a program's does not.
func TestWebsocketOutlivesAccessToken(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			defer c.CloseNow()
			for err == nil {
				var message []byte
				if _, message, err = c.Read(r.Context()); err == nil {
					err = c.Write(r.Context(), websocket.MessageText, message)
				}
			}
		}
	}))
	t.Cleanup(upstream.Close)
	gw := serveHere(t, fmt.Sprintf(`users: {bcrypt_cost: 4, password: {min_strength: 0}}
tokens: {access_ttl: 2s, leeway: 0s}
routes: [{path: /, upstream: %q}]
`, upstream.URL))
	const account = `{"email":"ann@example.com","password":"password123"}`
	post := func(path, body, token string, want int) (answer struct{ Access_token, Refresh_token string }) {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), "POST", gw.url+path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		if res.StatusCode != want {
			t.Fatalf("POST %s = %d %s, want %d", path, res.StatusCode, b, want)
		}
		if len(b) > 0 {
			if err := json.Unmarshal(b, &answer); err != nil {
				t.Fatal(err)
			}
		}
		return answer
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := func(header, value string) *websocket.Conn {
		t.Helper()
		c, _, err := websocket.Dial(ctx, gw.url+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{header: {value}}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		return c
	}
	closed := func(c *websocket.Conn, reason string) {
		t.Helper()
		_, _, err := c.Read(ctx)
		var closed websocket.CloseError
		if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != reason {
			t.Errorf("the websocket ends with %v, want close frame 1008 %q", err, reason)
		}
	}
	alive := func(c *websocket.Conn) {
		t.Helper()
		if err := c.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, message, err := c.Read(ctx); err != nil || string(message) != "hello" {
			t.Fatalf("the websocket answers %q, %v, want it alive", message, err)
		}
	}

	post("/register", account, "", 201)
	session := post("/login", account, "", 200)
	browser, program := dial("Cookie", "gatehouse="+session.Access_token), dial("Authorization", "Bearer "+session.Access_token)
	closed(program, "The token expired")
	alive(browser)
	session = post("/.gatehouse/refresh", fmt.Sprintf(`{"refresh_token":%q}`, session.Refresh_token), "", 200)
	post("/logout", "{}", session.Access_token, 204)
	at := time.Now()
	closed(browser, "The token was revoked")
	if d := time.Since(at); d > time.Second {
		t.Errorf("the websocket ended %v after the logout, want within a second", d)
	}
}
