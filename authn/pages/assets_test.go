package pages

import (
	"bytes"
	"image"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gatehouse/config"
)

const svg = `<?xml version="1.0"?><!-- ours --><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`

func pictures(t *testing.T) map[string][]byte {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 2, 2))
	var p, j bytes.Buffer
	if png.Encode(&p, img) != nil || jpeg.Encode(&j, img, nil) != nil {
		t.Fatal("cannot encode")
	}
	return map[string][]byte{
		"logo.svg": []byte(svg), "logo.png": p.Bytes(), "LOGO.JPG": j.Bytes(),
		"logo.webp": []byte("RIFF\x24\x00\x00\x00WEBPVP8 "),
	}
}

func TestLogo(t *testing.T) {
	for name, body := range pictures(t) {
		dir := t.TempDir()
		write(t, dir, name, string(body))
		s, err := New(configIn(t, dir, "logo_file: "+name))
		if err != nil {
			t.Fatal(err)
		}
		_, page := s.show(t, "login", "", nil)
		m := regexp.MustCompile(`<img src="(/.gatehouse/logo\?v=[\w-]+)" alt="">`).FindStringSubmatch(page)
		if m == nil {
			t.Fatalf("no logo in\n%s", page)
		}
		w := httptest.NewRecorder()
		if err := s.Assets()["/.gatehouse/logo"](w, httptest.NewRequest("GET", m[1], nil)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(w.Body.Bytes(), body) {
			t.Errorf("%s: another picture", name)
		}
		want := config.LogoTypes[strings.ToLower(filepath.Ext(name))]
		if got := w.Header().Get("Content-Type"); got != want {
			t.Errorf("%s: type %q, want %q", name, got, want)
		}
		if p := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(p, "default-src 'none'; ") || !strings.HasSuffix(p, "; sandbox") {
			t.Errorf("%s: policy %q", name, p)
		}
		if w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: may be sniffed", name)
		}
	}
}

func TestBadLogo(t *testing.T) {
	bad := func(name, body, want string) {
		t.Helper()
		dir := t.TempDir()
		write(t, dir, name, body)
		_, err := New(configIn(t, dir, "logo_file: "+name))
		if want = filepath.Join(dir, "gateway.yaml") + `:1:13: endpoints.logo_file "` + name + `": ` + want; err == nil || err.Error() != want {
			t.Errorf("%v, want %v", err, want)
		}
	}
	jpg := string(pictures(t)["LOGO.JPG"])
	bad("a.png", jpg, "the file is no png")
	bad("a.jpg", svg, "the file is no jpeg")
	bad("a.webp", "RIFF", "the file is no webp")
	bad("a.png", "<html><script>alert(1)</script>", "the file is no png")
	bad("a.svg", "", "the file is no svg: EOF")
	bad("a.svg", jpg, "the file is no svg: XML syntax error on line 2: invalid UTF-8")
	bad("a.svg", "<svg></svg>", `the file is no svg: want an outer <svg xmlns="http://www.w3.org/2000/svg">`)
	bad("a.svg", `<html xmlns="http://www.w3.org/1999/xhtml"/>`, `the file is no svg: want an outer <svg xmlns="http://www.w3.org/2000/svg">`)
	bad("a.svg", `<svg xmlns="http://www.w3.org/2000/svg"><p></svg>`, "the file is no svg: XML syntax error on line 1: element <p> closed by </svg>")
	bad("a.png", strings.Repeat("x", maxLogo+1), "the file is too large: want at most 256 KiB")

	// It was there when the configuration was read.
	dir := t.TempDir()
	write(t, dir, "a.svg", svg)
	cfg := configIn(t, dir, "logo_file: a.svg")
	os.Remove(filepath.Join(dir, "a.svg"))
	if _, err := New(cfg); err == nil || !strings.HasSuffix(err.Error(), `endpoints.logo_file "a.svg": no such file or directory`) {
		t.Errorf("New: %v", err)
	}
}

