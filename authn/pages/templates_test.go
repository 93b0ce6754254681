package pages

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A page of the operator's own stands where the built-in one did, with the same
// headers.
func TestOwnTemplates(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "login.html", `{{define "content"}}<h1>Come in</h1><form method="post" action="{{.Links.Login}}">
{{template "failure" .}}{{template "next" .}}{{template "field" (.Field "email" "username")}}{{template "field" (.Field "password" "current-password")}}
<button>Open</button></form>{{end}}`)
	write(t, dir, "style.css", "body { color: black }\n")
	write(t, dir, "fr.txt", strings.Replace(builtinText(t, "en.txt"), "title.register: Create an account", "title.register: Créer un compte", 1))
	for _, besides := range []string{".hidden", "login.html~", "#login.html#"} {
		write(t, dir, besides, "{{")
	}
	s := newSet(t, `templates_dir: "`+dir+`", colors: {accent: "#0a7c66"}`)
	h, body := s.show(t, "login", "", nil)
	has(t, body, "<h1>Come in</h1>", `<label for="email">`)
	if h.Get("Content-Security-Policy") != policy {
		t.Errorf("policy %q", h.Get("Content-Security-Policy"))
	}
	_, body = s.show(t, "register", "fr", nil)
	has(t, body, `<html lang="fr"`, "<h1>Créer un compte</h1>")
	_, body = s.show(t, "register", "de", nil)
	has(t, body, "<h1>Konto anlegen</h1>")
	css := string(s.assets.style.body)
	has(t, css, "body { color: black }", "--accent: #0a7c66;")
	hasNot(t, css, "--shadow")
}

// What is built in is not tried at every start.
func TestBuiltinTemplates(t *testing.T) {
	cfg := configOf(t, "")
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	files, _ := readFiles(cfg)
	if problems := s.try(files); len(problems) > 0 {
		t.Error(problems)
	}
	if n := len(s.samples(s.languages[0])); n < 50 {
		t.Errorf("%d samples", n)
	}
}

func TestBrokenTemplates(t *testing.T) {
	const form = `<form method="post" action="{{.Links.Login}}">{{template "failure" .}}{{template "next" .}}{{template "field" (.Field "email" "username")}}{{template "field" (.Field "password" "current-password")}}</form>`
	bad := func(name, text string, want ...string) {
		t.Helper()
		got := problemsOf(t, map[string]string{name: text})
		if len(got) != 1 {
			t.Fatalf("%s %q: %q, want one problem", name, text, got)
		}
		for _, w := range want {
			if !strings.Contains(got[0], w) {
				t.Errorf("%s %q: %q, want %q in it", name, text, got[0], w)
			}
		}
	}
	bad("login.html", "{{define \"content\"}}\n<h1>{{.Title}</h1>{{end}}", "login.html:2: ", "bad character")
	bad("login.html", "\n{{define \"content\"}}", "login.html:2: ", "unexpected EOF")
	bad("login.html", `{{define "content"}}{{nosuch}}{{end}}`, "login.html:1: ", `function "nosuch" not defined`)
	bad("login.html", "{{define \"content\"}}"+form+"\n\n  {{.Nonesuch}}{{end}}", "login.html:3:5: ", "can't evaluate field Nonesuch")
	bad("login.html", "{{define \"content\"}}"+form+"\n{{.Say \"login.buton\"}}{{end}}", "login.html:2:", `there is no text "login.buton"`)
	bad("login.html", "{{define \"content\"}}"+form+"\n{{template \"nosuch\" .}}{{end}}", "login.html:2:", "nosuch")
	bad("login.html", `<p>no content</p>`, "layout.html:", `no such template "content"`)
	bad("login.html", "{{define \"content\"}}"+form+"\n{{with .Failure}}{{.Nonesuch}}{{end}}{{end}}", "login.html:2:") // only when something failed
	bad("login.html", "{{define \"content\"}}"+form+"\n{{if eq .Language \"de\"}}{{.Nonesuch}}{{end}}{{end}}", "login.html:2:")
	bad("login.html", `{{define "content"}}<form action="{{.Links.Login}}"><input name="email"></form>{{end}}`, "login.html: ", `input named "password"`)
	bad("login.html", `{{define "content"}}<form action="/elsewhere"><input name=email><input name='password'></form>{{end}}`, "login.html: ", `action="/login"`)
	bad("login.html", strings.Replace(`{{define "content"}}`+form+`{{end}}`, `{{template "next" .}}`, "", 1), "login.html: ", `input named "next"`)
	bad("login.html", strings.Replace(`{{define "content"}}`+form+`{{end}}`, `{{template "failure" .}}`, "", 1), "login.html: ", "no failure")
	bad("login.html", `{{define "content"}}`+form+`{{range 100000000}}too much{{end}}{{end}}`, "login.html: ", "more than 4194304 bytes")
	bad("login.html", `{{define "content"}}`+form+`<a href={{.Brand}}x"{{end}}`, "login.html")
	bad("error.html", `{{define "content"}}{{.Error.Title}}{{end}}`, "error.html: ", "no request id")
	bad("account.html", `{{define "content"}}{{.Account.Password}}{{end}}`, "account.html:1:", "can't evaluate field Password")
	bad("login.html", "{{define \"content\"}}"+form+"\n<p style=\"color: red\">x</p>{{end}}", "login.html:2: ", "a style attribute", "put it into style.css")
	bad("login.html", "{{define \"content\"}}"+form+"\n<style>p {}</style>{{end}}", "login.html:2: ", "a <style> element")
	bad("login.html", "{{define \"content\"}}"+form+"\n<script>alert(1)</script>{{end}}", "login.html:2: ", "a script inside the page")
	bad("login.html", "{{define \"content\"}}"+form+"\n<p onclick=\"x()\">x</p>{{end}}", "login.html:2: ", "an event handler")
	if got := problemsOf(t, map[string]string{"login.html": `{{define "content"}}` + form + `<script src="/.gatehouse/script.js" defer></script>{{end}}`}); got != nil {
		t.Errorf("a script with a source: %q", got)
	}
	// A layout of one's own concerns every page, and is told once.
	bad("layout.html", "<html>\n{{.Nonesuch}}{{template \"content\" .}}</html>", "layout.html:2:3: ", "Nonesuch")
}

