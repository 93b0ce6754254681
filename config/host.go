package config

import (
	"net/netip"
	"strconv"
	"strings"
)

// canonicalHost is a host name without port as hosts are compared: lower case,
// no final dot, addresses in their shortest form.
func canonicalHost(s string) (string, bool) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		a, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !a.Is6() || a.Zone() != "" || !strings.HasSuffix(s, "]") {
			return "", false
		}
		return "[" + a.String() + "]", true
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if s == "" || len(s) > 253 {
		return "", false
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return "", false
		}
		last = label
	}
	if last[0] >= '0' && last[0] <= '9' { // a name that ends in a number is an address, or would be taken for one
		a, err := netip.ParseAddr(s)
		if err != nil || !a.Is4() {
			return "", false
		}
	}
	return s, true
}

// canonicalAuthority is HOST or HOST:PORT without the default port of scheme.
func canonicalAuthority(s, scheme string) (string, bool) {
	host, port, hasPort := cutPort(s)
	if strings.HasSuffix(s, "]") {
		host, port, hasPort = s, "", false
	} else if strings.Contains(s, ":") && !hasPort {
		return "", false
	}
	host, ok := canonicalHost(host)
	if !ok || !hasPort {
		return host, ok
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
		return "", false
	}
	if scheme == "http" && n == 80 || scheme == "https" && n == 443 {
		return host, true
	}
	return host + ":" + port, true
}
