// Package sqldproc starts the SQL worker that serves an app outside a gateway: the program fgw,
// as `fgw sqld`, with the SQL channel on its descriptor 3.
package sqldproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// EnvProgram names the fgw program to use.
const EnvProgram = "FGW"

// ErrNoProgram means that there is no fgw program. Its text says what to do.
var ErrNoProgram = errors.New("the database needs the program fgw, which was not found: set FGW=/path/to/fgw or put it on the PATH" +
	" (make build in the facet gateway's sources makes it, go install github.com/facetgateway/fgw/cmd/fgw@latest installs it)")

// endTime is how long the worker may take to end once its channel has.
const endTime = 2 * time.Second

// maxTail is how much of what the worker says on standard error is kept.
const maxTail = 4 << 10

// Proc is a worker that runs.
type Proc struct {
	// Channel is the app's end of the SQL channel. The worker ends when it is closed.
	Channel *os.File

	cmd  *exec.Cmd
	done chan struct{}
	tail tail
	err  error // of the process, once done
}

// Find returns the path of the fgw program.
func Find() (string, error) {
	if p := os.Getenv(EnvProgram); p != "" {
		path, err := exec.LookPath(p)
		if err != nil {
			return "", fmt.Errorf("%s names no program: %w", EnvProgram, err)
		}
		return path, nil
	}
	path, err := exec.LookPath("fgw")
	if err != nil {
		return "", ErrNoProgram
	}
	return path, nil
}

// Start starts a worker for the database file, or, where that is empty, for a database in memory.
func Start(file string) (*Proc, error) {
	program, err := Find()
	if err != nil {
		return nil, err
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "sql"), os.NewFile(uintptr(pair[1]), "sqld")
	defer theirs.Close()
	args := []string{"sqld", "--wire", strconv.Itoa(wire.MaxVersion), "--memory"}
	if file != "" {
		args = append(args[:len(args)-1], "--file", file)
	}
	p := &Proc{Channel: ours, cmd: exec.Command(program, args...), done: make(chan struct{})}
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stderr = &p.tail
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // ^C in a terminal is the app's to handle
	if err := p.cmd.Start(); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start the SQL worker: %w", err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the worker has ended.
func (p *Proc) Done() <-chan struct{} { return p.done }

// Why returns why the worker has ended, with the last that it said. It waits a
// moment for that end, and returns nil if there was none.
func (p *Proc) Why() error {
	if !p.ended(endTime) {
		return nil
	}
	if p.err == nil {
		return errors.New("the SQL worker has ended")
	}
	return fmt.Errorf("the SQL worker has ended: %w\n%s", p.err, strings.TrimSpace(p.tail.String()))
}

// Stop waits for the worker's end, which the channel's end brings about, and kills one that stays.
func (p *Proc) Stop() {
	p.Channel.Close()
	if !p.ended(endTime) {
		p.cmd.Process.Kill()
		<-p.done
	}
}

func (p *Proc) ended(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// tail keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if n := len(t.b) - maxTail; n > 0 {
		t.b = append(t.b[:0], t.b[n:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.b)
}
