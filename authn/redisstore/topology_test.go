package redisstore

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/authn"
)

// startSentinels makes each watch the master on its port; more is added to
// their configuration.
func startSentinels(t *testing.T, master *server, n int, more string) (addresses []string) {
	t.Helper()
	need(t, "redis-sentinel")
	for range n {
		s := &server{t: t, dir: t.TempDir(), port: freePort(t)}
		file := filepath.Join(s.dir, "sentinel.conf")
		must(t, os.WriteFile(file, fmt.Appendf(nil, `port %s
bind 127.0.0.1
dir %s
sentinel monitor main 127.0.0.1 %s 2
sentinel down-after-milliseconds main 500
sentinel failover-timeout main 3000
sentinel parallel-syncs main 1
%s`, s.port, s.dir, master.port, more), 0o600))
		s.cmd = exec.Command("redis-sentinel", file)
		must(t, s.cmd.Start())
		s.done = make(chan struct{})
		go func() { _ = s.cmd.Wait(); close(s.done) }()
		t.Cleanup(s.kill)
		s.awaitPing()
		addresses = append(addresses, s.addr())
	}
	return addresses
}

// A failover to a replica that lacks the last revocations: who knows them puts
// them back, and who starts meanwhile waits for that.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	master := startServer(t)
	replica := startServer(t, "--replicaof", "127.0.0.1", master.port)
	synced := func() bool {
		return strings.Contains(replica.admin("INFO", "replication").String(), "master_link_status:up")
	}
	eventually(t, "replica in step", synced)
	sentinels := startSentinels(t, master, 3, "")
	eventually(t, "the sentinels know the replica and each other", func() bool {
		for _, a := range sentinels {
			c := redis.NewSentinelClient(&redis.Options{Addr: a, Protocol: 2, DisableIdentity: true})
			m, err := c.Master(ctx, "main").Result()
			c.Close()
			if err != nil || m["num-slaves"] != "1" || m["num-other-sentinels"] != "2" {
				return false
			}
		}
		return true
	})
	o := Options{Addresses: sentinels, MasterName: "main"}
	a, b := startGateway(t, o, authn.RevocationPolicy{}), startGateway(t, o, authn.RevocationPolicy{})
	a.awaitReady()
	b.awaitReady()
	must(t, a.revoke("before"))
	eventually(t, "known to both and the replica", func() bool {
		return b.refuses("before") && replica.admin("ZSCORE", "{gatehouse}:revoked", "token::before").Err() == nil
	})
	// The replica hears nothing any more, so that it lacks the tail.
	must(t, master.admin("ACL", "SETUSER", "default", "-psync", "-sync", "-replconf").Err())
	must(t, master.admin("CLIENT", "KILL", "TYPE", "replica").Err())
	must(t, a.revoke("tail"))
	eventually(t, "known to both", func() bool { return b.refuses("tail") })
	if err := replica.admin("ZSCORE", "{gatehouse}:revoked", "token::tail").Err(); !errors.Is(err, redis.Nil) {
		t.Fatalf("the replica knows the tail: %v", err)
	}
	b.stop()
	master.kill()
	end := neverAccepts(t, "tail", busy, a)
	if err := a.revoke("u"); !errors.Is(err, authn.ErrRevocation) {
		t.Errorf("Revoke without a master = %v, want revocation_unavailable", err)
	}
	c := startGateway(t, o, authn.RevocationPolicy{})
	endC := neverAccepts(t, "tail", busy, c)
	eventually(t, "failed over and ready", func() bool { return a.ready() && c.ready() })
	if !c.refuses("tail") || !c.refuses("before") {
		t.Error("a gateway that is ready lacks what the failover lost")
	}
	if n := a.list.Counts(); n.PutBack == 0 {
		t.Errorf("counts %+v, want the tail put back", n)
	}
	eventually(t, "revoking works", func() bool { return c.revoke("after") == nil })
	eventually(t, "they share again", func() bool { return a.refuses("after") })
	end()
	endC()
}