func TestForeignFiles(t *testing.T) {
	bad := func(name, want string) {
		t.Helper()
		if got := problemsOf(t, map[string]string{name: "x"}); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	bad("logn.html", "logn.html: unknown file \"logn.html\" in endpoints.templates_dir\n    did you mean \"login.html\"?")
	bad("styles.css", "styles.css: unknown file \"styles.css\" in endpoints.templates_dir\n    did you mean \"style.css\"?")
	bad("picture-of-us.jpeg", "picture-of-us.jpeg: unknown file \"picture-of-us.jpeg\" in endpoints.templates_dir\n    "+
		"want one of layout.html, parts.html, login.html, register.html, account.html, continue.html, error.html, style.css, script.js, or a language such as fr.txt")

	// Nothing outside of the folder is read, and nothing that could block.
	dir := t.TempDir()
	folder := filepath.Join(dir, "own")
	if err := os.MkdirAll(filepath.Join(folder, "..data", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "secret", "body {}")
	fails := func(want string) {
		t.Helper()
		_, err := New(configIn(t, dir, "templates_dir: own"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want %q", err, want)
		}
		os.Remove(filepath.Join(folder, "style.css"))
	}
	link := func(to string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(folder, "style.css")); err != nil {
			t.Fatal(err)
		}
	}
	link("../secret")
	fails("style.css: path escapes")
	link(filepath.Join(dir, "secret"))
	fails("style.css: path escapes")
	link("nothing")
	fails("style.css: no such file")
	link("..data/x")
	fails("style.css: want a regular file")
	if err := syscall.Mkfifo(filepath.Join(folder, "style.css"), 0o644); err != nil {
		t.Fatal(err)
	}
	fails("style.css: want a regular file")
	write(t, folder, "style.css", strings.Repeat(" ", maxFile+1))
	fails("style.css: the file is too large: want at most 256 KiB")

	// As Kubernetes has a ConfigMap.
	write(t, filepath.Join(folder, "..data"), "style.css", "body { color: teal }")
	link("..data/style.css")
	s, err := New(configIn(t, dir, "templates_dir: own"))
	if err != nil {
		t.Fatal(err)
	}
	has(t, string(s.assets.style.body), "teal")
	if got := Files(configIn(t, dir, "templates_dir: own")); len(got) != 1 || got[0] != filepath.Join(folder, "style.css") {
		t.Errorf("Files = %q", got)
	}
}

func TestLanguageFiles(t *testing.T) {
	english := builtinText(t, "en.txt")
	bad := func(text string, want string) {
		t.Helper()
		if got := problemsOf(t, map[string]string{"fr.txt": text}); len(got) != 1 || got[0] != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	line := func(text string) int { return 1 + strings.Count(english[:strings.Index(english, text)], "\n") }
	change := func(old, new string) string {
		if !strings.Contains(english, old) {
			t.Fatalf("en.txt has no %q", old)
		}
		return strings.Replace(english, old, new, 1)
	}
	n := func(text string) string { return "fr.txt:" + itoa(line(text)) + ": " }
	bad(change("login.button: Sign in", "login.button Sign in")+"", n("login.button")+"want a line such as \"login.button: Sign in\"")
	bad(change("login.button: Sign in", "login.button:"), n("login.button")+"text \"login.button\" is empty")
	bad(change("login.button: Sign in", "login.button: Entrer\nlogin.buton: x"), "fr.txt:"+itoa(line("login.button")+1)+": unknown text \"login.buton\"\n    did you mean \"login.button\"?")
	bad(change("login.button: Sign in", "login.button: Entrer\nlogin.button: x"), "fr.txt:"+itoa(line("login.button")+1)+": text \"login.button\" stands twice, first in line "+itoa(line("login.button")))
	bad(change("direction: ltr", "direction: down"), n("direction")+"direction \"down\": want ltr or rtl")
	bad(change("{min} characters. A few", "{max} characters. A few"), n("hint.password")+"text \"hint.password\" has the placeholders [{max}]: want [{min}]\n    in English it is \"At least {min} characters. A few unusual words are better than one with digits.\"")
	bad(change(" December", ""), n("time.months")+"time.months: want twelve words")
	if got := problemsOf(t, map[string]string{"fr.txt": "language: Français\n"}); len(got) != 1 || !strings.HasPrefix(got[0], "fr.txt: no text for account.") {
		t.Errorf("%q, want what is missing", got)
	}
}
