package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// playRole is this program as the upstream or as the bare proxy:
//
//	role upstream ADDRESS
//	role bare ADDRESS UPSTREAM
func playRole(args []string) error {
	raiseFileLimit()
	var handler http.Handler
	switch {
	case args[0] == "upstream" && len(args) == 2:
		handler = http.HandlerFunc(answer)
	case args[0] == "bare" && len(args) == 3:
		target, err := url.Parse(args[2])
		if err != nil {
			return err
		}
		handler = bare(target)
	default:
		return fmt.Errorf("role %q: want upstream ADDRESS or bare ADDRESS UPSTREAM", args)
	}
	l, err := net.Listen("tcp", args[1])
	if err != nil {
		return err
	}
	return (&http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}).Serve(l)
}

// usualBody is how much the upstream answers, in bytes.
const usualBody = 1024

var zeros = make([]byte, 64<<10)

// answer is the upstream: 1 KiB, or N bytes for any path that ends in /bytes/N.
func answer(w http.ResponseWriter, r *http.Request) {
	size := usualBody
	if _, after, ok := strings.Cut(r.URL.Path, "/bytes/"); ok {
		if n, err := strconv.Atoi(after); err == nil && n >= 0 {
			size = n
		}
	}
	h := w.Header()
	h["Content-Type"] = []string{"application/octet-stream"}
	h["Content-Length"] = []string{strconv.Itoa(size)}
	for size > 0 {
		n, err := w.Write(zeros[:min(size, len(zeros))])
		if err != nil {
			return
		}
		size -= n
	}
}

// bare is httputil.ReverseProxy with the standard transport, told to keep its
// connections (it keeps two by default), and nothing else.
func bare(target *url.URL) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 8192
	transport.DisableCompression = true
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(target)
			pr.SetXForwarded()
		},
	}
}
