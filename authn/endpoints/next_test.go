package endpoints

import (
	"net/url"
	"strings"
	"testing"
)

func TestSafeNext(t *testing.T) {
	safe := func(next, want string) {
		t.Helper()
		if got, ok := SafeNext(next); !ok || got != want {
			t.Errorf("SafeNext(%q) = %q, %v, want %q", next, got, ok, want)
		}
	}
	unsafe := func(next string) {
		t.Helper()
		if got, ok := SafeNext(next); ok || got != "" {
			t.Errorf("SafeNext(%.100q) = %q, %v, want it refused", next, got, ok)
		}
	}

	safe("/", "/")
	safe("/a/b?x=1&y=2", "/a/b?x=1&y=2")
	safe("/a//b/", "/a//b/")
	safe("/a?u=https://evil/", "/a?u=https://evil/")
	safe("/a?x=100%", "/a?x=100%")
	safe("/a?x=%0d%0a", "/a?x=%0d%0a") // a query may hold lines, written like this
	safe("/a#part", "/a#part")
	safe("/a%2fb", "/a%2fb")
	safe("/a:b@c", "/a:b@c")
	safe("/.well-known/x", "/.well-known/x")
	safe("/...", "/...")
	safe("/größe x", "/gr%C3%B6%C3%9Fe%20x")
	safe("/"+strings.Repeat("a", maxNext-1), "/"+strings.Repeat("a", maxNext-1))

	// security.md, case 158
	unsafe("")
	unsafe("//evil")
	unsafe(`/\evil`)
	unsafe(`\\evil`)
	unsafe("///evil")
	unsafe("https:evil")
	unsafe("https:///evil")
	unsafe("http:/evil")
	unsafe("/%09/evil")
	unsafe("/\t/evil")
	unsafe("/%5cevil")
	unsafe("/.//evil")
	unsafe("/..//evil")
	unsafe("javascript:alert(1)")
	unsafe("data:text/html,x")
	unsafe("/%0d%0aX:")
	unsafe("https://gw.example@evil")
	unsafe("https://gw.example.evil")
	unsafe("/" + strings.Repeat("a", 100_000))

	// and their kin
	unsafe(`/\/evil`)
	unsafe(`\/evil`)
	unsafe("\t//evil")
	unsafe(" //evil")
	unsafe(" /a")
	unsafe("/\n/evil")
	unsafe("/\r/evil")
	unsafe("/\r\nSet-Cookie: x=1")
	unsafe("/\x00/evil")
	unsafe("/\x7f/evil")
	unsafe("/%00")
	unsafe("/%2fevil")
	unsafe("/%2Fevil")
	unsafe("/%2f%2fevil")
	unsafe("/%5c%5cevil")
	unsafe("/%5Cevil")
	unsafe(`/a\b`)
	unsafe(`/a?x=\`)
	unsafe("/a/%5c..%5cevil")
	unsafe("/%2e//evil")
	unsafe("/%2e%2e//evil")
	unsafe("/.%2e//evil")
	unsafe("/%2e%2f/evil")
	unsafe("/a/..//evil")
	unsafe("/a/../..//evil")
	unsafe("/a/..")
	unsafe("/..")
	unsafe("/%c2%85/evil") // a line end, U+0085
	unsafe("/\u0085/evil")
	unsafe("/%zz")
	unsafe("/%")
	unsafe("/a#%zz")
	unsafe("\xff")
	unsafe("/\xff")
	unsafe("evil")
	unsafe("a/b")
	unsafe("?x")
	unsafe("#x")
	unsafe("@evil")
	unsafe("https://evil/")
	unsafe("HTTPS://evil/")
	unsafe("ht\ntps://evil/")
	unsafe("//gw.example/")
	unsafe("blob:https://evil/1")
	unsafe("vbscript:x")
}

func FuzzNext(f *testing.F) {
	for _, s := range []string{"/", "/a?b#c", "//evil", `/\evil`, "/\t/evil", "/.//evil", "/%5cevil", "https:evil", "/ü", "/a/../b", "/%2e%2e//x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, next string) {
		to, ok := SafeNext(next)
		if !ok {
			return
		}
		for _, s := range []string{next, to} {
			if at, path := browse(s); at != "https://gw" || strings.HasPrefix(path, "//") {
				t.Errorf("SafeNext(%q) = %q: a browser goes to %s%s", next, to, at, path)
			}
		}
		// An app that decodes once and redirects is not a way out either.
		if once, err := url.PathUnescape(pathOf(to)); err != nil {
			t.Errorf("SafeNext(%q) = %q, whose path cannot be decoded: %v", next, to, err)
		} else if at, path := browse(strings.TrimRight(once, " ")); at != "https://gw" || strings.HasPrefix(path, "//") {
			t.Errorf("SafeNext(%q) = %q: decoded, a browser goes to %s%s", next, to, at, path)
		}
		if strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("SafeNext(%q) = %q: want printable ASCII", next, to)
		}
		if again, ok := SafeNext(to); len(to) <= maxNext && (!ok || again != to) {
			t.Errorf("SafeNext(%q) = %q, %v: want what was safe to stay as it is", to, again, ok)
		}
	})
}

// browse is where a browser goes from https://gw/ by the WHATWG URL standard's
// basic parser, as far as origins are concerned: "elsewhere" is any other one.
func browse(input string) (origin, path string) {
	input = strings.TrimFunc(input, func(r rune) bool { return r <= ' ' })
	input = strings.NewReplacer("\t", "", "\n", "", "\r", "").Replace(input)
	// Scheme state. No scheme of ours needs to be spelled, so any is elsewhere.
	if i := strings.IndexByte(input, ':'); i > 0 && strings.Trim(strings.ToLower(input[:i]), "abcdefghijklmnopqrstuvwxyz0123456789+-.") == "" && input[0] > '9' {
		return "elsewhere", ""
	}
	// Relative state, and relative slash state: in a special URL a backslash
	// is a slash, and a second one begins an authority.
	slash := func(i int) bool { return i < len(input) && (input[i] == '/' || input[i] == '\\') }
	if slash(0) && slash(1) {
		return "elsewhere", ""
	}
	input = strings.ReplaceAll(pathOf(input), `\`, "/")
	// Path state: dot segments, encoded ones too.
	var out []string
	segments := strings.Split(strings.TrimPrefix(input, "/"), "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch strings.ReplaceAll(strings.ToLower(s), "%2e", ".") {
		case "..":
			out = out[:max(0, len(out)-1)]
			if last {
				out = append(out, "")
			}
		case ".":
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "https://gw", "/" + strings.Join(out, "/")
}

// The model must see what it is there to see.
func TestBrowse(t *testing.T) {
	for input, want := range map[string]string{
		"/a/../b":          "https://gw/b",
		"/a/%2e%2E/b":      "https://gw/b",
		"/.//evil":         "https://gw//evil",
		"/a?//x":           "https://gw/a",
		`/\evil`:           "elsewhere",
		"/\t/evil":         "elsewhere",
		" \x01//evil":      "elsewhere",
		"ht\ntps:evil":     "elsewhere",
		"javascript:alert": "elsewhere",
	} {
		origin, path := browse(input)
		if got := origin + path; got != want {
			t.Errorf("browse(%q) = %q, want %q", input, got, want)
		}
	}
}
