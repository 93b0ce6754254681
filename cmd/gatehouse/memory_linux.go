package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapStart takes the pages of the program's own file out of memory that only
// starting has needed: most of them, 17 of the 21 MB of a gateway that has just
// started. The kernel has the file in its cache and maps a page again when it
// is used. Nothing can be lost: a mapping that may be written to, or in which a
// page is no longer the file's, stays.
func unmapStart() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range ownMappings(string(data), program) {
		// A failure leaves the pages where they are.
		_, _, _ = syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// ownMappings reads /proc/PID/smaps (proc(5)): the mappings of a file that are
// read-only and have no page of their own.
func ownMappings(smaps, file string) (own []mapping) {
	var m mapping
	candidate := false
	for line := range strings.Lines(smaps) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // from-to, permissions, offset, device, inode, name
			from, to, _ := strings.Cut(fields[0], "-")
			a, err1 := strconv.ParseUint(from, 16, 64)
			b, err2 := strconv.ParseUint(to, 16, 64)
			m = mapping{uintptr(a), uintptr(b)}
			readOnly := fields[1] == "r-xp" || fields[1] == "r--p"
			candidate = err1 == nil && err2 == nil && a < b && readOnly && strings.HasSuffix(strings.TrimSpace(line), " "+file)
		case candidate && len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				own = append(own, m)
			}
			candidate = false
		}
	}
	return own
}
