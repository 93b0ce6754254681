package pages

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A device is what somebody signed in with, as far as the user agent tells. It
// is for reading only: a user agent says what it likes.
type device struct {
	program, system string // "" where not recognised
	raw             string // shortened
	kind            string // "computer", "phone", "tablet" or "program"
}

type mark struct{ text, name string }

// The order matters: Edge calls itself Chrome as well, and Chrome Safari.
var programs = []mark{
	{"FxiOS/", "Firefox"}, {"Firefox/", "Firefox"}, {"EdgiOS/", "Edge"}, {"EdgA/", "Edge"}, {"Edg/", "Edge"},
	{"OPR/", "Opera"}, {"Vivaldi/", "Vivaldi"}, {"SamsungBrowser/", "Samsung Internet"}, {"CriOS/", "Chrome"},
	{"HeadlessChrome/", "Chrome"}, {"Chromium/", "Chromium"}, {"Chrome/", "Chrome"}, {"Safari/", "Safari"},
	{"curl/", "curl"}, {"Wget/", "Wget"},
}

var systems = []mark{
	{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"Windows", "Windows"},
	{"CrOS", "ChromeOS"}, {"Mac OS X", "macOS"}, {"Linux", "Linux"},
}

// longestRaw is how much of an unknown user agent is shown, in characters.
const longestRaw = 40

func deviceOf(userAgent string) device {
	find := func(marks []mark) string {
		for _, m := range marks {
			if strings.Contains(userAgent, m.text) {
				return m.name
			}
		}
		return ""
	}
	d := device{program: find(programs), system: find(systems), raw: shorten(userAgent), kind: "program"}
	switch mobile := strings.Contains(userAgent, "Mobile"); {
	case d.system == "iPhone", d.system == "Android" && mobile:
		d.kind = "phone"
	case d.system == "iPad", d.system == "Android":
		d.kind = "tablet"
	case d.program != "" && d.system != "":
		d.kind = "computer"
	}
	return d
}

// shorten keeps what can be seen.
func shorten(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return -1
		}
		return r
	}, s))
	if r := []rune(s); len(r) > longestRaw {
		return strings.TrimSpace(string(r[:longestRaw])) + "…"
	}
	return s
}

// words is how people call the device.
func (d device) words(l *language) string {
	switch {
	case d.program != "" && d.system != "":
		return l.must("device.on", "program", d.program, "system", d.system)
	case d.program != "":
		return d.program
	case d.raw != "" && d.system == "":
		return d.raw
	case d.system != "":
		return l.must("device.some", "system", d.system)
	}
	return l.must("device.unknown")
}
