package authn

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
)

// A browser in which somebody has signed in keeps a proof of it, which lets
// nobody in. Who shows the proof of an account is not held up by what others
// did to it: a stranger behind the same address must not lock its owner out.
//
// The proof is made from the hash of the password, so that it needs no key and
// no table, is good at every gateway that has the account, and ends with the
// password. It tells nothing of the hash, whose salt alone has 128 bits.

// maxProofs is how many accounts a browser is known to. There are few people at
// one, and a cookie is short.
const maxProofs = 8

const proofSeparator = "."

// proof is "" for who cannot sign in with a password: with an empty key anybody
// could make one.
func (u User) proof() string {
	if u.ID == "" || u.PasswordHash == "" {
		return ""
	}
	mac := hmac.New(sha256.New, []byte(u.PasswordHash))
	mac.Write([]byte("gatehouse known browser\x00" + u.ID))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)[:16])
}

// splitProofs passes over what no gateway has written.
func splitProofs(known string) []string {
	if known == "" || len(known) > 1024 {
		return nil
	}
	return strings.SplitN(known, proofSeparator, maxProofs+1)
}

// knows tells whether the client has the proof of u.
func (c Client) knows(u User) bool {
	own := u.proof()
	for _, p := range splitProofs(c.Known) {
		if own != "" && sameText(p, own) {
			return true
		}
	}
	return false
}

// Remember is what a browser keeps once the user has signed in there: the
// proofs that it has, known, with the user's in front.
func (s *Service) Remember(ctx context.Context, userID, known string) (string, error) {
	u, err := s.Users.UserByID(ctx, userID)
	if err != nil {
		return "", fmt.Errorf("look up user: %w", err)
	}
	proofs := []string{u.proof()}
	for _, p := range splitProofs(known) {
		if len(p) == len(proofs[0]) && p != proofs[0] && len(proofs) < maxProofs {
			proofs = append(proofs, p)
		}
	}
	return strings.Join(proofs, proofSeparator), nil
}
