package authn

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestCanonicalEmail(t *testing.T) {
	good := func(in, want string) {
		t.Helper()
		if got, err := CanonicalEmail(in); err != nil || got != want {
			t.Errorf("CanonicalEmail(%q) = %q, %v, want %q", in, got, err, want)
		}
	}
	bad := func(in, reason string) {
		t.Helper()
		got, err := CanonicalEmail(in)
		if err == nil {
			t.Errorf("CanonicalEmail(%q) = %q, want an error with %q", in, got, reason)
			return
		}
		if !strings.Contains(err.Error(), reason) {
			t.Errorf("CanonicalEmail(%q): %v, want an error with %q", in, err, reason)
		}
		if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("CanonicalEmail(%q): the error %q repeats what cannot be shown", in, err)
		}
	}

	good("test@example.com", "test@example.com")
	good(" \tTest@EXAMPLE.com ", "test@example.com")
	good("admin@x", "admin@x")
	good("a.b+tag@example.com", "a.b+tag@example.com")
	good("!#$%&'*+-/=?^_`{|}~@example.com", "!#$%&'*+-/=?^_`{|}~@example.com")
	good("jose\u0301@example.com", "jos\u00e9@example.com")
	good("JOSE\u0301@example.com", "jos\u00e9@example.com")
	good("ΟΔΟΣ@example.com", "οδοσ@example.com")
	good("οδος@example.com", "οδοσ@example.com")
	good("иван@пример.рф", "иван@пример.рф")
	good("ann@xn--BCHER-kva.example", "ann@bücher.example")
	good("ann@BÜCHER.example", "ann@bücher.example")
	good("ann@Bu\u0308cher.example", "ann@bücher.example")
	good("田中tanaka@example.com", "田中tanaka@example.com")
	good("ann@r3---sn.example", "ann@r3---sn.example")
	good(strings.Repeat("a", 64)+"@example.com", strings.Repeat("a", 64)+"@example.com")
	long := strings.Repeat(strings.Repeat("d", 61)+".", 3) + "example" // 193 bytes
	good(strings.Repeat("a", 60)+"@"+long, strings.Repeat("a", 60)+"@"+long)

	bad("", "empty")
	bad(" \t ", "empty")
	bad("ann", `one "@"`)
	bad("ann@b@c", `one "@"`)
	bad("@example.com", "name before")
	bad("ann@", "domain after")
	bad("ann@.example.com", "no dot")
	bad("ann@example..com", "no dot")
	bad("admin@x.", "no dot")
	bad(".ann@example.com", "no dot")
	bad("ann.@example.com", "no dot")
	bad("a..b@example.com", "no dot")
	bad("ann@-x.example", "hyphen")
	bad("ann@[127.0.0.1]", `"["`)
	bad("ann@a_b.example", `"_"`)
	bad(`"ann"@example.com`, "character")
	bad(`" admin"@x`, "character")
	bad("ann(comment)@example.com", `"("`)
	bad("ann,bob@example.com", `","`)
	bad("an n@example.com", "blanks inside")
	bad("ann@exam ple.com", "blanks inside")
	bad("ann@example.com\n", "control")
	bad("ann\x00@example.com", "control")
	bad("admin@x\x00", "control")
	bad("ann\r\nX-Evil: 1@example.com", "control")
	bad("ann\x7f@example.com", "control")
	bad("ann\u0085@example.com", "control")
	bad("ann\xff@example.com", "UTF-8")
	bad("ann\xc0\xae@example.com", "UTF-8")
	bad("\uff41dmin@x", "U+FF41")             // full width a
	bad("adm\u0131n@x", "U+0131")             // dotless i
	bad("adm\u0130n@x", "U+0130")             // dotted capital I
	bad("\u212aate@x", "U+212A")              // Kelvin sign
	bad("\u017fam@x", "U+017F")               // long s
	bad("o\ufb03ce@x", "U+FB03")              // ligature ffi
	bad("ad\u200dmin@x", "U+200D")            // zero-width joiner
	bad("ad\u200bmin@x", "U+200B")            // zero-width space
	bad("ad\u00admin@x", "U+00AD")            // soft hyphen
	bad("ad\u202emin@x", "U+202E")            // right-to-left override
	bad("ad\ufe0fmin@x", "U+FE0F")            // variation selector
	bad("ad\u034fmin@x", "U+034F")            // combining grapheme joiner
	bad("ad\u3164min@x", "U+")                // Hangul filler
	bad("ad\u00a0min@x", "U+00A0")            // no-break space
	bad("ad\ufffdmin@x", "U+FFFD")            // what a bad byte becomes
	bad("ad\U000e0041min@x", "U+E0041")       // tag character
	bad("\u0430dmin@x", "Cyrillic and Latin") // Cyrillic a
	bad("ann@ex\u0430mple.com", "Cyrillic")   // the same in the domain
	bad("ann@xn--exmple-4nf.com", "domain")   // the same, encoded
	bad("ann@xn--zzzzzzzzzzzz.com", "domain") // no encoding of anything
	bad("ann@xn--example-.com", "hyphen")     // an encoding of plain ASCII
	bad("ann@ex\u3002com", "U+3002")          // ideographic full stop
	bad("\U0001f600@example.com", "U+1F600")  // a symbol
	bad(strings.Repeat("a", 65)+"@example.com", "64 bytes")
	bad(strings.Repeat("é", 33)+"@example.com", "64 bytes")
	bad("a@"+strings.Repeat("d", 64)+".com", "63 bytes")
	bad(strings.Repeat("a", 64)+"@"+long, "254 bytes")
	bad(strings.Repeat("a", 1<<20), "254 bytes")
}

// TestCanonicalEmailFolds tries every character that has a case or cannot be
// seen.
func TestCanonicalEmailFolds(t *testing.T) {
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		hidden := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Z, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
		if !utf8.ValidRune(r) || unicode.SimpleFold(r) == r && !hidden {
			continue
		}
		one, err := CanonicalEmail(string(r) + "@x")
		if err != nil {
			continue
		}
		if hidden || isASCII(one) {
			t.Errorf("%U is accepted and becomes %q", r, one)
		}
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			if two, err := CanonicalEmail(string(other) + "@x"); err == nil && one != two {
				t.Errorf("%U becomes %q, %U becomes %q, want the same", r, one, other, two)
			}
		}
	}
}

func FuzzCanonicalEmail(f *testing.F) {
	for _, s := range []string{"Ann@Example.com", "jose\u0301@xn--bcher-kva.example", "ΟΔΟΣ@x", " a@b", "a@b.", "ẞ@ß.de", "a\u0345@x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		one, err := CanonicalEmail(s)
		if err != nil {
			return
		}
		if again, err := CanonicalEmail(one); err != nil || again != one {
			t.Errorf("CanonicalEmail(%q) = %q, of which it makes %q, %v", s, one, again, err)
		}
		for _, same := range []string{
			norm.NFD.String(s), norm.NFC.String(s), strings.ToUpper(s), strings.ToLower(s), strings.ToTitle(s), " " + s + "\t",
		} {
			if two, err := CanonicalEmail(same); err == nil && two != one {
				t.Errorf("CanonicalEmail(%q) = %q, but of %q it makes %q", s, one, same, two)
			}
		}
		if len(one) > maxEmail || strings.Count(one, "@") != 1 || !norm.NFKC.IsNormalString(one) {
			t.Errorf("CanonicalEmail(%q) = %q, which is not canonical", s, one)
		}
	})
}
