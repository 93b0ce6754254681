package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// Load reads the configuration file at path. lookup finds environment
// variables; nil finds none. The error is [Problems] with everything that is
// wrong. Load reads the files that the configuration names and reaches no
// network.
func Load(path string, lookup func(string) (string, bool)) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, unreadable(path, err)
	}
	return Parse(path, data, lookup)
}

func unreadable(path string, err error) error {
	return Problems{{Pos: Position{File: path}, Text: "cannot read the configuration: " + reason(err)}}
}

// reason is err without the path, which may come from a variable.
func reason(err error) string {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err.Error()
	}
	return "the file cannot be read"
}

// Parse is [Load] for data that is already read. path is for messages and is
// where relative paths in data begin.
func Parse(path string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	d := newDecoder(path, lookup)
	c := defaults()
	c.Path, c.source = path, d.source
	c.Sums = map[string][sha256.Size]byte{absolute(path): sha256.Sum256(data)}
	root := d.document(data)
	if root == nil {
		return nil, d.sorted()
	}
	d.decode(root, "", reflect.ValueOf(c).Elem())
	v := &validator{decoder: d, c: c, upstreamsSeen: map[string]bool{}}
	v.refuseUnavailable()
	v.derive()
	v.resolveFiles()
	v.validate()
	if len(d.problems) > 0 {
		return nil, d.sorted()
	}
	slices.SortStableFunc(c.Warnings, byPosition)
	return c, nil
}

func byPosition(a, b Problem) int {
	if a.Pos.Line != b.Pos.Line {
		return a.Pos.Line - b.Pos.Line
	}
	return a.Pos.Column - b.Pos.Column
}

// sorted is every problem in the order of the file. A hostile file is not
// answered with a million lines.
func (d *decoder) sorted() Problems {
	const most = 500
	slices.SortStableFunc(d.problems, byPosition)
	if extra := len(d.problems) - most; extra > 0 {
		d.problems = append(d.problems[:most], Problem{
			Pos: Position{File: d.file}, Text: fmt.Sprintf("%d more problems", extra),
		})
	}
	return d.problems
}

// derive fills what follows from other keys.
func (v *validator) derive() {
	c := v.c
	c.PublicURL = v.publicURL(c.PublicURL)
	if !v.given("tokens.issuer") {
		c.Tokens.Issuer = c.PublicURL
	}
	for i := range c.Tokens.Keys {
		if key := fmt.Sprintf("tokens.keys[%d]", i); !v.given(key + ".algorithm") {
			c.Tokens.Keys[i].Algorithm = c.Tokens.Algorithm
		}
	}
}

// HTTPS reports whether users reach the gateway by https, which is what turns
// on Secure cookies and HSTS.
func (c *Config) HTTPS() bool { return strings.HasPrefix(c.PublicURL, "https://") }

// CookieNames are the names of the gateway's cookies.
type CookieNames struct {
	Session, Refresh string
	Known            string // proves that somebody has signed in here before
}

// Cookies names the gateway's cookies. The __Host- prefix makes browsers refuse
// such a cookie from a sibling host or over plain http (RFC 6265bis, section
// 4.1.3.2); it does not work without https.
func (c *Config) Cookies() CookieNames {
	prefix := ""
	if c.HTTPS() {
		prefix = "__Host-"
	}
	return CookieNames{prefix + "gatehouse", prefix + "gatehouse-refresh", prefix + "gatehouse-known"}
}

// KeepsAccounts reports whether users can sign in here. Without accounts the
// gateway only verifies tokens that others have issued.
func (c *Config) KeepsAccounts() bool { return c.Users.Database != "none" }

// Signs reports whether the gateway signs anything, and not only verifies:
// tokens of its accounts, or assertions.
func (c *Config) Signs() bool { return c.KeepsAccounts() || c.Identity.Assertion.Enabled }

// Revokes reports whether there is anything that lasts to record a revocation
// in: users.database, or a store that gateways share. Memory is none: a logout
// that a restart undoes is worse than one that is not offered.
func (c *Config) Revokes() bool { return c.KeepsAccounts() || c.Revocation.Store == "redis" }

