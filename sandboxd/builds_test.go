package sandboxd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// TestRefusedBuilds asks for builders that can't be had, as a gateway that was taken over might. What a builder's world
// holds is tested where its process is, in gateway/build.
func TestRefusedBuilds(t *testing.T) {
	toolchain := t.TempDir() // never reached
	for _, test := range []struct {
		name      string
		toolchain string
		prepare   func(data string) error
		want      string
	}{
		{"no toolchain", "", func(string) error { return nil }, "without a Go toolchain"},
		{"no build directory", toolchain, func(string) error { return nil }, "no such tree"},
		{"no such tree", toolchain, func(data string) error { return os.MkdirAll(data+"/build/modules/6", 0o700) }, "no such tree"},
		{"a link for a tree", toolchain, func(data string) error {
			return errors.Join(os.MkdirAll(data+"/build/modules", 0o700), os.Symlink("/etc", data+"/build/modules/7"))
		}, "no such tree"},
		{"a link above it", toolchain, func(data string) error {
			return errors.Join(os.MkdirAll(data+"/other/modules/7", 0o700), os.Symlink("other", data+"/build"))
		}, "no such tree"},
		{"a link for the cache", toolchain, func(data string) error {
			return errors.Join(os.MkdirAll(data+"/build/modules/7", 0o700), os.Symlink("/etc", data+"/build/cache"), unix.Lchown(data+"/build/cache", 1, 1))
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newSandbox(t, func(c *Config) { c.Toolchain = test.toolchain })
			if err := test.prepare(b.data.path); err != nil {
				t.Fatal(err)
			}
			job, _ := pair(t, unix.SOCK_STREAM)
			p, err := b.client.SpawnBuild(t.Context(), protocol.Build{Limits: small, Tree: 7}, protocol.BuildFiles{Job: job, Output: job})
			if test.want == "" { // made anew, and the test's program is no builder: it ends
				if err != nil {
					t.Fatal(err)
				}
				<-p.Done()
				if info, err := os.Lstat(b.data.path + "/build/cache"); err != nil || !info.IsDir() {
					t.Errorf("the cache is %v, %v", info, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, %v", p, err)
			}
			b.builds.mu.Lock()
			defer b.builds.mu.Unlock()
			if len(b.builds.running) != 0 {
				t.Error("a refused builder is still counted")
			}
		})
	}
}

// TestBuildCache keeps the cache of its owner, and makes anew one that belongs to someone else.
func TestBuildCache(t *testing.T) {
	needRoot(t)
	d, err := openDataDir(t.Context(), t.TempDir(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if err := os.Mkdir(filepath.Join(d.path, buildDir), 0o700); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(d.path, buildDir, cacheDir, "kept")
	for _, step := range []struct {
		uid  int
		kept bool // what the step before wrote
	}{{70001, false}, {70001, true}, {70002, false}} {
		dir, err := d.buildCache(step.uid)
		if err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(dir.Fd()), &st); err != nil || int(st.Uid) != step.uid {
			t.Errorf("owner %d, want %d: %v", st.Uid, step.uid, err)
		}
		dir.Close()
		if _, err := os.Stat(kept); (err == nil) != step.kept {
			t.Errorf("step %+v: %v", step, err)
		}
		if err := os.WriteFile(kept, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWarmUser holds the cache's owner to a user that no facet and no builder gets.
func TestWarmUser(t *testing.T) {
	s := &server{uid: 1000, facets: &facets{uids: newUIDPool(1000)}}
	for {
		uid, ok := s.facets.uids.take()
		if !ok {
			return
		}
		if uid == s.warmUID() {
			t.Fatalf("user %d is given away", uid)
		}
	}
}
