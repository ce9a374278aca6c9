package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// Session is one conversation with the database: transactions, pragmas and
// last_insert_rowid are a session's own. It serves one goroutine at a time.
type Session struct {
	c  *Client
	id uint16

	// the owner's
	out    []byte // the request being built: room for a header, then the payload
	inTx   bool
	heard  bool  // the worker has answered
	cursor *Rows // whose last message has not come

	begins   byte            // the flag by which the next statement begins the transaction, 0 = it is none's
	beginCtx context.Context // of the caller who began it

	w *writer

	// guarded by the client's mu
	pending   uint32 // the request that is open, 0 = none
	queued    bool   // its request waits in the outbox
	leaving   bool   // it has been taken out of that, and is not yet written
	known     bool   // the worker has heard of the session, or will
	credit    int    // ROWS messages that may still come
	lost      error  // why the session is gone
	inbox     []message
	inboxRoom [4]message
	part      []byte // of a message whose rest is still to come
	free      [][]byte
	wake      chan struct{}
}

// Buffers of messages are kept for the next ones: up to maxFree of them, none over maxKept.
const (
	maxFree = 4
	maxKept = 128 << 10
)

func (s *Session) takeBuffer() []byte {
	if n := len(s.free); n > 0 {
		b := s.free[n-1]
		s.free = s.free[:n-1]
		return b
	}
	return make([]byte, 0, 512)
}

// recycle gives a message's payload back.
func (s *Session) recycle(b []byte) {
	if cap(b) == 0 || cap(b) > maxKept {
		return
	}
	s.c.mu.Lock()
	if len(s.free) < maxFree {
		s.free = append(s.free, b[:0])
	}
	s.c.mu.Unlock()
}

// InTx tells whether a transaction is open after the last answer.
func (s *Session) InTx() bool { return s.inTx }

// Lost returns why the session is gone, nil as long as it is not.
func (s *Session) Lost() error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.lost
}

// Prepared is what the worker tells of a statement that it has prepared and not run.
type Prepared struct {
	Parameters int
	ReadOnly   bool
	Columns    []sqlchan.Column
}

// Exec runs every statement of sql; the result is the last one's.
func (s *Session) Exec(ctx context.Context, sql string, args []sqlchan.Arg) (sqlchan.Result, error) {
	if err := s.begin(ctx); err != nil {
		return sqlchan.Result{}, err
	}
	s.putTimeout(ctx)
	if err := s.putStatement(sql, args); err != nil {
		return sqlchan.Result{}, err
	}
	return s.done(ctx, sqlchan.Exec, readsOnly(sql))
}

// Query runs every statement of sql; the rows are the last one's. The context
// holds until the rows are closed.
func (s *Session) Query(ctx context.Context, sql string, args []sqlchan.Arg) (*Rows, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.putTimeout(ctx)
	s.putUvarint(initialCredit)
	if err := s.putStatement(sql, args); err != nil {
		return nil, err
	}
	return s.query(ctx, sqlchan.Query, sql)
}

// Builtin runs one of the worker's own statements (SPEC §5).
func (s *Session) Builtin(ctx context.Context, number int, args []sqlchan.Arg) (*Rows, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.putTimeout(ctx)
	s.putUvarint(initialCredit)
	s.putUvarint(uint64(number))
	if err := s.putArgs(args); err != nil {
		return nil, err
	}
	sql := ""
	if number == sqlchan.KVGet || number == sqlchan.KVList || number == sqlchan.AlarmGet {
		sql = "SELECT"
	}
	return s.query(ctx, sqlchan.Builtin, sql)
}

