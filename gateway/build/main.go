package build

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
)

// Name is argv[0] of a builder's process.
const Name = "fgw-builder"

// jobFD is the descriptor at which a builder finds its job.
const jobFD = 3

// A builder's world, as sandboxd makes it.
const (
	toolchainDir = "/go"
	modulesDir   = "/mod"
	cacheDir     = "/cache"
	sourceDir    = "/src"
	scratchDir   = "/tmp"
)

// fixedFlags of every build. -pgo=off, since a profile among the sources would have the standard library
// compiled anew; no vcs, no paths of the sandbox in the executable; -e tells all errors, not the first ten. The
// linker leaves out what debuggers want to know (-w), so the compiler need not write it down: a tenth of its time, a quarter of the cache.
var (
	fixedFlags = []string{"-trimpath", "-buildvcs=false", "-pgo=off", "-gcflags=all=-dwarf=false"}
	buildFlags = []string{"-gcflags=-e -dwarf=false", "-ldflags=-s -w"} // of two -gcflags the last that fits a package counts
)

// Flags are those that decide what a package is compiled to. Whoever builds with them, and without cgo, fills a cache that
// a gateway's can be filled from.
func Flags() []string { return slices.Clone(fixedFlags) }

// Main is the builder's process: it carries out the one job that it finds, and ends. Everything that it starts dies with
// it, as it is the init of a pid namespace.
func Main() {
	conn := os.NewFile(jobFD, "job")
	syscall.CloseOnExec(jobFD) // the toolchain has no business with it
	var head jobHead
	if err := readHead(conn, &head); err != nil {
		fmt.Fprintln(os.Stderr, "read the job:", err)
		os.Exit(2)
	}
	if err := carryOut(conn, &head); err != nil {
		fmt.Fprintln(os.Stderr, "answer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// archive begins what the compiler makes.
const archive = "!<arch>\n"

// carryOut answers one job.
func carryOut(conn io.ReadWriter, head *jobHead) error {
	if err := writeSources(conn, head.Files); err != nil {
		return writeHead(conn, answer{Error: err.Error()})
	}
	output := filepath.Join(scratchDir, "out")
	args := append([]string{"build"}, fixedFlags...)
	if head.Warm {
		args = append(args, head.Packages...)
	} else {
		args = append(append(args, buildFlags...), "-o", output, ".")
	}
	var a answer
	if seed := seeded(); head.Seed && seed != "" {
		a = goCommand(args, seed)
	}
	if !a.Built { // also where the copying failed: a cache can be warmed without it
		a = goCommand(args)
	}
	if !a.Built || head.Warm {
		return writeHead(conn, a)
	}
	exe, err := os.Open(output)
	if err != nil {
		return writeHead(conn, answer{Error: err.Error()})
	}
	defer exe.Close()
	info, err := exe.Stat()
	if err != nil {
		return writeHead(conn, answer{Error: err.Error()})
	}
	if begin := make([]byte, len(archive)); info.Size() > int64(len(begin)) {
		if _, err := exe.ReadAt(begin, 0); err == nil && string(begin) == archive {
			// What is no program is compiled and not linked.
			return writeHead(conn, answer{Output: "package main with func main is missing: the source is a library"})
		}
	}
	a.Size = info.Size()
	if err := writeHead(conn, a); err != nil || a.Size > MaxExecutable {
		return err
	}
	_, err = io.CopyN(conn, exe, a.Size)
	return err
}

// writeSources writes the files that follow the job's head, and hangs the modules beside them.
func writeSources(conn io.Reader, files []fileHead) error {
	for _, f := range files {
		path := filepath.Join(sourceDir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.CopyN(to, conn, f.Size)
		if err = errors.Join(err, to.Close()); err != nil {
			return err
		}
	}
	return os.Symlink(modulesDir+"/vendor", filepath.Join(sourceDir, "vendor"))
}

// outOfMemory is what the toolchain says where one of its programs was killed or was refused memory.
var outOfMemory = regexp.MustCompile(`: signal: killed|fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory)`)

// goCommand runs the go command.
func goCommand(args []string, variables ...string) answer {
	var said bounded
	cmd := exec.Command(toolchainDir+"/bin/go", args...)
	cmd.Dir, cmd.Env = sourceDir, append(environment(), variables...)
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	a := answer{Built: err == nil, Output: said.String()}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case !errors.As(err, &exit):
		a.Error = err.Error()
	case exit.Sys().(syscall.WaitStatus).Signaled(), outOfMemory.MatchString(a.Output):
		a.Killed = true // nothing kills here but the kernel that is out of memory
	}
	return a
}

// environment is the whole of what the toolchain is told: no network, no configuration of anyone's, no
// other toolchain, no cgo. goindex=0: the go command would otherwise write an index of each directory that it
// looks at into the cache, and fail where it can't.
func environment() []string {
	return []string{
		"GOROOT=" + toolchainDir, "PATH=" + toolchainDir + "/bin", "GOCACHE=" + cacheDir,
		"GOTMPDIR=" + scratchDir, "GOPATH=" + scratchDir + "/gopath", // no HOME: without one there is no telemetry
		"GO111MODULE=on", "GOFLAGS=-mod=vendor", "GOWORK=off", "GOPROXY=off", "GOSUMDB=off", "GOVCS=*:off", "GOENV=off",
		"GOTOOLCHAIN=local", "CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + runtime.GOARCH,
		"GOMAXPROCS=" + os.Getenv("GOMAXPROCS"), "GODEBUG=goindex=0,containermaxprocs=0,updatemaxprocs=0",
	}
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:max(0, min(len(p), maxOutput-b.Len()))])
	return len(p), nil
}
