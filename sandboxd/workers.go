package sandboxd

import (
	"errors"
	"sync"
)

// workers knows which SQL workers run: at most one of each index, ever.
type workers struct {
	mu       sync.Mutex // guards the fields below
	running  map[int]*process
	starting map[int]bool
}

var errPredecessor = errors.New("its predecessor still runs")

// begin reserves an index, once its predecessor is reaped, and gives that predecessor.
func (w *workers) begin(index int) (*process, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running == nil {
		w.running, w.starting = map[int]*process{}, map[int]bool{}
	}
	if w.starting[index] {
		return nil, errPredecessor
	}
	p := w.running[index]
	if p != nil {
		if !p.dying() {
			return nil, errPredecessor
		}
		w.mu.Unlock()
		<-p.done
		w.mu.Lock()
		if w.starting[index] || w.running[index] != p {
			return nil, errPredecessor
		}
		delete(w.running, index)
	}
	w.starting[index] = true
	return p, nil
}

// end enters the worker that was started; nil is none.
func (w *workers) end(index int, p *process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.starting, index)
	if p != nil {
		w.running[index] = p
	}
}

// all are the workers that may still run.
func (w *workers) all() (list []*process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.running {
		list = append(list, p)
	}
	return list
}

// dying reports whether the process was killed or has ended.
func (p *process) dying() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed || p.pidfd < 0
}
