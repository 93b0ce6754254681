package authn

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

const (
	maxEmail     = 254 // bytes, RFC 5321, section 4.5.3.1.3 as corrected by erratum 1690
	maxEmailUser = 64  // bytes before the @, RFC 5321, section 4.5.3.1.1
	maxLabel     = 63  // bytes between two dots of a domain, RFC 1035, section 2.3.4
)

// CanonicalEmail is the one spelling of a mailbox: without surrounding blanks,
// in Unicode NFC, in lower case, the domain's xn-- labels decoded. It is the
// same for what is equal but for case or normalisation. The text of the error
// is safe to show to a client.
//
// Two addresses that look the same should not be two accounts, so this is
// stricter than RFC 6531. It does not catch a word that is of one foreign script
// as a whole and looks like a Latin one: "сосо" in Cyrillic letters.
//
//   - characters that compatibility normalisation (NFKC) would change are
//     refused, and so is every foreign character that folds to ASCII:
//     "ａdmin@x" (full width), "admın@x" (dotless i), "K" (Kelvin sign), "ſ";
//   - beside ASCII there are only letters, marks and digits, so no zero-width
//     character, no bidirectional control, no variation selector;
//   - letters of one script do not mix with those of another ("аdmin" with a
//     Cyrillic а), but for Latin beside Chinese, Japanese or Korean;
//   - the part before the @ is a dot-atom: no quotes, no comments, no dot at
//     an end or doubled. The domain is a host name, no address literal, and
//     has no final dot: "admin@x." is "admin@x" to a mail server.
//
// Dots and +tags before the @ are kept: what they mean is the mail server's
// affair.
func CanonicalEmail(s string) (string, error) {
	s = strings.Trim(s, " \t")
	switch {
	case s == "":
		return "", fault("email_empty")
	case len(s) > 4*maxEmail: // far too long, whatever comes of it
		return "", fault("email_long", "max", maxEmail)
	case !utf8.ValidString(s):
		return "", fault("utf8")
	}
	user, domain, found := strings.Cut(s, "@")
	if !found || strings.Contains(domain, "@") {
		return "", fault("email_at")
	}
	user, err := canonicalMailUser(user)
	if err != nil {
		return "", err
	}
	if domain, err = canonicalDomain(domain); err != nil {
		return "", err
	}
	if s = user + "@" + domain; len(s) > maxEmail {
		return "", fault("email_long", "max", maxEmail)
	}
	return s, nil
}

// canonicalMailUser is for the part before the @.
func canonicalMailUser(s string) (string, error) {
	s, err := foldText(s)
	switch {
	case err != nil:
		return "", err
	case s == "":
		return "", fault("email_no_user")
	case len(s) > maxEmailUser:
		return "", fault("email_user_long", "max", maxEmailUser)
	case s[0] == '.' || s[len(s)-1] == '.' || strings.Contains(s, ".."):
		return "", fault("email_user_dots")
	}
	for _, r := range s {
		const atext = "!#$%&'*+-/=?^_`{|}~" // RFC 5322, section 3.2.3
		if !isWordRune(r) && r != '.' && !strings.ContainsRune(atext, r) {
			return "", badRune(r)
		}
	}
	return s, oneScript(s)
}

// domains converts host names by IDNA 2008 as browsers look them up.
var domains = idna.Lookup

func canonicalDomain(s string) (string, error) {
	s, err := foldText(s)
	if err != nil {
		return "", err
	}
	if err := checkDomain(s); err != nil {
		return "", err
	}
	if isASCII(s) && !strings.Contains(s, "xn--") {
		return s, nil
	}
	bad := fault("email_domain")
	ascii, err := domains.ToASCII(s)
	if err != nil || checkDomain(ascii) != nil {
		return "", bad
	}
	decoded, err := domains.ToUnicode(ascii)
	if err != nil {
		return "", bad
	}
	// What the decoder gives must be as good as what is typed, and stay what
	// it is.
	folded, err := foldText(decoded)
	if err != nil || folded != decoded || checkDomain(folded) != nil {
		return "", bad
	}
	if again, err := domains.ToASCII(folded); err != nil || again != ascii {
		return "", bad
	}
	return folded, nil
}

