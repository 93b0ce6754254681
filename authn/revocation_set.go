package authn

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// revocationSet holds what is revoked, by its very IDs: what a log has lost can
// be put back from it, and no token is taken for another.
//
// A record is some ten bytes and its ID, one behind the other in chunks of
// bytes, and found through an open hash table of four bytes a slot. There is no
// pointer for the garbage collector to follow, and a million tokens are about
// 45 MB. Readers take one short lock; writers come one at a time.
type revocationSet struct {
	seed    maphash.Seed // new in each process, so that nobody can choose IDs that collide
	issuers atomic.Pointer[map[string]uint16]
	names   []string // of issuers; guarded by writing
	writing sync.Mutex
	shards  [revocationShards]revocationShard
}

const (
	// So many that one shard is trimmed in a fraction of a millisecond, and
	// that all of them can hold more than a machine has memory.
	revocationShards = 256
	chunkBytes       = 8 << 10
	unitBytes        = 4 // records begin at multiples of it
	chunkUnits       = chunkBytes / unitBytes
	maxRevocationID  = 1024 // a token's IDs are shorter
)

// revocationShard is one part of the set.
type revocationShard struct {
	mu sync.RWMutex
	// slots are 8 bits of the hash and 24 of where the record is, in units and
	// from 1; 0 is empty. There are a power of two of them, or none.
	slots  []uint32
	chunks [][]byte // each with the length that is in use
	count  int
}

// A revocationRecord lies in a chunk:
//
//	0  forget, a Unix second
//	4  length of the ID
//	6  kind
//	7  the pass in which it was seen in the log
//	8  issuer
//	10 generation of a user, and then the ID
type revocationRecord []byte

const recordHead = 10

const kindUser = 2

var kindNames = [...]RevocationKind{RevokeToken, RevokeSession, kindUser: RevokeUser}

func kindByte(k RevocationKind) byte {
	switch k {
	case RevokeToken:
		return 0
	case RevokeSession:
		return 1
	}
	return kindUser
}

func (r revocationRecord) forget() uint32 { return binary.LittleEndian.Uint32(r) }
func (r revocationRecord) kind() byte     { return r[6] }
func (r revocationRecord) pass() byte     { return r[7] }
func (r revocationRecord) issuer() uint16 { return binary.LittleEndian.Uint16(r[8:]) }

func (r revocationRecord) head() int {
	if r.kind() == kindUser {
		return recordHead + 8
	}
	return recordHead
}

func (r revocationRecord) id() []byte {
	return r[r.head():][:binary.LittleEndian.Uint16(r[4:])]
}

func (r revocationRecord) size() int {
	return (r.head() + int(binary.LittleEndian.Uint16(r[4:])) + unitBytes - 1) / unitBytes * unitBytes
}

func (r revocationRecord) generation() int64 {
	if r.kind() != kindUser {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(r[recordHead:]))
}

func (r revocationRecord) is(kind byte, issuer uint16, id string) bool {
	return r.kind() == kind && r.issuer() == issuer && string(r.id()) == id
}

func newRevocationSet() *revocationSet {
	s := &revocationSet{seed: maphash.MakeSeed(), names: []string{""}}
	s.issuers.Store(&map[string]uint16{"": 0})
	return s
}

// has reports whether a token or a session is revoked.
func (s *revocationSet) has(kind RevocationKind, issuer, id string) bool {
	_, ok := s.look(kindByte(kind), issuer, id)
	return ok
}

// generation is the lowest that is still good; 0 is every one.
func (s *revocationSet) generation(issuer, id string) int64 {
	g, _ := s.look(kindUser, issuer, id)
	return g
}

func (s *revocationSet) look(kind byte, issuer, id string) (generation int64, ok bool) {
	n, known := (*s.issuers.Load())[issuer]
	if !known {
		return 0, false
	}
	h := mixHash(maphash.String(s.seed, id), kind, n)
	shard := s.shard(h)
	shard.mu.RLock()
	defer shard.mu.RUnlock()
	if r := shard.find(h, kind, n, id); r != nil {
		return r.generation(), true
	}
	return 0, false
}

// put adds r, to be forgotten at the given Unix second, as seen in this pass.
// What is there is never weakened.
func (s *revocationSet) put(r Revocation, forget uint32, pass byte) {
	s.writing.Lock()
	defer s.writing.Unlock()
	kind, issuer := kindByte(r.Kind), s.issuer(r.Issuer)
	h := mixHash(maphash.String(s.seed, r.ID), kind, issuer)
	shard := s.shard(h)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if old := shard.find(h, kind, issuer, r.ID); old != nil {
		// Seen is only what says as much as the record.
		if old.forget() <= forget && old.generation() <= r.Generation {
			old[7] = pass
		}
		binary.LittleEndian.PutUint32(old, max(old.forget(), forget))
		if kind == kindUser {
			binary.LittleEndian.PutUint64(old[recordHead:], uint64(max(old.generation(), r.Generation)))
		}
		return
	}
	head := [recordHead + 8]byte{6: kind, 7: pass}
	binary.LittleEndian.PutUint32(head[:], forget)
	binary.LittleEndian.PutUint16(head[4:], uint16(len(r.ID)))
	binary.LittleEndian.PutUint16(head[8:], issuer)
	binary.LittleEndian.PutUint64(head[recordHead:], uint64(r.Generation))
	record := revocationRecord(head[:])
	shard.add(s.seed, h, append(record[:record.head():record.head()], r.ID...))
}

