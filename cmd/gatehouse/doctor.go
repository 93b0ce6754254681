package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/config"
)

func (a *app) doctorCmd() *cobra.Command {
	d := doctor{addresses: otherAddresses}
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what lets somebody past the gateway",
		Long: "Calls each upstream directly, without the gateway, as a client could who gets to\n" +
			"it: once with no identity header, and with forged ones for two users who do not\n" +
			"exist. It says whether the upstream can be reached, on every address of this\n" +
			"machine where it should be on the loopback only, and whether it believes what it\n" +
			"is told. Then it looks at the configuration and its files. No credential is\n" +
			"sent. An app that makes accounts for whomever it is told of may make two.\n\n" +
			"An upstream on the loopback or a unix socket, which only this machine reaches,\n" +
			"may believe. One elsewhere may not, unless --private says that nobody but the\n" +
			"gateway can reach it. To see that for yourself, run the command on a machine\n" +
			"that should not reach it.\n\n" +
			"Exit code 1 if anything is wrong. What is only worth knowing, or could not be\n" +
			"found out, is said and is not wrong.",
	}
	cmd.Flags().StringSliceVar(&d.private, "private", nil, "`HOSTS` of upstreams that nobody but the gateway can reach")
	cmd.Flags().DurationVar(&d.timeout, "timeout", 5*time.Second, "how long one upstream may take to answer")
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if d.timeout <= 0 {
			return usagef("--timeout %s: want a time such as 5s", d.timeout)
		}
		cfg, err := a.load()
		if err != nil {
			return err
		}
		d.cfg = cfg
		d.examine(cmd.Context())
		if err := o.print(d.json(), d.print); err != nil {
			return err
		}
		if d.count(levelWrong) > 0 {
			return errReported
		}
		return nil
	}
	return cmd
}

// The levels of a finding.
const (
	levelOK      = "ok"
	levelNote    = "note"    // worth knowing
	levelUnknown = "unknown" // could not tell
	levelWrong   = "wrong"
)

// A finding is one thing that doctor has looked at.
type finding struct {
	Level   string `json:"level"`
	Subject string `json:"subject"` // what was looked at: an upstream's URL, a key, a file
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"`
}

type doctor struct {
	cfg      *config.Config
	private  []string
	timeout  time.Duration
	findings []finding

	addresses func() ([]net.IP, error) // of this machine, beside the loopback's
}

func (d *doctor) find(level, subject, hint, format string, args ...any) {
	d.findings = append(d.findings, finding{level, subject, fmt.Sprintf(format, args...), hint})
}

func (d *doctor) count(level string) (n int) {
	for _, f := range d.findings {
		if f.Level == level {
			n++
		}
	}
	return n
}

func (d *doctor) json() any {
	return struct {
		OK       bool      `json:"ok"`
		Findings []finding `json:"findings"`
	}{d.count(levelWrong) == 0, d.findings}
}

func (d *doctor) print(w io.Writer) {
	for _, f := range d.findings {
		level := f.Level
		if level == levelWrong {
			level = "WRONG"
		}
		fmt.Fprintf(w, "%-8s %s: %s\n", level, printable(f.Subject), printable(f.Text))
		if f.Hint != "" && f.Level != levelOK {
			fmt.Fprintf(w, "         %s\n", printable(f.Hint))
		}
	}
	fmt.Fprintf(w, "\n%d wrong, %s, %d unknown\n", d.count(levelWrong), count(d.count(levelNote), "note"), d.count(levelUnknown))
}

// examine looks at everything.
func (d *doctor) examine(ctx context.Context) {
	d.upstreams(ctx)
	d.listeners()
	d.proxies()
	d.accounts()
	d.files()
}

func (d *doctor) listeners() {
	c := d.cfg
	u, err := url.Parse(c.PublicURL)
	switch {
	case err != nil: // it was valid when it was loaded
	case u.Scheme == "https":
		d.find(levelOK, "public_url", "", "%s: cookies are Secure", c.PublicURL)
	case onLoopback(c.Listen):
		d.find(levelOK, "public_url", "", "%s is plain http, and the listener is on the loopback only", c.PublicURL)
	case localName(u.Hostname()):
		d.find(levelNote, "public_url", "for this machine alone let listen be 127.0.0.1:PORT; for others use https",
			"%s is plain http for this machine, but %q takes connections of others", c.PublicURL, c.Listen)
	default:
		d.find(levelWrong, "public_url", "set tls, or let a proxy in front end TLS, and make public_url https",
			"%s is plain http: passwords and tokens cross the network readable", c.PublicURL)
	}
	switch {
	case c.Admin.Listen == "":
		d.find(levelOK, "admin.listen", "", "is off")
	case onLoopback(c.Admin.Listen):
		d.find(levelOK, "admin.listen", "", "%s is on the loopback", c.Admin.Listen)
	case c.Admin.Pprof:
		d.find(levelWrong, "admin.listen", "let it be an address of the loopback", "%s serves profiles of the process to whoever reaches it", c.Admin.Listen)
	default:
		d.find(levelNote, "admin.listen", "let it be an address of the loopback, or keep others away from the port", "%s serves metrics and readiness to whoever reaches it", c.Admin.Listen)
	}
}

