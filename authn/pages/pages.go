// Package pages is what the gateway shows to people: signing in, making an
// account, looking after it, and every error.
//
// Three words: a [Set] is all pages of one configuration, in all languages. A
// [Page] is what one of them shows. A text is one line of a language file.
//
// # Why
//
// The pages have one home although two packages show them: endpoints those of
// accounts, proxy the errors. Both use one layout, one style sheet, one file of
// texts for each language.
//
// What an operator has written for endpoints.templates_dir is tried when the
// configuration is loaded: each page with each thing that it may have to show, in
// every language. It cannot fail when somebody stands in front of it.
//
// The policy of what a page may load and where it may send forms is set here,
// as a header, where no template reaches it. No inline style or script runs.
package pages

import (
	"bytes"
	"fmt"
	"html/template"
	"net/http"

	"gatehouse/config"
)

// policy lets a page load its style sheet, its script and its picture from this
// gateway, and post its forms to it. Nobody may frame it.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// A Set is the pages of one configuration. It never changes.
type Set struct {
	brand     string
	links     Links
	templates map[string]*template.Template
	languages []*language // English is the first
	assets    assets
}

// New compiles the pages of a configuration, and tries each where some are the
// operator's. The error is
// config.Problems where the configuration or a file of its templates_dir is to
// blame.
func New(cfg *config.Config) (*Set, error) {
	s := &Set{brand: brand(cfg), links: linksOf(cfg)}
	files, problems := readFiles(cfg)
	if len(problems) > 0 {
		return nil, problems
	}
	if s.languages, problems = readLanguages(files); len(problems) > 0 {
		return nil, problems
	}
	logo, err := readLogo(cfg)
	if err != nil {
		return nil, config.Problems{*err}
	}
	s.assets = newAssets(cfg.Endpoints.Prefix, files, theme(cfg.Endpoints.Colors), logo)
	if s.templates, problems = parse(files); len(problems) > 0 {
		return nil, problems
	}
	if cfg.Endpoints.TemplatesDir == "" {
		return s, nil // a test has tried those that are built in
	}
	if problems = s.try(files); len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// defaultTitle is the title of nobody in particular.
const defaultTitle = "Sign in"

// brand is the name that stands above the pages.
func brand(cfg *config.Config) string {
	if cfg.Endpoints.Title == defaultTitle {
		return ""
	}
	return cfg.Endpoints.Title
}

// Write answers with a page that [Set.Page] began.
func (s *Set) Write(w http.ResponseWriter, r *http.Request, status int, p Page) error {
	body, err := s.render(p)
	if err != nil {
		return fmt.Errorf("page %s: %w", p.Name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", p.Language)
	h.Add("Vary", "Accept-Language")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		w.Write(body) // an error here is the client's going away
	}
	return nil
}

func (s *Set) render(p Page) ([]byte, error) {
	b := limited{most: maxPage}
	if err := s.templates[p.Name].ExecuteTemplate(&b, layout, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// maxPage bounds what a template may write.
const maxPage = 4 << 20

// limited is a buffer with an end.
type limited struct {
	bytes.Buffer
	most int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.Len()+len(b) > l.most {
		return 0, fmt.Errorf("the page has more than %d bytes", l.most)
	}
	return l.Buffer.Write(b)
}
