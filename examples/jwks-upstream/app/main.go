// An app that believes nobody but the gateway's signature. Whoever reaches it
// past the gateway can write any header, but not sign one.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// User is what the assertion says.
type User struct {
	Email string   `json:"email"`
	Name  string   `json:"name"`
	Roles []string `json:"roles"`
	jwt.RegisteredClaims
}

func main() {
	listen := flag.String("listen", "127.0.0.1:3000", "address to listen on")
	gateway := flag.String("gateway", "http://localhost:8080", "the gateway's public_url")
	flag.Parse()

	keys := &keySet{url: *gateway + "/.well-known/jwks.json"}
	parser := jwt.NewParser(
		jwt.WithValidMethods([]string{"ES256"}),
		jwt.WithIssuer(*gateway),
		jwt.WithAudience("reports"), // the route's name
		jwt.WithExpirationRequired(),
		jwt.WithStrictDecoding(),
	)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		var user User
		token, err := parser.ParseWithClaims(r.Header.Get("X-Gatehouse-Assertion"), &user, keys.find)
		// An access token has the same issuer and keys; its typ is another.
		if err != nil || token.Header["typ"] != "gatehouse-assertion+jwt" {
			http.Error(w, "come in through the gateway", http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "Hello %s <%s>\n", user.Name, user.Email)
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}

// A keySet is the gateway's public keys, fetched when an unknown one signs: that
// is how a key that was added later is found. In most languages a JWKS library
// does this.
type keySet struct {
	url string

	mu      sync.Mutex
	keys    map[string]*ecdsa.PublicKey // by kid
	fetched time.Time
}

// find is the key that a token names.
func (s *keySet) find(token *jwt.Token) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kid, _ := token.Header["kid"].(string)
	// Not more than once a second, however many unknown keys are named.
	if s.keys[kid] == nil && time.Since(s.fetched) > time.Second {
		s.fetched = time.Now()
		if err := s.fetch(); err != nil {
			log.Print(err)
		}
	}
	if key := s.keys[kid]; key != nil {
		return key, nil
	}
	return nil, errors.New("unknown key")
}

func (s *keySet) fetch() error {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(s.url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var set struct {
		Keys []struct{ Kid, Crv, X, Y string } `json:"keys"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&set); err != nil {
		return fmt.Errorf("%s: %s: %w", s.url, res.Status, err)
	}
	keys := map[string]*ecdsa.PublicKey{}
	for _, k := range set.Keys {
		x, errX := base64.RawURLEncoding.DecodeString(k.X)
		y, errY := base64.RawURLEncoding.DecodeString(k.Y)
		if k.Crv != "P-256" || errX != nil || errY != nil {
			continue
		}
		// SEC 1, section 2.3.3: 4, then both coordinates.
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return fmt.Errorf("key %q: %w", k.Kid, err)
		}
		keys[k.Kid] = key
	}
	s.keys = keys
	return nil
}