func checkDomain(s string) error {
	if s == "" {
		return fault("email_no_domain")
	}
	for label := range strings.SplitSeq(s, ".") {
		switch {
		case label == "":
			return fault("email_domain_dots")
		case len(label) > maxLabel && isASCII(label):
			return fault("email_label_long", "max", maxLabel)
		case label[0] == '-' || label[len(label)-1] == '-':
			return fault("email_hyphen")
		}
		for _, r := range label {
			if !isWordRune(r) && r != '-' {
				return badRune(r)
			}
		}
		if err := oneScript(label); err != nil {
			return err
		}
	}
	return nil
}

// foldText is s in NFC and without case. It refuses characters that have a
// more usual spelling.
func foldText(s string) (string, error) {
	for _, r := range s {
		if r >= utf8.RuneSelf && foldsToASCII(r) {
			return "", badRune(r)
		}
	}
	folded := norm.NFC.String(strings.Map(foldRune, norm.NFC.String(s)))
	for _, r := range folded {
		if !norm.NFKC.IsNormalString(string(r)) && r != ' ' {
			return "", badRune(r)
		}
	}
	// Neither of these is known to happen; were it to, one mailbox would have
	// two spellings.
	again := norm.NFC.String(strings.Map(foldRune, folded))
	if again != folded || !norm.NFKC.IsNormalString(folded) {
		return "", fault("email_unusual")
	}
	return folded, nil
}

// foldRune is the lower case of the upper case, so that letters with two lower
// cases have one: σ and ς.
func foldRune(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// foldsToASCII tells whether some software would take r for an ASCII
// character.
func foldsToASCII(r rune) bool {
	for _, c := range norm.NFKC.String(string(r)) {
		if c < utf8.RuneSelf {
			return true
		}
	}
	return unicode.ToLower(r) < utf8.RuneSelf || unicode.ToUpper(r) < utf8.RuneSelf || foldRune(r) < utf8.RuneSelf
}

// isWordRune tells letters, digits and their marks from everything else. Some
// marks and letters are invisible all the same.
func isWordRune(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z' || '0' <= r && r <= '9'
	}
	return unicode.In(r, unicode.L, unicode.Mn, unicode.Mc, unicode.Nd) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// oneScript refuses letters of several scripts in one word. The exceptions are
// those of UTS 39, section 5.2, "highly restrictive".
func oneScript(s string) error {
	var scripts []string
	for _, r := range s {
		if name := scriptOf(r); name != "" && !slices.Contains(scripts, name) {
			scripts = append(scripts, name)
		}
	}
	if len(scripts) <= 1 {
		return nil
	}
	for _, together := range [][]string{
		{"Latin", "Han", "Hiragana", "Katakana"},
		{"Latin", "Han", "Bopomofo"},
		{"Latin", "Han", "Hangul"},
	} {
		if !slices.ContainsFunc(scripts, func(s string) bool { return !slices.Contains(together, s) }) {
			return nil
		}
	}
	slices.Sort(scripts)
	return fault("email_scripts", "scripts", strings.Join(scripts, " and "))
}

// scriptOf is "" for what all scripts share.
func scriptOf(r rune) string {
	switch {
	case 'a' <= r && r <= 'z':
		return "Latin"
	case r < utf8.RuneSelf || unicode.In(r, unicode.Common, unicode.Inherited):
		return ""
	}
	for name, table := range unicode.Scripts {
		if unicode.Is(table, r) {
			return name
		}
	}
	return ""
}

// badRune names r by its number, since it may be invisible.
func badRune(r rune) error {
	switch {
	case r == ' ' || r == '\t':
		return fault("email_blank")
	case unicode.IsControl(r):
		return fault("control")
	case r > ' ' && r < 0x7f:
		return fault("email_character", "character", strconv.Quote(string(r)))
	}
	return fault("email_character", "character", fmt.Sprintf("%U", r))
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
