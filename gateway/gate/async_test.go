package gate

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func file(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestAsync: many syncs at once are each told of once, and a closed disk takes none.
func TestAsync(t *testing.T) {
	d := newAsyncDisk()
	if d == nil {
		t.Skip("this kernel has no asynchronous sync (aio), or fs.aio-max-nr is used up")
	}
	defer d.close()
	f := file(t)
	var wg sync.WaitGroup
	for range 2 * maxAsync {
		wg.Go(func() {
			if err := d.dataSync(int(f.Fd())); err != nil && !errors.Is(err, errNotAsync) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := d.dataSync(int(f.Fd())); err != nil || len(d.waiting) != 0 {
		t.Errorf("%v; %d still wait", err, len(d.waiting))
	}
	d.close()
	if err := d.dataSync(int(f.Fd())); !errors.Is(err, errNotAsync) {
		t.Errorf("after close: %v", err)
	}
}

// TestAsyncRefused: what the kernel does not take, and a kernel that takes nothing, is the caller's to sync.
func TestAsyncRefused(t *testing.T) {
	d := newAsyncDisk()
	defer d.close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for _, d := range []*asyncDisk{d, nil} {
		if err := d.dataSync(int(w.Fd())); !errors.Is(err, errNotAsync) {
			t.Errorf("a pipe: %v", err)
		}
	}
	s := &Syncer{}
	if err := s.syncFile(file(t).Name()); err != nil {
		t.Error("without it:", err)
	}
}

// TestAsyncFails: a failure of the disk is the waiter's.
func TestAsyncFails(t *testing.T) {
	d := &asyncDisk{waiting: map[uint64]chan error{7: make(chan error, 1)}}
	done := d.waiting[7]
	d.tell(completion{data: 7, result: -5})
	if err := <-done; err == nil || err.Error() != "fdatasync: input/output error" {
		t.Error(err)
	}
	d.tell(completion{data: 8}) // nobody's
}