// Prepare asks what a statement is, and so whether it is one.
func (s *Session) Prepare(ctx context.Context, sql string) (*Prepared, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	s.out = sqlchan.AppendText(s.out, sql)
	_, stop, err := s.send(ctx, sqlchan.Prepare, false)
	if err != nil {
		return nil, err
	}
	defer stop()
	m, err := s.answer(sqlchan.Prepared, false, true)
	if err != nil {
		return nil, err
	}
	defer s.recycle(m.payload)
	r := sqlchan.NewReader(m.payload)
	p := &Prepared{Parameters: int(r.Uvarint()), ReadOnly: r.Byte() != 0, Columns: r.Columns()}
	if err := r.End(); err != nil {
		return nil, s.broken(err)
	}
	return p, nil
}

// Begin begins a transaction: sqlchan.Immediate waits its turn to write,
// sqlchan.ReadOnly waits for nobody.
func (s *Session) Begin(ctx context.Context, mode byte) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.putTimeout(ctx)
	s.out = append(s.out, mode)
	_, err := s.done(ctx, sqlchan.Begin, true)
	return err
}

// BeginNext begins a transaction with the session's next statement, and its failure is that statement's: one message
// less, and the turn to write is not held while the next one is on its way. It does nothing and tells false where the
// caller should use Begin: on a session that has had no answer yet, which the worker may still refuse, and with a
// deadline, of which the caller wants to hear when the turn does not come before it.
//
// Until that statement is answered, the end of ctx stops it. ErrLost from it means that the transaction has not begun.
func (s *Session) BeginNext(ctx context.Context, mode byte) (bool, error) {
	if _, deadline := ctx.Deadline(); deadline || !s.heard || s.inTx {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s.begins = sqlchan.BeginImmediate; mode == sqlchan.ReadOnly {
		s.begins = sqlchan.BeginReadOnly
	}
	s.beginCtx, s.inTx = ctx, true
	return true, nil
}

// endUnbegun ends a transaction of which no statement was sent, and tells whether there was one.
func (s *Session) endUnbegun() bool {
	if s.begins == 0 {
		return false
	}
	s.begins, s.beginCtx, s.inTx = 0, nil, false
	return true
}

// Commit makes the transaction's changes permanent. An error with
// CodeCommitUnknown means what it says: they may or may not be.
func (s *Session) Commit(ctx context.Context) error {
	if s.endUnbegun() {
		return nil
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	s.putTimeout(ctx)
	_, err := s.done(ctx, sqlchan.Commit, false)
	return err
}

// Rollback undoes the transaction.
func (s *Session) Rollback(ctx context.Context) error {
	if s.endUnbegun() {
		return nil
	}
	if err := s.begin(ctx); err != nil {
		return err
	}
	_, err := s.done(ctx, sqlchan.Rollback, true)
	return err
}

// Close rolls back an open transaction and ends the session, whose number may
// then be used again.
func (s *Session) Close() error {
	s.endUnbegun()
	if s.cursor != nil {
		s.cursor.Close()
	}
	c := s.c
	c.mu.Lock()
	lost, known := s.lost, s.known
	c.mu.Unlock()
	var err error
	if lost == nil && known {
		s.startRequest()
		_, err = s.done(context.Background(), sqlchan.Close, true)
	}
	c.mu.Lock()
	if c.sessions[s.id] == s {
		c.sessions[s.id] = nil
	}
	if s.lost == nil {
		s.lost = ErrClosed
	}
	c.mu.Unlock()
	if errors.Is(err, ErrLost) || errors.Is(err, ErrClosed) {
		return nil // it is closed all the same
	}
	return err
}

// begin starts a request: what an open cursor has still to give is taken in first, since
// the worker answers one request of a session after another.
func (s *Session) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.cursor != nil {
		if err := s.cursor.buffer(); err != nil {
			return err
		}
	}
	s.startRequest()
	return nil
}

func (s *Session) startRequest() {
	if cap(s.out) > maxKept {
		s.out = nil
	}
	s.out = append(s.out[:0], make([]byte, sqlchan.HeaderSize)...)
}

func (s *Session) putUvarint(v uint64) { s.out = binary.AppendUvarint(s.out, v) }

// putTimeout tells the worker how long the caller waits: a millisecond at least, 0 being "no limit of mine".
func (s *Session) putTimeout(ctx context.Context) {
	var ms uint64
	if at, ok := ctx.Deadline(); ok {
		ms = uint64(max(1, (time.Until(at)+time.Millisecond-1)/time.Millisecond))
	}
	s.putUvarint(ms)
}

func (s *Session) putStatement(sql string, args []sqlchan.Arg) error {
	s.out = sqlchan.AppendText(s.out, sql)
	return s.putArgs(args)
}

func (s *Session) putArgs(args []sqlchan.Arg) error {
	if len(args) > sqlchan.MaxArgs {
		return tooLarge("%d arguments, at most %d are allowed", len(args), sqlchan.MaxArgs)
	}
	var err error
	s.out, err = sqlchan.AppendArgs(s.out, args)
	if n := len(s.out) - sqlchan.HeaderSize; err == nil && n > sqlchan.MaxMessage {
		return tooLarge("statement and arguments of %d bytes, at most %d are allowed", n, sqlchan.MaxMessage)
	}
	return err
}

func tooLarge(format string, args ...any) error {
	return &sqlchan.Failure{Code: sqlchan.CodeSizeLimit, Offset: -1, Message: fmt.Sprintf(format, args...)}
}

// send sends the request that was built, which the end of ctx cancels; stop must be called once it is answered.
// With fresh it first takes in what has arrived.
func (s *Session) send(ctx context.Context, t sqlchan.Type, fresh bool) (request uint32, stop func(), err error) {
	begins, begun := byte(0), ctx
	if s.begins != 0 && (t == sqlchan.Exec || t == sqlchan.Query || t == sqlchan.Builtin) {
		begins, begun = s.begins, s.beginCtx
		s.begins, s.beginCtx = 0, nil
	}
	fresh = fresh || begins != 0
	c := s.c
	c.mu.Lock()
	// A small request waits in the outbox if somebody is about to read, be it this caller itself.
	small := len(s.out) <= maxSmall
	urgent := s.inTx && begins == 0 || t == sqlchan.Commit // other writers may wait for its end
	leave := small && !(c.leading && (c.parked || urgent)) && !c.out.full()
	if fresh && !leave {
		c.poll()
	}
	if s.lost != nil {
		err := s.lost
		c.mu.Unlock()
		if begins != 0 {
			s.inTx = false
		}
		return 0, nil, err
	}
	c.request++
	if c.request == 0 { // 0 stands for none
		c.request = 1
	}
	request = c.request
	s.pending, s.credit, s.known = request, 0, true
	if t == sqlchan.Query || t == sqlchan.Builtin {
		s.credit = initialCredit
	}
	h := sqlchan.Header{Type: t, Flags: begins, Session: s.id, Request: request, Epoch: c.epoch}
	if small {
		h.Append(s.out[:0])
		c.out.add(s, s.out)
		c.out.urgent, c.out.fresh = c.out.urgent || urgent, c.out.fresh || fresh
	}
	var out outgoing
	if !leave { // what others have left goes along, or before
		out = c.out.take(c.epoch)
	}
	c.mu.Unlock()
	if out.packet != nil {
		err = c.post(s.w, out)
	}
	if !small && err == nil {
		buf := make([]byte, 0, sqlchan.MaxPacket)
		err = sqlchan.Split(h, s.out[sqlchan.HeaderSize:], buf, s.w.write)
	}
	if err != nil {
		return 0, nil, err
	}
	stop = s.watch(ctx, request)
	if begun.Done() != ctx.Done() {
		one, other := stop, s.watch(begun, request)
		stop = func() { one(); other() }
	}
	return request, stop, nil
}

// signal sends a packet that has no answer (CREDIT, CANCEL) for the request, if it is still open. It never overtakes the request.
func (s *Session) signal(t sqlchan.Type, request uint32, payload []byte) {
	c := s.c
	c.mu.Lock()
	for s.leaving && s.pending == request {
		c.out.late++
		c.out.left.Wait()
		c.out.late--
	}
	if s.pending != request || s.lost != nil {
		c.mu.Unlock()
		return
	}
	h := sqlchan.Header{Type: t, Session: s.id, Request: request, Epoch: c.epoch}
	var first outgoing
	if s.queued {
		first = c.out.take(c.epoch)
	}
	c.mu.Unlock()
	if first.packet != nil && c.post(newWriter(c), first) != nil {
		return
	}
	p := append(h.Append(make([]byte, 0, sqlchan.HeaderSize+len(payload))), payload...)
	newWriter(c).write(p) // a channel that has ended tells whoever waits for the answer
}

// watch cancels the request when the context ends; call what it returns once the answer is there.
func (s *Session) watch(ctx context.Context, request uint32) (stop func()) {
	if ctx.Done() == nil {
		return func() {}
	}
	off := context.AfterFunc(ctx, func() { s.signal(sqlchan.Cancel, request, nil) })
	return func() { off() }
}

// done sends the request and waits for its DONE. harmless tells that a worker which went away
// without an answer can have left nothing behind.
func (s *Session) done(ctx context.Context, t sqlchan.Type, harmless bool) (sqlchan.Result, error) {
	inTx := s.inTx && t != sqlchan.Commit
	_, stop, err := s.send(ctx, t, !inTx && !harmless)
	if err != nil {
		return sqlchan.Result{}, err
	}
	defer stop()
	m, err := s.answer(sqlchan.Done, false, harmless || inTx)
	if err != nil {
		return sqlchan.Result{}, err
	}
	defer s.recycle(m.payload)
	return s.finish(m)
}

// finish reads a DONE.
func (s *Session) finish(m message) (sqlchan.Result, error) {
	r := sqlchan.NewReader(m.payload)
	d := r.Result()
	if err := r.End(); err != nil {
		return d, s.broken(err)
	}
	s.inTx = d.InTx
	return d, nil
}

// answer waits for a message of kind want, or, with orDone, of DONE, or, instead of COLUMNS, for a whole result; an
// ERROR is returned as an error.
func (s *Session) answer(want sqlchan.Type, orDone, harmless bool) (message, error) {
	m, err := s.next()
	if err != nil {
		return m, s.unanswered(err, harmless)
	}
	s.heard = true
	if m.kind == want || orDone && m.kind == sqlchan.Done || want == sqlchan.Columns && m.kind == sqlchan.WholeResult {
		return m, nil
	}
	if m.kind != sqlchan.Error {
		return m, s.broken(fmt.Errorf("an answer of type %d where %d is due", m.kind, want))
	}
	defer s.recycle(m.payload)
	r := sqlchan.NewReader(m.payload)
	f := r.Failure()
	if err := r.End(); err != nil {
		return m, s.broken(err)
	}
	s.inTx = f.InTx || s.begins != 0
	return m, f
}

// unanswered says what became of a request whose answer will never come.
func (s *Session) unanswered(err error, harmless bool) error {
	s.inTx = false
	if errors.Is(err, ErrLost) && !harmless && !s.queued {
		return &sqlchan.Failure{Code: sqlchan.CodeCommitUnknown, Offset: -1,
			Message: "the SQL worker was replaced before it answered: whether the change was made is not known"}
	}
	return err
}

// broken ends the channel: what the peer sends can no longer be relied on.
func (s *Session) broken(err error) error {
	err = fmt.Errorf("%w: %w", ErrProtocol, err)
	s.c.mu.Lock()
	s.c.fail(err)
	s.c.mu.Unlock()
	return err
}

// readsOnly tells of some statements that they write nothing: one SELECT, and no other behind it.
// In doubt it says false.
func readsOnly(sql string) bool {
	sql = strings.TrimSpace(sql)
	if len(sql) < 6 || !strings.EqualFold(sql[:6], "SELECT") {
		return false
	}
	return !strings.Contains(strings.TrimRight(sql, "; \t\r\n"), ";")
}
