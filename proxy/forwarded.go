package proxy

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// A peer is the other end of the connection, and the client behind it.
type peer struct {
	addr    netip.Addr // of the connection
	trusted bool       // a trusted proxy: what it says of the client is believed
	client  netip.Addr // the client as far as it can be believed
	secure  bool       // the client came over https
}

// peerOf reads who sent r. X-Forwarded-For counts from a trusted proxy only, and
// there from the right: the last entry that is no trusted proxy itself. The
// leftmost one is whatever the client wrote.
func peerOf(r *http.Request, trusted []netip.Prefix) peer {
	var p peer
	if ap, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		p.addr = ap.Addr().Unmap().WithZone("")
	}
	p.client, p.secure = p.addr, r.TLS != nil
	if p.trusted = isTrusted(trusted, p.addr); !p.trusted {
		return p
	}
	switch strings.ToLower(lastElement(r.Header["X-Forwarded-Proto"])) {
	case "http":
		p.secure = false
	case "https":
		p.secure = true
	}
	for _, hop := range slices.Backward(forwardedFor(r.Header)) {
		p.client = hop
		if !isTrusted(trusted, hop) {
			break
		}
	}
	return p
}

// forwardedFor is what X-Forwarded-For says for certain: the addresses at its
// end, after whatever is no address.
func forwardedFor(h http.Header) []netip.Addr {
	var hops []netip.Addr
	for _, field := range h["X-Forwarded-For"] {
		for hop := range strings.SplitSeq(field, ",") {
			addr, err := parseHop(strings.TrimSpace(hop))
			if err != nil {
				hops = nil
				continue
			}
			hops = append(hops, addr)
		}
	}
	return hops
}

func isTrusted(trusted []netip.Prefix, addr netip.Addr) bool {
	for _, prefix := range trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// parseHop reads one element of X-Forwarded-For. Some proxies write a port.
func parseHop(s string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	return addr.Unmap().WithZone(""), err
}

func lastElement(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	last := fields[len(fields)-1]
	return strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:])
}

// setForwarded tells the upstream where the request came from: from the
// connection, or continuing what a trusted proxy said.
func setForwarded(out http.Header, in *http.Request, p peer, loc *location) {
	proto := "http"
	if p.secure {
		proto = "https"
	}
	addr := p.addr.String()
	client := addr
	if p.client != p.addr {
		client = p.client.String()
	}
	if !p.addr.IsValid() {
		addr = "unknown"
	}
	host := loc.hostPort
	if p.trusted {
		var b strings.Builder
		for _, hop := range forwardedFor(in.Header) {
			b.WriteString(hop.String() + ", ")
		}
		addr = b.String() + addr
		if h := lastElement(in.Header["X-Forwarded-Host"]); h != "" {
			if _, hostPort, err := canonicalHost(h); err == nil {
				host = hostPort
			}
		}
		if f := in.Header["Forwarded"]; len(f) > 0 {
			out["Forwarded"] = f
		}
	}
	values := [...]string{addr, proto, host, client} // one allocation for all of them
	out["X-Forwarded-For"] = values[0:1:1]
	out["X-Forwarded-Proto"] = values[1:2:2]
	out["X-Forwarded-Host"] = values[2:3:3]
	if p.client.IsValid() {
		out["X-Real-Ip"] = values[3:4:4]
	} else {
		delete(out, "X-Real-Ip")
	}
}
