//go:build !cgo

// Command compile turns the policies of package seccomp into programs for the
// kernel. Without cgo it can only say so.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "compile: needs cgo and libseccomp-dev: CGO_ENABLED=1 go run ./seccomp/compile")
	os.Exit(1)
}
