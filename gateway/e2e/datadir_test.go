package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/facetgateway/fgw/gateway/e2e/rig"
)

// Wherever a data directory lies, everything works, the admin socket included.
func TestDataDirectories(t *testing.T) {
	rig.NeedRoot(t)
	for _, test := range []struct{ name, path string }{
		{"under a closed parent", "closed/data"},
		{"with a long path", strings.Repeat("a-path-that-is-long/", 15) + "data"},
		{"with blanks", "my own/ data directory "},
		{"with odd bytes", "ü/'$(x)'\""},
	} {
		t.Run(test.name, func(t *testing.T) {
			top := rig.Dir(t)
			data := filepath.Join(top, test.path)
			if err := os.MkdirAll(filepath.Dir(data), 0o700); err != nil {
				t.Fatal(err)
			}
			g := rig.StartOn(t, data)
			g.Deploy(rig.App(t, "probe", ""), "t", "probe")
			if n := g.Text("POST", "/t/a/probe/incr", ""); n != "1" {
				t.Errorf("it counts %s", n)
			}
			g.Stop()
			g.Start()
			if n := g.Text("POST", "/t/a/probe/incr", ""); n != "2" {
				t.Errorf("after a restart it counts %s", n)
			}
		})
	}
}

func TestDataDirectoryOfANewerVersion(t *testing.T) {
	g := probes(t)
	g.Text("POST", "/t/a/probe/incr", "")
	g.Stop()
	registry, err := filepath.Glob(filepath.Join(g.Data, "*.db"))
	if err != nil || len(registry) != 1 {
		t.Fatalf("the registry is %v, %v", registry, err)
	}
	older := bump(t, registry[0], 1000)
	before := contents(t, g.Data)
	got := rig.Command(t, "serve", "--data", g.Data, "--listen", "127.0.0.1:0")
	if got.Code != 6 || got.Stdout != "" || !strings.Contains(got.Stderr, "newer") {
		t.Errorf("exit %d: %s%s", got.Code, got.Stdout, got.Stderr)
	}
	if after := contents(t, g.Data); after != before {
		t.Errorf("it was touched: before\n%safter\n%s", before, after)
	}
	bump(t, registry[0], older)
	g.Start()
	if n := g.Text("POST", "/t/a/probe/incr", ""); n != "2" {
		t.Errorf("then it counts %s", n)
	}
}

