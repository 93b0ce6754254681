// Package config reads gateway.yaml. It says what is wanted and knows nobody:
// it imports nothing else of Gatehouse and reaches no network.
//
// Three words: a [Config] is one file, read, defaulted and valid. A [Problem]
// is one thing wrong with it, at a [Position]. A section of the file, its type
// here and the file that carries it out have the same name.
//
// # Why
//
// The file is decoded node by node, not by the YAML library's own decoder,
// because that one stops at the first mistake, takes "yes" for true, ignores a
// second document and cannot say where a value stood.
package config

import (
	"crypto/sha256"
	"net/netip"
	"time"
)

// Config is one gateway.yaml with every default filled in. Only [Load] and
// [Parse] make one. It never changes afterwards.
type Config struct {
	Listen         string         `yaml:"listen"`
	PublicURL      string         `yaml:"public_url"` // scheme, host, port; no path, no default port, lower case
	DataDir        string         `yaml:"data_dir"`   // absolute once loaded
	ShutdownGrace  time.Duration  `yaml:"shutdown_grace"`
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`

	Log            Log             `yaml:"log"`
	Limits         Limits          `yaml:"limits"`
	TLS            TLS             `yaml:"tls"`
	Admin          Admin           `yaml:"admin"`
	Endpoints      Endpoints       `yaml:"endpoints"`
	Users          Users           `yaml:"users"`
	Tokens         Tokens          `yaml:"tokens"`
	TrustedIssuers []TrustedIssuer `yaml:"trusted_issuers"`
	Revocation     Revocation      `yaml:"revocation"`
	Identity       Identity        `yaml:"identity"`
	Routes         []Route         `yaml:"routes"`
	Tests          []Test          `yaml:"tests"`

	// Path is the file this was read from, as it was named to Load.
	Path string `yaml:"-"`
	// Files are the absolute paths of every other file that the configuration
	// names (…_file keys), so that a change in any of them is a reload.
	Files []string `yaml:"-"`
	// Sums are the contents, by absolute path, of the files that Load has read:
	// the configuration itself and its secrets.
	Sums map[string][sha256.Size]byte `yaml:"-"`
	// Warnings are what is allowed but perhaps not meant, such as open
	// registration in front of routes that any signed-in user may use.
	Warnings []Problem `yaml:"-"`

	source *source // nil after Forget
}

// Secret is text that must never be shown: it prints as "[redacted]" wherever
// it ends up, logs and error messages included.
type Secret string

func (Secret) String() string               { return "[redacted]" }
func (Secret) GoString() string             { return "[redacted]" }
func (Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Log is how the process logs.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn, error
	Format string `yaml:"format"` // text, json
	Access bool   `yaml:"access"` // one line per request
}

// Limits bound what one client may cost. Sizes are bytes; 0 is no limit.
type Limits struct {
	HeaderBytes   int           `yaml:"header_bytes"`
	HeaderTimeout time.Duration `yaml:"header_timeout"` // also the TLS handshake and the gateway's own bodies
	IdleTimeout   time.Duration `yaml:"idle_timeout"`
	BodyBytes     int64         `yaml:"body_bytes"`  // of forwarded requests; a route's max_body_bytes overrides it
	Connections   int           `yaml:"connections"` // open at once on the public listener
}

// TLS is the public listener's certificate. No files: plain HTTP/1.1.
type TLS struct {
	CertFile     string `yaml:"cert_file"`
	KeyFile      string `yaml:"key_file"`
	ACME         ACME   `yaml:"acme"`
	ClientCAFile string `yaml:"client_ca_file"`
}

// ACME obtains certificates by RFC 8555.
type ACME struct {
	Domains      []string `yaml:"domains"`
	Email        string   `yaml:"email"`
	DirectoryURL string   `yaml:"directory_url"`
}

// Admin is the listener for operators.
type Admin struct {
	Listen string `yaml:"listen"`
	Pprof  bool   `yaml:"pprof"`
}

// Endpoints are the pages and calls that the gateway answers itself.
type Endpoints struct {
	Prefix       string   `yaml:"prefix"`        // begins with "/", does not end with it
	AtRoot       []string `yaml:"at_root"`       // names served at "/" as well
	TemplatesDir string   `yaml:"templates_dir"` // absolute once loaded; "": the built-in pages
	Title        string   `yaml:"title"`
	LogoFile     string   `yaml:"logo_file"`
	Colors       Colors   `yaml:"colors"`
}

// Colors are those of the pages that an operator may choose: #rrggbb, "" for
// the built-in one.
type Colors struct {
	Accent     string `yaml:"accent"`
	AccentDark string `yaml:"accent_dark"`
}

// Users says where accounts live and who may make one.
type Users struct {
	Database     string   `yaml:"database"`     // sqlite, sqlite:PATH, postgres://…, none
	Registration string   `yaml:"registration"` // open, closed
	DefaultRoles []string `yaml:"default_roles"`
	BcryptCost   int      `yaml:"bcrypt_cost"`
	Password     Password `yaml:"password"`
	Throttle     Throttle `yaml:"throttle"`
}

// Password is the policy for new passwords. bcrypt's limit of 72 bytes always
// holds.
type Password struct {
	MinLength   int `yaml:"min_length"`   // characters
	MinStrength int `yaml:"min_strength"` // 0 to 4, as zxcvbn scores
}

// Throttle bounds failed logins per account and client address, and ten times
// as many per address over all accounts.
type Throttle struct {
	Attempts int           `yaml:"attempts"`
	Window   time.Duration `yaml:"window"`
}

// Tokens are the gateway's own access and refresh tokens.
type Tokens struct {
	Issuer       string        `yaml:"issuer"` // default public_url
	Audience     string        `yaml:"audience"`
	AccessTTL    time.Duration `yaml:"access_ttl"`
	RefreshTTL   time.Duration `yaml:"refresh_ttl"`
	RefreshGrace time.Duration `yaml:"refresh_grace"`
	Leeway       time.Duration `yaml:"leeway"`
	Algorithm    string        `yaml:"algorithm"` // of the key that is generated where Keys is empty
	Keys         []Key         `yaml:"keys"`
}

// Key signs or verifies the gateway's own tokens. The first one signs.
type Key struct {
	ID             string `yaml:"id"`
	Algorithm      string `yaml:"algorithm"` // default tokens.algorithm
	Secret         Secret `yaml:"secret"`    // secret_file is read into it
	SecretFile     string `yaml:"secret_file"`
	PrivateKeyFile string `yaml:"private_key_file"`
	PublicKeyFile  string `yaml:"public_key_file"` // verifies only
}

// TrustedIssuer is somebody else whose tokens are accepted.
type TrustedIssuer struct {
	Issuer     string   `yaml:"issuer"`
	Audiences  []string `yaml:"audiences"`
	Algorithms []string `yaml:"algorithms"`
	JWKSURL    string   `yaml:"jwks_url"`
	JWKSFile   string   `yaml:"jwks_file"`
	Claims     ClaimMap `yaml:"claims"`
}

// ClaimMap names the claims of a trusted issuer that carry our fields.
type ClaimMap struct {
	ID    string `yaml:"id"`
	Email string `yaml:"email"`
	Name  string `yaml:"name"`
	Roles string `yaml:"roles"`
}

// Revocation says where the list of revoked tokens lives.
type Revocation struct {
	Store        string        `yaml:"store"` // embedded (in the users database), redis
	Redis        Redis         `yaml:"redis"`
	Consistency  string        `yaml:"consistency"` // fast, strict
	MaxStaleness time.Duration `yaml:"max_staleness"`
	OnStale      string        `yaml:"on_stale"` // deny, allow
}

// Redis is how to reach the shared revocation list.
type Redis struct {
	URL        string   `yaml:"url"`         // redis://, rediss://, unix://; may hold a password
	Addresses  []string `yaml:"addresses"`   // instead of URL: HOST:PORT or rediss://HOST:PORT
	MasterName string   `yaml:"master_name"` // Addresses are Sentinels
	Username   string   `yaml:"username"`
	Password   Secret   `yaml:"password"`
	// Of the Sentinels, which have users of their own.
	SentinelUsername string `yaml:"sentinel_username"`
	SentinelPassword Secret `yaml:"sentinel_password"`
	Prefix           string `yaml:"prefix"`
}

// Identity is how upstreams are told who the user is.
type Identity struct {
	Headers        map[string]string `yaml:"headers"` // name to template; empty: the defaults
	RolesSeparator string            `yaml:"roles_separator"`
	Encoding       string            `yaml:"encoding"` // percent, utf8
	Assertion      Assertion         `yaml:"assertion"`
}

// Assertion is a short-lived signed token about the user, for the upstream.
type Assertion struct {
	Enabled bool          `yaml:"enabled"`
	Header  string        `yaml:"header"`
	TTL     time.Duration `yaml:"ttl"`
}

// Route sends the requests of one part of the URL space to one upstream.
type Route struct {
	Name            string            `yaml:"name"` // unique; default: host and path, behind the methods where routes share those
	Host            string            `yaml:"host"` // canonical: lower case, no port; "*.example.com"; "" is any
	Path            string            `yaml:"path"`
	Exact           bool              `yaml:"exact"`
	Methods         []string          `yaml:"methods"` // empty: all
	Access          Access            `yaml:"access"`
	Upstream        []Upstream        `yaml:"upstream"` // at least one
	StripPrefix     string            `yaml:"strip_prefix"`
	HostHeader      string            `yaml:"host_header"` // preserve, upstream, or a name
	IdentityHeaders map[string]string `yaml:"identity_headers"`
	SetHeaders      map[string]string `yaml:"set_headers"`
	RemoveHeaders   []string          `yaml:"remove_headers"`
	ResponseHeaders map[string]string `yaml:"response_headers"`
	ForwardToken    bool              `yaml:"forward_token"`
	Timeout         time.Duration     `yaml:"timeout"`
	MaxBodyBytes    int64             `yaml:"max_body_bytes"`
	EncodedSlashes  string            `yaml:"encoded_slashes"` // refuse, forward
	CSRF            string            `yaml:"csrf"`            // check, off
	CORS            CORS              `yaml:"cors"`
	Streams         Streams           `yaml:"streams"`
	LoadBalance     LoadBalance       `yaml:"load_balance"`

	// Pos is where the route begins in the file.
	Pos Position `yaml:"-"`
}

// The kinds of [Access]. AccessRestricted stands for a mapping, in which every
// key that is given must hold.
const (
	AccessPublic        = "public"
	AccessOptional      = "optional"
	AccessAuthenticated = "authenticated"
	AccessRestricted    = "restricted"
)

// Access is who may use a route. In the file it is a word or a mapping.
type Access struct {
	Kind   string
	Roles  []string       `yaml:"roles"`  // any one of them
	Emails []string       `yaml:"emails"` // any one of them, canonical
	Claims map[string]any `yaml:"claims"` // each: string, bool, int64 or float64; equal, or contained in a list
}

// Upstream is where a route sends requests. In the file it is a URL or a list.
type Upstream struct {
	URL    string `yaml:"url"` // http://, https://, h2c://, unix:PATH, echo:
	Weight int    `yaml:"weight"`
}

// CORS lets scripts of other origins call a route (Fetch standard).
type CORS struct {
	Origins     []string      `yaml:"origins"` // empty: CORS is the upstream's own affair
	Methods     []string      `yaml:"methods"`
	Headers     []string      `yaml:"headers"`
	Credentials bool          `yaml:"credentials"`
	MaxAge      time.Duration `yaml:"max_age"`
}

// Streams says whether long-lived exchanges end with their identity.
type Streams struct {
	CloseOnRevoke bool `yaml:"close_on_revoke"`
	CloseOnExpiry bool `yaml:"close_on_expiry"`
}

// LoadBalance spreads requests over several upstreams.
type LoadBalance struct {
	Policy      string      `yaml:"policy"`
	Retries     int         `yaml:"retries"`
	HealthCheck HealthCheck `yaml:"health_check"`
}

// HealthCheck asks upstreams whether they are well.
type HealthCheck struct {
	Path     string        `yaml:"path"`
	Interval time.Duration `yaml:"interval"`
	Timeout  time.Duration `yaml:"timeout"`
}

// Test is one expectation about the routing rules, run by `gatehouse check`
// and before every reload.
type Test struct {
	Request string   `yaml:"request"` // "GET /path" or "GET https://host/path"
	As      *Subject `yaml:"as"`      // nil: no token
	Expect  Expect   `yaml:"expect"`

	Pos Position `yaml:"-"`
}

// Subject is the user that a test pretends to be.
type Subject struct {
	ID     string         `yaml:"id"`
	Email  string         `yaml:"email"`
	Name   string         `yaml:"name"`
	Roles  []string       `yaml:"roles"`
	Claims map[string]any `yaml:"claims"`
}

// Expect is what a test wants. What is left out is not compared. Status 200
// stands for a request that would be forwarded or answered by the gateway.
type Expect struct {
	Status   int               `yaml:"status"`
	Route    string            `yaml:"route"`
	Error    string            `yaml:"error"`    // the code of the refusal
	Upstream string            `yaml:"upstream"` // the URL that the upstream would see
	Headers  map[string]string `yaml:"headers"`  // that the upstream would get; "" means absent
}
