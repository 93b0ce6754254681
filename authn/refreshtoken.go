package authn

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// refreshToken is the text "gr_SESSION.SECRET", SECRET being 48 random bytes:
// 16 that the session's tokens share and 32 of the token's own.
//
// The shared ones tell an old token of the session, which is an alarm, from a
// forged one, which is not: who merely knows a session's ID, as every upstream
// does, must not be able to end it.
type refreshToken struct {
	session string
	family  [16]byte
	secret  [32]byte
}

const refreshPrefix = "gr_"

func newRefreshToken(session string) refreshToken {
	t := refreshToken{session: session}
	rand.Read(t.family[:])
	rand.Read(t.secret[:])
	return t
}

// next is another token of the same session.
func (t refreshToken) next() refreshToken {
	rand.Read(t.secret[:])
	return t
}

func (t refreshToken) String() string {
	secret := append(t.family[:], t.secret[:]...)
	return refreshPrefix + t.session + "." + base64.RawURLEncoding.EncodeToString(secret)
}

var errNoRefreshToken = errors.New("no refresh token of this gateway")

func parseRefreshToken(s string) (refreshToken, error) {
	rest, ok := strings.CutPrefix(s, refreshPrefix)
	session, secret, found := strings.Cut(rest, ".")
	if !ok || !found || session == "" || len(session) > 64 || len(secret) != 64 {
		return refreshToken{}, errNoRefreshToken
	}
	// 48 bytes are 64 characters without a bit to spare, so that no other
	// spelling means the same. Only the line breaks that the decoder skips
	// could make one, and then bytes are missing.
	raw, err := base64.RawURLEncoding.DecodeString(secret)
	if err != nil || len(raw) != 48 {
		return refreshToken{}, errNoRefreshToken
	}
	t := refreshToken{session: session}
	copy(t.family[:], raw)
	copy(t.secret[:], raw[16:])
	return t, nil
}

func (t refreshToken) familyHash() string { return hashText("family", t.family[:]) }
func (t refreshToken) secretHash() string { return hashText("secret", t.secret[:]) }

// hashText needs no salt and no slowness: its input is random.
func hashText(label string, b []byte) string {
	h := sha256.New()
	h.Write([]byte(label))
	h.Write([]byte{0})
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// seal hides successor's secret so that only t opens it again: a pad that
// nothing but t's secret yields, and that is used once, as a token has one
// successor.
func (t refreshToken) seal(successor refreshToken) string {
	pad := t.pad()
	subtle.XORBytes(pad, pad, successor.secret[:])
	return hex.EncodeToString(pad)
}

// open is the successor that was sealed with t.
func (t refreshToken) open(sealed string) (refreshToken, error) {
	raw, err := hex.DecodeString(sealed)
	if err != nil || len(raw) != len(t.secret) {
		return refreshToken{}, errors.New("sealed refresh token is damaged")
	}
	subtle.XORBytes(t.secret[:], t.pad(), raw)
	return t, nil
}

func (t refreshToken) pad() []byte {
	mac := hmac.New(sha256.New, t.secret[:])
	mac.Write([]byte("gatehouse refresh successor"))
	return mac.Sum(nil)
}

func sameText(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
