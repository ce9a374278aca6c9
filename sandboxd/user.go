package sandboxd

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// An ordinary user's gateway runs within a user namespace, where that user has every capability over
// what is made inside and none over anything else. A process with several threads
// can't enter one, so sandboxd starts itself again in it; from there all goes as for root, but for
// the users, of which there is one.

// UserName is argv[0] of that second sandboxd.
const UserName = "fgw-sandboxd"

// Descriptors of the second sandboxd.
const (
	userConfigFD = 3 // a pipe with a userConfig as JSON
	userReportFD = 4 // a pipe for userReports, a line each
)

// userConfig is what the second sandboxd needs of a Config.
type userConfig struct {
	Config Config   `json:"config"`
	Plan   Decision `json:"plan"`
}

// userReport is one thing that the second sandboxd has to say.
type userReport struct {
	Ready []string        `json:"ready,omitempty"`
	Log   json.RawMessage `json:"log,omitempty"`
	Error *userError      `json:"error,omitempty"`
}

// userError carries an error over a process border: its text, and which of the documented ones it is.
type userError struct {
	Text string         `json:"text"`
	Kind string         `json:"kind,omitempty"`
	Exit *protocol.Exit `json:"exit,omitempty"`
}

func (e *userError) Error() string { return e.Text }

// userErrors are the errors that a caller can tell apart, by the name under which they travel.
var userErrors = map[string]error{
	"in_use": ErrInUse, "foreign": ErrForeign, "port_in_use": ErrPortInUse, "dynamic": ErrDynamic,
	"gateway_died": ErrGatewayDied, "launcher_died": ErrLauncherDied,
}

func (e *userError) Unwrap() error {
	err := userErrors[e.Kind]
	if e.Exit != nil && err != nil {
		return &EndedError{err, *e.Exit}
	}
	return err
}

func toUserError(err error) *userError {
	e := &userError{Text: err.Error()}
	for kind, is := range userErrors {
		if errors.Is(err, is) {
			e.Kind = kind
		}
	}
	if ended := (*EndedError)(nil); errors.As(err, &ended) {
		e.Exit = &ended.Exit
	}
	return e
}

// serveAsUser starts the second sandboxd and passes on what either side says.
func serveAsUser(ctx context.Context, cfg Config, plan Decision) error {
	runtime.LockOSThread() // its parent-death signal follows this thread
	defer runtime.UnlockOSThread()
	exe, err := userProgram(cfg.Exe)
	if err != nil {
		return err
	}
	defer exe.Close()
	config, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer config.Close()
	defer tell.Close()
	reports, say, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reports.Close()
	cmd := userCommand(exe, config, say)
	err = cmd.Start()
	say.Close()
	config.Close()
	if err != nil {
		return fmt.Errorf("enter a user namespace: %w", err)
	}
	err = json.NewEncoder(tell).Encode(userConfig{cfg, plan})
	tell.Close()
	stopped := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(stopped)
		drain := ctx.Done()
		for {
			select {
			case <-drain:
				drain = nil
				cmd.Process.Signal(syscall.SIGTERM)
			case <-cfg.Stop:
				cmd.Process.Kill()
				return
			case <-done:
				return
			}
		}
	}()
	failed := hear(reports, cfg)
	state := cmd.Wait()
	close(done)
	<-stopped
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return fmt.Errorf("configure sandboxd: %w", err)
	case ctx.Err() != nil:
		return nil
	}
	return state
}

// userProgram gives the program a descriptor that no descriptor meant for the child will replace before the exec.
func userProgram(exe *os.File) (*os.File, error) {
	if exe == nil {
		var err error
		if exe, err = ownProgram(); err != nil {
			return nil, err
		}
		defer exe.Close()
	}
	const outOfTheWay = 100
	fd, err := unix.FcntlInt(exe.Fd(), unix.F_DUPFD_CLOEXEC, outOfTheWay)
	if err != nil {
		return nil, fmt.Errorf("open my own program: %w", err)
	}
	return os.NewFile(uintptr(fd), exe.Name()), nil
}

// userCommand is the second sandboxd, with every capability within its namespaces.
func userCommand(exe, config, say *os.File) *exec.Cmd {
	var caps []uintptr
	for c := range uintptr(unix.CAP_LAST_CAP + 1) {
		if _, _, errno := unix.Syscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, c, 0); errno == 0 {
			caps = append(caps, c)
		}
	}
	uid, gid := os.Getuid(), os.Getgid()
	return &exec.Cmd{
		Path: fmt.Sprintf("/proc/self/fd/%d", exe.Fd()), Args: []string{UserName}, Env: []string{},
		Stderr: os.Stderr, ExtraFiles: []*os.File{config, say},
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}},
			AmbientCaps: caps,
			Pdeathsig:   syscall.SIGKILL,
		},
	}
}

// hear reads reports until the second sandboxd has gone.
func hear(reports io.Reader, cfg Config) error {
	var failed error
	in := bufio.NewReader(reports)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return failed
		}
		var r userReport
		if err := json.Unmarshal(line, &r); err != nil {
			continue
		}
		switch {
		case r.Ready != nil && cfg.OnReady != nil:
			cfg.OnReady(r.Ready)
		case r.Log != nil:
			relog(cfg.Log, r.Log)
		case r.Error != nil:
			failed = r.Error
		}
	}
}

// relog puts a record of the second sandboxd into our log.
func relog(log *slog.Logger, record json.RawMessage) {
	var fields map[string]any
	if json.Unmarshal(record, &fields) != nil {
		return
	}
	var level slog.Level
	text, _ := fields[slog.LevelKey].(string)
	level.UnmarshalText([]byte(text))
	message, _ := fields[slog.MessageKey].(string)
	var attrs []any
	for k, v := range fields {
		if k != slog.LevelKey && k != slog.MessageKey && k != slog.TimeKey {
			attrs = append(attrs, k, v)
		}
	}
	log.Log(context.Background(), level, message, attrs...)
}

// reporter writes log records as reports.
type reporter struct{ out io.Writer }

func (r reporter) Write(record []byte) (int, error) {
	b, err := json.Marshal(userReport{Log: record})
	if err == nil {
		_, err = r.out.Write(append(b, '\n'))
	}
	return len(record), err
}

// UserMain is the process of the second sandboxd; it does not return.
func UserMain() {
	unix.CloseOnExec(userConfigFD)
	unix.CloseOnExec(userReportFD)
	out := os.NewFile(userReportFD, "report")
	say := func(r userReport) {
		b, err := json.Marshal(r)
		if err == nil {
			out.Write(append(b, '\n'))
		}
	}
	in := os.NewFile(userConfigFD, "config")
	var u userConfig
	if err := json.NewDecoder(in).Decode(&u); err != nil {
		fmt.Fprintln(os.Stderr, "fgw: sandboxd: it is started by fgw serve alone")
		os.Exit(2)
	}
	in.Close()
	signal.Ignore(syscall.SIGINT) // the first sandboxd gets it too, and decides
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg := u.Config
	cfg.Log = slog.New(slog.NewJSONHandler(reporter{out}, nil))
	cfg.OnReady = func(addrs []string) { say(userReport{Ready: addrs}) }
	if err := serveHere(ctx, cfg, u.Plan); err != nil {
		say(userReport{Error: toUserError(err)})
		os.Exit(1)
	}
	os.Exit(0)
}
