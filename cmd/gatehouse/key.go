package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/config"
)

func (a *app) keyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, list and rotate signing keys",
		Long: "Makes, lists and rotates the signing keys in the data directory, which are used\n" +
			"where tokens.keys is empty. The newest key of tokens.algorithm signs; those before\n" +
			"it verify until their last token has expired.\n" +
			"Running gateways take a new key without a restart.",
	}
	cmd.AddCommand(a.keyGenerateCmd(), a.keyListCmd(), a.keyRotateCmd())
	return cmd
}

// A keyJSON is a key as commands print it: nothing secret of it.
type keyJSON struct {
	ID        string `json:"id"`
	Algorithm string `json:"algorithm"`
	Use       string `json:"use,omitempty"` // signs, verifies, retired
	Signs     bool   `json:"signs"`
	SignsFrom string `json:"signs_from,omitempty"`     // of one that is too new for it
	Until     string `json:"verifies_until,omitempty"` // of one that signs no more
	Created   string `json:"created"`
	File      string `json:"file"`
}

func keyOf(k authn.KeyInfo) keyJSON {
	out := keyJSON{ID: k.ID, Algorithm: k.Algorithm, Use: "verifies", Signs: k.Signs, Created: utc(k.Created), File: k.File}
	switch {
	case k.Signs:
		out.Use = "signs"
	case k.Retired:
		out.Use, out.Until = "retired", utc(k.Until)
	case !k.SignsFrom.IsZero():
		out.SignsFrom = utc(k.SignsFrom)
	case !k.Until.IsZero():
		out.Until = utc(k.Until)
	}
	return out
}

// use is what the key is good for, in words.
func (k keyJSON) use() string {
	switch {
	case k.SignsFrom != "":
		return "verifies, signs from " + k.SignsFrom
	case k.Use == "verifies" && k.Until != "":
		return "verifies until " + k.Until
	}
	return k.Use
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
			written := keyOf(k)
			written.Use = "" // tokens.keys will say
			return o.print(written, func(w io.Writer) {
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
	return cfg, set.List(time.Now()), nil
}

// newKey makes a key that signs from now on, or as soon as every gateway knows
// it.
func (a *app) newKey(o *output, cfg *config.Config) error {
	made, err := authn.GenerateKey(authn.KeyDir(cfg), cfg.Tokens.Algorithm)
	if err != nil {
		return err
	}
	set, err := authn.ReadKeys(cfg)
	if err != nil {
		return err
	}
	keys := set.List(time.Now())
	i := slices.IndexFunc(keys, func(k authn.KeyInfo) bool { return k.ID == made.ID })
	if i < 0 {
		return fmt.Errorf("key %q is gone again", made.ID)
	}
	k := keyOf(keys[i])
	return o.print(k, func(w io.Writer) {
		if k.Signs {
			fmt.Fprintf(w, "%s key %s signs from now on\n", k.Algorithm, k.ID)
			return
		}
		fmt.Fprintf(w, "%s key %s %s, when all gateways know it\n", k.Algorithm, k.ID, k.use())
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
		Long: "Lists the keys that gateways with this configuration use: those of tokens.keys,\n" +
			"or else those in the data directory. A retired key verifies nothing any more: the\n" +
			"last token that it signed has expired.",
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
		for _, info := range set.List(time.Now()) {
			k := keyOf(info)
			keys = append(keys, k)
			rows = append(rows, []string{k.ID, k.Algorithm, k.use(), k.Created, k.File})
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
		Long: "Makes a new key in the data directory. It verifies at once and signs ten seconds\n" +
			"later, when all gateways on that directory have seen it. The old key goes on\n" +
			"verifying until the last token that it signed has expired, so that nobody is\n" +
			"signed out; \"key list\" then says that it is retired, and its file can be removed.\n" +
			"Removed before, all of its tokens are refused at once.",
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
