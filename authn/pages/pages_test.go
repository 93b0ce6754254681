package pages

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/authn"
	"gatehouse/config"
)

// configOf is a gateway.yaml with this endpoints: section, in a folder of its
// own.
func configOf(t testing.TB, endpoints string) *config.Config {
	t.Helper()
	return configIn(t, t.TempDir(), endpoints)
}

func configIn(t testing.TB, dir, endpoints string) *config.Config {
	t.Helper()
	text := "endpoints: {" + endpoints + "}\nroutes: [{path: /, upstream: \"echo:\"}]\n"
	cfg, err := config.Parse(filepath.Join(dir, "gateway.yaml"), []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func newSet(t testing.TB, endpoints string) *Set {
	t.Helper()
	s, err := New(configOf(t, endpoints))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// show is the page that a request for path is answered with.
func (s *Set) show(t *testing.T, name, acceptLanguage string, change func(Page) Page) (http.Header, string) {
	t.Helper()
	r := httptest.NewRequest("GET", "/", nil)
	if acceptLanguage != "" {
		r.Header.Set("Accept-Language", acceptLanguage)
	}
	p := s.Page(r, name).WithMinLength(8)
	if change != nil {
		p = change(p)
	}
	w := httptest.NewRecorder()
	if err := s.Write(w, r, 200, p); err != nil {
		t.Fatal(err)
	}
	return w.Header(), w.Body.String()
}

func has(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(body, text) {
			t.Errorf("no %q in\n%s", text, body)
		}
	}
}

func hasNot(t *testing.T, body string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(body, text) {
			t.Errorf("%q in\n%s", text, body)
		}
	}
}

func TestHeaders(t *testing.T) {
	h, _ := newSet(t, "").show(t, "login", "de-AT, en;q=0.5", nil)
	for name, want := range map[string]string{
		"Content-Type":               "text/html; charset=utf-8",
		"Content-Language":           "de",
		"Vary":                       "Accept-Language",
		"Cache-Control":              "no-store",
		"Content-Security-Policy":    policy,
		"Cross-Origin-Opener-Policy": "same-origin",
		"Referrer-Policy":            "same-origin",
		"X-Content-Type-Options":     "nosniff",
		"X-Frame-Options":            "DENY",
	} {
		if got := strings.Join(h[http.CanonicalHeaderKey(name)], " | "); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Error("the policy allows something unsafe")
	}
}

func TestGerman(t *testing.T) {
	s := newSet(t, `title: "Acme"`)
	_, body := s.show(t, "login", "de", func(p Page) Page {
		return p.WithNotice("registered").WithValue("email", "ann@example.com")
	})
	has(t, body, `<html lang="de" dir="ltr">`, "<title>Anmelden · Acme</title>", "<h1>Anmelden</h1>", "E-Mail-Adresse",
		"Ihr Konto wurde angelegt. Sie können sich nun anmelden.", `value="ann@example.com"`, "<span>Acme</span>")
	_, body = s.show(t, "register", "de", func(p Page) Page {
		return p.WithRefusal(authn.AsRefusal(authn.PasswordPolicy{MinLength: 12}.Check("geheim")))
	})
	has(t, body, "<title>Fehler: Konto anlegen · Acme</title>", "Zu kurz: Mindestens 12 Zeichen sind nötig, dieses hat 6.",
		`aria-invalid="true"`, `aria-describedby="password-hint password-error"`)
	_, body = s.show(t, "login", "de", func(p Page) Page {
		return p.WithRefusal(authn.ErrTooManyAttempts.After(15 * time.Minute))
	})
	has(t, body, "Versuchen Sie es in 15 Minuten noch einmal.", `role="alert"`)
}

// Whatever is refused can be said in every language, and nothing is left to
// be filled in.
func TestEveryRefusalIsSaid(t *testing.T) {
	s := newSet(t, "")
	for _, l := range s.languages {
		for _, refusal := range authn.Refusals() {
			for _, part := range []string{".title", ".text"} {
				if _, err := l.say("error." + refusal.Code + part); err != nil {
					t.Errorf("%s: %v", l.tag, err)
				}
			}
		}
		faults := authn.FaultTexts()
		for name, english := range faults {
			key := "fault." + name
			text, ok := l.texts[key]
			if !ok {
				t.Errorf("%s: there is no text %q", l.tag, key)
			}
			if got, want := placeholders(text), placeholders(english); !slices.Equal(got, want) {
				t.Errorf("%s: text %q has %v, the fault has %v", l.tag, key, got, want)
			}
		}
		for key := range l.texts {
			switch area, rest, _ := strings.Cut(key, "."); {
			case area == "fault" && faults[rest] == "" && rest != "current_password" && rest != "user_exists":
				t.Errorf("%s: %q is no fault", l.tag, key)
			case area == "error" && strings.HasSuffix(rest, ".title") &&
				!slices.ContainsFunc(authn.Refusals(), func(r *authn.Refusal) bool { return r.Code+".title" == rest }):
				t.Errorf("%s: %q is no refusal", l.tag, key)
			}
		}
	}
}

// Every word of the pages is in the language files.
func TestTemplatesHaveNoText(t *testing.T) {
	action := regexp.MustCompile(`(?s)\{\{.*?\}\}`)
	tag := regexp.MustCompile(`(?s)<[^>]*>`)
	spoken := regexp.MustCompile(`\b(?:alt|title|aria-label|placeholder|aria-description|value)="([^"]*)"`)
	letters := regexp.MustCompile(`\pL`)
	files, _ := readFiles(configOf(t, ""))
	for _, name := range names {
		if filepath.Ext(name) != ".html" {
			continue
		}
		text := action.ReplaceAllString(files[name].text, "")
		if left := tag.ReplaceAllString(text, ""); letters.MatchString(left) {
			t.Errorf("%s has text of its own: %q", name, strings.TrimSpace(left))
		}
		for _, m := range spoken.FindAllStringSubmatch(text, -1) {
			if letters.MatchString(m[1]) && m[1] != "true" {
				t.Errorf("%s has text of its own: %s", name, m[0])
			}
		}
	}
}

// No text is left over in the language files.
func TestTextsAreUsed(t *testing.T) {
	var all strings.Builder
	for _, pattern := range []string{"builtin/*.html", "*.go"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatal(found, err)
		}
		for _, name := range found {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(data)
		}
	}
	for key := range newSet(t, "").languages[0].texts {
		area, _, _ := strings.Cut(key, ".")
		made := slices.Contains([]string{"title", "label", "notice", "fault", "language"}, area) ||
			strings.HasSuffix(key, ".title") || strings.HasSuffix(key, ".text") || area == "time" || area == "wait"
		if !made && !strings.Contains(all.String(), `"`+key+`"`) {
			t.Errorf("text %q is used nowhere", key)
		}
	}
}

