//go:build cgo

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/facetgateway/fgw/seccomp"
)

// TestEmbedded holds the programs in the repository to what the tables say now.
func TestEmbedded(t *testing.T) {
	for _, p := range seccomp.Profiles() {
		for arch := range architectures {
			fresh, err := Compile(p, arch)
			if err != nil {
				t.Errorf("%s for %s: %v", p.Name, arch, err)
				continue
			}
			kept, err := os.ReadFile(filepath.Join("..", "bpf", seccomp.FileName(p.Name, arch)))
			if err != nil || !bytes.Equal(fresh, kept) {
				t.Errorf("%s for %s is not what the tables say: run make generate (%v)", p.Name, arch, err)
			}
		}
	}
}

func TestContradiction(t *testing.T) {
	p := seccomp.Profile{Name: "x", Allow: []seccomp.Rule{{Call: "read"}}, Kill: []seccomp.Rule{{Call: "read"}}}
	if _, err := Compile(p, "amd64"); err == nil {
		t.Error("a call that is allowed and a tripwire compiles")
	}
	if _, err := Compile(seccomp.Profile{Allow: []seccomp.Rule{{Call: "no_such_call"}}}, "amd64"); err == nil {
		t.Error("an unknown call compiles")
	}
}
