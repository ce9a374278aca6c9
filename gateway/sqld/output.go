package sqld

import (
	"encoding/binary"
	"math"
	"strconv"

	"github.com/facetgateway/fgw/gateway/sqlite"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

const (
	// rowsTarget is the length from which a message of rows is sent.
	rowsTarget = 48 << 10
	// rowsHead is the room for a packet's header and the number of rows.
	rowsHead = sqlchan.HeaderSize + 3
	// maxBatch is how many bytes of packets wait to be sent together.
	maxBatch = sqlchan.MaxPacket
)

// output collects a task's packets, so that a short answer takes one call to send.
type output struct {
	buf   []byte
	ends  []span
	start int // where the open ROWS message begins in buf, with rowsHead bytes of room
	rows  int // rows in it; 0 = none is open
	since int64
}

type span struct{ from, to int }

func (o *output) reset() {
	if cap(o.buf) > 2*sqlchan.MaxPacket {
		o.buf = nil
	}
	o.buf, o.ends, o.rows = o.buf[:0], o.ends[:0], 0
}

func (t *task) header(typ sqlchan.Type) sqlchan.Header {
	return sqlchan.Header{Type: typ, Session: t.session.id, Request: t.request, Epoch: t.ch.epoch}
}

// message adds a message; one that is longer than a packet is sent at once.
func (o *output) message(t *task, typ sqlchan.Type, payload []byte) error {
	if len(payload) > sqlchan.MaxPacket-sqlchan.HeaderSize {
		if err := t.flush(); err != nil {
			return err
		}
		return t.sendLong(typ, payload)
	}
	if len(o.buf)+len(payload) > maxBatch {
		if err := t.flush(); err != nil {
			return err
		}
	}
	from := len(o.buf)
	o.buf = append(t.header(typ).Append(o.buf), payload...)
	o.ends = append(o.ends, span{from, len(o.buf)})
	return nil
}

// sendLong sends a message of several packets.
func (t *task) sendLong(typ sqlchan.Type, payload []byte) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	if err := t.r.flush(); err != nil {
		return err
	}
	return sqlchan.Split(t.header(typ), payload, (*buf)[:0], func(p []byte) error { return t.ch.send(p, t.beforeWait) })
}

// beforeWait gives up what others need before the task waits for its client to read.
func (t *task) beforeWait() {
	t.r.handOff()
	t.releaseTurn()
}

// flush sends what was collected, in order. Nothing leaves that may tell of a
// commit which is not counted yet.
func (t *task) flush() error {
	if t.out.rows > 0 {
		if err := t.closeRows(); err != nil {
			return err
		}
	}
	if len(t.out.ends) == 0 {
		return nil
	}
	t.settled()
	had := t.turn >= 0
	err := t.sendAll()
	t.out.reset()
	if err == nil && had && t.turn < 0 && t.conn != nil {
		err = t.takeTurn()
	}
	return err
}

func (t *task) sendAll() error {
	if err := t.r.flush(); err != nil {
		return err
	}
	for i := 0; i < len(t.out.ends); {
		if n := len(t.out.ends) - i; n > 1 {
			sent := 0
			t.ch.sock.Control(func(fd uintptr) { sent = sendMany(int(fd), t.out.buf, t.out.ends[i:]) })
			if sent > 0 {
				i += sent
				continue
			}
		}
		s := t.out.ends[i]
		if err := t.ch.send(t.out.buf[s.from:s.to], t.beforeWait); err != nil {
			return err
		}
		i++
	}
	return nil
}

// settled waits until no commit is visible that is not counted.
func (t *task) settled() {
	db := t.db
	if db.committing.Load() && (t.conn == nil || !t.conn.committing) {
		db.commitMu.Lock()
		db.commitMu.Unlock() //nolint:staticcheck // taken to wait for its holder
	}
}

// row adds the statement's current row to the answer.
func (t *task) row(s *statement) error {
	o := &t.out
	if o.rows == 0 {
		if len(o.buf) > maxBatch/2 {
			if err := t.flush(); err != nil {
				return err
			}
		}
		o.start = len(o.buf)
		o.buf = append(o.buf, make([]byte, rowsHead)...)
		o.since = now()
	}
	at := len(o.buf)
	row, fits := appendRow(o.buf, s, sqlchan.MaxPacket-rowsHead)
	if !fits {
		if o.rows == 0 {
			o.buf = o.buf[:o.start]
		}
		return t.longRow(s)
	}
	o.buf = row
	o.rows++
	if err := t.countRow(len(o.buf) - at); err != nil {
		o.buf, o.rows = o.buf[:at], o.rows-1
		return err
	}
	if len(o.buf)-o.start > sqlchan.MaxPacket-3 {
		return t.splitRows(at)
	}
	if len(o.buf)-o.start > rowsTarget {
		return t.flush()
	}
	return nil
}

