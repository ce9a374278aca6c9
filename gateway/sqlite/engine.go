// Package sqlite is a thin layer over the SQLite that modernc.org/sqlite/lib
// carries: connections, statements, hooks, and the functions of SQLite's own
// that had to be replaced because one call of them can run for minutes. It does
// no I/O of its own and knows no policy: which statements, functions and files
// are allowed is its caller's to say.
//
// Why not the database/sql driver of modernc.org/sqlite: a statement must stay
// interruptible for as long as it has rows to give, its memory must be charged
// to its owner, and a caller needs the authorizer, the limits and the commit
// hooks of each connection.
//
// SQLite is global to a process: Init configures it, once, before anything else
// in that process opens a database.
package sqlite

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"modernc.org/libc"
	lib "modernc.org/sqlite/lib"
)

// ErrEngine is wrapped by errors of setting up SQLite itself.
var ErrEngine = errors.New("sqlite engine")

// pcache is SQLite's global page cache state. This build shares one LRU list of
// pages among all connections, so that one facet's reads would evict another's
// pages, keep them charged to their first owner, and take a process-wide lock a
// page. SQLite has the mode with a cache per connection as well, chosen by a
// field that no configuration reaches here.
//
//go:linkname pcache modernc.org/sqlite/lib._pcache1_g
var pcache lib.TPCacheGlobal

// setup holds what Init made: SQLite is configured once a process.
var setup struct {
	once sync.Once
	err  error
}

// Init configures SQLite: metered memory, no locks inside a connection (each is
// used by one goroutine at a time), a page cache per connection. Memory is the
// most that all connections of the process may hold; the first call's wins.
func Init(memory int64) error {
	setup.once.Do(func() { setup.err = configure(memory) })
	return setup.err
}

func configure(memory int64) error {
	process.limit.Store(memory)
	tls := libc.NewTLS()
	defer tls.Close()
	va := libc.Xmalloc(tls, 64)
	defer libc.Xfree(tls, va)
	methods := libc.Xcalloc(tls, 1, libc.Tsize_t(unsafe.Sizeof(lib.Tsqlite3_mem_methods{}))) // SQLite copies it
	defer libc.Xfree(tls, methods)
	*(*lib.Tsqlite3_mem_methods)(ptr(methods)) = meterMethods()
	if rc := lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_MULTITHREAD, 0); rc != lib.SQLITE_OK {
		return fmt.Errorf("%w: threading mode: code %d (a database was opened before Init)", ErrEngine, rc)
	}
	if rc := lib.Xsqlite3_config(tls, lib.SQLITE_CONFIG_MALLOC, libc.VaList(va, methods)); rc != lib.SQLITE_OK {
		return fmt.Errorf("%w: allocator: code %d", ErrEngine, rc)
	}
	if rc := lib.Xsqlite3_initialize(tls); rc != lib.SQLITE_OK {
		return fmt.Errorf("%w: initialize: code %d", ErrEngine, rc)
	}
	pcache.FseparateCache = 1
	seedFromKernel(tls)
	lib.PatchIssue199()
	return nil
}

// seedFromKernel has SQLite's random numbers seeded by the kernel. Its own way is
// to open /dev/urandom; a worker that sees no /dev would be left with the time
// and its process id, and facets with random values that can be guessed.
func seedFromKernel(tls *libc.TLS) {
	for vfs := lib.Xsqlite3_vfs_find(tls, 0); vfs != 0; vfs = (*lib.Tsqlite3_vfs)(ptr(vfs)).FpNext {
		(*lib.Tsqlite3_vfs)(ptr(vfs)).FxRandomness = callback(randomness)
	}
}

func randomness(_ *libc.TLS, _ uintptr, n int32, out uintptr) int32 {
	rand.Read(bytesAt(out, int(n))) // never fails
	return n
}

// ptr turns an address of SQLite's memory, which lies outside of Go's heap, into a pointer.
func ptr(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// bytesAt is n bytes of SQLite's memory.
func bytesAt(p uintptr, n int) []byte {
	if p == 0 || n <= 0 {
		return nil
	}
	return unsafe.Slice((*byte)(ptr(p)), n)
}

// address is where b begins; b must be on the heap and outlive the call that gets it.
func address(b []byte) uintptr {
	if len(b) == 0 {
		return uintptr(unsafe.Pointer(&emptyByte))
	}
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))
}

// emptyByte is what an empty text or blob points to: SQLite takes a null pointer for NULL.
var emptyByte [1]byte

// callback gives SQLite the address of a Go function; f must be a function at package level.
func callback[F any](f F) uintptr { return *(*uintptr)(unsafe.Pointer(&struct{ f F }{f})) }
