package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// LogoTypes are the pictures that endpoints.logo_file can be, by extension.
var LogoTypes = map[string]string{
	".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
}

// A Color has red, green and blue from 0 to 255.
type Color [3]uint8

// The backgrounds of the built-in pages on which endpoints.colors stand. The
// page behind the card is where contrast is least in the light, the card in the
// dark.
var (
	White      = Color{255, 255, 255}
	Black      = Color{0, 0, 0}
	LightPage  = Color{0xf4, 0xf5, 0xf8}
	DarkCard   = Color{0x1b, 0x1e, 0x25}
	hexPattern = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
)

// TextContrast is what text must have against its background (WCAG 2.2,
// success criterion 1.4.3, level AA).
const TextContrast = 4.5

// ParseColor reads #rrggbb.
func ParseColor(s string) (Color, bool) {
	if !hexPattern.MatchString(s) {
		return Color{}, false
	}
	n, err := strconv.ParseUint(s[1:], 16, 32)
	return Color{uint8(n >> 16), uint8(n >> 8), uint8(n)}, err == nil
}

func (c Color) String() string { return fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2]) }

// Contrast is the contrast ratio of two colours, 1 to 21 (WCAG 2.2).
func Contrast(a, b Color) float64 {
	la, lb := a.luminance(), b.luminance()
	return (max(la, lb) + 0.05) / (min(la, lb) + 0.05)
}

// luminance is the relative luminance, 0 to 1 (WCAG 2.2).
func (c Color) luminance() float64 {
	linear := func(v uint8) float64 {
		x := float64(v) / 255
		if x <= 0.04045 {
			return x / 12.92
		}
		return math.Pow((x+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(c[0]) + 0.7152*linear(c[1]) + 0.0722*linear(c[2])
}

// Mix is c with so much of other in it, 0 to 1.
func (c Color) Mix(other Color, share float64) Color {
	var m Color
	for i := range m {
		m[i] = uint8(math.Round(float64(c[i])*(1-share) + float64(other[i])*share))
	}
	return m
}

// colors wants colours that can be read where the pages use them. Text on a
// button is black or white, whichever has more contrast, which is always enough.
func (v *validator) colors() {
	c := v.c.Endpoints.Colors
	v.color("endpoints.colors.accent", c.Accent, LightPage, "a darker one")
	v.color("endpoints.colors.accent_dark", c.AccentDark, DarkCard, "a lighter one")
}

func (v *validator) color(key, value string, background Color, better string) {
	if value == "" {
		return
	}
	c, ok := ParseColor(value)
	if !ok {
		v.bad(key, "want a colour such as #1f5fbf", "")
		return
	}
	if ratio := Contrast(c, background); ratio < TextContrast {
		// Rounded down, so that 4.49 is not told as 4.5.
		v.bad(key, fmt.Sprintf("contrast of %.2f:1 with the background %v: want at least 4.5:1 (WCAG 2.2, 1.4.3)",
			math.Floor(ratio*100)/100, background), "choose "+better)
	}
}
