package authn

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A key file of the gateway's own folder is named KID.ALGORITHM.pem, or
// KID.HS256.secret. KID begins with the time of making, so that the names sort
// by age: 20260102t150405-123456-9f86d081. The name says the algorithm because
// an RSA key does not.
type keyFile struct {
	path, id, algorithm string
	created             time.Time
}

const (
	kidTime    = "20060102t150405.000000" // with "-" for the point
	secretFile = ".secret"
	pemFile    = ".pem"

	maxKeyFile = 64 << 10
)

// listKeyFiles returns the key files of dir, oldest first. A name that ends as
// a key file's and says no algorithm is an error, so that no key is left out
// unsaid; all other files are nobody's business.
func listKeyFiles(dir string) ([]keyFile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var files []keyFile
	for _, e := range entries {
		name, end := e.Name(), filepath.Ext(e.Name())
		if strings.HasPrefix(name, ".") || end != pemFile && end != secretFile {
			continue
		}
		id, algorithm := cutLast(strings.TrimSuffix(name, end), ".")
		a, known := algorithms[algorithm]
		if !known || !a.ours || (a.family == "oct") != (end == secretFile) || checkKeyID(id) != nil {
			return nil, fmt.Errorf("%s: want a name such as KID.ES256.pem or KID.HS256.secret", filepath.Join(dir, name))
		}
		files = append(files, keyFile{path: filepath.Join(dir, name), id: id, algorithm: algorithm, created: kidCreated(id)})
	}
	// Files that somebody else named are the oldest: they sign only alone.
	slices.SortFunc(files, func(a, b keyFile) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.id, b.id))
	})
	return files, nil
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+len(sep):]
}

func kidCreated(id string) time.Time {
	if len(id) < len(kidTime) || id[len(kidTime)-7] != '-' {
		return time.Time{}
	}
	t, err := time.Parse(kidTime, id[:len(kidTime)-7]+"."+id[len(kidTime)-6:len(kidTime)])
	if err != nil {
		return time.Time{}
	}
	return t
}

func newest(files []keyFile, algorithm string) *keyFile {
	for i := len(files) - 1; i >= 0; i-- {
		if files[i].algorithm == algorithm {
			return &files[i]
		}
	}
	return nil
}

func (f keyFile) read() (*key, error) {
	k := &key{id: f.id, file: f.path, created: f.created}
	// The name tells when the key was made, unless a clock was ahead: then the
	// file does. A copy keeps the name and gets a later time.
	k.since = fileTime(f.path)
	if k.created.IsZero() {
		k.created = k.since
	} else if k.created.Before(k.since) {
		k.since = k.created
	}
	var err error
	if algorithms[f.algorithm].family != "oct" {
		k.joseKey, err = readPrivateFile(f.path, f.algorithm)
		return k, err
	}
	data, err := readSmall(f.path)
	if err != nil {
		return nil, err
	}
	// The text of the file is the secret, as with secret_file, so that another
	// gateway can be given the same file.
	k.joseKey, err = newStrongSecret(bytes.TrimRight(data, "\r\n"))
	return k, err
}

// GenerateKey makes a key for algorithm in dir. It is whole when it is seen,
// 0600, and newer than all others there, so that gateways with that algorithm
// sign with it as soon as it has settled.
func GenerateKey(dir, algorithm string) (KeyInfo, error) {
	unlock, err := lockKeyDir(dir)
	if err != nil {
		return KeyInfo{}, err
	}
	defer unlock()
	files, err := listKeyFiles(dir)
	if err != nil {
		return KeyInfo{}, err
	}
	return generateLocked(dir, algorithm, files)
}

