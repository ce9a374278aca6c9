package build

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// Off is given in place of a Go toolchain's root where no sources are to be built: the gateway then spends nothing on
// a build cache.
const Off = "off"

// FindToolchain looks for the Go toolchain that `fgw serve` gives to sandboxd: its root, and its version as
// in "go1.26.8". goroot is where the administrator says that it lies, "" for whichever `go` is on the PATH.
// It is for the process of the administrator, not for the gateway's.
func FindToolchain(goroot string) (root, version string, err error) {
	if goroot == Off {
		return "", "", errors.New("building sources is switched off")
	}
	if root = goroot; root == "" {
		tool, err := exec.LookPath("go")
		if err != nil {
			return "", "", fmt.Errorf("find the Go toolchain: %w", err)
		}
		out, err := exec.Command(tool, "env", "GOROOT").Output()
		if err != nil {
			return "", "", fmt.Errorf("find the Go toolchain: go env GOROOT: %w", err)
		}
		root = strings.TrimSpace(string(out))
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return "", "", fmt.Errorf("find the Go toolchain: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(root, "VERSION"))
	if err != nil {
		return "", "", fmt.Errorf("find the Go toolchain: %w", err)
	}
	version, _, _ = strings.Cut(string(text), "\n")
	version = strings.TrimSpace(version)
	if !strings.HasPrefix(version, "go1.") {
		return "", "", fmt.Errorf("find the Go toolchain: %s has version %.40q", root, version)
	}
	if _, err := os.Stat(filepath.Join(root, "bin", "go")); err != nil {
		return "", "", fmt.Errorf("find the Go toolchain: %w", err)
	}
	return root, version, nil
}

// FindCache looks for what the go command of that toolchain has compiled for whoever runs it, in the process of the administrator:
// its GOCACHE. It gives "" where there is none, and where another user than that one or root could write to it.
func FindCache(goroot string) string {
	cmd := exec.Command(filepath.Join(goroot, "bin", "go"), "env", "GOCACHE")
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "GOTOOLCHAIN=local", "PWD=/")
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	dir, err := filepath.EvalSymlinks(strings.TrimSpace(string(out)))
	if err != nil || !filepath.IsAbs(dir) || !ownDirectory(dir) {
		return ""
	}
	parts, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, p := range parts {
		if p.IsDir() && len(p.Name()) == 2 && !ownDirectory(filepath.Join(dir, p.Name())) {
			return ""
		}
	}
	return dir
}

// ownDirectory reports whether nobody but root and the user of this process can write there.
func ownDirectory(dir string) bool {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 {
		return false
	}
	uid := int(info.Sys().(*syscall.Stat_t).Uid)
	return uid == 0 || uid == os.Geteuid()
}
