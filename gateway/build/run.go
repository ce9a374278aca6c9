package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/facetgateway/fgw/gateway/bundle"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// run builds a source in a process of its own, and judges what comes back.
func (b *Builder) run(ctx context.Context, s *source, t *tree) outcome {
	limited, cancel := context.WithTimeoutCause(ctx, b.cfg.Time, errTime)
	defer cancel()
	var hash string
	j := &job{files: s.files}
	a, err := b.perform(limited, protocol.Build{Limits: b.cfg.Limits, Tree: t.number}, j, func(exe io.Reader) error {
		var err error
		hash, _, err = b.cfg.Bundles.Put(limited, exe, MaxExecutable, func(f *os.File) error { return bundle.Check(f) })
		return err
	})
	var ended *endedError
	switch {
	case err == nil && a.Built:
		return outcome{bundle: hash}
	case err == nil && a.Killed, errors.As(err, &ended) && ended.exit.OOM:
		return failed("the build ran out of memory (limit %s)", size(b.cfg.Limits.MemoryBytes))
	case err == nil && a.Error != "":
		return failed("the build could not be carried out: %.500s", a.Error)
	case err == nil:
		return outcome{found: parseOutput(a.Output), lasting: true}
	case context.Cause(limited) == errTime:
		return failed("the build did not finish within %v", b.cfg.Time)
	case ctx.Err() != nil:
		return outcome{err: errStopping}
	case errors.As(err, &ended):
		return failed("the build was ended: %v", ended.exit)
	case errors.Is(err, bundle.ErrTooLarge):
		return failed("the executable is too large; at most %s are allowed", size(MaxExecutable))
	case errors.Is(err, bundle.ErrNotExecutable), errors.Is(err, bundle.ErrDynamic):
		return failed("the build made something else: %v", err)
	}
	b.cfg.Log.Error("a source could not be built", "error", err)
	if p := problem.As(err); p.Code == problem.DiskFull {
		return outcome{err: p}
	}
	return outcome{err: &problem.Error{Code: problem.Overloaded, RetryAfter: time.Second, Message: "the build could not be started; the gateway's log says why"}}
}

var errTime = errors.New("the build's time is over")

// failed is a build that the same files will fail again.
func failed(format string, args ...any) outcome {
	return outcome{err: problem.New(problem.BuildFailed, format, args...), lasting: true}
}

// endedError says that a builder ended without an answer.
type endedError struct {
	exit protocol.Exit
	said string // the last of what it printed
}

func (e *endedError) Error() string { return fmt.Sprintf("the builder ended: %v: %s", e.exit, e.said) }

// perform starts a builder, gives it the job and takes its answer; an executable goes to sink. Nothing of the
// builder is left when it returns.
func (b *Builder) perform(ctx context.Context, spec protocol.Build, j *job, sink func(io.Reader) error) (answer, error) {
	conn, theirs, err := socketpair()
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	r, w, err := os.Pipe()
	if err != nil {
		theirs.Close()
		return answer{}, fmt.Errorf("start a builder: %w", err)
	}
	p, err := b.cfg.Spawn(ctx, spec, protocol.BuildFiles{Job: theirs, Output: w})
	theirs.Close()
	w.Close()
	said := make(chan string, 1)
	go func() { // until the builder's end closes the pipe
		said <- lastOf(r)
		r.Close()
	}()
	if err != nil {
		<-said
		return answer{}, fmt.Errorf("start a builder: %w", err)
	}
	unwatch := context.AfterFunc(ctx, func() {
		p.Kill()
		conn.Close() // nobody waits for a process that is slow to die
	})
	a, err := converse(conn, j, sink)
	unwatch()
	// Its answer is all that is wanted of it.
	p.Kill()
	<-p.Done()
	tail := <-said
	if exit := p.Exit(); err != nil && ctx.Err() == nil && lost(err) {
		err = &endedError{exit, tail}
	}
	return a, err
}

// lost reports whether an error is the connection's end, or as good as that.
func lost(err error) bool {
	return errors.Is(err, errHead) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET)
}

// converse sends the job and reads the answer, whose sizes are bounded here and whose content is checked by sink.
func converse(conn net.Conn, j *job, sink func(io.Reader) error) (answer, error) {
	if err := j.write(conn); err != nil {
		return answer{}, err
	}
	var a answer
	if err := readHead(conn, &a); err != nil {
		return answer{}, err
	}
	if !a.Built || sink == nil {
		return a, nil
	}
	if a.Size > MaxExecutable {
		return a, bundle.ErrTooLarge
	}
	if a.Size <= 0 {
		return a, bundle.ErrNotExecutable
	}
	exe := &exact{r: conn, left: a.Size}
	return a, sink(exe)
}

// exact reads a number of bytes, and takes less for an error.
type exact struct {
	r    io.Reader
	left int64
}

func (e *exact) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(p[:min(int64(len(p)), e.left)])
	if e.left -= int64(n); err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// lastOf reads to the end and keeps the last of it.
func lastOf(r io.Reader) string {
	const keep = 2 << 10
	var tail []byte
	buf := make([]byte, keep)
	for {
		n, err := r.Read(buf)
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-keep):]
		if err != nil {
			return string(tail)
		}
	}
}

// socketpair makes the builder's end, which blocks, and ours.
func socketpair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("start a builder: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "job"), os.NewFile(uintptr(fds[1]), "job")
	conn, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("start a builder: %w", err)
	}
	return conn, theirs, nil
}

// size writes a limit for people.
func size(n int64) string {
	if n%(1<<30) == 0 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
