package sqlite

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// Every allocation of SQLite's carries a header that names the account it was
// charged to, since it may be freed by anyone: charging whoever frees would let
// an owner run up credit. The account is found by the thread state (TLS) that
// SQLite hands down, which each connection has one of.
const (
	headerSize  = 16      // keeps SQLite's 8-byte alignment and the allocator's 16
	maxAccounts = 1 << 16 // databases with memory at once in a process
	maxTLS      = 1 << 15 // connections at once in a process; their ids are reused
	maxAlloc    = 1 << 30
)

type header struct {
	account uint32
	size    uint32
}

// Account is charged for the memory of the connections opened with it. It is
// safe for use by several connections at once.
type Account struct {
	used  atomic.Int64
	limit atomic.Int64
	hit   atomic.Int64 // how often the limit refused memory
	index uint32
}

// ErrTooMany says that a table of this process is full.
var ErrTooMany = errors.New("too many open databases")

// process is charged for what belongs to no account; its limit bounds the sum of all.
var process = &Account{}

// total is the memory of all accounts together.
var total atomic.Int64

// accounts maps the index in a header to its account. Index 0 is the process's.
var accounts [maxAccounts]atomic.Pointer[Account]

// accountTable guards the free indexes.
var accountTable struct {
	sync.Mutex
	free []uint32
	next uint32
}

// owners maps a TLS's id to the connection that uses it.
var owners [maxTLS]atomic.Pointer[Conn]

// NewAccount returns an account that may hold limit bytes.
func NewAccount(limit int64) (*Account, error) {
	accountTable.Lock()
	defer accountTable.Unlock()
	a := &Account{}
	a.limit.Store(limit)
	if n := len(accountTable.free); n > 0 {
		a.index = accountTable.free[n-1]
		accountTable.free = accountTable.free[:n-1]
	} else {
		if accountTable.next+1 >= maxAccounts {
			return nil, fmt.Errorf("%w: %d accounts", ErrTooMany, maxAccounts)
		}
		accountTable.next++
		a.index = accountTable.next
	}
	accounts[a.index].Store(a)
	return a, nil
}

// Close gives the account's index back. One that still holds memory (a
// quarantined connection's) keeps it, since headers name it.
func (a *Account) Close() {
	accountTable.Lock()
	defer accountTable.Unlock()
	if a.used.Load() == 0 && accounts[a.index].CompareAndSwap(a, nil) {
		accountTable.free = append(accountTable.free, a.index)
	}
}

// SetLimit sets another limit; what the account holds already stays.
func (a *Account) SetLimit(limit int64) { a.limit.Store(limit) }

// Used is how many bytes the account holds.
func (a *Account) Used() int64 { return a.used.Load() }

// Refused is how often it was refused memory.
func (a *Account) Refused() int64 { return a.hit.Load() }

// Total is how many bytes all accounts of the process hold together.
func Total() int64 { return total.Load() }

// charge adds n bytes, or nothing where a limit would be passed.
func (a *Account) charge(n int64) bool {
	if a.used.Add(n) > a.limit.Load() {
		a.used.Add(-n)
		a.hit.Add(1)
		return false
	}
	if total.Add(n) > process.limit.Load() {
		total.Add(-n)
		a.used.Add(-n)
		a.hit.Add(1)
		return false
	}
	return true
}

func (a *Account) release(n int64) {
	a.used.Add(-n)
	total.Add(-n)
}

func meterMethods() lib.Tsqlite3_mem_methods {
	return lib.Tsqlite3_mem_methods{
		FxMalloc: callback(meterMalloc), FxFree: callback(meterFree), FxRealloc: callback(meterRealloc),
		FxSize: callback(meterSize), FxRoundup: callback(meterRoundup), FxInit: callback(meterInit), FxShutdown: callback(meterShutdown),
	}
}

// bigAlloc is the size from which an allocation is refused to a statement that
// should have ended: functions that take long on long values make such results.
const bigAlloc = 64 << 10

// accountOf is who is charged for n bytes; nil if the statement that asks has expired.
func accountOf(tls *libc.TLS, n int32) *Account {
	if uint32(tls.ID) < maxTLS {
		if c := owners[tls.ID].Load(); c != nil {
			if n > bigAlloc && c.hooks.Expired != nil && c.hooks.Expired() {
				return nil
			}
			return c.account
		}
	}
	return process
}

func meterMalloc(tls *libc.TLS, n int32) uintptr {
	if n <= 0 || n > maxAlloc {
		return 0
	}
	a := accountOf(tls, n)
	if a == nil || !a.charge(int64(n)+headerSize) {
		return 0
	}
	p := libc.Xmalloc(tls, libc.Tsize_t(n)+headerSize)
	if p == 0 {
		a.release(int64(n) + headerSize)
		return 0
	}
	*(*header)(ptr(p)) = header{a.index, uint32(n)}
	return p + headerSize
}

func meterFree(tls *libc.TLS, p uintptr) {
	if p == 0 {
		return
	}
	h := (*header)(ptr(p - headerSize))
	ownerOf(h).release(int64(h.size) + headerSize)
	libc.Xfree(tls, p-headerSize)
}

// meterRealloc charges the difference to whoever the allocation belongs to.
func meterRealloc(tls *libc.TLS, p uintptr, n int32) uintptr {
	h := (*header)(ptr(p - headerSize))
	a, grow := ownerOf(h), int64(n)-int64(h.size)
	if n <= 0 || n > maxAlloc || grow > 0 && !a.charge(grow) {
		return 0
	}
	q := libc.Xrealloc(tls, p-headerSize, libc.Tsize_t(n)+headerSize)
	if q == 0 {
		if grow > 0 {
			a.release(grow)
		}
		return 0
	}
	if grow < 0 {
		a.release(-grow)
	}
	(*header)(ptr(q)).size = uint32(n)
	return q + headerSize
}

func ownerOf(h *header) *Account {
	if a := accounts[h.account].Load(); a != nil && h.account != 0 {
		return a
	}
	return process
}

func meterSize(_ *libc.TLS, p uintptr) int32 {
	if p == 0 {
		return 0
	}
	return int32((*header)(ptr(p - headerSize)).size)
}

func meterRoundup(_ *libc.TLS, n int32) int32 { return (n + 7) &^ 7 }
func meterInit(*libc.TLS, uintptr) int32      { return lib.SQLITE_OK }
func meterShutdown(*libc.TLS, uintptr)        {}
