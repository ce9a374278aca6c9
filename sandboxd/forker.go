package sandboxd

import (
	"errors"
	"runtime"

	"github.com/facetgateway/fgw/sandboxd/confine"
)

// forker makes sandboxd's own children on one thread that lives as long as sandboxd serves:
// a parent-death signal follows the thread, not the process.
type forker struct {
	jobs chan forkJob
	done chan struct{}
}

type forkJob struct {
	starter *confine.Starter
	spec    confine.Spec
	result  chan forkResult
}

type forkResult struct {
	child confine.Child
	err   error
}

func newForker() *forker {
	f := &forker{jobs: make(chan forkJob), done: make(chan struct{})}
	go f.run()
	return f
}

func (f *forker) run() {
	runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
	for {
		select {
		case j := <-f.jobs:
			child, err := j.starter.Start(j.spec)
			j.result <- forkResult{child, err}
		case <-f.done:
			return
		}
	}
}

var errStopped = errors.New("sandboxd is stopping")

// start makes one child.
func (f *forker) start(s *confine.Starter, spec confine.Spec) (confine.Child, error) {
	j := forkJob{s, spec, make(chan forkResult, 1)}
	select {
	case f.jobs <- j:
		r := <-j.result
		return r.child, r.err
	case <-f.done:
		return confine.Child{}, errStopped
	}
}

// close ends the thread, and by that every child that is still there.
func (f *forker) close() { close(f.done) }
