package main

import (
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

func TestOwnMappings(t *testing.T) {
	const smaps = `00400000-01377000 r-xp 00000000 fe:00 1442 /opt/gate house
Size:              15836 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
01377000-0229a000 r--p 00f77000 fe:00 1442 /opt/gate house
Anonymous:             0 kB
0229a000-0229b000 r--p 01e9a000 fe:00 1442 /opt/gate house
Anonymous:             4 kB
0229b000-023b0000 rw-p 01e9b000 fe:00 1442 /opt/gate house
Anonymous:             0 kB
023b0000-043fd000 rw-p 00000000 00:00 0
Anonymous:           144 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 17 /lib/opt/gate house.so
Anonymous:             0 kB
7f0000002000-7f0000003000 r-xp 00000000 fe:00 17 /opt/gate house (deleted)
Anonymous:             0 kB
7ffc00000000-7ffc00021000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
`
	want := []mapping{{0x400000, 0x1377000}, {0x1377000, 0x229a000}}
	if got := ownMappings(smaps, "/opt/gate house"); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := ownMappings("x-y r-xp 0 0 0 /a\nAnonymous: 0 kB\nAnonymous: 0 kB\n", "/a"); got != nil {
		t.Errorf("%x from what is none", got)
	}
}

// What was unmapped is not lost: the rest of the tests needs it.
func TestUnmapStart(t *testing.T) {
	before := residentFile(t)
	unmapStart()
	if after := residentFile(t); after >= before {
		t.Errorf("%d kB of the program's file in memory, %d before", after, before)
	}
}

func residentFile(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(data)
	if m == nil {
		t.Fatalf("no RssFile in %s", data)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
