package main

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestRunShowsTheSamples(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: facets run with full confinement")
	}
	// The usual port is taken, by this test or by whoever else: any free one has to do.
	if l, err := net.Listen("tcp", defaultListen); err == nil {
		defer l.Close()
	}
	cmd := exec.Command(program(t), "run")
	tmp := t.TempDir()
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	log := &lockedBuffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	urls := regexp.MustCompile(`http://((guestbook|canvas)--demo--apps\.localhost:(\d+))/`)
	var seen []string
	s := bufio.NewScanner(out)
	for s.Scan() {
		if m := urls.FindStringSubmatch(s.Text()); m != nil {
			req, err := http.NewRequest("GET", "http://127.0.0.1:"+m[3]+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = m[1]
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != 200 {
				t.Errorf("%s: %s", m[0], resp.Status)
			}
			seen = append(seen, m[2])
		}
		if strings.HasPrefix(s.Text(), "^C") {
			break
		}
	}
	if !slices.Equal(seen, []string{"guestbook", "canvas"}) {
		t.Errorf("it showed %v; standard error:\n%s", seen, log)
	}
	family := descendants(cmd.Process.Pid)
	cmd.Process.Signal(syscall.SIGINT)
	for s.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("^C: %v; standard error:\n%s", err, log)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
	for _, pid := range family {
		if alive(pid) {
			t.Errorf("process %d was left", pid)
		}
	}
}