func (d *doctor) proxies() {
	// Larger networks than any site has: 0.0.0.0/0 in two halves counts as well.
	const everybody4, everybody6 = 7, 15
	wide := false
	for _, p := range d.cfg.TrustedProxies {
		if p.Addr().Is4() && p.Bits() <= everybody4 || p.Addr().Is6() && p.Bits() <= everybody6 {
			wide = true
			d.find(levelWrong, "trusted_proxies", "name only the proxies in front of the gateway",
				"%s: nearly everybody can say where a request comes from, and so get around limits by address", p)
		}
	}
	if !wide {
		d.find(levelOK, "trusted_proxies", "", "%s", count(len(d.cfg.TrustedProxies), "network"))
	}
}

func (d *doctor) accounts() {
	if !d.cfg.KeepsAccounts() {
		return
	}
	if d.cfg.Users.Registration != "open" {
		d.find(levelOK, "users.registration", "", "is closed")
		return
	}
	open := slices.ContainsFunc(d.cfg.Routes, func(rt config.Route) bool { return rt.Access.Kind == config.AccessAuthenticated })
	if open {
		d.find(levelNote, "users.registration", "set it to closed, or give the routes roles", "is open, so anybody can pass \"access: authenticated\"")
		return
	}
	d.find(levelOK, "users.registration", "", "is open, and no route takes whoever is signed in")
}

// files looks at who on this machine may read secrets.
func (d *doctor) files() {
	if runtime.GOOS == "windows" {
		return // no permission bits there
	}
	c := d.cfg
	secret := map[string]string{}
	for i, k := range c.Tokens.Keys {
		secret[fmt.Sprintf("tokens.keys[%d].secret_file", i)] = k.SecretFile
		secret[fmt.Sprintf("tokens.keys[%d].private_key_file", i)] = k.PrivateKeyFile
	}
	secret["tls.key_file"] = c.TLS.KeyFile
	dir := filepath.Dir(c.Path)
	for _, key := range sortedKeys(secret) {
		if file := secret[key]; file != "" {
			if !filepath.IsAbs(file) {
				file = filepath.Join(dir, file)
			}
			d.readable(key, file)
		}
	}
	info, err := os.Stat(c.DataDir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.find(levelOK, "data_dir", "", "%s has not been made yet", c.DataDir)
	case err != nil:
		d.find(levelUnknown, "data_dir", "", "%v", err)
	case info.Mode().Perm()&0o005 == 0:
		d.find(levelOK, "data_dir", "", "%s is closed to others (%04o)", c.DataDir, info.Mode().Perm())
	default:
		// Others may come in: then each file has to keep them out.
		d.find(levelNote, "data_dir", "chmod 700", "%s lets everybody on this machine in (%04o)", c.DataDir, info.Mode().Perm())
		_ = filepath.WalkDir(c.DataDir, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.Type().IsRegular() && e.Name() != ".lock" {
				d.readable("data_dir", path)
			}
			return nil // what this user cannot see is no finding
		})
	}
}

func (d *doctor) readable(key, file string) {
	info, err := os.Stat(file)
	switch {
	case err != nil:
		d.find(levelUnknown, key, "", "%v", err)
	case info.Mode().Perm()&0o004 != 0:
		d.find(levelWrong, key, "chmod 600", "everybody on this machine can read %s (%04o)", file, info.Mode().Perm())
	case info.Mode().Perm()&0o022 != 0:
		d.find(levelWrong, key, "chmod 600", "others than its owner can change %s (%04o)", file, info.Mode().Perm())
	default:
		d.find(levelOK, key, "", "%s is closed to others (%04o)", file, info.Mode().Perm())
	}
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// onLoopback reports that an address HOST:PORT can be reached from this machine
// only.
func onLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	return err == nil && localName(host)
}

// localName reports that a host is this machine, as it calls itself.
func localName(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback() || host == "localhost" || strings.HasSuffix(host, ".localhost")
}
