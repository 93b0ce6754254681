package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A chart is lines over one axis, drawn by hand as SVG 1.1.
type chart struct {
	title, across, up string
	log               bool // the axis across
	show              func(int) string
	lines             []line
}

type line struct {
	name   string
	points []point
}

type point struct{ x, y float64 }

const (
	chartWidth, chartHeight = 720, 400
	left, right             = 70, 20
	top, bottom             = 50, 96
	keyRow                  = 18 // of what the lines are
)

// colours can be told apart by those who do not see red or green (Okabe and
// Ito).
var colours = []string{"#555555", "#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7"}

func (c *chart) svg() string {
	var s strings.Builder
	draw := func(format string, args ...any) { fmt.Fprintf(&s, format+"\n", args...) }
	text := func(x, y float64, anchor, class, words string) {
		draw(`<text x="%.1f" y="%.1f" text-anchor="%s" class="%s">%s</text>`, x, y, anchor, class, html.EscapeString(words))
	}
	draw(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img">`, chartWidth, chartHeight, chartWidth, chartHeight)
	draw(`<title>%s</title>`, html.EscapeString(c.title))
	draw(`<style>text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:15px;font-weight:600}.grid{stroke:#ddd}.axis{stroke:#888}</style>`)
	draw(`<rect width="100%%" height="100%%" fill="#fff"/>`)
	text(left, 28, "start", "title", c.title)

	highest := 0.0
	marks := map[float64]bool{}
	var across []float64
	for _, l := range c.lines {
		for _, p := range l.points {
			highest = max(highest, p.y)
			if !marks[p.x] {
				marks[p.x] = true
				across = append(across, p.x)
			}
		}
	}
	step := niceStep(highest / 5)
	ceiling := max(step, math.Ceil(highest/step)*step)
	y := func(v float64) float64 { return top + (1-v/ceiling)*(chartHeight-top-bottom) }
	for v := 0.0; v <= ceiling*1.001; v += step {
		draw(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" class="grid"/>`, left, y(v), chartWidth-right, y(v))
		text(left-8, y(v)+4, "end", "tick", number(v))
	}
	text(left-8, top-10, "end", "unit", c.up)
	x := c.scale(across)
	for _, v := range across {
		draw(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="axis"/>`, x(v), chartHeight-bottom, x(v), chartHeight-bottom+5)
		text(x(v), chartHeight-bottom+20, "middle", "tick", c.show(int(v)))
	}
	draw(`<line x1="%d" y1="%d" x2="%d" y2="%d" class="axis"/>`, left, chartHeight-bottom, chartWidth-right, chartHeight-bottom)
	text((left+chartWidth-right)/2, chartHeight-bottom+40, "middle", "unit", c.across)

	key, row := float64(left), float64(chartHeight-16-keyRow)
	for i, l := range c.lines {
		colour := colours[i%len(colours)]
		var path []string
		for _, p := range l.points {
			path = append(path, fmt.Sprintf("%.1f,%.1f", x(p.x), y(p.y)))
		}
		draw(`<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`, strings.Join(path, " "), colour)
		for _, p := range l.points {
			draw(`<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s µs</title></circle>`, x(p.x), y(p.y), colour, html.EscapeString(l.name), number(p.y))
		}
		width := 40 + 7.2*float64(len(l.name)) // in a wide font
		if key+width > chartWidth && key > left {
			key, row = left, row+keyRow
		}
		draw(`<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-width="3"/>`, key, row, key+18, row, colour)
		text(key+23, row+4, "start", "key", l.name)
		key += width
	}
	draw(`</svg>`)
	return s.String()
}

// scale is where a value lies across. On a logarithmic axis 0 is where 1 is.
func (c *chart) scale(values []float64) func(float64) float64 {
	as := func(v float64) float64 {
		if c.log {
			return math.Log2(max(v, 1))
		}
		return v
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = min(low, as(v)), max(high, as(v))
	}
	if !(high > low) {
		return func(float64) float64 { return left }
	}
	return func(v float64) float64 { return left + (as(v)-low)/(high-low)*(chartWidth-left-right) }
}

// niceStep is 1, 2 or 5 times a power of ten, and no less than v.
func niceStep(v float64) float64 {
	if v <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 5} {
		if v <= n*power*1.0001 {
			return n * power
		}
	}
	return 10 * power
}

func number(v float64) string {
	if v >= 1000 {
		return thousands(int(math.Round(v)))
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
}
