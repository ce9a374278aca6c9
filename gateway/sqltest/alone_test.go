package sqltest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const guestbook = "github.com/facetgateway/fgw/sdk/examples/guestbook"

// buildApp builds the guestbook; with -trimpath it does not know where its source lies, and keeps its
// database below the working directory.
func buildApp(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "app")
	cmd := exec.Command("go", "build", "-trimpath", "-o", bin, guestbook)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return bin
}

// alone is an app that runs on its own.
type alone struct {
	t    *testing.T
	cmd  *exec.Cmd
	line string // what it printed first
	url  string
	errs strings.Builder // what it said on standard error, once it has ended
}

func runAlone(t *testing.T, bin, dir string, env ...string) *alone {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	a := &alone{t: t, cmd: exec.CommandContext(ctx, bin)}
	a.cmd.Dir, a.cmd.Env, a.cmd.Stderr = dir, append(os.Environ(), env...), &a.errs
	out, err := a.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(out)
	a.line, _ = r.ReadString('\n')
	a.url = regexp.MustCompile(`http://\S+`).FindString(a.line)
	return a
}

// end waits for the app's end and returns its exit code.
func (a *alone) end() int {
	a.t.Helper()
	a.cmd.Wait()
	return a.cmd.ProcessState.ExitCode()
}

func TestAppOnItsOwn(t *testing.T) {
	bin, dir := buildApp(t), t.TempDir()
	for i := range 2 { // the second time on the data of the first
		a := runAlone(t, bin, dir, "FGW_LISTEN=127.0.0.1:0")
		if a.url == "" || !strings.Contains(a.line, filepath.Join(dir, ".fgw", "dev.db")) {
			a.cmd.Process.Kill()
			a.end()
			t.Fatalf("printed %q\n%s", a.line, a.errs.String())
		}
		resp, err := http.PostForm(a.url, url.Values{"name": {"Ada"}, "message": {"hello"}})
		if err != nil || resp.StatusCode != 200 || resp.Header.Get("X-Request-Id") == "" {
			t.Fatalf("%v %v", resp, err)
		}
		var page strings.Builder
		bufio.NewReader(resp.Body).WriteTo(&page)
		resp.Body.Close()
		if n := strings.Count(page.String(), `class="entry"`); n != i+1 {
			t.Errorf("%d entries, wanted %d", n, i+1)
		}
		http.DefaultClient.CloseIdleConnections()
		a.cmd.Process.Signal(os.Interrupt)
		if code := a.end(); code != 0 {
			t.Errorf("exit %d after ^C\n%s", code, a.errs.String())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, ".fgw", ".gitignore")); string(b) != "*\n" || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func TestAppOnItsOwnFails(t *testing.T) {
	bin := buildApp(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	for name, c := range map[string]struct {
		env  []string
		says string
	}{
		"no fgw anywhere":  {[]string{"FGW=", "PATH=/nonexistent"}, "set FGW=/path/to/fgw"},
		"FGW is wrong":     {[]string{"FGW=/nonexistent/fgw"}, "FGW names no program"},
		"FGW is no fgw":    {[]string{"FGW=/bin/false"}, "the SQL worker has ended"},
		"the port is used": {[]string{"PORT=" + port}, "address already in use"},
	} {
		t.Run(name, func(t *testing.T) {
			a := runAlone(t, bin, t.TempDir(), c.env...)
			if code := a.end(); code != 1 || !strings.Contains(a.errs.String(), c.says) {
				t.Errorf("exit %d, says %q", code, a.errs.String())
			}
		})
	}
}

// The app and its worker end together, whichever ends first.
func TestAppOnItsOwnEndsWithItsWorker(t *testing.T) {
	a := runAlone(t, buildApp(t), t.TempDir(), "FGW_LISTEN=127.0.0.1:0")
	worker := onlyChild(t, a.cmd.Process.Pid)
	syscall.Kill(worker, syscall.SIGKILL)
	if code := a.end(); code != 1 || !strings.Contains(a.errs.String(), "killed") {
		t.Errorf("exit %d, says %q", code, a.errs.String())
	}
}

// onlyChild returns the one child process of pid, whichever of its threads started it.
func onlyChild(t *testing.T, pid int) int {
	t.Helper()
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil || lists == nil {
		t.Skip("the kernel does not list children (CONFIG_PROC_CHILDREN)")
	}
	var pids []string
	for _, list := range lists {
		b, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, strings.Fields(string(b))...)
	}
	if len(pids) != 1 {
		t.Fatalf("children %v, wanted one", pids)
	}
	child, err := strconv.Atoi(pids[0])
	if err != nil {
		t.Fatal(err)
	}
	return child
}
