package authn

import (
	"cmp"
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"gatehouse/config"
)

// A KeySet holds the keys of the gateway's own tokens: one signs, all verify,
// each with the one algorithm it was configured for. It never changes; which
// of the folder's keys signs, and which are done, goes by the time (keylife.go). The zero
// KeySet has no key.
type KeySet struct {
	keys     []*key
	byID     map[string]*key
	signer   *key // the one that is to sign, see signerAt; nil: this gateway only verifies
	warnings []config.Problem
}

type key struct {
	*joseKey
	id      string
	created time.Time
	file    string

	// Of keys in the folder only.
	since time.Time     // when others could see it
	ttl   time.Duration // the longest life of a token that it signed
	noted time.Duration // the part of ttl that is noted beside it
	until time.Time     // when its last token has expired; zero: it has no successor
}

// KeyInfo is what may be shown of a key.
type KeyInfo struct {
	ID        string
	Algorithm string
	Signs     bool
	Private   bool // false: it can only verify
	Created   time.Time
	File      string
	Public    crypto.PublicKey // nil for HS256

	// Of keys in the folder that do not sign:
	SignsFrom time.Time // when it will; zero: never
	Until     time.Time // when its last token has expired; zero: not known
	Retired   bool      // that is past: it verifies nothing any more
}

// KeyDir is the folder of the keys that the gateway makes itself, in use where
// tokens.keys is empty.
func KeyDir(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "keys") }

// LoadKeys reads the keys of cfg.Tokens.Keys; the first one signs. Where that
// list is empty it reads the folder [KeyDir]; the newest key of
// cfg.Tokens.Algorithm signs, once it has settled, and is made if there is none.
// Gateways that start at the same time on one folder end with the same key. The error is
// config.Problems.
func LoadKeys(cfg *config.Config) (*KeySet, error) { return loadKeys(cfg, true) }

// ReadKeys is LoadKeys that makes no key: there may be none that signs.
func ReadKeys(cfg *config.Config) (*KeySet, error) { return loadKeys(cfg, false) }

// CheckKeys finds the same problems as LoadKeys and writes nothing.
func CheckKeys(cfg *config.Config) error {
	_, err := loadKeys(cfg, false)
	return err
}

func loadKeys(cfg *config.Config, generate bool) (*KeySet, error) {
	l := keyLoader{cfg: cfg, set: &KeySet{byID: map[string]*key{}}}
	if len(cfg.Tokens.Keys) > 0 {
		l.configured()
	} else {
		l.folder(generate && cfg.Signs())
	}
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	if _, err := marshalJWKS(l.set.keys); err != nil {
		return nil, config.Problems{cfg.Problem("tokens.keys", "%v", err)}
	}
	return l.set, nil
}

type keyLoader struct {
	cfg      *config.Config
	set      *KeySet
	problems config.Problems
}

func (l *keyLoader) problem(at, format string, args ...any) {
	l.problems = append(l.problems, l.cfg.Problem(at, format, args...))
}

func (l *keyLoader) configured() {
	for i, c := range l.cfg.Tokens.Keys {
		at := fmt.Sprintf("tokens.keys[%d]", i)
		k, field, err := l.open(at, c)
		if err != nil {
			l.problem(at+field, "%v", err)
			continue
		}
		if err := checkKeyID(c.ID); err != nil {
			l.problem(at+".id", "%v", err)
			continue
		}
		if _, twice := l.set.byID[c.ID]; twice {
			l.problem(at+".id", "key id %q is used twice", c.ID)
			continue
		}
		if i == 0 && k.private == nil && l.cfg.Signs() {
			l.problem(at, "key %q signs, because it is the first: want a secret or a private_key_file", c.ID)
			continue
		}
		l.set.add(k)
		if i == 0 && k.private != nil {
			l.set.signer = k
		}
	}
}

// open reads one entry of tokens.keys. field says which key of the entry an
// error is about.
func (l *keyLoader) open(at string, c config.Key) (k *key, field string, err error) {
	sources := 0
	for _, there := range []bool{c.Secret != "" || c.SecretFile != "", c.PrivateKeyFile != "", c.PublicKeyFile != ""} {
		if there {
			sources++
		}
	}
	if sources != 1 {
		return nil, "", fmt.Errorf("key %q: want one of secret, secret_file, private_key_file and public_key_file", c.ID)
	}
	a, known := algorithms[c.Algorithm]
	if !known || !a.ours {
		return nil, ".algorithm", fmt.Errorf("algorithm %q: want one of %s", c.Algorithm, strings.Join(ourAlgorithms(), ", "))
	}
	k = &key{id: c.ID}
	switch {
	case c.PrivateKeyFile != "":
		field, k.file = ".private_key_file", c.PrivateKeyFile
	case c.PublicKeyFile != "":
		field, k.file = ".public_key_file", c.PublicKeyFile
	case c.SecretFile != "":
		field, k.file = ".secret_file", c.SecretFile
	default:
		field = ".secret"
	}
	if isSecret := field == ".secret" || field == ".secret_file"; isSecret != (a.family == "oct") {
		want := "a secret or secret_file"
		if isSecret {
			want = "a private_key_file or public_key_file"
		}
		return nil, field, fmt.Errorf("key %q: %s takes %s", c.ID, c.Algorithm, want)
	}
	if k.file != "" {
		k.created = fileTime(k.file)
	}
	switch field {
	case ".private_key_file":
		k.joseKey, err = readPrivateFile(k.file, c.Algorithm)
		l.warnReadable(at+field, k.file)
	case ".public_key_file":
		k.joseKey, err = readPublicFile(k.file, c.Algorithm)
	default:
		k.joseKey, err = newStrongSecret([]byte(c.Secret))
		if k.file != "" {
			l.warnReadable(at+field, k.file)
		}
	}
	return k, field, err
}