// countRow counts a row of n bytes, and tells of one too many or too long.
func (t *task) countRow(n int) error {
	t.stats.rows++
	t.stats.bytes += int64(n)
	return t.tooMuch(n)
}

func (t *task) tooMuch(n int) error {
	limits := t.db.limits()
	switch {
	case t.stats.bytes > limits.Result:
		return failure(sqlchan.CodeResultLimit, "the result is larger than "+size(limits.Result))
	case limits.Rows > 0 && t.stats.rows > limits.Rows:
		return failure(sqlchan.CodeResultLimit, "the result has more rows than the limit rows="+strconv.FormatInt(limits.Rows, 10))
	case n > sqlchan.MaxMessage-16:
		return failure(sqlchan.CodeResultLimit, "a row of the result is larger than "+size(sqlchan.MaxMessage))
	}
	return nil
}

// longRow sends a row that no packet holds in a message of its own.
// SQLite holds a value once however many columns show it: so it is copied when its size is known, and there is room for it.
func (t *task) longRow(s *statement) error {
	n := s.bytes()
	if err := t.countRow(n); err != nil {
		return err
	}
	if err := t.flush(); err != nil {
		return err
	}
	if cap(t.out.buf) > 4*sqlchan.MaxPacket { // not kept while the client is waited for
		t.out.buf = nil
	}
	room := 1 + n + s.width*(1+binary.MaxVarintLen64)
	if !t.ch.hold(room) {
		return failure(sqlchan.CodeMemoryLimit, "too many large rows wait for their clients")
	}
	defer t.ch.letGo(room)
	message, _ := appendRow(append(make([]byte, 0, room), 1), s, room) // one row
	t.stats.bytes += int64(len(message) - 1 - n)
	if err := t.tooMuch(len(message) - 1); err != nil {
		return err
	}
	return t.sendLongRow(message)
}

// sendLongRow sends a row of more than one packet, for one credit. The turn that its client's slowness may have cost is taken again.
func (t *task) sendLongRow(message []byte) error {
	if err := t.takeCredit(); err != nil {
		return err
	}
	had := t.turn >= 0
	err := t.sendLong(sqlchan.Rows, message)
	if err == nil && had && t.turn < 0 {
		err = t.takeTurn()
	}
	return err
}

