package facet

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/gateway/build"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sdk/wire"
)

const (
	// codeTime is how long the bytes of a child's code may take.
	codeTime = 60 * time.Second
	// codesAtOnce is how many sources and executables one object may hand over at once. The others wait: a supervisor's own
	// crowd delays only itself.
	codesAtOnce = 4
	// maxSourceMemory is what all sources together may take that are being read or built; taken apart, each takes some three times
	// as much. Past it one is refused, as all that the gateway's memory has no room for.
	maxSourceMemory = 128 << 20
	// maxArriving is what executables together may take on the disk before they are bundles, which are accounted for by object: twice
	// what one object can hand over at once.
	maxArriving = 2 * codesAtOnce * wire.MaxExecutable
)

// errNoRoom is told where sources take all the memory that they may.
var errNoRoom = &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "the gateway is reading as much source code as it may; try again"}

// errNoDisk is told where executables that are being handed over take all that they may.
var errNoDisk = &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "the gateway is taking as many executables as it may; try again"}

// intake bounds the code that supervisors hand over. What they say of its size bounds what is read, and sizes nothing.
type intake struct {
	mu      sync.Mutex
	objects map[string]*turns // guarded by mu
	bytes   int64             // of sources that are held; guarded by mu

	arriving atomic.Int64 // bytes of executables that are not bundles yet
}

// turns are an object's.
type turns struct {
	slots chan struct{}
	users int // who holds or awaits one; guarded by intake.mu
}

func newIntake() *intake { return &intake{objects: map[string]*turns{}} }

// enter waits for the object's turn. leave gives it back.
func (i *intake) enter(ctx context.Context, owner string) (leave func(), err error) {
	i.mu.Lock()
	t := i.objects[owner]
	if t == nil {
		t = &turns{slots: make(chan struct{}, codesAtOnce)}
		i.objects[owner] = t
	}
	t.users++
	i.mu.Unlock()
	forget := func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if t.users--; t.users == 0 {
			delete(i.objects, owner)
		}
	}
	select {
	case t.slots <- struct{}{}:
		return func() { <-t.slots; forget() }, nil
	case <-ctx.Done():
		forget()
		return nil, ctx.Err()
	}
}

// take counts n bytes of a source, if there is room; a negative n gives them back.
func (i *intake) take(n int64) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if n > 0 && i.bytes+n > maxSourceMemory {
		return false
	}
	i.bytes += n
	return true
}

// sender is where code comes from: a facet's stream.
type sender interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// buildSource takes a source from a facet of that key and builds it, or says what is wrong with it.
func (m *Manager) buildSource(ctx context.Context, k key, c *wire.Code, r gated) (hash string, found []wire.Diagnostic, err error) {
	files, letGo, err := m.takeSource(ctx, k, c, r)
	if err != nil {
		return "", nil, err
	}
	defer letGo() // with the build: until then the source is held
	return m.Builder.Build(build.WithOwner(ctx, k.owner()), files)
}

// checkSource is buildSource for a question: a facet that closes the question's stream waits for no answer, and nor do we.
func (m *Manager) checkSource(ctx context.Context, k key, c *wire.Code, r gated) (found []wire.Diagnostic, err error) {
	files, letGo, err := m.takeSource(ctx, k, c, r)
	if err != nil {
		return nil, err
	}
	defer letGo()
	ctx, stop := whileOpen(ctx, r.r)
	defer stop()
	_, found, err = m.Builder.Build(build.WithOwner(ctx, k.owner()), files)
	return found, err
}

// whileOpen returns a context that also ends when the facet closes the stream, on which nothing more is to come, or is gone. stop
// ends the watch.
func whileOpen(ctx context.Context, st sender) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	st.SetReadDeadline(time.Time{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if n, err := st.Read(make([]byte, 1)); n == 0 && !isTimeout(err) {
			cancel()
		}
	}()
	return ctx, func() {
		cancel()
		st.SetReadDeadline(time.Now())
		<-watched
	}
}

// takeSource takes a source from a facet of that key when it is its object's turn. letGo gives back what the source takes of the
// gateway's memory, and the turn.
func (m *Manager) takeSource(ctx context.Context, k key, c *wire.Code, r gated) (files map[string]string, letGo func(), err error) {
	leave, err := m.intake.enter(ctx, k.owner())
	if err != nil {
		return nil, nil, err
	}
	files, held, err := m.intake.readSource(c, r)
	letGo = func() { m.intake.take(-held); leave() }
	if err != nil {
		letGo()
		return nil, nil, err
	}
	return files, letGo, nil
}

// sourceStep is how much of a source is read between two looks at the budget.
const sourceStep = 64 << 10

// readSource reads a source: a JSON object from file names to texts. held is what it took of the budget, whether it was read or not.
func (i *intake) readSource(c *wire.Code, r gated) (files map[string]string, held int64, err error) {
	if c.Size <= 0 || c.Size > wire.MaxSource {
		return nil, 0, problem.New(problem.BuildFailed, "a source of %s; at most %s are allowed", sizeText(c.Size), sizeText(wire.MaxSource))
	}
	r.r.SetReadDeadline(time.Now().Add(codeTime))
	var raw []byte
	for int64(len(raw)) < c.Size {
		step := min(sourceStep, c.Size-int64(len(raw)))
		if !i.take(step) {
			return nil, held, errNoRoom
		}
		held += step
		old := len(raw)
		raw = append(raw, make([]byte, step)...) // grows by what has come, never by what was announced
		if _, err := io.ReadFull(r, raw[old:]); err != nil {
			return nil, held, codeLost(err)
		}
	}
	if err := json.Unmarshal(raw, &files); err != nil {
		return nil, held, problem.New(problem.BadRequest, "the source is no object of files: %v", err)
	}
	return files, held, nil
}

// codeLost words why the bytes of a code did not come.
func codeLost(err error) error {
	if isTimeout(err) {
		return problem.New(problem.FacetTimeout, "the code did not come whole within %s", codeTime)
	}
	return errStarterGone
}

// putExecutable takes an executable that the facet n is to run and keeps it.
func (m *Manager) putExecutable(ctx context.Context, n *node, c *wire.Code, r gated) (*taken, error) {
	if c.Size <= 0 || c.Size > wire.MaxExecutable {
		return nil, problem.New(problem.BadRequest, "an executable of %d bytes; 1 to %d are allowed", c.Size, wire.MaxExecutable)
	}
	leave, err := m.intake.enter(ctx, n.key.owner())
	if err != nil {
		return nil, err
	}
	defer leave()
	r.r.SetReadDeadline(time.Now().Add(codeTime))
	w := &arrival{i: m.intake, r: io.LimitReader(r, c.Size)}
	defer w.done()
	hash, bytes, err := m.Bundles.PutPinned(ctx, w, wire.MaxExecutable, m.CheckExecutable)
	switch {
	case errors.Is(err, errNoDisk):
		return nil, errNoDisk
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return nil, problem.As(err)
	case isTimeout(err) && !errors.Is(err, context.DeadlineExceeded):
		return nil, codeLost(err)
	case err != nil:
		return nil, problem.New(problem.BadRequest, "the executable: %v", err)
	}
	return m.accept(n.objectID(), hash, bytes)
}

// arrival is an executable on its way to the disk, counted as it comes.
type arrival struct {
	i     *intake
	r     io.Reader
	bytes int64
}

func (a *arrival) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	a.bytes += int64(n)
	if a.i.arriving.Add(int64(n)) > maxArriving {
		return 0, errNoDisk
	}
	return n, err
}

// done is told when it is a bundle, or nothing.
func (a *arrival) done() { a.i.arriving.Add(-a.bytes) }
