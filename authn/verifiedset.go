package authn

import (
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"sync/atomic"
	"unsafe"
)

// verifiedSet holds verified tokens by their hash, as many as its limit of
// memory lets it.
//
// Who comes in is young. When there is no more room, and the young have more
// than a tenth of it, the longest young goes: for good, or, if it was used
// again meanwhile, among the old. Otherwise the longest old goes, unless it was
// used since its last turn. So a flood of tokens that are good but shown once or
// twice displaces others of its kind and hardly anybody else (S3-FIFO, Yang et
// al., SOSP 2023, without its ghosts).
type verifiedSet struct {
	shards [verifiedShards]verifiedShard
	bytes  int // limit of one shard
}

const verifiedShards = 32

// verifiedShard is one part of the set. Readers share its lock for a look-up in
// a map; what they then hold never changes.
type verifiedShard struct {
	mu         sync.RWMutex
	byHash     map[uint64]*verifiedEntry
	young, old verifiedQueue
	_          [64]byte // no two locks in one cache line
}

// verifiedEntry is one token. All but the fields that say otherwise is fixed
// once it is in the set.
type verifiedEntry struct {
	identity  Identity
	kept      keptList
	hash      [sha256.Size]byte
	proof     proof
	notBefore int64          // the later of iat and nbf, in Unix nanoseconds
	next      *verifiedEntry // guarded by the shard, as cost, gone
	cost      int32          // bytes
	counted   int32          // of cost: what is kept beyond the usual
	gone      bool           // no longer found, though still in its queue
	used      atomic.Int32   // since it came or had its turn, up to usedOften
}

const (
	usedOften = 3
	keptUsual = 128 // bytes that are kept with nearly every identity
	// entryBytes is an entry, its place in the map, and the usual.
	entryBytes = int32(unsafe.Sizeof(verifiedEntry{})) + 40 + keptUsual
)

// use does not write more than it has to: all processors would want the line.
func (e *verifiedEntry) use() {
	if n := e.used.Load(); n < usedOften {
		e.used.Store(n + 1)
	}
}

func (s *verifiedSet) limit(bytes int) {
	if bytes <= 0 {
		bytes = VerifiedBytes
	}
	s.bytes = bytes / verifiedShards
}

func (s *verifiedSet) shard(hash *[sha256.Size]byte) *verifiedShard {
	return &s.shards[hash[sha256.Size-1]%verifiedShards]
}

// The map has a part of the hash for its key: what nobody can choose needs no
// more, and the whole is compared.
func hashKey(hash *[sha256.Size]byte) uint64 { return binary.LittleEndian.Uint64(hash[:]) }

func (s *verifiedSet) find(hash *[sha256.Size]byte) *verifiedEntry {
	shard := s.shard(hash)
	shard.mu.RLock()
	e := shard.byHash[hashKey(hash)]
	shard.mu.RUnlock()
	if e == nil || e.hash != *hash {
		return nil
	}
	return e
}

// add puts e in, in the place of an entry for the same token.
func (s *verifiedSet) add(e *verifiedEntry) {
	if int(e.cost) > s.bytes {
		return // it would displace all others and itself
	}
	shard := s.shard(&e.hash)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.byHash == nil {
		shard.byHash = make(map[uint64]*verifiedEntry)
	}
	if before := shard.byHash[hashKey(&e.hash)]; before != nil {
		shard.bury(before)
	}
	shard.byHash[hashKey(&e.hash)] = e
	shard.young.push(e)
	shard.shrink(s.bytes)
}

// bury takes e out of all but its queue, where pop passes over it.
func (s *verifiedShard) bury(e *verifiedEntry) {
	delete(s.byHash, hashKey(&e.hash))
	e.gone = true
}

// shrink makes the shard as small as limit.
func (s *verifiedShard) shrink(limit int) {
	for s.young.bytes+s.old.bytes > limit {
		if s.young.bytes > limit/10 || s.old.first == nil {
			e := s.young.pop()
			switch {
			case e.gone:
			case e.used.Load() > 1:
				e.used.Store(0)
				s.old.push(e)
			default:
				s.bury(e)
			}
			continue
		}
		e := s.old.pop()
		switch n := e.used.Load(); {
		case e.gone:
		case n > 0:
			e.used.Store(n - 1)
			s.old.push(e)
		default:
			s.bury(e)
		}
	}
}

// sweep forgets what is not to be kept, and takes into account what was kept
// with the identities.
func (s *verifiedSet) sweep(keep func(*verifiedEntry) bool) {
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		for _, queue := range []*verifiedQueue{&shard.young, &shard.old} {
			all := *queue
			*queue = verifiedQueue{}
			for all.first != nil {
				e := all.pop()
				if !e.gone && !keep(e) {
					shard.bury(e)
				}
				if !e.gone {
					e.weigh()
					queue.push(e)
				}
			}
		}
		if len(shard.byHash) == 0 {
			shard.byHash = nil // a map never shrinks
		}
		shard.shrink(s.bytes)
		shard.mu.Unlock()
	}
}

// weigh counts what is kept beyond the usual.
func (e *verifiedEntry) weigh() {
	more := max(0, e.kept.bytes.Load()-keptUsual)
	e.cost += more - e.counted
	e.counted = more
}

// verifiedQueue is a list, the longest there first.
type verifiedQueue struct {
	first, last *verifiedEntry
	bytes       int
}

func (q *verifiedQueue) push(e *verifiedEntry) {
	if q.last == nil {
		q.first = e
	} else {
		q.last.next = e
	}
	q.last = e
	q.bytes += int(e.cost)
}

// pop takes the first out of a queue that is not empty.
func (q *verifiedQueue) pop() *verifiedEntry {
	e := q.first
	if q.first, e.next = e.next, nil; q.first == nil {
		q.last = nil
	}
	q.bytes -= int(e.cost)
	return e
}
