package config

import "time"

// defaults is the configuration of an empty file. reference.yaml says the same
// in the words of the file; a test compares the two.
func defaults() *Config {
	return &Config{
		Listen:        ":8080",
		PublicURL:     defaultPublicURL,
		DataDir:       "data",
		ShutdownGrace: 15 * time.Second,
		Log:           Log{Level: "info", Format: "text", Access: true},
		Limits: Limits{
			HeaderBytes:   64 << 10,
			HeaderTimeout: 10 * time.Second,
			IdleTimeout:   2 * time.Minute,
		},
		Admin: Admin{Listen: "127.0.0.1:9901"},
		Endpoints: Endpoints{
			Prefix: "/.gatehouse",
			AtRoot: []string{"login", "register", "logout", "well-known"},
			Title:  "Sign in",
		},
		Users: Users{
			Database:     "sqlite",
			Registration: "open",
			BcryptCost:   12,
			Password:     Password{MinLength: 8, MinStrength: 2},
			Throttle:     Throttle{Attempts: 10, Window: 15 * time.Minute},
		},
		Tokens: Tokens{
			Audience:     "gatehouse",
			AccessTTL:    time.Hour,
			RefreshTTL:   720 * time.Hour,
			RefreshGrace: 10 * time.Second,
			Leeway:       30 * time.Second,
			Algorithm:    "ES256",
		},
		Revocation: Revocation{
			Store:        "embedded",
			Redis:        Redis{Prefix: "gatehouse"},
			Consistency:  "fast",
			MaxStaleness: 30 * time.Second,
			OnStale:      "deny",
		},
		Identity: Identity{
			RolesSeparator: ",",
			Encoding:       "percent",
			Assertion:      Assertion{Header: "X-Gatehouse-Assertion", TTL: time.Minute},
		},
	}
}

const defaultPublicURL = "http://localhost:8080"

func defaultRoute() Route {
	return Route{
		Path:           "/",
		Access:         Access{Kind: AccessAuthenticated},
		HostHeader:     "preserve",
		Timeout:        time.Minute,
		EncodedSlashes: "refuse",
		CSRF:           "check",
		CORS:           CORS{MaxAge: 10 * time.Minute},
		Streams:        Streams{CloseOnRevoke: true, CloseOnExpiry: true},
		LoadBalance: LoadBalance{
			Policy:      "round_robin",
			Retries:     1,
			HealthCheck: HealthCheck{Interval: 10 * time.Second, Timeout: 2 * time.Second},
		},
	}
}

func defaultUpstream() Upstream { return Upstream{Weight: 1} }

func defaultTrustedIssuer() TrustedIssuer {
	return TrustedIssuer{Claims: ClaimMap{ID: "sub", Email: "email", Name: "name", Roles: "roles"}}
}

// DefaultIdentityHeaders are the headers that tell an upstream who the user
// is where identity.headers is empty.
func DefaultIdentityHeaders() map[string]string {
	return map[string]string{
		"X-Forwarded-User":               "{id}",
		"X-Forwarded-Email":              "{email}",
		"X-Forwarded-Preferred-Username": "{name}",
		"X-Forwarded-Groups":             "{roles}",
	}
}