// Browsers keep what a page names by its content, and only that.
func TestAssets(t *testing.T) {
	s := newSet(t, "")
	get := func(target, ifNoneMatch string) *httptest.ResponseRecorder {
		t.Helper()
		r := httptest.NewRequest("GET", target, nil)
		if ifNoneMatch != "" {
			r.Header.Set("If-None-Match", ifNoneMatch)
		}
		w := httptest.NewRecorder()
		serve := s.Assets()[r.URL.Path]
		if serve == nil {
			t.Fatalf("nothing at %s", target)
		}
		if err := serve(w, r); err != nil {
			t.Fatal(err)
		}
		return w
	}
	w := get(s.assets.style.url, "")
	if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
		t.Errorf("Cache-Control: %q", got)
	}
	if w.Header().Get("Content-Type") != "text/css; charset=utf-8" {
		t.Errorf("type %q", w.Header().Get("Content-Type"))
	}
	if w := get("/.gatehouse/style.css?v=older", ""); w.Code != 200 || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("another version: %d, %q", w.Code, w.Header().Get("Cache-Control"))
	}
	if w := get(s.assets.style.url, w.Header().Get("ETag")); w.Code != http.StatusNotModified {
		t.Errorf("status %d, want 304", w.Code)
	}
	if w := get(s.assets.script.url, ""); w.Header().Get("Content-Type") != "text/javascript; charset=utf-8" || w.Body.Len() == 0 {
		t.Errorf("script: %q, %d bytes", w.Header().Get("Content-Type"), w.Body.Len())
	}
	if s.Assets()["/.gatehouse/logo"] != nil {
		t.Error("a logo that nobody has")
	}
	if other := newSet(t, `colors: {accent: "#0a7c66"}`); other.assets.style.url == s.assets.style.url {
		t.Error("other colours, the same URL")
	}
}

// variables are the custom properties of a style sheet's light and dark part.
func variables(t *testing.T, css string) (light, dark map[string]config.Color) {
	t.Helper()
	read := func(part string, into map[string]config.Color) {
		for _, m := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]{6});`).FindAllStringSubmatch(part, -1) {
			c, ok := config.ParseColor(m[2])
			if !ok {
				t.Fatalf("no colour: %q", m[2])
			}
			into[m[1]] = c
		}
	}
	light, dark = map[string]config.Color{}, map[string]config.Color{}
	darkPart := regexp.MustCompile(`(?s)@media \(prefers-color-scheme: dark\) \{\s*:root \{.*?\}\s*\}`)
	read(darkPart.ReplaceAllString(css, ""), light)
	for _, part := range darkPart.FindAllString(css, -1) {
		read(part, dark)
	}
	return light, dark
}

// What is read has a contrast of 4.5, what is seen of a control 3, in the light
// and in the dark, with the built-in colours and with an operator's (WCAG 2.2,
// 1.4.3 and 1.4.11).
func TestContrast(t *testing.T) {
	colors := []string{"", `colors: {accent: "#3056c9"}`, `colors: {accent: "#000000"}`, `colors: {accent: "#767200"}`,
		`colors: {accent: "#c2185b", accent_dark: "#ffee00"}`, `colors: {accent_dark: "#ffffff"}`, `colors: {accent: "#0000ff"}`}
	for _, c := range colors {
		light, dark := variables(t, string(newSet(t, c).assets.style.body))
		if light["page"] != config.LightPage || dark["card"] != config.DarkCard {
			t.Errorf("the style sheet has page %v and card %v: config.LightPage and DarkCard say another", light["page"], dark["card"])
		}
		for mode, v := range map[string]map[string]config.Color{"light": light, "dark": dark} {
			at := func(a, b string, least float64) {
				t.Helper()
				if got := config.Contrast(v[a], v[b]); got < least {
					t.Errorf("%s, %s: %s on %s has %.2f:1, want %v:1", c, mode, a, b, got, least)
				}
			}
			for _, background := range []string{"page", "card"} {
				at("text", background, 4.5)
				at("quiet", background, 4.5)
				at("accent", background, 4.5)
				at("accent-over", background, 4.5)
				at("error", background, 4.5)
				at("edge", background, 3)
			}
			at("on-accent", "accent", 4.5)
			at("on-accent", "accent-over", 4.5)
			at("error", "error-page", 4.5)
			at("notice", "notice-page", 4.5)
			at("notice", "card", 4.5)
			at("quiet", "soft", 4.5)
			at("text", "soft", 4.5)
		}
	}
}
