package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// peers are the other proxies on PATH. Those that can verify tokens do the work
// that Gatehouse does: algorithm, signature, issuer, audience and times, and
// the identity in headers.
func (b *bench) peers() ([]*contender, error) {
	var all []*contender
	if program := found("haproxy"); program != "" {
		for _, algorithm := range []string{"HS256", "RS256"} {
			c, err := b.haproxy(program, algorithm)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	upstream := strings.TrimPrefix(b.upstream, "http://")
	if program := found("nginx"); program != "" {
		all = append(all, b.plain("nginx, no authentication", program, "nginx.conf", func(dir, address string) (string, []string) {
			return fmt.Sprintf(nginxConfig, address, upstream), []string{"-p", dir, "-c", filepath.Join(dir, "nginx.conf"), "-e", "stderr"}
		}))
	}
	if program := found("caddy"); program != "" {
		all = append(all, b.plain("Caddy, no authentication", program, "Caddyfile", func(dir, address string) (string, []string) {
			return fmt.Sprintf(caddyfile, address, upstream), []string{"run", "--adapter", "caddyfile", "--config", filepath.Join(dir, "Caddyfile")}
		}))
	}
	return all, nil
}

// plain is a proxy that verifies nothing.
func (b *bench) plain(name, program, file string, configure func(dir, address string) (string, []string)) *contender {
	return &contender{name: name, path: "/", command: func(address string) (string, []string, error) {
		dir, err := os.MkdirTemp(b.dir, filepath.Base(program)+"-")
		if err != nil {
			return "", nil, err
		}
		text, arguments := configure(dir, address)
		return program, arguments, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600)
	}}
}

func (b *bench) haproxy(program, algorithm string) (*contender, error) {
	c := b.plain("HAProxy "+algorithm, program, "haproxy.cfg", func(dir, address string) (string, []string) {
		key := b.keys.secret
		if algorithm != "HS256" {
			key = b.keys.publicFile(algorithm)
		}
		text := strings.NewReplacer("ADDRESS", address, "UPSTREAM", strings.TrimPrefix(b.upstream, "http://"),
			"ALGORITHM", algorithm, "KEY", key, "ISSUER", issuer, "AUDIENCE", audience).Replace(haproxyConfig)
		return text, []string{"-db", "-f", filepath.Join(dir, "haproxy.cfg")}
	})
	c.main = true
	var err error
	if c.token, err = b.keys.token(algorithm, false); err != nil {
		return nil, err
	}
	c.forged, err = b.keys.token(algorithm, true)
	return c, err
}

const haproxyConfig = `
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout http-request 10s
  maxconn 9000

frontend public
  bind ADDRESS
  http-request set-var(txn.token) http_auth_bearer
  http-request deny deny_status 401 unless { var(txn.token),jwt_header_query('$.alg') -m str ALGORITHM }
  http-request deny deny_status 401 unless { var(txn.token),jwt_verify("ALGORITHM","KEY") -m int 1 }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.iss') -m str ISSUER }
  http-request deny deny_status 401 unless { var(txn.token),jwt_payload_query('$.aud') -m str AUDIENCE }
  http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date
  http-request deny deny_status 401 unless { var(txn.expires),sub(txn.now) -m int gt 0 }
  http-request set-header X-Forwarded-User %[var(txn.token),jwt_payload_query('$.sub')]
  http-request set-header X-Forwarded-Email %[var(txn.token),jwt_payload_query('$.email')]
  http-request set-header X-Forwarded-Preferred-Username %[var(txn.token),jwt_payload_query('$.name')]
  http-request set-header X-Forwarded-For %[src]
  http-request del-header Authorization
  default_backend app

backend app
  http-reuse always
  server app UPSTREAM
`

const nginxConfig = `
daemon off;
pid nginx.pid;
worker_processes auto;
worker_rlimit_nofile 20000;
error_log stderr crit;
events { worker_connections 9000; }
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  server {
    listen %s;
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
    }
  }
  upstream app { server %s; keepalive 256; keepalive_requests 1000000000; }
}
`

const caddyfile = `{
  admin off
  auto_https off
}
http://%s {
  reverse_proxy %s
}
`
