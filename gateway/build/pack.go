package build

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// Packer makes archives of modules for (*Modules).Replace. It is the administrator's side: it runs the go
// command with the administrator's settings, which may fetch modules over the network.
type Packer struct {
	Go  string // the go command; default the one on the PATH
	SDK *appvendor.Set
	Env []string // default os.Environ
}

// packModule is the module in which the allowed ones are resolved together.
const packModule = "modules.of.this.gateway"

// Resolve gives the module at the version that a query such as v1.2.3 or latest means.
func (p *Packer) Resolve(ctx context.Context, path, query string) (Module, error) {
	dir, err := os.MkdirTemp("", "fgw-modules-")
	if err != nil {
		return Module{}, err
	}
	defer os.RemoveAll(dir)
	out, err := p.run(ctx, dir, "list", "-m", "-json", path+"@"+query)
	if err != nil {
		return Module{}, err
	}
	var m struct{ Path, Version string }
	if err := json.Unmarshal(out, &m); err != nil {
		return Module{}, fmt.Errorf("look up %s@%s: %w", path, query, err)
	}
	return Module{m.Path, m.Version}, nil
}

// Pack writes an archive of the given modules with all that they need. They are resolved together: where one
// needs a newer version of another than was asked for, that version is what the archive has, and what the returned
// list says.
func (p *Packer) Pack(ctx context.Context, allowed []Module, to io.Writer) ([]Module, error) {
	if len(allowed) == 0 {
		return nil, writeArchive(to, archiveManifest{}, "")
	}
	dir, err := os.MkdirTemp("", "fgw-modules-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	manifest, err := p.vendor(ctx, dir, allowed)
	if err != nil {
		return nil, err
	}
	return manifest.Modules, writeArchive(to, manifest, filepath.Join(dir, "vendor"))
}

// vendor makes a module in dir that needs every package of the allowed modules, and its vendor directory.
func (p *Packer) vendor(ctx context.Context, dir string, allowed []Module) (m archiveManifest, err error) {
	mod := "module " + packModule + "\n\ngo " + p.SDK.Manifest.Go + "\n\n"
	for _, a := range allowed {
		mod += "require " + a.Path + " " + a.Version + "\n"
	}
	// What the SDK needs takes part, so that the versions fit it as well.
	var imports []string
	for _, r := range p.SDK.Manifest.Requires {
		if r.Path != sdkModule {
			mod += "require " + r.Path + " " + r.Version + "\n"
			imports = append(imports, r.Path)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600); err != nil {
		return m, err
	}
	for _, a := range allowed {
		packages, err := p.packages(ctx, dir, a.Path)
		if err != nil {
			return m, err
		}
		m.Packages = append(m.Packages, packages...)
	}
	var source strings.Builder
	source.WriteString("package modules\n\nimport (\n")
	for _, name := range append(imports, m.Packages...) {
		fmt.Fprintf(&source, "\t_ %q\n", name)
	}
	source.WriteString(")\n")
	if err := os.WriteFile(filepath.Join(dir, "modules.go"), []byte(source.String()), 0o600); err != nil {
		return m, err
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"mod", "vendor"}} {
		if _, err := p.run(ctx, dir, args...); err != nil {
			return m, err
		}
	}
	err = p.describe(ctx, dir, allowed, &m)
	return m, err
}

// packages gives those of a module that a source can import and that can be built here, without cgo.
func (p *Packer) packages(ctx context.Context, dir, module string) ([]string, error) {
	out, err := p.run(ctx, dir, "list", "-e", "-f", `{{if and (not .Error) (ne .Name "main")}}{{.ImportPath}}{{end}}`, module+"/...")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		if name == "" || slices.Contains(strings.Split(name, "/"), "internal") || !within(name, module) {
			continue
		}
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("module %s has no package that can be imported and built without cgo", module)
	}
	return names, nil
}

// describe reads back what was resolved.
func (p *Packer) describe(ctx context.Context, dir string, allowed []Module, m *archiveManifest) error {
	out, err := p.run(ctx, dir, "mod", "edit", "-json")
	if err != nil {
		return err
	}
	var mod struct{ Require []appvendor.Module }
	if err := json.Unmarshal(out, &mod); err != nil {
		return fmt.Errorf("read the resolved modules: %w", err)
	}
	m.Requires = mod.Require
	for _, a := range allowed {
		for _, r := range mod.Require {
			if r.Path == a.Path {
				m.Modules = append(m.Modules, Module{r.Path, r.Version})
			}
		}
	}
	return nil
}

// run runs the go command in dir.
func (p *Packer) run(ctx context.Context, dir string, args ...string) ([]byte, error) {
	tool := p.Go
	if tool == "" {
		tool = "go"
	}
	env := p.Env
	if env == nil {
		env = os.Environ()
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, tool, args...)
	cmd.Dir, cmd.Stderr = dir, &said
	cmd.Env = append(slices.Clone(env), "GOFLAGS=-mod=mod", "GOWORK=off", "CGO_ENABLED=0", "GOOS=linux", "PWD="+dir)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, fmt.Errorf("go %s: %s", strings.Join(args[:min(2, len(args))], " "), strings.TrimSpace(said.String()))
	}
	return out, err
}

// writeArchive writes the manifest and a vendor directory, "" for none.
func writeArchive(to io.Writer, manifest archiveManifest, vendor string) error {
	z := zip.NewWriter(to)
	text, err := json.Marshal(manifest)
	if err != nil {
		return err
	}
	add := func(name string, text []byte) error {
		w, err := z.Create(name)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	if err := add("manifest.json", text); err != nil {
		return err
	}
	if vendor == "" {
		if err := add("vendor/modules.txt", nil); err != nil {
			return err
		}
		return z.Close()
	}
	err = filepath.WalkDir(vendor, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(vendor, name)
		if err != nil {
			return err
		}
		return add(path.Join("vendor", filepath.ToSlash(relative)), text)
	})
	if err != nil {
		return err
	}
	return z.Close()
}
