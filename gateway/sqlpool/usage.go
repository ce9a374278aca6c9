package sqlpool

// add adds the counts of v. StorageBytes is no count: it is left as it is.
func (u *Usage) add(v Usage) {
	u.RowsRead += v.RowsRead
	u.RowsWritten += v.RowsWritten
	u.Statements += v.Statements
	u.Errors += v.Errors
	u.ResultBytes += v.ResultBytes
	u.CPU += v.CPU
}

// Usage is what the statements of all databases did since the pool was made.
func (p *Pool) Usage() Usage {
	var all Usage
	for _, w := range p.workers {
		w.mu.Lock()
		all.add(w.past)
		for _, pl := range w.places {
			all.add(usage(w.shared.Slot(pl.index)))
		}
		w.mu.Unlock()
	}
	return all
}