// generateFirst makes a key for algorithm unless another process has just done
// so, and lists dir again.
func generateFirst(dir, algorithm string) ([]keyFile, error) {
	unlock, err := lockKeyDir(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	files, err := listKeyFiles(dir)
	if err != nil || newest(files, algorithm) != nil {
		return files, err
	}
	if _, err := generateLocked(dir, algorithm, files); err != nil {
		return nil, err
	}
	return listKeyFiles(dir)
}

func generateLocked(dir, algorithm string, files []keyFile) (KeyInfo, error) {
	content, end, err := generateContent(algorithm)
	if err != nil {
		return KeyInfo{}, err
	}
	created := time.Now().UTC().Truncate(time.Microsecond)
	if n := len(files); n > 0 && !created.After(files[n-1].created) {
		// The clock was set back; the names must keep the order all the same.
		created = files[n-1].created.Add(time.Microsecond)
	}
	var random [4]byte
	rand.Read(random[:])
	id := strings.Replace(created.Format(kidTime), ".", "-", 1) + "-" + hex.EncodeToString(random[:])
	f := keyFile{path: filepath.Join(dir, id+"."+algorithm+end), id: id, algorithm: algorithm, created: created}
	if err := writeWhole(f.path, content); err != nil {
		return KeyInfo{}, fmt.Errorf("write key file: %w", err)
	}
	k, err := f.read()
	if err != nil {
		return KeyInfo{}, fmt.Errorf("%s: %w", f.path, err)
	}
	return k.info(true), nil
}

func generateContent(algorithm string) (content []byte, end string, err error) {
	a, known := algorithms[algorithm]
	if !known || !a.ours {
		return nil, "", fmt.Errorf("algorithm %q: want one of %s", algorithm, strings.Join(ourAlgorithms(), ", "))
	}
	var private any
	switch a.family {
	case "oct":
		secret := make([]byte, 48)
		rand.Read(secret)
		return []byte(base64url.EncodeToString(secret) + "\n"), secretFile, nil
	case "RSA":
		private, err = rsa.GenerateKey(rand.Reader, 3072)
	case "EC":
		private, err = ecdsa.GenerateKey(a.curve, rand.Reader)
	case "OKP":
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		return nil, "", fmt.Errorf("generate %s key: %w", algorithm, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, "", fmt.Errorf("encode %s key: %w", algorithm, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pemFile, nil
}

// writeWhole makes the file appear at once and whole, also after a power cut.
func writeWhole(path string, content []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(content)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func fileTime(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime().UTC()
}

func readSmall(path string) ([]byte, error) { return readRegular(path, maxKeyFile) }

// readRegular reads a file of at most most bytes. Devices and pipes could go
// on for ever.
func readRegular(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: want a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s: want at most %d bytes", path, most)
	}
	return data, nil
}

func readPrivateFile(path, algorithm string) (*joseKey, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	private, err := parsePrivatePEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, err := newPrivate(algorithm, private)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

func readPublicFile(path, algorithm string) (*joseKey, error) {
	data, err := readSmall(path)
	if err != nil {
		return nil, err
	}
	public, err := parsePublicPEM(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, err := newPublic(algorithm, public)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

// parsePrivatePEM reads the one private key of a PEM file: PKCS #8, PKCS #1 or
// SEC 1. Certificates and curve parameters beside it are passed over.
func parsePrivatePEM(data []byte) (private any, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var k any
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errors.New("private key with a passphrase, want one without")
		case block.Type == "PRIVATE KEY":
			k, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case block.Type == "RSA PRIVATE KEY":
			k, err = x509.ParsePKCS1PrivateKey(block.Bytes)
		case block.Type == "EC PRIVATE KEY":
			k, err = x509.ParseECPrivateKey(block.Bytes)
		case block.Type == "CERTIFICATE" || block.Type == "EC PARAMETERS":
			continue
		default:
			return nil, fmt.Errorf("PEM block %.32q, want a private key", block.Type)
		}
		if err != nil {
			// The cause could show parts of the key.
			return nil, fmt.Errorf("PEM block %q does not hold what it says", block.Type)
		}
		if private != nil {
			return nil, errors.New("several private keys, want one")
		}
		private = k
	}
	if private == nil {
		return nil, errors.New("no private key in PEM form")
	}
	return private, nil
}

// parsePublicPEM reads the first public key of a PEM file: PKIX, PKCS #1, or
// that of a certificate, whose dates and names are nothing to us.
func parsePublicPEM(data []byte) (any, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, errors.New("no public key in PEM form")
	}
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("PEM block %.32q, want a public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("PEM block %q does not hold what it says", block.Type)
	}
	return public, nil
}
