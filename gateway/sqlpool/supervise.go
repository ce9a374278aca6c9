package sqlpool

import (
	"fmt"
	"time"

	"github.com/facetgateway/fgw/gateway/sqld/control"
)

// grace is how long past its deadline a statement may stay before its worker is killed.
const grace = time.Second

// leaveTime is how long a worker may take to let go of a channel of which no statement runs: to roll back what is open, on a disk that
// is busy. Until then the channel's place can't be given to another.
const leaveTime = 30 * time.Second

// maxRespawnDelay bounds the wait before a worker that dies at once is started again.
const maxRespawnDelay = time.Second

// runningKey names a statement that runs, sighting when it was first seen.
type runningKey struct{ slot, index int }
type sighting struct {
	seq uint64
	at  time.Time
}

// condemn kills the process because of a channel, which ends with it.
func (w *worker) condemn(channel uint64, err error) {
	w.mu.Lock()
	if w.culprit[channel] == nil {
		w.culprit[channel] = err
	}
	process := w.process
	w.mu.Unlock()
	if process != nil {
		if err := process.Kill(); err != nil {
			w.pool.cfg.Log.Error("SQL worker not killed", "worker", w.index, "error", err)
		}
	}
}

// watch kills the process if a statement of it has outstayed its deadline, or it does not let go of a channel.
func (w *worker) watch(at time.Time) {
	w.mu.Lock()
	stuck := map[uint64]error{}
	for _, pl := range w.places {
		slot := w.shared.Slot(pl.index)
		for i := range slot.Running {
			r := &slot.Running[i]
			key := runningKey{pl.index, i}
			seq := r.Seq.Load()
			if seq == 0 {
				delete(w.seen, key)
				continue
			}
			if id := r.Channel.Load(); !w.leaving[id].IsZero() {
				w.leaving[id] = at // it is the statement that is waited for, within its own time
			}
			if w.seen[key].seq != seq {
				w.seen[key] = sighting{seq, at}
				continue
			}
			if at.Sub(w.seen[key].at) > time.Duration(r.Budget.Load())+grace && r.Seq.Load() == seq {
				stuck[r.Channel.Load()] = fmt.Errorf("%w: it did not come back within %v of its deadline", ErrStuck, grace)
			}
		}
	}
	for id, since := range w.leaving {
		if at.Sub(since) > leaveTime && stuck[id] == nil {
			stuck[id] = fmt.Errorf("%w: it did not let go of the channel within %v", ErrStuck, leaveTime)
		}
	}
	running := w.process != nil
	w.mu.Unlock()
	if !running {
		return
	}
	for id, err := range stuck {
		w.condemn(id, err)
	}
}

// supervise replaces the process whenever it has died.
func (w *worker) supervise() {
	defer w.pool.wg.Done()
	delay := time.Duration(0)
	for {
		w.mu.Lock()
		process := w.process
		w.mu.Unlock()
		began := time.Now()
		<-process.Done()
		w.buried()
		for {
			if time.Since(began) > 10*time.Second {
				delay = 0
			}
			select {
			case <-w.pool.ctx.Done():
				return
			case <-time.After(delay):
			}
			if w.pool.ctx.Err() != nil { // both at once, and chance chose: the pool is being closed
				return
			}
			delay = min(max(2*delay, 10*time.Millisecond), maxRespawnDelay)
			err := w.start(w.pool.ctx)
			if err == nil {
				break
			}
			if w.pool.ctx.Err() != nil {
				return
			}
			w.pool.cfg.Log.Error("SQL worker not started", "worker", w.index, "error", err)
		}
	}
}

// buried clears up after a process that has been reaped.
func (w *worker) buried() {
	at := time.Now()
	w.mu.Lock()
	conn, calls := w.conn, w.calls
	w.conn, w.process, w.calls = nil, nil, map[uint64]func(error){}
	w.ready = make(chan struct{})
	clear(w.seen)
	clear(w.leaving)
	ended := map[*Channel]error{}
	for id, err := range w.culprit {
		if c := w.channels[id]; c != nil {
			ended[c] = err
		}
	}
	byHand := len(w.culprit) > 0 // though its channel may have been closed since
	clear(w.culprit)
	w.acquit(at)
	for _, pl := range w.places {
		slot := w.shared.Slot(pl.index)
		var ran []*control.Running
		for i := range slot.Running {
			if slot.Running[i].Seq.Load() != 0 && !byHand {
				ran = append(ran, &slot.Running[i])
			}
		}
		if len(ran) > 0 {
			w.suspects[pl.file] = append(w.suspects[pl.file], at)
		}
		for _, r := range ran {
			if c := w.channels[r.Channel.Load()]; c != nil && len(w.suspects[pl.file]) >= suspectTimes {
				ended[c] = fmt.Errorf("%w: it died %d times within %v while a statement on this database ran", ErrStuck, suspectTimes, suspectWindow)
			}
		}
		slot.Stopped()
	}
	for c := range ended {
		delete(w.channels, c.id)
	}
	left := len(w.channels)
	w.mu.Unlock()
	conn.Close()
	for _, done := range calls {
		done(errReplaced)
	}
	for c, err := range ended {
		c.end(err)
	}
	if w.pool.ctx.Err() == nil {
		w.pool.cfg.Log.Warn("SQL worker died and is replaced", "worker", w.index, "channels", left, "ended", len(ended))
	}
}

const (
	// suspectTimes deaths of the worker within suspectWindow, each while a statement on a database
	// ran, end the channel of the last one: those statements are the likely cause. They are counted by
	// database, for who starts anew each time has another channel each time.
	suspectTimes  = 3
	suspectWindow = time.Minute
)

// acquit forgets the deaths that are too long ago to count. w.mu is held.
func (w *worker) acquit(at time.Time) {
	for file, deaths := range w.suspects {
		for len(deaths) > 0 && at.Sub(deaths[0]) >= suspectWindow {
			deaths = deaths[1:]
		}
		if w.suspects[file] = deaths; len(deaths) == 0 {
			delete(w.suspects, file)
		}
	}
}

// shutdown lets the process close its databases and end.
func (w *worker) shutdown() {
	w.mu.Lock()
	w.closed = true
	process, conn := w.process, w.conn
	w.mu.Unlock()
	if process == nil {
		return
	}
	conn.Close()
	select {
	case <-process.Done():
	case <-time.After(closeTimeout):
		process.Kill()
		<-process.Done()
	}
}
