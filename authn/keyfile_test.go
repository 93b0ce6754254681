package authn

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/config"
)

func TestKeyFolder(t *testing.T) {
	cfg := &config.Config{DataDir: filepath.Join(t.TempDir(), "data"), Tokens: config.Tokens{Algorithm: "ES256"}}
	if err := CheckKeys(cfg); err != nil {
		t.Errorf("CheckKeys: %v", err)
	}
	if keys, err := ReadKeys(cfg); err != nil || len(keys.List(time.Now())) > 0 {
		t.Errorf("ReadKeys = %+v, %v, want none", keys, err)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("CheckKeys made the data folder")
	}
	verifyOnly := *cfg
	verifyOnly.Users.Database = "none"
	if _, err := LoadKeys(&verifyOnly); err != nil {
		t.Errorf("LoadKeys: %v", err)
	}
	if _, err := os.Stat(cfg.DataDir); err == nil {
		t.Error("a gateway that only verifies made a key")
	}

	// Many start at once on one folder, and sign with one key.
	const n = 8
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			keys, err := LoadKeys(cfg)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = keys.signer.id
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("keys %v, want one", ids)
		}
	}
	for path, want := range map[string]os.FileMode{cfg.DataDir: 0o700, KeyDir(cfg): 0o700, filepath.Join(KeyDir(cfg), ids[0]+".ES256.pem"): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info, err, want)
		}
	}

	// Another algorithm makes another key; going back goes back to the old.
	cfg.Tokens.Algorithm = "EdDSA"
	keys, err := LoadKeys(cfg)
	if err != nil || keys.signer.algorithm != "EdDSA" || len(keys.keys) != 2 {
		t.Errorf("LoadKeys = %+v, %v, want a new EdDSA key beside the old", keys, err)
	}
	cfg.Tokens.Algorithm = "ES256"
	if keys, err = LoadKeys(cfg); err != nil || keys.signer.id != ids[0] {
		t.Errorf("LoadKeys = %+v, %v, want %q to sign", keys, err, ids[0])
	}
	cfg.Tokens.Algorithm = "HS512"
	if _, err := LoadKeys(cfg); err == nil || !strings.Contains(err.Error(), `algorithm "HS512": want one of`) {
		t.Errorf("LoadKeys = %v", err)
	}
	cfg.Tokens.Algorithm = "ES256"

	stray := func(name, content, want string) {
		t.Helper()
		path := filepath.Join(KeyDir(cfg), name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := LoadKeys(cfg)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("with %s: %v, want %q", name, err, want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	stray("README", "x", "")
	stray(".new-123", "x", "")
	stray("a.ES256.pem~", "x", "")
	stray("a.pem", "x", "want a name such as")
	stray("a.ES512.pem", "x", "want a name such as")
	stray("a.HS256.pem", "x", "want a name such as")
	stray("a.ES256.pem", "", "no private key")
	stray("a.HS256.secret", "short\n", "5 bytes")
	stray(ids[0]+".HS256.secret", goodSecret, "another file is key")
}

func TestGenerateKeyIsTheNewest(t *testing.T) {
	for _, algorithm := range ourAlgorithms() {
		dir := filepath.Join(t.TempDir(), "keys")
		// A key from the future: the clock was wrong when it was made.
		if _, err := GenerateKey(dir, algorithm); err != nil {
			t.Fatal(err)
		}
		files, err := listKeyFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		f := files[0]
		ahead := "20990101" + f.id[8:]
		if err := os.Rename(f.path, strings.Replace(f.path, f.id, ahead, 1)); err != nil {
			t.Fatal(err)
		}
		made, err := GenerateKey(dir, algorithm)
		if err != nil {
			t.Fatal(err)
		}
		if files, err = listKeyFiles(dir); err != nil || len(files) != 2 || files[1].id != made.ID || made.ID <= ahead {
			t.Errorf("%s: files %+v, %v, want %q last", algorithm, files, err, made.ID)
		}
	}
	if _, err := GenerateKey(t.TempDir(), "none"); err == nil {
		t.Error(`GenerateKey("none") made something`)
	}
	if os.Geteuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		if _, err := GenerateKey(dir, "ES256"); err == nil {
			t.Error("GenerateKey in a read-only folder: no error")
		}
	}
}
