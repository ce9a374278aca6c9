package seccomp

import (
	"embed"
	"fmt"
	"runtime"
)

//go:generate go run ./compile bpf

//go:embed bpf
var compiled embed.FS

// Filter gives the program of a policy for this machine: an array of the kernel's struct
// sock_filter, 8 bytes each, in native byte order.
func Filter(profile string) ([]byte, error) {
	b, err := compiled.ReadFile("bpf/" + FileName(profile, runtime.GOARCH))
	if err != nil {
		return nil, fmt.Errorf("no system call filter %s for %s in this program", profile, runtime.GOARCH)
	}
	return b, nil
}

// FileName names a compiled program below bpf/.
func FileName(profile, arch string) string { return profile + "_" + arch + ".bpf" }
