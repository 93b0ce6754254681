package pages

import (
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"gatehouse/authn"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestLanguageFor(t *testing.T) {
	s := newSet(t, "")
	for accept, want := range map[string]string{
		"":                                "en",
		"de":                              "de",
		"de-AT":                           "de",
		"DE-ch-1996":                      "de",
		"de-x-private":                    "de",
		"fr":                              "en",
		"fr, de;q=0.5":                    "de",
		"fr, de;q=0.5, en;q=0.6":          "en",
		"de;q=0, en":                      "en",
		"de;q=0":                          "en",
		"*":                               "en",
		"*, de":                           "en",
		"de, *;q=0.1":                     "de",
		"en;q=0.1 , de ; q=0.2":           "de",
		"de;q=2":                          "en",
		"de;q=0.1234":                     "en",
		"de;q=-1":                         "en",
		"de;q=":                           "en",
		"de;p=1":                          "en",
		"de;q=1.":                         "de",
		"de;q=1.001":                      "en",
		"d\x00e, \xff, ;;;, de":           "de",
		strings.Repeat("fr,", 100) + "de": "en", // who asks for so much gets what there is
		"german":                          "en",
		"de_DE":                           "en",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Accept-Language"] = []string{accept}
		if got := s.languageFor(r).tag; got != want {
			t.Errorf("languageFor(%q) = %s, want %s", accept, got, want)
		}
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header["Accept-Language"] = []string{"fr", "de"}
	if got := s.languageFor(r).tag; got != "de" {
		t.Errorf("two lines: %s, want de", got)
	}
}

// Whatever is sent, the ranges are well-formed, few, and in an order that does
// not depend on anything else.
func FuzzAcceptLanguage(f *testing.F) {
	for _, s := range []string{"de", "de-AT, en;q=0.5, *;q=0.1", ";q=1", "a-b-c;q=0.001,,", strings.Repeat("x,", 50)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := preferred(value)
		if len(got) > maxRanges {
			t.Errorf("%d ranges", len(got))
		}
		for _, tag := range got {
			if !isRange(tag) || !strings.Contains(value, tag) {
				t.Errorf("preferred(%q) has %q", value, tag)
			}
			for shorter(tag) != "" {
				if len(shorter(tag)) >= len(tag) {
					t.Fatalf("shorter(%q) = %q", tag, shorter(tag))
				}
				tag = shorter(tag)
			}
		}
		if again := preferred(strings.Join(got, ",")); !slices.Equal(again, got) {
			t.Errorf("preferred(%q) = %q, and of these %q", value, got, again)
		}
	})
}

func TestMoments(t *testing.T) {
	s := newSet(t, "")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		ago    time.Duration
		en, de string
	}{
		{0, "just now", "gerade eben"},
		{-30 * time.Second, "just now", "gerade eben"}, // clocks differ
		{-time.Hour, "1 March 2026, 13:00 UTC", "1. März 2026, 13:00 UTC"},
		{59 * time.Second, "just now", "gerade eben"},
		{time.Minute, "a minute ago", "vor einer Minute"},
		{59 * time.Minute, "59 minutes ago", "vor 59 Minuten"},
		{time.Hour, "an hour ago", "vor einer Stunde"},
		{23 * time.Hour, "23 hours ago", "vor 23 Stunden"},
		{24 * time.Hour, "yesterday", "gestern"},
		{72 * time.Hour, "3 days ago", "vor 3 Tagen"},
		{60 * 24 * time.Hour, "31 December 2025, 12:00 UTC", "31. Dezember 2025, 12:00 UTC"},
	} {
		for i, want := range []string{c.de, c.en} {
			l := s.languages[1-i]
			if m := l.moment(now.Add(-c.ago), now); m.Relative != want {
				t.Errorf("%s, %v ago: %q, want %q", l.tag, c.ago, m.Relative, want)
			}
		}
	}
	berlin := time.FixedZone("", 2*3600)
	m := s.languages[0].moment(time.Date(2026, 7, 9, 1, 5, 0, 0, berlin), now)
	if m.ISO != "2026-07-08T23:05:00Z" || m.Date != "8 July 2026, 23:05 UTC" {
		t.Errorf("moment = %+v", m)
	}
	for wait, want := range map[time.Duration]string{
		0: "", -time.Second: "", time.Millisecond: "Try again in a second.", 90 * time.Second: "Try again in 90 seconds.",
		101 * time.Second: "Try again in 2 minutes.", 15 * time.Minute: "Try again in 15 minutes.", 14*time.Minute + time.Second: "Try again in 15 minutes.",
		2 * time.Hour: "Try again in 2 hours.",
	} {
		if got := s.languages[0].wait(wait); got != want {
			t.Errorf("wait(%v) = %q, want %q", wait, got, want)
		}
	}
}

func TestDevice(t *testing.T) {
	s := newSet(t, "")
	for _, c := range []struct{ userAgent, words, kind string }{
		{"", "An unknown program", "program"},
		{"\x1b\u202e\u200b", "An unknown program", "program"},
		{"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", "Edge on Windows", "computer"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1", "Safari on iPhone", "phone"},
		{"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/140.0 Mobile/15E148 Safari/604.1", "Chrome on iPhone", "phone"},
		{"Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/140.0 Mobile/15E148 Safari/605.1.15", "Firefox on iPad", "tablet"},
		{"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36", "Chrome on Android", "phone"},
		{"Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "Chrome on Android", "tablet"},
		{"Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox on Android", "phone"},
		{"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Safari/605.1.15", "Safari on macOS", "computer"},
		{"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36", "Chrome on ChromeOS", "computer"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux", "computer"},
		{"curl/8.5.0", "curl", "program"},
		{"something (Linux)", "A program on Linux", "program"},
		{"Go-http-client/1.1", "Go-http-client/1.1", "program"},
		{"a-very-long-name-of-a-program-that-goes-on-and-on/1.0", "a-very-long-name-of-a-program-that-goes-…", "program"},
	} {
		d := deviceOf(c.userAgent)
		if got := d.words(s.languages[0]); got != c.words || d.kind != c.kind {
			t.Errorf("%q: %q, a %s, want %q, a %s", c.userAgent, got, d.kind, c.words, c.kind)
		}
	}
	p := s.page(s.languages[1], "account")
	row := p.Session(authn.Session{UserAgent: "Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0"}, true, time.Now())
	if row.Device != "Firefox auf Android" {
		t.Errorf("in German %q", row.Device)
	}
}

// FuzzDevice: whatever a program calls itself, the page shows a short name
// without anything that cannot be seen or that changes what stands beside it.
func FuzzDevice(f *testing.F) {
	for _, s := range []string{"", "curl/8", "Mozilla/5.0 (iPad) Safari/6", "\x1b]0;\u202e\u200b\xff", strings.Repeat("\u00e9 ", 50), " Linux"} {
		f.Add(s)
	}
	s := newSet(f, "")
	f.Fuzz(func(t *testing.T, userAgent string) {
		d := deviceOf(userAgent)
		if !slices.Contains([]string{"computer", "phone", "tablet", "program"}, d.kind) {
			t.Errorf("%q is a %q", userAgent, d.kind)
		}
		for _, l := range s.languages {
			words := d.words(l)
			if n := len([]rune(words)); n == 0 || n > longestRaw+1 || strings.TrimSpace(words) != words {
				t.Errorf("%q is called %q", userAgent, words)
			}
			for _, r := range words {
				if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
					t.Errorf("%q is called %q, with %U", userAgent, words, r)
				}
			}
		}
	})
}
