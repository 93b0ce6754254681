package authn

import (
	"math/rand/v2"
	"strings"
	"testing"

	zxcvbn "github.com/ccojocar/zxcvbn-go"
)

func TestPasswordStrength(t *testing.T) {
	score := func(low, high int, passwords ...string) {
		t.Helper()
		for _, p := range passwords {
			if got := passwordStrength(p, "ann.jones@example.com", "Ann Jones"); got < low || got > high {
				t.Errorf("passwordStrength(%q) = %d, %.1f bits, want %d to %d", p, got, passwordBits([]rune(p), nil), low, high)
			}
		}
	}
	score(0, 0, "", "a", "password", "Password", "PASSWORD", "p@ssw0rd", "P4$$word", "password1", "password123", "123456789",
		"aaaaaaaaaaaaaaaa", "qwertyuiop", "zxcvbnm,./", "abcdefghijklmnop", "zyxwvutsr", "iloveyou", "monkey", "dragon12",
		"31.12.1999", "19991231", "1qaz2wsx", "abcabcabcabcabc", "passwordpassword", "ééééééééééé",
		"jones", "annjones", "ann.jones", "ann.jones@example.com", "AnnJones", "4nnj0nes", "ann1999", "147258369")
	score(0, 1, "trustno1butme", "sunshine1987!", "monkeydragon42", "hunter2hunter2")
	score(2, 3, "purple-monkey-42")
	score(3, 4, "correct horse battery staple", "x7#kQ9!zLp", "корова летит над лесом", "日本語のパスワードです",
		"Tr0ub4dour&3-and-more", "vEry-unlikely-phrase-97")
}

// The scores are those of zxcvbn-go, which counts the same way, or lower: it
// takes no notice of blocks that repeat, for one.
func TestPasswordStrengthLikeZxcvbn(t *testing.T) {
	inputs := []string{"ann.jones@example.com", "Ann Jones"}
	same, n := 0, 0
	for _, p := range []string{
		"password", "correct horse battery staple", "Tr0ub4dour&3", "zxcvbn", "qwER43@!", "D0g..................",
		"abcdefghijk987654321", "neverforget13/3/1997", "1qaz2wsx3edc", "temppass22", "briansmith", "briansmith4mayor",
		"viking", "thx1138", "ScoRpi0ns", "do you know", "ryanhunter2000", "rianhunter2000", "asdfghju7654rewq",
		"AOEUIDHG&*()LS_", "12345678", "defghi6789", "rosebud", "Rosebud", "ROSEBUD", "rosebuD", "ros3bud99",
		"r0s3bud99", "R0$38uD99", "verlineVANDERMARK", "eheuczkqyq", "rWibMFACxAUGZmxhVncy", "Ba9ZyWABu99[BK#6MBgbH88Tofv)vs$w",
	} {
		n++
		got, theirs := passwordStrength(p, inputs...), zxcvbn.PasswordStrength(p, inputs).Score
		if got == theirs {
			same++
		}
		if got > theirs+1 || got < theirs-1 {
			t.Errorf("passwordStrength(%q) = %d, zxcvbn-go says %d", p, got, theirs)
		}
	}
	if same < n*3/4 {
		t.Errorf("%d of %d scores are the same, want three quarters", same, n)
	}
}

// What takes zxcvbn-go seconds: every substitution that there is, in 72 bytes.
func BenchmarkPasswordStrength(b *testing.B) {
	for name, p := range map[string]string{
		"usual": "correct horse battery staple",
		"l33t":  strings.Repeat("4@8({[<3691!|1|70$5+7%2", 3),
		"same":  strings.Repeat("a", 71) + "b",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				passwordStrength(p, "ann.jones@example.com", "Ann Jones")
			}
		})
	}
}

func TestPasswordStrengthOfAnything(t *testing.T) {
	alphabet := []rune("aAbz019!@4$|1İéßKſ日😀 /.-\t\u0301\u200d\x01")
	random := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		var b strings.Builder
		for range random.IntN(72) {
			b.WriteRune(alphabet[random.IntN(len(alphabet))])
		}
		if got := passwordStrength(b.String(), b.String()[b.Len()/2:], "\xff", "日本"); got < 0 || got > 4 {
			t.Errorf("passwordStrength(%q) = %d", b.String(), got)
		}
	}
}