// resolveFiles makes paths absolute, checks that the files are there, and
// reads the secret files.
func (v *validator) resolveFiles() {
	c := v.c
	v.base = filepath.Dir(absolute(c.Path))
	c.DataDir = v.absolute(c.DataDir)
	if path, ok := strings.CutPrefix(c.Users.Database, "sqlite:"); ok && path != "" {
		c.Users.Database = "sqlite:" + v.absolute(path)
	}
	c.Users.Database = v.postgresFiles(c.Users.Database)
	v.file("tls.cert_file", &c.TLS.CertFile, false)
	v.file("tls.key_file", &c.TLS.KeyFile, true)
	v.file("tls.client_ca_file", &c.TLS.ClientCAFile, false)
	v.file("endpoints.logo_file", &c.Endpoints.LogoFile, false)
	v.folder("endpoints.templates_dir", &c.Endpoints.TemplatesDir)
	for i := range c.Tokens.Keys {
		k, at := &c.Tokens.Keys[i], fmt.Sprintf("tokens.keys[%d].", i)
		v.file(at+"private_key_file", &k.PrivateKeyFile, true)
		v.file(at+"public_key_file", &k.PublicKeyFile, false)
		if v.file(at+"secret_file", &k.SecretFile, true) {
			k.Secret = v.readSecret(at+"secret_file", k.SecretFile)
		}
	}
	for i := range c.TrustedIssuers {
		v.file(fmt.Sprintf("trusted_issuers[%d].jwks_file", i), &c.TrustedIssuers[i].JWKSFile, false)
	}
	for i := range c.Routes {
		for j := range c.Routes[i].Upstream {
			u := &c.Routes[i].Upstream[j]
			if path, ok := strings.CutPrefix(u.URL, "unix:"); ok && path != "" {
				u.URL = "unix:" + v.absolute(path)
			}
		}
	}
}

// absolute is path, which may begin at the current folder.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

func (v *validator) absolute(path string) string {
	if path == "" {
		return ""
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(v.base, path)
}

// file makes *path absolute and notes it in Config.Files. It reports whether
// there is a file to read.
func (v *validator) file(key string, path *string, private bool) bool {
	if !v.given(key) || v.skip(key) {
		return false
	}
	if *path == "" {
		v.bad(key, "want a file", "leave the key out if there is none")
		return false
	}
	*path = v.absolute(*path)
	if !slices.Contains(v.c.Files, *path) {
		v.c.Files = append(v.c.Files, *path)
	}
	info, err := os.Stat(*path)
	switch {
	case err != nil:
		v.bad(key, reason(err), "relative paths begin at the folder of the configuration")
		return false
	case info.IsDir():
		v.bad(key, "is a folder, want a file", "")
		return false
	case !info.Mode().IsRegular():
		v.bad(key, "want a regular file", "")
		return false
	}
	if private && info.Mode().Perm()&0o004 != 0 {
		v.warn(key, fmt.Sprintf("%s %s: everybody on this machine can read the file", key, v.quote(key, "")), "chmod o-r")
	}
	return true
}

// folder makes *path absolute, which is where there must be a folder.
func (v *validator) folder(key string, path *string) {
	if !v.given(key) || v.skip(key) || *path == "" {
		return
	}
	*path = v.absolute(*path)
	switch info, err := os.Stat(*path); {
	case err != nil:
		v.bad(key, reason(err), "relative paths begin at the folder of the configuration")
	case !info.IsDir():
		v.bad(key, "is a file, want a folder", "")
	}
}

const maxSecretBytes = 64 << 10

// readSecret reads a secret without the newline that editors put at its end.
func (v *validator) readSecret(key, path string) Secret {
	f, err := os.Open(path)
	if err != nil {
		v.bad(key, reason(err), "")
		return ""
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	switch {
	case err != nil:
		v.bad(key, reason(err), "")
		return ""
	case len(data) > maxSecretBytes:
		v.bad(key, "the file is too large: want at most 64 KiB", "")
		return ""
	}
	v.c.Sums[path] = sha256.Sum256(data)
	text := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if text == "" {
		v.bad(key, "the file is empty", "")
	}
	return Secret(text)
}
