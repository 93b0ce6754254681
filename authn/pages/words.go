package pages

import (
	"strings"
	"time"
)

// moment puts t into words, as they are true at now.
func (l *language) moment(t, now time.Time) Moment {
	t = t.UTC()
	m := Moment{ISO: t.Format(time.RFC3339)}
	month := strings.Fields(l.must("time.months"))[t.Month()-1]
	m.Date = l.must("time.date", "day", t.Day(), "month", month, "year", t.Year(), "time", t.Format("15:04"))
	switch ago := now.Sub(t); {
	case ago < -time.Minute, ago >= 30*24*time.Hour:
		m.Relative = m.Date
	case ago < time.Minute:
		m.Relative = l.must("time.now")
	case ago < time.Hour:
		m.Relative = l.count("time.minute", int(ago/time.Minute))
	case ago < 24*time.Hour:
		m.Relative = l.count("time.hour", int(ago/time.Hour))
	default:
		m.Relative = l.count("time.day", int(ago/(24*time.Hour)))
	}
	return m
}

// wait says when to try again. It never names an earlier time than the one that
// Retry-After tells.
func (l *language) wait(d time.Duration) string {
	up := func(unit time.Duration) int { return int((d + unit - 1) / unit) }
	switch {
	case d <= 0:
		return ""
	case d < 100*time.Second:
		return l.count("wait.second", up(time.Second))
	case d < 100*time.Minute:
		return l.count("wait.minute", up(time.Minute))
	}
	return l.count("wait.hour", up(time.Hour))
}

// count is the text for one, or that for n of it, whose key ends with an s.
func (l *language) count(key string, n int) string {
	if n == 1 {
		return l.must(key)
	}
	return l.must(key+"s", "n", n)
}