// issuer is its number. Issuers are those of the configuration: a few.
func (s *revocationSet) issuer(name string) uint16 {
	known := *s.issuers.Load()
	if n, ok := known[name]; ok {
		return n
	}
	if len(s.names) > math.MaxUint16 {
		return math.MaxUint16 // nobody's; no configuration names as many
	}
	n := uint16(len(s.names))
	s.names = append(s.names, name)
	more := maps.Clone(known)
	more[name] = n
	s.issuers.Store(&more)
	return n
}

func (s *revocationSet) len() int {
	n := 0
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.RLock()
		n += shard.count
		shard.mu.RUnlock()
	}
	return n
}

// trim drops what may be forgotten. A shard of which only a little may be is
// left as it is: building it anew costs more than those bytes.
func (s *revocationSet) trim(now time.Time) {
	second := now.Unix()
	for i := range s.shards {
		s.writing.Lock()
		shard := &s.shards[i]
		// Reading takes no lock here: only writers change a record.
		expired := 0
		for r := range shard.records() {
			if int64(r.forget()) <= second {
				expired++
			}
		}
		if expired*8 > shard.count {
			var fresh revocationShard
			for r := range shard.records() {
				if int64(r.forget()) > second {
					fresh.add(s.seed, hashOf(s.seed, r), r[:r.head()+len(r.id())])
				}
			}
			shard.mu.Lock()
			shard.slots, shard.chunks, shard.count = fresh.slots, fresh.chunks, fresh.count
			shard.mu.Unlock()
		}
		s.writing.Unlock()
	}
}

// unseen collects some revocations, about most of them, that were not seen in
// this pass and are still wanted. It begins at shard from, and returns where to
// go on once these are seen.
func (s *revocationSet) unseen(from int, pass byte, now time.Time, most int) (list []Revocation, next int) {
	for ; from < revocationShards && len(list) < most; from++ {
		s.writing.Lock()
		for r := range s.shards[from].records() {
			if r.pass() == pass || int64(r.forget()) <= now.Unix() {
				continue
			}
			list = append(list, Revocation{
				Kind: kindNames[r.kind()], Issuer: s.names[r.issuer()], ID: string(r.id()), Generation: r.generation(),
				Expires: time.Unix(int64(r.forget()), 0).Add(-RevocationMargin),
			})
		}
		s.writing.Unlock()
	}
	return list, from
}

func (s *revocationSet) shard(h uint64) *revocationShard { return &s.shards[h%revocationShards] }

// mixHash keeps the kinds and issuers of one ID apart.
func mixHash(h uint64, kind byte, issuer uint16) uint64 {
	return h ^ (uint64(issuer)<<2|uint64(kind))*0x9e3779b97f4a7c15
}

func hashOf(seed maphash.Seed, r revocationRecord) uint64 {
	return mixHash(maphash.Bytes(seed, r.id()), r.kind(), r.issuer())
}

func (s *revocationShard) find(h uint64, kind byte, issuer uint16, id string) revocationRecord {
	if len(s.slots) == 0 {
		return nil
	}
	mask := uint32(len(s.slots) - 1)
	for i := uint32(h>>8) & mask; ; i = (i + 1) & mask {
		slot := s.slots[i]
		if slot == 0 {
			return nil
		}
		if slot>>24 == uint32(h>>56) {
			if r := s.at(slot); r.is(kind, issuer, id) {
				return r
			}
		}
	}
}

func (s *revocationShard) at(slot uint32) revocationRecord {
	unit := slot&0xffffff - 1
	return revocationRecord(s.chunks[unit/chunkUnits][unit%chunkUnits*unitBytes:])
}

// add appends a record that is not there yet.
func (s *revocationShard) add(seed maphash.Seed, h uint64, r revocationRecord) {
	size := r.size()
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last])+size > chunkBytes {
		// A shard of a few records has a small chunk.
		s.chunks = append(s.chunks, make([]byte, 0, min(chunkBytes, max(64, size, s.bytes()))))
		last++
	}
	if need := len(s.chunks[last]) + size; need > cap(s.chunks[last]) {
		grown := make([]byte, len(s.chunks[last]), min(chunkBytes, max(need, 2*cap(s.chunks[last]))))
		copy(grown, s.chunks[last])
		s.chunks[last] = grown
	}
	unit := uint32(last*chunkUnits + len(s.chunks[last])/unitBytes)
	c := s.chunks[last]
	c = c[:len(c)+size]
	copy(c[len(c)-size:], r)
	s.chunks[last] = c
	s.count++
	if s.count*4 > len(s.slots)*3 {
		s.slots = make([]uint32, max(8, 2*len(s.slots)))
		for i, c := range s.chunks {
			at := uint32(i * chunkUnits)
			for len(c) > 0 {
				r := revocationRecord(c)
				s.link(hashOf(seed, r), at)
				at += uint32(r.size() / unitBytes)
				c = c[r.size():]
			}
		}
		return
	}
	s.link(h, unit)
}

func (s *revocationShard) link(h uint64, unit uint32) {
	mask := uint32(len(s.slots) - 1)
	i := uint32(h>>8) & mask
	for s.slots[i] != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = uint32(h>>56)<<24 | (unit + 1)
}

func (s *revocationShard) bytes() int {
	n := 0
	for _, c := range s.chunks {
		n += len(c)
	}
	return n
}

func (s *revocationShard) records() func(yield func(revocationRecord) bool) {
	return func(yield func(revocationRecord) bool) {
		for _, c := range s.chunks {
			for len(c) > 0 {
				r := revocationRecord(c)
				if !yield(r) {
					return
				}
				c = c[r.size():]
			}
		}
	}
}
