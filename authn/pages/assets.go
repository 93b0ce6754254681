package pages

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/config"
)

// An asset is a file that pages load. Its URL names its content, so that
// browsers can keep it for ever.
type asset struct {
	path, url   string
	contentType string
	policy      string // Content-Security-Policy
	body        []byte
	tag         string
}

type assets struct {
	style, script asset
	logo          *asset // nil for none
}

// A picture has styles inside, so it may have them; the sandbox keeps it from
// everything else where somebody opens it by itself.
const (
	nothing = "default-src 'none'; frame-ancestors 'none'; sandbox"
	picture = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
)

func newAssets(prefix string, files map[string]file, theme string, logo *asset) assets {
	a := assets{
		style:  asset{path: prefix + "/style.css", contentType: "text/css; charset=utf-8", policy: nothing, body: []byte(files[stylesheet].text + theme)},
		script: asset{path: prefix + "/script.js", contentType: "text/javascript; charset=utf-8", policy: nothing, body: []byte(files[script].text)},
		logo:   logo,
	}
	a.style.seal()
	a.script.seal()
	if logo != nil {
		logo.path = prefix + "/logo"
		logo.seal()
	}
	return a
}

func (a *asset) seal() {
	sum := sha256.Sum256(a.body)
	a.tag = base64.RawURLEncoding.EncodeToString(sum[:12])
	a.url = a.path + "?v=" + a.tag
}

// Assets are what pages load, by path.
func (s *Set) Assets() map[string]func(http.ResponseWriter, *http.Request) error {
	all := map[string]func(http.ResponseWriter, *http.Request) error{
		s.assets.style.path: s.assets.style.serve, s.assets.script.path: s.assets.script.serve,
	}
	if s.assets.logo != nil {
		all[s.assets.logo.path] = s.assets.logo.serve
	}
	return all
}

// serve answers with the asset, or with 304 to those who have it. A page of
// another replica or from before a reload asks for another version: it gets
// this one, and does not keep it.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Security-Policy", a.policy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == "v="+a.tag {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("ETag", `"`+a.tag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.body))
	return nil
}

// theme is the style sheet's end: the operator's colours.
func theme(c config.Colors) string {
	light, given := config.ParseColor(c.Accent)
	dark, givenDark := config.ParseColor(c.AccentDark)
	if given && !givenDark {
		// As light a shade as is easily read on the dark page.
		const easily = 6
		dark = light
		for share := 0.05; config.Contrast(dark, config.DarkCard) < easily; share += 0.05 {
			dark = light.Mix(config.White, share)
		}
		givenDark = true
	}
	var b strings.Builder
	if given {
		fmt.Fprintf(&b, "\n:root { %s }\n", accent(light))
	}
	if givenDark {
		fmt.Fprintf(&b, "\n@media (prefers-color-scheme: dark) { :root { %s } }\n", accent(dark))
	}
	return b.String()
}

// accent sets a colour, the text on it, and the colour under a pointer, which
// is one on which the text can be read better still.
func accent(c config.Color) string {
	on, over := config.White, config.Black
	if config.Contrast(c, config.Black) > config.Contrast(c, config.White) {
		on, over = config.Black, config.White
	}
	return fmt.Sprintf("--accent: %v; --accent-over: %v; --on-accent: %v;", c, c.Mix(over, 0.15), on)
}

// maxLogo bounds endpoints.logo_file, in bytes.
const maxLogo = 256 << 10

// readLogo reads the operator's picture, nil for none, and sees whether it is
// what its name says: browsers are told not to look for themselves.
func readLogo(cfg *config.Config) (*asset, *config.Problem) {
	const key = "endpoints.logo_file"
	path := cfg.Endpoints.LogoFile
	if path == "" {
		return nil, nil
	}
	bad := func(err error) (*asset, *config.Problem) {
		p := cfg.Problem(key, "%s %s: %v", key, cfg.Quote(key, path), err)
		return nil, &p
	}
	f, err := os.Open(path)
	if err != nil {
		return bad(withoutPath(err))
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxLogo+1))
	switch {
	case err != nil:
		return bad(withoutPath(err))
	case len(body) > maxLogo:
		return bad(fmt.Errorf("the file is too large: want at most %d KiB", maxLogo>>10))
	}
	contentType := config.LogoTypes[strings.ToLower(filepath.Ext(path))]
	if err := checkPicture(contentType, body); err != nil {
		return bad(err)
	}
	return &asset{contentType: contentType, policy: picture, body: body}, nil
}

// checkPicture compares the beginning of a file with its type.
func checkPicture(contentType string, body []byte) error {
	if contentType == "image/svg+xml" {
		return checkSVG(body)
	}
	if found := http.DetectContentType(body); found != contentType {
		return fmt.Errorf("the file is no %s", strings.TrimPrefix(contentType, "image/"))
	}
	return nil
}

// checkSVG wants XML with one element around everything, which browsers take
// for a picture by its namespace. A picture that <img> shows runs no script.
func checkSVG(body []byte) error {
	const namespace = "http://www.w3.org/2000/svg"
	d := xml.NewDecoder(bytes.NewReader(body))
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) { return nil, errors.New("want UTF-8") }
	var root *xml.Name
	for {
		t, err := d.Token()
		switch e, isStart := t.(xml.StartElement); {
		case errors.Is(err, io.EOF) && root != nil:
			return nil
		case err != nil:
			return fmt.Errorf("the file is no svg: %v", err)
		case isStart && root == nil:
			if root = &e.Name; root.Local != "svg" || root.Space != namespace {
				return fmt.Errorf("the file is no svg: want an outer <svg xmlns=%q>", namespace)
			}
		}
	}
}
