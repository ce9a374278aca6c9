package sandboxd

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestForeignDirectory(t *testing.T) {
	for _, test := range []struct {
		name    string
		files   []string
		refused bool
	}{
		{"an empty one", nil, false},
		{"somebody's", []string{"passwd"}, true},
		{"somebody's, with a lock", []string{"lock", "passwd"}, true},
		{"fgw's", []string{"lock", "registry.db", "bundles"}, false},
		{"one whose first start was cut short", []string{"lock", "objects"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range test.files {
				if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			d, err := openDataDir(t.Context(), dir, slog.Default())
			if err == nil {
				d.close()
			}
			if got := errors.Is(err, ErrForeign); got != test.refused || !got && err != nil {
				t.Fatalf("opened: %v", err)
			}
			if names := entries(t, dir); test.refused && len(names) != len(test.files) {
				t.Errorf("a refused directory holds %v", names)
			}
			if test.refused && !strings.Contains(err.Error(), "passwd") {
				t.Errorf("%v does not say why", err)
			}
		})
	}
}

func TestOthersMayNotWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	d, err := openDataDir(t.Context(), dir, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if mode := stat(t, dir).Mode & 0o7777; mode != 0o755 {
		t.Errorf("the directory's mode is %o, want that nobody else writes", mode)
	}
}

// TestSocketIsNoLink: what lies in the place of the admin socket may be the work of whoever owns the directory.
func TestSocketIsNoLink(t *testing.T) {
	dir := t.TempDir()
	secret, link := filepath.Join(dir, "secret"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(secret, nil, 0o600), os.Symlink(secret, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{secret, link} {
		fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := openSocket(fd, os.Getuid()); err == nil {
			t.Errorf("%s is taken for a socket", path)
		}
		unix.Close(fd)
	}
	if mode := stat(t, secret).Mode & 0o777; mode != 0o600 {
		t.Errorf("a file that is linked to in the socket's place has mode %o", mode)
	}
}
