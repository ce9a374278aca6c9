//go:build cgo

// Command compile turns the policies of package seccomp into programs for the
// kernel, by libseccomp, and writes them where they are embedded:
//
//	go run ./seccomp/compile [DIR]
//
// It is the one part of the project that needs cgo and libseccomp's headers; what it
// writes is kept in the repository, so that nothing else does.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/facetgateway/fgw/seccomp"
	libseccomp "github.com/seccomp/libseccomp-golang"
)

// architectures are those that there are programs for.
var architectures = map[string]libseccomp.ScmpArch{
	"amd64": libseccomp.ArchAMD64,
	"arm64": libseccomp.ArchARM64,
}

func main() {
	dir := "seccomp/bpf"
	if len(os.Args) > 1 {
		dir = os.Args[1]
	}
	for _, p := range seccomp.Profiles() {
		for arch := range architectures {
			b, err := Compile(p, arch)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, seccomp.FileName(p.Name, arch)), b, 0o644)
			}
			if err != nil {
				fmt.Fprintf(os.Stderr, "compile %s for %s: %v\n", p.Name, arch, err)
				os.Exit(1)
			}
			fmt.Printf("%s %s: %d instructions\n", p.Name, arch, len(b)/8)
		}
	}
}

// Compile gives p's program for arch.
func Compile(p seccomp.Profile, arch string) ([]byte, error) {
	f, err := libseccomp.NewFilter(libseccomp.ActErrno.SetReturnCode(seccomp.Default))
	if err != nil {
		return nil, err
	}
	defer f.Release()
	if err := target(f, architectures[arch]); err != nil {
		return nil, err
	}
	// A call by another architecture's convention (int80, x32) has other numbers: never let through.
	if err := f.SetBadArchAction(libseccomp.ActKillProcess); err != nil {
		return nil, err
	}
	// A binary tree over the numbers instead of a list: a third less per call.
	if err := f.SetOptimize(2); err != nil {
		return nil, err
	}
	for _, r := range p.Allow {
		if err := add(f, r, arch, libseccomp.ActAllow); err != nil {
			return nil, err
		}
	}
	for _, r := range p.Kill {
		if slices.ContainsFunc(p.Allow, func(a seccomp.Rule) bool { return a.Call == r.Call }) {
			return nil, fmt.Errorf("%s is both allowed and a tripwire", r.Call)
		}
		if err := add(f, r, arch, libseccomp.ActKillProcess); err != nil {
			return nil, err
		}
	}
	return export(f)
}

// target makes arch the filter's only architecture.
func target(f *libseccomp.ScmpFilter, arch libseccomp.ScmpArch) error {
	native, err := libseccomp.GetNativeArch()
	if err != nil || native == arch {
		return err
	}
	if err := f.AddArch(arch); err != nil {
		return err
	}
	return f.RemoveArch(native)
}

func add(f *libseccomp.ScmpFilter, r seccomp.Rule, arch string, action libseccomp.ScmpAction) error {
	if r.Arch != "" && r.Arch != arch {
		return nil
	}
	call := libseccomp.ScmpSyscall(r.Nr)
	native, _ := libseccomp.GetNativeArch()
	if r.Nr == 0 {
		var err error
		if call, err = libseccomp.GetSyscallFromName(r.Call); err != nil {
			return fmt.Errorf("%s: %w", r.Call, err)
		}
	} else if native != architectures[arch] {
		// libseccomp carries numbers between architectures by name: a call that it can't name
		// stays with the default there, which denies it.
		return nil
	}
	var conditions []libseccomp.ScmpCondition
	for _, a := range r.Args {
		c, err := libseccomp.MakeCondition(uint(a.Index), libseccomp.CompareMaskedEqual, a.Mask, a.Value)
		if a.Mask == ^uint64(0) {
			c, err = libseccomp.MakeCondition(uint(a.Index), libseccomp.CompareEqual, a.Value)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", r.Call, err)
		}
		conditions = append(conditions, c)
	}
	var err error
	if len(conditions) > 0 {
		err = f.AddRuleConditional(call, action, conditions)
	} else {
		err = f.AddRule(call, action)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Call, err)
	}
	return nil
}

// export reads the program back from a file without a name: libseccomp 2.5 writes to descriptors alone.
func export(f *libseccomp.ScmpFilter) ([]byte, error) {
	file, err := os.CreateTemp("", "fgw-bpf-")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	os.Remove(file.Name())
	if err := f.ExportBPF(file); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	_, err = file.ReadAt(b, 0)
	return b, err
}
