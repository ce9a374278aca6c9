package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// objectDirs are the directories of objects in a data directory.
func objectDirs(t *testing.T, data string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(data, "objects", "??", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// numbered are the files of databases in the directories.
func numbered(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(dir, "*.db*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			if !strings.HasSuffix(f, "-wal") && !strings.HasSuffix(f, "-shm") {
				names = append(names, filepath.Base(f))
			}
		}
	}
	slices.Sort(names)
	return names
}

// What a clone would have replaced is there as before when it fails, and of the copies nothing.
func TestCloneThatFails(t *testing.T) {
	s := staged(t)
	s.family("src")
	s.family("dst")
	s.Stop()
	dirs := objectDirs(t, s.Data)
	if len(dirs) != 1 {
		t.Fatalf("the objects are %v", dirs)
	}
	before := numbered(t, dirs...)
	// 1 is src, 2 its child.
	if err := os.WriteFile(filepath.Join(dirs[0], "2.db"), []byte(strings.Repeat("garbage ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	s.Start()
	for range 2 {
		if f := s.order("clone", "src", "?to=dst"); f == nil || f.Code != "corrupt" || !strings.Contains(f.Message, "not a database") {
			t.Errorf("copying garbage: %+v", f)
		}
		if out := s.Run("facets", "clone", s.address("src"), s.address("new")); out.Code == 0 {
			t.Errorf("copying garbage to a new name: exit %d", out.Code)
		}
	}
	if after := numbered(t, dirs...); !slices.Equal(after, before) {
		t.Errorf("the databases are %v, before they were %v", after, before)
	}
	s.plan("dst", plan{"children": true})
	s.expect("dst", "/count", "2")
	s.expect("dst", "/~on/kid/count", "3")
	s.expect("src", "/count", "2")
	if out := s.Run("facets", "ls", "t"); strings.Contains(out.Stdout, "new") {
		t.Errorf("the copy that failed is there: %s", out.Stdout)
	}
}

func TestCloneOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, 160)
	g := rig.StartOn(t, filepath.Join(disk, "data"))
	g.Deploy(rig.App(t, "probe", ""), "t", "probe")
	g.Deploy(rig.App(t, "probe", ""), "t", "copy")
	g.Text("POST", "/t/a/probe/fill?blobs=16", "")
	if n := g.Text("POST", "/t/a/copy/incr", ""); n != "1" {
		t.Errorf("what is replaced counts %s", n)
	}
	rest, err := os.Create(filepath.Join(disk, "rest"))
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	if _, err := io.Copy(rest, zeroes{}); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk was filled until %v", err)
	}
	fi, err := rest.Stat()
	if err == nil {
		err = rest.Truncate(fi.Size() - 6<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	before := numbered(t, objectDirs(t, g.Data)...)
	for range 3 { // each would leave some MB
		out := g.Run("facets", "clone", "t/a/probe", "t/a/copy", "--yes", "--output", "json")
		if out.Code != 5 || !strings.Contains(out.Stderr, `"disk_full"`) {
			t.Errorf("a clone: exit %d, wanted 5 with disk_full: %s", out.Code, out.Stderr)
		}
	}
	if after := numbered(t, objectDirs(t, g.Data)...); !slices.Equal(after, before) {
		t.Errorf("the databases are %v, before they were %v", after, before)
	}
	if n := g.Text("POST", "/t/a/copy/incr", ""); n != "2" {
		t.Errorf("what was not replaced counts %s", n)
	}
	if err := os.Remove(rest.Name()); err != nil {
		t.Fatal(err)
	}
	rest.Close()
	g.Must("facets", "clone", "t/a/probe", "t/a/copy", "--yes")
	if n := g.Text("POST", "/t/a/copy/incr", ""); n != "1" {
		t.Errorf("the copy counts %s", n)
	}
}

// A gateway that is killed while it clones has cloned all of the tree or nothing.
func TestCloneKilled(t *testing.T) {
	s := staged(t)
	for _, name := range []string{"src", "dst"} {
		s.plan(name, plan{"children": true})
	}
	const big = `INSERT INTO pair VALUES (zeroblob(1000000), 0)`
	generation := func(of, path string) string {
		t.Helper()
		return s.on(of, path+"/count")
	}
	s.script("src", "", `CREATE TABLE pair (a, b)`, big, big, big, big)
	// Each generation of src counts as often as its child does.
	next := func() {
		t.Helper()
		if own, kids := generation("src", ""), generation("src", "/~on/kid"); own != kids {
			t.Fatalf("src counts %s, its child %s", own, kids)
		}
	}
	next()
	s.done("clone", "src", "?to=dst")
	dir := objectDirs(t, s.Data)[0]
	whole := len(numbered(t, dir)) // the supervisor, src, dst and their children
	done := 0
	for round := 1; round <= 6; round++ {
		next()
		had := numbered(t, dir)
		answered := make(chan bool, 1)
		go func() {
			a, err := s.Try("POST", s.path("clone", "src", "")+"?to=dst", nil)
			answered <- err == nil && a.Status == 200
		}()
		rig.Eventually(t, rawWait, "it copies", func() bool { return !slices.Equal(numbered(t, dir), had) || len(answered) > 0 })
		time.Sleep(rand.N(30 * time.Millisecond)) // the moment is chance's
		s.Remember()
		syscall.Kill(s.PID(), syscall.SIGKILL)
		if !s.Ended(rawWait) {
			t.Fatal("it does not end")
		}
		s.Start()
		if after := numbered(t, dir); len(after) != whole {
			t.Errorf("round %d: the databases are %v, and before %v", round, after, had)
		}
		own, kids := generation("dst", ""), generation("dst", "/~on/kid")
		if own != kids {
			t.Errorf("round %d: the copy counts %s, its child %s", round, own, kids)
		}
		if own == fmt.Sprint(round+1) {
			done++
		} else if <-answered {
			t.Errorf("round %d: the clone was acknowledged, and its copy counts %s", round, own)
		}
		s.done("clone", "src", "?to=dst") // the same counts again
	}
	t.Logf("%d of 6 clones were done", done)
}
