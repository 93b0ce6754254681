package endpoints

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"gatehouse/authn"
)

// writeJSON writes v as the whole answer.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n')) // an error here is the client's going away
	return nil
}

// redirect sends a browser on with GET. http.Redirect would clean the path:
// /a//b would become /a/b.
func redirect(w http.ResponseWriter, status int, to string) error {
	w.Header().Set("Location", to)
	w.WriteHeader(status)
	return nil
}

// tokens is the answer to a program that signed in (RFC 6749, section 5.1).
type tokens struct {
	AccessToken      string `json:"access_token"`
	TokenType        string `json:"token_type"`
	ExpiresIn        int64  `json:"expires_in"` // seconds
	RefreshToken     string `json:"refresh_token,omitempty"`
	RefreshExpiresIn int64  `json:"refresh_expires_in"`
}

func writeTokens(w http.ResponseWriter, g authn.Grant) error {
	w.Header().Set("Pragma", "no-cache")
	return writeJSON(w, http.StatusOK, tokens{
		AccessToken:      g.AccessToken,
		TokenType:        "Bearer",
		ExpiresIn:        seconds(g.ExpiresIn),
		RefreshToken:     g.RefreshToken,
		RefreshExpiresIn: seconds(g.RefreshExpiresIn),
	})
}

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// postsForm reports whether a browser posts a form and will show the answer.
func postsForm(r *http.Request) bool {
	isForm, _ := mediaType(r)
	return isForm && authn.CallerOf(r.Context()).Navigates
}

// An asset is a file that never changes while it is served.
type asset struct {
	contentType string
	body        []byte
	etag        string
}

func newAsset(contentType string, body []byte) asset {
	sum := sha256.Sum256(body)
	return asset{contentType, body, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
}

// serve answers with the asset, or with 304 to those who have it.
func (a asset) serve(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "public, max-age=300")
	h.Set("ETag", a.etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
	return nil
}