// bump writes the version that SQLite keeps for its users (bytes 60 to 63 of the file's header, big-endian).
func bump(t *testing.T, file string, to uint32) (was uint32) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [4]byte
	if _, err := f.ReadAt(b[:], 60); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{byte(to >> 24), byte(to >> 16), byte(to >> 8), byte(to)}, 60); err != nil {
		t.Fatal(err)
	}
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// contents lists the files of a directory with their sizes and times, but for the ones that only a running gateway needs.
func contents(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if name != "lock" && !strings.HasSuffix(name, "-shm") && info.Size() > 0 {
			fmt.Fprintln(&list, name, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}

func TestServeIsRefused(t *testing.T) {
	g := rig.Start(t)
	t.Run("on a data directory in use", func(t *testing.T) {
		got := rig.Command(t, "serve", "--data", g.Data, "--listen", "127.0.0.1:0")
		if got.Code != 6 || got.Stdout != "" || !strings.Contains(got.Stderr, "in use") {
			t.Errorf("exit %d: %s%s", got.Code, got.Stdout, got.Stderr)
		}
	})
	t.Run("on a port in use", func(t *testing.T) {
		taken, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer taken.Close()
		data := filepath.Join(rig.Dir(t), "data")
		got := rig.Command(t, "serve", "--data", data, "--listen", taken.Addr().String())
		if got.Code != 1 || got.Stdout != "" || !strings.Contains(got.Stderr, "hint: ") || !strings.Contains(got.Stderr, taken.Addr().String()) {
			t.Errorf("exit %d: %s%s", got.Code, got.Stdout, got.Stderr)
		}
	})
	if a := g.Do("GET", "/_fgw/healthz", nil); a.Status != 200 {
		t.Errorf("the gateway that was there: %d", a.Status)
	}
}

// smallDisk mounts a file system of its own, of so many megabytes, until the test ends.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	rig.NeedRoot(t)
	dir := rig.Dir(t)
	if err := syscall.Mount("fgw-e2e", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("no file system of its own can be had: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
			syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return dir
}

func TestQuota(t *testing.T) {
	g := probes(t)
	g.Must("namespaces", "set", "t", "storage=4MiB")
	a := g.Do("POST", "/t/a/probe/fill?blobs=100", nil)
	if a.Status != 422 || !strings.Contains(string(a.Body), `"app_code":"storage_quota"`) || !strings.Contains(string(a.Body), `"limit":true`) {
		t.Errorf("a facet over its quota: %d %s", a.Status, a.Body)
	}
	if got := g.Text("GET", "/t/a/probe/check", ""); got != "ok" {
		t.Errorf("its database: %s", got)
	}
	if n := g.Text("POST", "/t/b/probe/incr", ""); n != "1" {
		t.Errorf("its neighbour counts %s", n)
	}
	g.Text("POST", "/t/a/probe/empty", "")
	g.Text("POST", "/t/a/probe/fill?blobs=4", "")
	if d := g.Inspect("t/a/probe"); d.Usage.Starts != 1 || d.StorageBytes > 12<<20 {
		t.Errorf("%+v", d)
	}
}

// zeroes is a reader without an end.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A disk that is full costs whoever writes to it an error, and nobody anything else.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, 96)
	g := rig.StartOn(t, filepath.Join(disk, "data"))
	g.Deploy(rig.App(t, "probe", ""), "t", "probe")
	g.Text("POST", "/t/b/probe/incr", "")
	acknowledged := 0
	var full *rig.Answer
	for range 400 {
		full = g.Do("POST", "/t/a/probe/fill?blobs=1", nil)
		if full.Status != 200 {
			break
		}
		acknowledged++
	}
	// Either the statement fails, which the app tells, or its output can't be made durable, which the gateway tells.
	if code := full.Problem().Code; !(full.Status == 422 && strings.Contains(string(full.Body), `"app_code":"disk_full"`)) && !(full.Status == 507 && code == "disk_full") {
		t.Errorf("after %d blobs: %d %s", acknowledged, full.Status, full.Body)
	}
	if acknowledged == 0 {
		t.Error("nothing could be written")
	}
	t.Run("reads go on", func(t *testing.T) {
		g.T = t
		for _, object := range []string{"a", "b"} {
			rig.Eventually(t, slack, object+" answers", func() bool { return g.Do("GET", "/t/"+object+"/probe/read", nil).Status == 200 })
		}
	})
	t.Run("new things are refused", func(t *testing.T) {
		g.T = t
		// To the last byte: what is new is small.
		rest, err := os.Create(filepath.Join(disk, "rest"))
		if err != nil {
			t.Fatal(err)
		}
		defer os.Remove(rest.Name())
		defer rest.Close()
		if _, err := io.Copy(rest, zeroes{}); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk was filled until %v", err)
		}
		if a := g.Do("POST", "/t/new/probe/incr", nil); a.Status != 507 || a.Problem().Code != "disk_full" {
			t.Errorf("a new object: %d %s", a.Status, a.Body)
		}
		if got := g.Run("namespaces", "create", "new", "--output", "json"); got.Code != 5 || !strings.Contains(got.Stderr, `"disk_full"`) {
			t.Errorf("a new namespace: exit %d, wanted 5 with disk_full: %s", got.Code, got.Stderr)
		}
	})
	t.Run("the build cache leaves the room to data", func(t *testing.T) {
		if made, _ := filepath.Glob(filepath.Join(g.Data, "build", "cache", "*")); len(made) > 0 {
			t.Errorf("it was filled on a disk of 96 MiB: %d directories", len(made))
		}
	})
	t.Run("a bundle that does not fit", func(t *testing.T) {
		g.T = t
		rest := rig.Free(t, disk)
		exe := filepath.Join(rig.Dir(t), "large")
		data, err := os.ReadFile(rig.App(t, "probe", "two"))
		if err != nil {
			t.Fatal(err)
		}
		// An executable with more behind it is as good as without.
		if err := os.WriteFile(exe, append(data, bytes.Repeat([]byte{1}, int(rest)+1<<20)...), 0o755); err != nil {
			t.Fatal(err)
		}
		got := g.Run("deploy", exe, "--namespace", "t", "--app", "large", "--output", "json")
		if got.Code == 0 || !strings.Contains(got.Stderr, "space") && !strings.Contains(got.Stderr, "disk_full") {
			t.Errorf("exit %d: %s%s", got.Code, got.Stdout, got.Stderr)
		}
		if got.Code != 5 || !strings.Contains(got.Stderr, `"disk_full"`) {
			t.Errorf("exit %d, wanted 5 with disk_full: %s", got.Code, got.Stderr)
		}
		if left, _ := exec.Command("find", filepath.Join(g.Data, "bundles"), "-name", ".new-*").Output(); len(left) > 0 {
			t.Errorf("half-written: %s", left)
		}
		if after := rig.Free(t, disk); after < rest-1<<20 {
			t.Errorf("%d bytes were free, now %d", rest, after)
		}
	})
	t.Run("room again", func(t *testing.T) {
		g.T = t
		if err := syscall.Mount("fgw-e2e", disk, "tmpfs", syscall.MS_REMOUNT, "size=160m"); err != nil {
			t.Skip("the file system can't be made larger here: ", err)
		}
		rig.Eventually(t, 10*slack, "writes work again", func() bool { return g.Do("POST", "/t/a/probe/fill?blobs=4", nil).Status == 200 })
		rig.Eventually(t, slack, "the neighbour writes", func() bool { return g.Do("POST", "/t/b/probe/incr", nil).Status == 200 })
		if got := g.Text("GET", "/t/a/probe/check", ""); got != "ok" {
			t.Errorf("its database: %s", got)
		}
	})
	g.T = t
}
