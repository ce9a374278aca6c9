package bundle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const program = "package main\n\nfunc main() { println(\"hello\") }\n"

// build compiles a small program.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "program")
	cmd := exec.Command("go", "build", "-o", out, filepath.Join(dir, "main.go"))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	return out
}

func TestCheckAcceptsStaticGo(t *testing.T) {
	if err := CheckFile(build(t)); err != nil {
		t.Error(err)
	}
}

func TestCheckRefuses(t *testing.T) {
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	patched := func(patch func(b []byte)) string {
		c := bytes.Clone(b)
		patch(c)
		return write(string(c))
	}
	put16 := func(at int, v uint16) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint16(b[at:], v) }
	}
	foreign := "arm64"
	if runtime.GOARCH == foreign {
		foreign = "amd64"
	}
	for _, tc := range []struct {
		name, path string
		want       error
		says       string
	}{
		{"empty", write(""), ErrNotExecutable, "empty"},
		{"script", write("#!/bin/sh\necho hi\n"), ErrNotExecutable, "script"},
		{"text", write(program), ErrNotExecutable, "no ELF"},
		{"cut head", write("\x7fELF\x02\x01"), ErrNotExecutable, "cut short"},
		{"cut body", write(string(b[:len(b)/3])), ErrNotExecutable, "cut short"},
		{"Windows", write("MZ\x90"), ErrNotExecutable, "GOOS=linux"},
		{"macOS", write("\xcf\xfa\xed\xfe\x07"), ErrNotExecutable, "GOOS=linux"},
		{"library", patched(func(b []byte) { binary.LittleEndian.PutUint64(b[24:], 0) }), ErrNotExecutable, "library"},
		{"object file", patched(put16(16, 1)), ErrNotExecutable, "object file"},
		{"32-bit", patched(func(b []byte) { b[4] = 1 }), ErrNotExecutable, "64-bit"},
		{"other machine", patched(put16(18, machines[foreign])), ErrNotExecutable, "built for " + foreign},
		{"unknown machine", patched(put16(18, 4242)), ErrNotExecutable, "4242"},
		{"no headers", patched(put16(56, 0)), ErrNotExecutable, "damaged"},
		{"many headers", patched(put16(56, 60000)), ErrNotExecutable, "damaged"},
		{"interpreter", patched(func(b []byte) { binary.LittleEndian.PutUint32(b[elfHeaderSize:], progInterp) }), ErrDynamic, "CGO_ENABLED=0"},
		{"dynamic", "/bin/ls", ErrDynamic, "dynamic loader"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := CheckFile(tc.path)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %v that says %q", err, tc.want, tc.says)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	h := make([]byte, 256)
	copy(h, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(h[16:], typeExec)
	binary.LittleEndian.PutUint16(h[18:], machines[runtime.GOARCH])
	binary.LittleEndian.PutUint64(h[24:], 64)
	binary.LittleEndian.PutUint64(h[32:], 64)
	binary.LittleEndian.PutUint16(h[54:], progHeaderSize)
	binary.LittleEndian.PutUint16(h[56:], 2)
	binary.LittleEndian.PutUint32(h[64:], progLoad)
	f.Add(h)
	f.Add([]byte("#!"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := Check(bytes.NewReader(b))
		if err != nil && !errors.Is(err, ErrNotExecutable) && !errors.Is(err, ErrDynamic) {
			t.Fatal(err)
		}
	})
}

func newStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := NewStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPut(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for range 2 { // the second time it is there already
		hash, n, err := s.Put(t.Context(), strings.NewReader("abc"), 3, nil)
		if err != nil || hash != abc || n != 3 {
			t.Fatalf("Put: %s, %d, %v", hash, n, err)
		}
	}
	f, err := s.Open(abc)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, _ := io.ReadAll(f)
	info, _ := f.Stat()
	if string(b) != "abc" || info.Mode() != 0o511 {
		t.Errorf("holds %q with mode %v", b, info.Mode())
	}
	onlyFiles(t, dir, abc)
}

// onlyFiles fails where the store holds anything but the named bundles.
func onlyFiles(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "bundles"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("the store holds %q, want %q", got, want)
	}
}

func TestPutLeavesNothingWhereItFails(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	broken := errors.New("broken")
	for _, tc := range []struct {
		name  string
		ctx   context.Context
		r     io.Reader
		check func(*os.File) error
		want  error
	}{
		{"too large", t.Context(), strings.NewReader("abcd"), nil, ErrTooLarge},
		{"broken upload", t.Context(), io.MultiReader(strings.NewReader("a"), iotest.ErrReader(broken)), nil, broken},
		{"caller gone", gone, strings.NewReader("abc"), nil, context.Canceled},
		{"refused", t.Context(), strings.NewReader("abc"), func(f *os.File) error { return Check(f) }, ErrNotExecutable},
	} {
		if _, _, err := s.Put(tc.ctx, tc.r, 3, tc.check); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
	onlyFiles(t, dir)
}

func TestNewStoreRemovesHalfWritten(t *testing.T) {
	dir := t.TempDir()
	newStore(t, dir)
	if err := os.WriteFile(filepath.Join(dir, "bundles", tempPrefix+"1"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	newStore(t, dir)
	onlyFiles(t, dir)
}

func TestOpenUnknown(t *testing.T) {
	s := newStore(t, t.TempDir())
	for _, hash := range []string{"", "..", "../registry.db", strings.Repeat("a", 64), strings.Repeat("A", 64)} {
		if _, err := s.Open(hash); !errors.Is(err, ErrNotFound) {
			t.Errorf("Open(%q): %v", hash, err)
		}
	}
}

func TestCollect(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, dir)
	put := func(content string) string {
		hash, _, err := s.Put(t.Context(), strings.NewReader(content), 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		return hash
	}
	used, unused, again := put("used"), put("unused"), put("again")
	now := time.Now()
	s.now = func() time.Time { return now.Add(2 * grace) }
	put("again") // stored a moment ago: a version may be about to refer to it
	removed, n, err := s.Collect(func(hash string) bool { return hash == used })
	if err != nil || removed != 1 || n != int64(len("unused")) {
		t.Errorf("Collect: %d, %d, %v", removed, n, err)
	}
	if _, err := s.Open(unused); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unused bundle is kept: %v", err)
	}
	for _, hash := range []string{used, again} {
		if f, err := s.Open(hash); err != nil {
			t.Error(err)
		} else {
			f.Close()
		}
	}
}
