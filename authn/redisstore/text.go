package redisstore

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gatehouse/authn"
)

// What cursors, members and scores look like.

// A place is a cursor, read: an entry of the changes, its nonce, and the epoch
// of the set. While the set is being loaded, scan says how far, and run from
// which server.
type place struct {
	id, nonce, epoch string
	scan             int64 // rank
	loading          bool
	run              string
}

func (p place) String() string {
	if p.loading {
		return strings.Join([]string{"load", p.id, p.nonce, p.epoch, p.run, strconv.FormatInt(p.scan, 10)}, "/")
	}
	return strings.Join([]string{"at", p.id, p.nonce, p.epoch}, "/")
}

func parsePlace(cursor string) (place, error) {
	f := strings.Split(cursor, "/")
	switch {
	case len(f) == 4 && f[0] == "at":
		return place{id: f[1], nonce: f[2], epoch: f[3]}, nil
	case len(f) == 6 && f[0] == "load":
		scan, err := strconv.ParseInt(f[5], 10, 64)
		if err == nil && scan >= 0 {
			return place{id: f[1], nonce: f[2], epoch: f[3], run: f[4], scan: scan, loading: true}, nil
		}
	}
	return place{}, fmt.Errorf("cursor %q: want one that Read returned", cursor)
}

// member names what r revokes. QueryEscape leaves no colon.
func member(r authn.Revocation) string {
	parts := []string{string(r.Kind), url.QueryEscape(r.Issuer), url.QueryEscape(r.ID)}
	if r.Kind == authn.RevokeUser {
		parts = append(parts, strconv.FormatInt(r.Generation, 10))
	}
	return strings.Join(parts, ":")
}

// score is the Unix second after which r can be forgotten.
func score(r authn.Revocation) int64 {
	return r.Expires.Add(authn.RevocationMargin + time.Second - 1).Unix()
}

// parseMember is the reverse of both. Members that are no revocations, such as
// the epoch's, are not ok; what cannot be understood is an error, because it
// may be one.
func parseMember(member string, score float64) (r authn.Revocation, ok bool, err error) {
	f := strings.Split(member, ":")
	kind := authn.RevocationKind(f[0])
	want := 3
	switch kind {
	case authn.RevokeUser:
		want = 4
	case authn.RevokeToken, authn.RevokeSession:
	default:
		return r, false, nil
	}
	bad := func() (authn.Revocation, bool, error) {
		return authn.Revocation{}, false, fmt.Errorf("revocation %q with score %v: want KIND:ISSUER:ID and a time", member, score)
	}
	if len(f) != want {
		return bad()
	}
	issuer, err1 := url.QueryUnescape(f[1])
	id, err2 := url.QueryUnescape(f[2])
	if err1 != nil || err2 != nil || math.IsNaN(score) {
		return bad()
	}
	if want == 4 {
		if r.Generation, err = strconv.ParseInt(f[3], 10, 64); err != nil {
			return bad()
		}
	}
	r.Kind, r.Issuer, r.ID = kind, issuer, id
	r.Expires = time.Unix(int64(min(max(score, 0), 1<<40)), 0).Add(-authn.RevocationMargin).UTC()
	return r, true, nil
}