func TestErrorPage(t *testing.T) {
	s := newSet(t, "")
	page := func(method string, x Refused) string {
		t.Helper()
		r := httptest.NewRequest(method, "/a?b=c", nil)
		w := httptest.NewRecorder()
		x.RequestID = "the-id"
		if err := s.WriteError(w, r, x); err != nil || w.Code != x.Status {
			t.Fatalf("status %d, %v", w.Code, err)
		}
		return w.Body.String()
	}
	const again, back = `<a class="button primary" href="">`, "data-back hidden"
	body := page("GET", Refused{Refusal: authn.ErrNoRoute, Status: 404})
	has(t, body, "<title>There is nothing here</title>", "404", "<code>the-id</code>", `href="/"`, back)
	hasNot(t, body, again, "login")

	body = page("GET", Refused{Refusal: authn.ErrForbidden, Status: 403, Login: "/login?next=%2Fa", SignedIn: "ann@example.com"})
	has(t, body, "You are signed in as ann@example.com.", `href="/login?next=%2Fa"`, "Sign in with another account")

	body = page("GET", Refused{Refusal: authn.ErrUpstream, Status: 502, Login: "/login", SignedIn: "ann@example.com"})
	has(t, body, again)
	hasNot(t, body, "login", "ann@example.com")
	hasNot(t, page("POST", Refused{Refusal: authn.ErrUpstream, Status: 502}), again)

	body = page("GET", Refused{Refusal: authn.ErrBusy, Status: 503, RetryAfter: 61 * time.Second})
	has(t, body, again, "Try again in 61 seconds.")

	// What was sent by an ended session is not lost.
	body = page("POST", Refused{Refusal: authn.ErrInvalidToken, Status: 401, Login: "/login"})
	has(t, body, "You are not signed in any more", "reload this page to send it again", `href="/login" target="_blank" rel="noopener"`)
	body = page("GET", Refused{Refusal: authn.ErrInvalidToken, Status: 401, Login: "/login?next=%2Fa"})
	hasNot(t, body, "reload this page")
	has(t, body, `href="/login?next=%2Fa"`)
	if body := page("HEAD", Refused{Refusal: authn.ErrNoRoute, Status: 404}); body != "" {
		t.Errorf("a body for HEAD: %q", body)
	}
}

func TestPageHasNoTextOfThatName(t *testing.T) {
	s := newSet(t, "")
	p := s.Page(httptest.NewRequest("GET", "/", nil), "login")
	if _, err := p.Say("login.buton"); err == nil {
		t.Error("a text that is not there was said")
	}
	if _, err := p.Say("hint.password", "min"); err == nil {
		t.Error("a name without a value was taken")
	}
	if got, err := p.Say("hint.password", "min", "{n}"); err != nil || !strings.HasPrefix(got, "At least {n} characters") {
		t.Errorf("Say = %q, %v: what is put in is not looked at again", got, err)
	}
}

// problemsOf are what New says of a templates_dir with these files, with the
// folder left out.
func problemsOf(t *testing.T, files map[string]string) []string {
	t.Helper()
	dir := t.TempDir()
	folder := filepath.Join(dir, "own")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, folder, name, text)
	}
	_, err := New(configIn(t, dir, "templates_dir: own"))
	if err == nil {
		return nil
	}
	problems, ok := errors.AsType[config.Problems](err)
	if !ok {
		t.Fatalf("New: %v, want Problems", err)
	}
	var texts []string
	for _, p := range problems {
		texts = append(texts, strings.TrimPrefix(strings.ReplaceAll(p.Error(), folder+"/", ""), dir))
	}
	return texts
}

func builtinText(t *testing.T, name string) string {
	t.Helper()
	text, err := builtin.ReadFile("builtin/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func BenchmarkNew(b *testing.B) {
	cfg, err := config.Parse("gateway.yaml", []byte("routes: [{path: /, upstream: \"echo:\"}]\n"), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := New(cfg); err != nil {
			b.Fatal(err)
		}
	}
}