// Sentinels and the servers that they watch have passwords of their own.
func TestSentinelPassword(t *testing.T) {
	t.Parallel()
	master := startServer(t, "--requirepass", "of the master")
	common := "sentinel auth-pass main \"of the master\"\n"
	for name, c := range map[string]struct {
		sentinel string
		want     Options
	}{
		"password": {"requirepass \"of the sentinel\"\n", Options{SentinelPassword: "of the sentinel"}},
		"ACL user": {"requirepass nobody\nuser gatehouse on >secret +@all\n", Options{SentinelUsername: "gatehouse", SentinelPassword: "secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			addresses := startSentinels(t, master, 1, common+c.sentinel)
			open := func(o Options) *gateway {
				o.Addresses, o.MasterName, o.Password = addresses, "main", "of the master"
				return startGateway(t, o, authn.RevocationPolicy{})
			}
			g := open(c.want)
			g.awaitReady()
			must(t, g.revoke("t"))
			none, wrong := open(Options{}), open(Options{SentinelPassword: "of the master"})
			for _, refused := range []*gateway{none, wrong} {
				eventually(t, "the Sentinel's refusal is told", func() bool {
					_, _, err := refused.list.State()
					return err != nil && (strings.Contains(err.Error(), "NOAUTH") || strings.Contains(err.Error(), "WRONGPASS"))
				})
			}
		})
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	need(t, "redis-cli")
	var nodes []*server
	var addresses []string
	for range 3 {
		s := startServer(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-require-full-coverage", "no")
		nodes = append(nodes, s)
		addresses = append(addresses, s.addr())
	}
	out, err := exec.Command("redis-cli", append([]string{"--cluster-yes", "--cluster", "create"}, addresses...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	eventually(t, "the cluster is up", func() bool {
		for _, n := range nodes {
			if !strings.Contains(n.admin("CLUSTER", "INFO").String(), "cluster_state:ok") {
				return false
			}
		}
		return true
	})
	a := startGateway(t, Options{Addresses: addresses}, authn.RevocationPolicy{})
	b := startGateway(t, Options{Addresses: addresses[:1]}, authn.RevocationPolicy{Strict: true})
	a.awaitReady()
	b.awaitReady()
	for i := range 50 {
		id := fmt.Sprint("t", i)
		must(t, a.revoke(id))
		if !b.refuses(id) {
			t.Fatalf("%s is accepted", id)
		}
	}
	var home *server
	for _, n := range nodes {
		if n.admin("ZCARD", "{gatehouse}:revoked").Err() == nil { // the others say MOVED
			home = n
		}
	}
	if home == nil {
		t.Fatal("no node has the set")
	}
	end := neverAccepts(t, "t7", strictBudget, a, b)
	for _, lose := range []func(){
		func() { must(t, home.admin("FLUSHALL").Err()) },
		func() { home.kill(); home.start() }, // with its cluster configuration, without data
	} {
		lose()
		within(t, 2*settleTime+10*time.Second, "put back", func() bool {
			return home.admin("ZSCORE", "{gatehouse}:revoked", "token::t7").Err() == nil && a.ready() && b.ready()
		})
		eventually(t, "revoking works", func() bool { return a.revoke("again") == nil })
		eventually(t, "strict catches up", func() bool { return b.check("other") == nil })
	}
	// The slots move to another node while all goes on.
	slot := home.admin("CLUSTER", "KEYSLOT", "{gatehouse}:revoked").Val()
	var to *server
	for _, n := range nodes {
		if n != home {
			to = n
		}
	}
	id := func(n *server) string { s, err := n.admin("CLUSTER", "MYID").Text(); must(t, err); return s }
	must(t, to.admin("CLUSTER", "SETSLOT", slot, "IMPORTING", id(home)).Err())
	must(t, home.admin("CLUSTER", "SETSLOT", slot, "MIGRATING", id(to)).Err())
	keys, err := home.admin("CLUSTER", "GETKEYSINSLOT", slot, 10).StringSlice()
	must(t, err)
	port, _ := strconv.Atoi(to.port)
	migrate := []any{"MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS"}
	for _, k := range keys {
		migrate = append(migrate, k)
	}
	must(t, home.admin(migrate...).Err())
	for _, n := range []*server{to, home} {
		must(t, n.admin("CLUSTER", "SETSLOT", slot, "NODE", id(to)).Err())
	}
	eventually(t, "ready at the new place", func() bool { return a.ready() && b.ready() && a.revoke("moved") == nil })
	eventually(t, "shared at the new place", func() bool { return b.refuses("moved") })
	end()
}

// TLS with a certificate of the system's choice, a unix socket, and an ACL user
// who may do just what is needed.
func TestConnections(t *testing.T) {
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	t.Setenv("SSL_CERT_FILE", cert)
	tlsPort := freePort(t)
	s := startServer(t, "--tls-port", tlsPort, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no",
		"--unixsocket", "redis.sock")
	must(t, s.admin("ACL", "SETUSER", "gatehouse", "on", ">secret", "~{gatehouse}:*", "-@all",
		"+eval", "+evalsha", "+multi", "+exec", "+info", "+time", "+hmget", "+hset", "+exists", "+ping",
		"+zadd", "+zscore", "+zrevrange", "+zrangebyscore", "+zrem", "+xadd", "+xrange", "+xrevrange", "+xread",
		"+get", "+incr", "+decr", "+del", "+pexpire", "+pttl").Err())
	for name, o := range map[string]Options{
		"TLS":         {URL: "rediss://localhost:" + tlsPort},
		"TLS, listed": {Addresses: []string{"rediss://localhost:" + tlsPort}, MasterName: ""},
		"unix socket": {URL: "unix://" + filepath.Join(s.dir, "redis.sock") + "?db=3"},
		"ACL user":    {URL: s.url(), Username: "gatehouse", Password: "secret"},
		"ACL in URL":  {URL: "redis://gatehouse:secret@" + s.addr() + "/0"},
		"database 2":  {URL: s.url() + "/2"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "TLS, listed" {
				// A server that is no Cluster says so; the connection is what counts.
				g := startGateway(t, o, authn.RevocationPolicy{})
				eventually(t, "the server answers", func() bool {
					_, _, err := g.list.State()
					return err != nil && strings.Contains(err.Error(), "cluster support disabled")
				})
				return
			}
			g := startGateway(t, o, authn.RevocationPolicy{})
			g.awaitReady()
			must(t, g.revoke("t"))
			h := startGateway(t, o, authn.RevocationPolicy{Strict: true})
			h.awaitReady()
			if !h.refuses("t") {
				t.Error("not shared")
			}
			if _, err := g.log.Warnings(ctx); err != nil {
				t.Errorf("Warnings = %v", err)
			}
		})
	}
	t.Run("unknown certificate", func(t *testing.T) {
		other := filepath.Join(dir, "other")
		must(t, os.Mkdir(other, 0o700))
		wrong, wrongKey := selfSigned(t, other)
		port := freePort(t)
		startServer(t, "--tls-port", port, "--tls-cert-file", wrong, "--tls-key-file", wrongKey, "--tls-auth-clients", "no")
		g := startGateway(t, Options{URL: "rediss://localhost:" + port}, authn.RevocationPolicy{})
		eventually(t, "the certificate is refused", func() bool {
			_, _, err := g.list.State()
			return err != nil && strings.Contains(err.Error(), "certificate signed by unknown authority")
		})
	})
}

func selfSigned(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: dir},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	l := newLog(t, Options{URL: s.url()})
	for policy, want := range map[string]int{"noeviction": 0, "volatile-ttl": 0, "allkeys-lru": 1, "allkeys-random": 1} {
		must(t, s.admin("CONFIG", "SET", "maxmemory-policy", policy).Err())
		if got, err := l.Warnings(ctx); len(got) != want || err != nil {
			t.Errorf("%s: %q, %v, want %d warnings", policy, got, err, want)
		}
	}
	s.kill()
	if _, err := l.Warnings(ctx); err == nil {
		t.Error("no error without a server")
	}
}
