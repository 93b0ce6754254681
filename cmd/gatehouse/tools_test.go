package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// httpMain is runHTTP as a program.
func httpMain() {
	if err := runHTTP(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// runHTTP is the scripts' client. It prints the status line, the header sorted
// by name, an empty line and the body. It follows no redirects, and it is an
// error if no answer comes.
//
//	-status N          ask again until the status is N
//	-body REGEXP       ask again until the body matches
//	-certificate NAME  ask again until the server's certificate is that of NAME
//	-refused           ask again until the connection is refused or ended
//	-within D          how long to ask again; 10 s if not said
//	-k                 any certificate will do
//	-cert FILE         present the pair FILE.crt and FILE.key
//
// Over TLS the server's certificate is printed first.
func runHTTP(args []string, stdout io.Writer) error {
	var want wanted
	flags := flag.NewFlagSet("http", flag.ContinueOnError)
	flags.IntVar(&want.status, "status", 0, "")
	body := flags.String("body", "", "")
	flags.StringVar(&want.certificate, "certificate", "", "")
	flags.BoolVar(&want.refused, "refused", false, "")
	within := flags.Duration("within", 10*time.Second, "")
	insecure := flags.Bool("k", false, "")
	file := flags.String("cert", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	var err error
	if want.body, err = regexp.Compile(*body); err != nil {
		return err
	}
	config := &tls.Config{InsecureSkipVerify: *insecure}
	if *file != "" {
		pair, err := tls.LoadX509KeyPair(*file+".crt", *file+".key")
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	again := want.status != 0 || *body != "" || want.certificate != "" || want.refused
	for end := time.Now().Add(*within); ; time.Sleep(10 * time.Millisecond) {
		got, err := ask(client, flags.Args())
		if !want.is(got, err) && again && time.Now().Before(end) {
			continue
		}
		fmt.Fprint(stdout, got.text)
		if want.is(got, err) {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("that is not what was wanted within %v", *within)
		}
		return err
	}
}

type wanted struct {
	status      int
	body        *regexp.Regexp
	certificate string
	refused     bool
}

func (want wanted) is(got response, err error) bool {
	if err != nil || want.refused {
		return err != nil && want.refused
	}
	return (want.status == 0 || got.status == want.status) &&
		(want.certificate == "" || got.certificate == want.certificate) &&
		want.body.MatchString(got.body)
}

type response struct {
	status                  int
	certificate, body, text string
}

func ask(client *http.Client, args []string) (got response, err error) {
	if len(args) < 2 {
		return got, fmt.Errorf("usage: http METHOD URL ['Name: value'...] [body]")
	}
	method, url, rest := args[0], args[1], args[2:]
	header := http.Header{}
	isHeader := regexp.MustCompile(`^([A-Za-z0-9_-]+): *(.*)$`)
	for len(rest) > 0 && isHeader.MatchString(rest[0]) {
		m := isHeader.FindStringSubmatch(rest[0])
		header.Add(m[1], m[2])
		rest = rest[1:]
	}
	req, err := http.NewRequest(method, url, strings.NewReader(strings.Join(rest, " ")))
	if err != nil {
		return got, err
	}
	req.Header = header
	if len(rest) > 0 && header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json")
	}
	if host := header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := client.Do(req)
	if err != nil {
		return got, err
	}
	defer res.Body.Close()
	page, err := io.ReadAll(res.Body)
	if err != nil {
		return got, fmt.Errorf("%s, then: %w", res.Status, err)
	}
	var b strings.Builder
	if res.TLS != nil {
		got.certificate = res.TLS.PeerCertificates[0].Subject.CommonName
		fmt.Fprintf(&b, "certificate %s\n", got.certificate)
	}
	fmt.Fprintf(&b, "%s %s\n", res.Proto, res.Status)
	var lines []string
	for name, values := range res.Header {
		for _, v := range values {
			lines = append(lines, name+": "+v)
		}
	}
	slices.Sort(lines)
	fmt.Fprintf(&b, "%s\n\n%s\n", strings.Join(lines, "\n"), page)
	got.status, got.body, got.text = res.StatusCode, string(page), b.String()
	return got, nil
}

// appMain is an app behind the gateway at the address in its argument. /hold
// answers "held" once somebody asked for /release; /holding says how many wait
// there. /ws is a websocket and /events an event stream, on which nothing comes
// after the first word. Everything else is "hello from PATH".
func appMain() {
	var mu sync.Mutex
	holding, released := 0, make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/hold", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		holding++
		mu.Unlock()
		select {
		case <-released:
			fmt.Fprintln(w, "held")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/holding", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintln(w, "holding", holding)
	})
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) {
		if c, err := websocket.Accept(w, r, nil); err == nil {
			defer c.CloseNow()
			_ = c.Write(r.Context(), websocket.MessageText, []byte("hello"))
			_, _, _ = c.Read(r.Context())
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: hello\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	release := sync.OnceFunc(func() { close(released) })
	mux.HandleFunc("/release", func(http.ResponseWriter, *http.Request) { release() })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "hello from", r.URL.Path) })
	fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[1], mux))
	os.Exit(1)
}

// streamMain opens the stream at its URL, a websocket if that is ws://, and
// prints how it ends: "closed 1008 REASON" for a close frame, or "cut".
func streamMain() {
	header := http.Header{}
	for _, line := range os.Args[2:] {
		name, value, _ := strings.Cut(line, ": ")
		header.Add(name, value)
	}
	how, err := watchStream(os.Args[1], header)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(how)
}

func watchStream(url string, header http.Header) (how string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if strings.HasPrefix(url, "ws:") {
		c, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
		if err != nil {
			return "", err
		}
		for err == nil {
			_, _, err = c.Read(ctx)
		}
		if closed := (websocket.CloseError{}); errors.As(err, &closed) {
			return fmt.Sprintf("closed %d %s", closed.Code, closed.Reason), ctx.Err()
		}
		return "cut", ctx.Err()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	req.Header = header
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if _, err = io.Copy(io.Discard, res.Body); err == nil {
		return res.Status, nil
	}
	return "cut", ctx.Err()
}

// A pair is a self-signed certificate and its key.
type pair struct{ cert, key []byte }

func newPair(from time.Time, host string) pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(from.UnixNano()),
		Subject:               pkix.Name{CommonName: host},
		DNSNames:              []string{host},
		NotBefore:             from.Add(-time.Hour),
		NotAfter:              from.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// write makes FILE.crt and FILE.key.
func (p pair) write(file string) error {
	if err := os.WriteFile(file+".key", p.key, 0o600); err != nil {
		return err
	}
	return os.WriteFile(file+".crt", p.cert, 0o644)
}

// unusedPorts are ports of the loopback that nothing listens on and that
// nothing else will take: below those that the system gives to clients, and
// each handed out once, whatever runs in parallel.
func unusedPorts(n int) ([]string, error) {
	ports.mu.Lock()
	defer ports.mu.Unlock()
	var found []string
	for range 1000 {
		if len(found) == n {
			return found, nil
		}
		if ports.next++; ports.next < 20000 || ports.next >= 32000 {
			ports.next = 20000 + os.Getpid()%10000 // packages are tested at the same time
		}
		port := strconv.Itoa(ports.next)
		if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
			l.Close()
			found = append(found, port)
		}
	}
	return nil, errors.New("no ports are free")
}

var ports struct {
	mu   sync.Mutex
	next int
}