// splitRows sends the rows before the one at at, then that one alone.
func (t *task) splitRows(at int) error {
	o := &t.out
	message := append([]byte{1}, o.buf[at:]...) // one row
	row := message[1:]
	o.buf, o.rows = o.buf[:at], o.rows-1
	if o.rows == 0 {
		o.buf = o.buf[:o.start]
	}
	if cap(o.buf) > 4*sqlchan.MaxPacket { // not kept while the client is waited for
		o.buf = append(make([]byte, 0, sqlchan.MaxPacket), o.buf...)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(row) > sqlchan.MaxPacket-rowsHead {
		if !t.ch.hold(len(row)) {
			return failure(sqlchan.CodeMemoryLimit, "too many large rows wait for their clients")
		}
		defer t.ch.letGo(len(row))
		return t.sendLongRow(message)
	}
	o.start = len(o.buf)
	o.buf = append(append(o.buf, make([]byte, rowsHead)...), row...)
	o.rows, o.since = 1, now()
	return nil
}

// closeRows makes a packet of the open rows, for one credit.
func (t *task) closeRows() error {
	o := &t.out
	if t.credit.Load() <= 0 && len(o.ends) > 0 {
		// What stands before them goes out while the client is waited for.
		rows, start := o.rows, o.start
		o.rows = 0
		t.settled()
		had := t.turn >= 0
		if err := t.sendAll(); err != nil {
			return err
		}
		n := copy(o.buf, o.buf[start:])
		o.buf, o.ends, o.start, o.rows = o.buf[:n], o.ends[:0], 0, rows
		if had && t.turn < 0 {
			if err := t.takeTurn(); err != nil {
				return err
			}
		}
	}
	rows := o.rows
	o.rows = 0 // progress must not flush them while this waits
	if err := t.takeCredit(); err != nil {
		o.buf = o.buf[:o.start]
		return err
	}
	var count [3]byte
	n := binary.PutUvarint(count[:], uint64(rows))
	from := o.start + rowsHead - sqlchan.HeaderSize - n
	t.header(sqlchan.Rows).Append(o.buf[from:from:len(o.buf)])
	copy(o.buf[from+sqlchan.HeaderSize:], count[:n])
	o.ends = append(o.ends, span{from, len(o.buf)})
	return nil
}

// flushEarly sends the rows that wait while the statement works on; it never waits.
func (t *task) flushEarly() {
	if err := t.closeRows(); err != nil {
		return
	}
	t.settled()
	for len(t.out.ends) > 0 {
		s := t.out.ends[0]
		if t.ch.trySend(t.out.buf[s.from:s.to]) != nil {
			return // flush sends the rest
		}
		t.out.ends = t.out.ends[1:]
	}
	t.out.reset()
}

// finish sends what is left of the answer, and DONE.
func (t *task) finish(res sqlchan.Result) {
	if t.whole(&res) {
		t.last()
		return
	}
	if t.out.rows > 0 {
		if err := t.closeRows(); err != nil {
			t.fail(t.classify(err))
			return
		}
	}
	res.InTx = t.inTx()
	var b [24]byte
	if err := t.out.message(t, sqlchan.Done, sqlchan.AppendResult(b[:0], res)); err != nil {
		t.ch.end(err)
		return
	}
	t.last()
}

// whole makes RESULT of an answer that is there in full and fits one packet. Of what an answer costs above an
// echo, three packets in its place (three buffers, wake-ups and reads) were the most.
func (t *task) whole(res *sqlchan.Result) bool {
	o := &t.out
	if len(o.ends) != 1 || sqlchan.Type(o.buf[o.ends[0].from]) != sqlchan.Columns || t.credit.Load() <= 0 {
		return false
	}
	const most = 1 + 2*binary.MaxVarintLen64 + binary.MaxVarintLen32 + 3 // DONE, the columns' length, the number of rows
	if len(o.buf)-o.ends[0].from+most > sqlchan.MaxPacket {
		return false
	}
	t.credit.Add(-1)
	res.InTx = t.inTx()
	columns, values := o.buf[o.ends[0].from+sqlchan.HeaderSize:o.ends[0].to], []byte(nil)
	if o.rows > 0 {
		values = o.buf[o.start+rowsHead:]
	}
	from := len(o.buf)
	b := t.header(sqlchan.WholeResult).Append(o.buf)
	b = sqlchan.AppendWholeResult(b, *res, columns, nil)
	b = append(appendUvarint(b, uint64(o.rows)), values...)
	o.buf, o.ends[0], o.rows = b, span{from, len(b)}, 0
	return true
}

// fail sends ERROR behind what was collected.
func (t *task) fail(f *sqlchan.Failure) {
	if t.out.rows > 0 {
		t.out.buf, t.out.rows = t.out.buf[:t.out.start], 0
	}
	f.InTx = t.inTx()
	if err := t.out.message(t, sqlchan.Error, sqlchan.AppendFailure(nil, f)); err != nil {
		t.ch.end(err)
		return
	}
	t.last()
}

// last sends the end of the answer. The statement is over: its turn is not taken again.
func (t *task) last() {
	t.settled()
	t.ch.answered(t)
	t.passOn()
	if err := t.sendLast(); err != nil {
		t.ch.end(err)
	}
	t.out.reset()
}

// sendLast sends what is left of the answer, or leaves it to the runner to send with others'.
func (t *task) sendLast() error {
	if o := &t.out; len(o.ends) == 1 {
		p := o.buf[o.ends[0].from:o.ends[0].to]
		if t.r.gather(t, p) {
			if t.r.out.full(t.ranAt) {
				return t.r.flush()
			}
			return nil
		}
	}
	return t.sendAll()
}

// bytes is how much the texts and blobs of the statement's current row take together.
func (s *statement) bytes() (n int) {
	for i := range s.width {
		switch s.ColumnKind(i) {
		case sqlite.KindText, sqlite.KindBlob:
			n += s.ColumnBytes(i)
		}
	}
	return n
}

// appendRow appends the statement's current row, unless its texts and blobs make it longer than most: then it tells so.
func appendRow(b []byte, s *statement, most int) (row []byte, fits bool) {
	most += len(b)
	for i := range s.width {
		switch s.ColumnKind(i) {
		case sqlite.KindInteger:
			b = sqlchan.AppendInteger(b, s.ColumnInt64(i))
		case sqlite.KindFloat:
			b = append(b, byte(sqlchan.Real))
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(s.ColumnFloat64(i)))
		case sqlite.KindText:
			v := s.ColumnText(i)
			if len(b)+len(v) > most {
				return nil, false
			}
			b = sqlchan.AppendText(append(b, byte(sqlchan.Text)), v)
		case sqlite.KindBlob:
			v := s.ColumnBlob(i)
			if len(b)+len(v) > most {
				return nil, false
			}
			b = sqlchan.AppendText(append(b, byte(sqlchan.Blob)), v)
		default:
			b = append(b, byte(sqlchan.Null))
		}
	}
	return b, true
}

func appendUvarint(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }
