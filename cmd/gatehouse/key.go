package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/config"
)

func (a *app) keyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, list and rotate signing keys",
		Long: "Makes, lists and rotates the signing keys in the data directory, which are used\n" +
			"where tokens.keys is empty. The newest key of tokens.algorithm signs; all verify.\n" +
			"Running gateways take a new key without a restart.",
	}
	cmd.AddCommand(a.keyGenerateCmd(), a.keyListCmd(), a.keyRotateCmd())
	return cmd
}

// A keyJSON is a key as commands print it: nothing secret of it.
type keyJSON struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	Signs     bool   `json:"signs"`
	Created   string `json:"created"`
	File      string `json:"file"`
}

func keyOf(k authn.KeyInfo) keyJSON {
	return keyJSON{k.ID, k.Algorithm, k.Signs, utc(k.Created), k.File}
}

func (a *app) keyGenerateCmd() *cobra.Command {
	var algorithm, out string
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Make the first signing key, or a key file for tokens.keys",
		Long: "Makes the first signing key in the data directory. With --out it makes a key file\n" +
			"to be named in tokens.keys instead: PEM for private_key_file, or for HS256 a text\n" +
			"for secret_file. It never overwrites a file.",
		Example: "  gatehouse key generate\n  gatehouse key generate --algorithm EdDSA --out gateway.key.pem",
	}
	cmd.Flags().StringVar(&algorithm, "algorithm", "", "HS256, RS256, PS256, ES256, ES384 or EdDSA; default tokens.algorithm, with --out ES256")
	cmd.Flags().StringVar(&out, "out", "", "write the key to this `FILE`; no configuration is read")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if out != "" {
			k, err := generateFile(out, cmp.Or(algorithm, "ES256"))
			if err != nil {
				return err
			}
			return o.print(keyOf(k), func(w io.Writer) {
				fmt.Fprintf(w, "wrote a key for %s to %s\n", k.Algorithm, printable(out))
			})
		}
		if cmd.Flags().Changed("out") {
			return usagef("--out: want a file")
		}
		cfg, keys, err := a.generatedKeys()
		if err != nil {
			return err
		}
		want := cfg.Tokens.Algorithm
		if algorithm != "" && algorithm != want {
			return cfg.Problem("tokens.algorithm", "tokens.algorithm is %s: a key for %q in the data directory would not sign", want, algorithm)
		}
		if i := slices.IndexFunc(keys, func(k authn.KeyInfo) bool { return k.Signs }); i >= 0 {
			return fmt.Errorf("key %q signs already: want \"gatehouse key rotate\" to replace it", keys[i].ID)
		}
		return a.newKey(o, cfg)
	}
	return cmd
}

// generatedKeys lists the keys in the data directory. It is an error if the
// configuration does not use them.
func (a *app) generatedKeys() (*config.Config, []authn.KeyInfo, error) {
	cfg, err := a.load()
	if err != nil {
		return nil, nil, err
	}
	if len(cfg.Tokens.Keys) > 0 {
		p := cfg.Problem("tokens.keys", "tokens.keys names the keys, so those in the data directory are not used")
		p.Hint = "make a key file with \"gatehouse key generate --out FILE\" and name it first in tokens.keys; " +
			"keep the old key in the list until its last token has expired"
		return nil, nil, p
	}
	set, err := authn.ReadKeys(cfg)
	if err != nil {
		return nil, nil, err
	}
	return cfg, set.List(), nil
}

// newKey makes a key that signs from now on.
func (a *app) newKey(o *output, cfg *config.Config) error {
	k, err := authn.GenerateKey(authn.KeyDir(cfg), cfg.Tokens.Algorithm)
	if err != nil {
		return err
	}
	return o.print(keyOf(k), func(w io.Writer) {
		fmt.Fprintf(w, "%s key %s signs from now on\n", k.Algorithm, k.ID)
	})
}

// generateFile writes a key to a new file. It is made beside it in a folder of
// its own, as keys of the data directory are, so that both are the same kind.
func generateFile(file, algorithm string) (k authn.KeyInfo, err error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".gatehouse-key-")
	if err != nil {
		return k, err
	}
	defer os.RemoveAll(dir)
	if k, err = authn.GenerateKey(dir, algorithm); err != nil {
		return k, err
	}
	content, err := os.ReadFile(k.File)
	if err != nil {
		return k, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return k, err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		os.Remove(file) // half a key is worse than none
		return k, err
	}
	// Its id and whether it signs is what tokens.keys will say.
	k.File, k.ID, k.Signs = file, "", false
	return k, nil
}

func (a *app) keyListCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the signing keys in use",
		Long:  "Lists the keys that gateways with this configuration use: those of tokens.keys,\nor else those in the data directory.",
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		cfg, err := a.load()
		if err != nil {
			return err
		}
		set, err := authn.ReadKeys(cfg)
		if err != nil {
			return err
		}
		keys := []keyJSON{}
		var rows [][]string
		for _, info := range set.List() {
			k := keyOf(info)
			use := "verifies"
			if k.Signs {
				use = "signs"
			}
			keys = append(keys, k)
			rows = append(rows, []string{k.ID, k.Algorithm, use, k.Created, k.File})
		}
		return o.print(keys, func(w io.Writer) {
			table(w, []string{"ID", "ALGORITHM", "USE", "CREATED", "FILE"}, rows)
		})
	}
	return cmd
}

func (a *app) keyRotateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make a new signing key; the old ones go on verifying",
		Long: "Makes a new key in the data directory, which signs from now on. The old ones go on\n" +
			"verifying, so that nobody is signed out. A key's file can be removed once the last\n" +
			"token that it signed has expired (tokens.access_ttl after the rotation), or at\n" +
			"once to refuse all of its tokens.",
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		cfg, _, err := a.generatedKeys()
		if err != nil {
			return err
		}
		return a.newKey(o, cfg)
	}
	return cmd
}
