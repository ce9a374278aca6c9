package sqlpool

import "github.com/facetgateway/fgw/gateway/sqld/control"

// place is a database's slot in the shared memory.
type place struct {
	file  string
	index int
	refs  int
}

// takePlace finds a database's slot, or gives it one.
func (w *worker) takePlace(file string) (*place, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pl := w.places[file]
	if pl == nil {
		index := w.next
		if n := len(w.free); n > 0 {
			index = w.free[n-1]
			w.free = w.free[:n-1]
		} else if w.next >= control.MaxSlots {
			return nil, ErrFull
		} else {
			w.next++
		}
		pl = &place{file: file, index: index}
		w.places[file] = pl
		w.shared.Slot(index).Clear()
	}
	pl.refs++
	return pl, nil
}

func (w *worker) leavePlace(pl *place) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if pl.refs--; pl.refs == 0 {
		w.past.add(usage(w.shared.Slot(pl.index)))
		delete(w.places, pl.file)
		w.free = append(w.free, pl.index)
	}
}