// warnReadable warns of a secret file or folder that others on the machine can
// use. No error: Kubernetes mounts secrets readable for a group.
func (l *keyLoader) warnReadable(at, file string) {
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return
	}
	w := l.cfg.Problem(at, "%s is open to others on this machine (mode %04o)", file, info.Mode().Perm())
	w.Hint = "chmod go= " + file
	l.set.warnings = append(l.set.warnings, w)
}

func (l *keyLoader) folder(generate bool) {
	name := l.cfg.Tokens.Algorithm
	if a, known := algorithms[name]; !known || !a.ours {
		l.problem("tokens.algorithm", "algorithm %q: want one of %s", name, strings.Join(ourAlgorithms(), ", "))
		return
	}
	dir := KeyDir(l.cfg)
	files, err := listKeyFiles(dir)
	if err == nil && generate && newest(files, name) == nil {
		files, err = generateFirst(dir, name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problem("data_dir", "%v", err)
		return
	}
	l.warnReadable("data_dir", dir)
	for _, f := range files {
		k, err := f.read()
		if err != nil {
			l.problem("data_dir", "%s: %v", f.path, err)
			continue
		}
		if _, twice := l.set.byID[k.id]; twice {
			l.problem("data_dir", "%s: another file is key %q already", f.path, k.id)
			continue
		}
		if k.noted, err = readTTL(dir, k.id); err != nil {
			l.problem("data_dir", "%v", err)
			continue
		}
		k.ttl = k.noted
		l.warnReadable("data_dir", f.path)
		l.set.add(k)
		if k.algorithm == name {
			l.set.signer = k // files are in the order of their making
		}
	}
	l.reckon()
	if generate {
		l.note(dir)
	}
}

func (s *KeySet) add(k *key) {
	s.keys = append(s.keys, k)
	s.byID[k.id] = k
}

// checkKeyID bounds what goes into the header of every token.
func checkKeyID(id string) error {
	if id == "" {
		return errors.New("key without an id")
	}
	if len(id) > maxID || strings.ContainsFunc(id, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return fmt.Errorf("key id %.64q: want at most %d printable characters", id, maxID)
	}
	return nil
}

// find returns the key that h names, if it is for the algorithm of h and still
// verifies at now.
func (s *KeySet) find(h joseHeader, now time.Time) (*key, error) {
	if !h.hasKID {
		return nil, errors.New(`header: "kid" is missing`)
	}
	k, ok := s.byID[h.kid]
	if !ok {
		return nil, fmt.Errorf("key %.64q is not configured", h.kid)
	}
	if k.algorithm != h.algorithm {
		return nil, fmt.Errorf("key %.64q is not configured for %.16q", h.kid, h.algorithm)
	}
	if k.retired(now) {
		return nil, fmt.Errorf("key %.64q is retired: its last token expired at %s", h.kid, k.until.UTC().Format(time.RFC3339))
	}
	return k, nil
}

// JWKS is the JWK set of the public keys that verify at now (RFC 7517), also of
// one that does not sign yet. Secrets are not in it.
func (s *KeySet) JWKS(now time.Time) []byte {
	verifying := slices.DeleteFunc(slices.Clone(s.keys), func(k *key) bool { return k.retired(now) })
	doc, _ := marshalJWKS(verifying) // LoadKeys has tried all of them
	return doc
}

// Warnings are about keys that work but are not well kept.
func (s *KeySet) Warnings() []config.Problem { return slices.Clone(s.warnings) }

// List shows the keys as they are at now, the one that signs first, then the
// newer first.
func (s *KeySet) List(now time.Time) []KeyInfo {
	infos := make([]KeyInfo, 0, len(s.keys))
	signer := s.signerAt(now)
	for _, k := range s.keys {
		i := k.info(k == signer)
		if i.Until, i.Retired = k.until, k.retired(now); k == s.signer && k != signer {
			i.SignsFrom = k.settles()
		}
		infos = append(infos, i)
	}
	slices.SortStableFunc(infos, func(a, b KeyInfo) int {
		if a.Signs != b.Signs {
			if a.Signs {
				return -1
			}
			return 1
		}
		return cmp.Or(b.Created.Compare(a.Created), cmp.Compare(a.ID, b.ID))
	})
	return infos
}

func (k *key) info(signs bool) KeyInfo {
	i := KeyInfo{ID: k.id, Algorithm: k.algorithm, Signs: signs, Private: k.private != nil, Created: k.created, File: k.file}
	if algorithms[k.algorithm].family != "oct" {
		i.Public = k.public
	}
	return i
}

// newStrongSecret is newSecret for a secret that somebody chose.
func newStrongSecret(secret []byte) (*joseKey, error) {
	k, err := newSecret(secret)
	if err != nil {
		return nil, err
	}
	if weakness := config.Secret(secret).Weakness(); weakness != "" {
		return nil, fmt.Errorf("%s: make one with openssl rand -base64 48", weakness)
	}
	return k, nil
}
