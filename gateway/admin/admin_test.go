package admin

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/address"
	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/registry"
)

func TestNamespaceCalls(t *testing.T) {
	c := dial(t, serve(t, t.TempDir()).dir)
	ctx := t.Context()
	if list, err := c.NamespacesLs(ctx); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	ns, err := c.NamespacesCreate(ctx, "notes")
	if err != nil || ns.Name != "notes" || ns.Limits != registry.DefaultLimits() || ns.CreatedAt.IsZero() {
		t.Errorf("%+v, %v", ns, err)
	}
	_, err = c.NamespacesCreate(ctx, "notes")
	wants(t, "created twice", err, 409, "exists")
	_, err = c.NamespacesCreate(ctx, "../x")
	wants(t, "a bad name", err, 400, "bad_name")
	_, err = c.NamespacesShow(ctx, "other")
	wants(t, "an unknown one", err, 404, "namespace_not_found")
	_, err = c.NamespacesSet(ctx, "notes", map[string]string{"memory": "1B"})
	wants(t, "a bad value", err, 400, "bad_value")
	if !strings.Contains(err.Error(), "16MiB to 64GiB") {
		t.Errorf("the range is not told: %v", err)
	}
	if ns, err = c.NamespacesSet(ctx, "notes", map[string]string{"memory": "64MiB", "create": "admin"}); err != nil || ns.Limits.Memory != 64<<20 || ns.Create != "admin" {
		t.Errorf("%+v, %v", ns, err)
	}
	if _, err := c.ObjectsCreate(ctx, "notes/alice"); err != nil {
		t.Fatal(err)
	}
	wants(t, "one with objects is removed", c.NamespacesRm(ctx, "notes", false), 409, "not_empty")
	if ns, err := c.NamespacesShow(ctx, "notes"); err != nil || ns.Objects != 1 {
		t.Errorf("%+v, %v", ns, err)
	}
	if err := c.NamespacesRm(ctx, "notes", true); err != nil {
		t.Error(err)
	}
	wants(t, "removed twice", c.NamespacesRm(ctx, "notes", true), 404, "namespace_not_found")
}

func program(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	src, out := filepath.Join(dir, "main.go"), filepath.Join(dir, "main")
	if err := os.WriteFile(src, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", out, src)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAppCalls(t *testing.T) {
	g := serve(t, t.TempDir())
	c := dial(t, g.dir)
	ctx := t.Context()
	exe := program(t)
	deploy := func(ns, app string, b []byte) (*Deployment, error) {
		return c.Deploy(ctx, ns, app, 0, bytes.NewReader(b), int64(len(b)), nil)
	}
	_, err := deploy("notes", "book", exe)
	wants(t, "no namespace", err, 404, "namespace_not_found")
	if _, err := c.NamespacesCreate(ctx, "notes"); err != nil {
		t.Fatal(err)
	}
	_, err = deploy("notes", "Book", exe)
	wants(t, "a bad name", err, 400, "bad_name")
	_, err = deploy("notes", "book", []byte("#!/bin/sh\n"))
	wants(t, "a script", err, 422, "bad_bundle")
	_, err = c.Deploy(ctx, "notes", "book", 0, bytes.NewReader(exe), 65<<20, nil)
	wants(t, "a bundle that says it is too large", err, 413, "body_too_large")
	_, err = c.Deploy(ctx, "notes", "book", 0, io.LimitReader(zeros{}, 65<<20), -1, nil)
	wants(t, "a bundle that is too large", err, 413, "body_too_large")
	_, err = c.Deploy(ctx, "notes", "book", 10, bytes.NewReader(exe), -1, nil)
	wants(t, "a canary of nothing", err, 404, "app_not_found")
	read := 0
	d, err := c.Deploy(ctx, "notes", "book", 0, bytes.NewReader(exe), int64(len(exe)), func(n int) { read += n })
	if err != nil || d.Version != 1 || d.Bytes != int64(len(exe)) || len(d.Bundle) != 64 || d.URL != "http://gateway/notes/me/book/" || d.Origin != "http://book--me/" || read != len(exe) {
		t.Fatalf("%+v, %v, read %d", d, err, read)
	}
	if got := g.runtime.last(); got != "deployed notes/book" {
		t.Errorf("the runtime was told %q", got)
	}
	if d, err := deploy("notes", "book", append(bytes.Clone(exe), 0)); err != nil || d.Version != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	if v, err := c.AppsVersions(ctx, "notes", "book"); err != nil || len(v) != 2 || v[0].Version != 2 || !v[0].Live || v[1].Bundle != d.Bundle {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := c.AppsRollback(ctx, "notes", "book", 0); err != nil || v.Version != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = c.AppsRollback(ctx, "notes", "book", 0)
	wants(t, "before the first", err, 404, "app_not_found")
	if v, err := c.AppsLs(ctx, ""); err != nil || len(v) != 1 || v[0].Version != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = c.AppsLs(ctx, "other")
	wants(t, "apps of no namespace", err, 404, "namespace_not_found")
	if err := c.AppsSet(ctx, "notes", "book", map[string]string{"env.A": "1", "secret.B": "2"}); err != nil {
		t.Error(err)
	}
	if env, secrets := g.reg.AppEnv("notes", "book"); env["A"] != "1" || secrets["B"] != "2" {
		t.Errorf("%q %q", env, secrets)
	}
	wants(t, "a bad key", c.AppsSet(ctx, "notes", "book", map[string]string{"A": "1"}), 400, "bad_value")
	wants(t, "a value of bytes", c.AppsSet(ctx, "notes", "book", map[string]string{"secret.B": "\xff\x00key"}), 400, "bad_value")
	wants(t, "values without end", c.AppsSet(ctx, "notes", "book", map[string]string{"secret.B": strings.Repeat("x", maxBody)}), 413, "body_too_large")
	if _, secrets := g.reg.AppEnv("notes", "book"); secrets["B"] != "2" {
		t.Errorf("refused values are there: %q", secrets)
	}
	wants(t, "an unknown app", c.AppsSet(ctx, "notes", "none", map[string]string{"env.A": "1"}), 404, "app_not_found")
	if err := c.AppsRm(ctx, "notes", "book"); err != nil {
		t.Error(err)
	}
	wants(t, "removed twice", c.AppsRm(ctx, "notes", "book"), 404, "app_not_found")
	_, err = c.AppsVersions(ctx, "notes", "book")
	wants(t, "versions of a removed app", err, 404, "app_not_found")
}

// A canary runs beside the live version until it is promoted or ended.
func TestCanaryCalls(t *testing.T) {
	g := serve(t, t.TempDir())
	c := dial(t, g.dir)
	ctx := t.Context()
	exe := program(t)
	if _, err := c.NamespacesCreate(ctx, "notes"); err != nil {
		t.Fatal(err)
	}
	deploy := func(canary, tail int) (*Deployment, error) {
		b := append(bytes.Clone(exe), make([]byte, tail)...)
		return c.Deploy(ctx, "notes", "book", canary, bytes.NewReader(b), int64(len(b)), nil)
	}
	shows := func(want ...AppVersion) {
		t.Helper()
		got, err := c.AppsVersions(ctx, "notes", "book")
		if err != nil || len(got) != len(want) {
			t.Fatalf("%+v, %v", got, err)
		}
		for i, v := range got {
			if v.Version != want[i].Version || v.Live != want[i].Live || v.Canary != want[i].Canary {
				t.Errorf("%+v, wanted %+v", v, want[i])
			}
		}
	}
	if _, err := deploy(0, 0); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []int{-1, 101} {
		_, err := deploy(bad, 1)
		wants(t, "a percentage that is none", err, 400, "bad_request")
	}
	_, err := c.AppsPromote(ctx, "notes", "book")
	wants(t, "promoted without a canary", err, 404, "app_not_found")
	if d, err := deploy(10, 1); err != nil || d.Version != 2 || d.Canary != 10 {
		t.Errorf("%+v, %v", d, err)
	}
	if d, err := deploy(30, 1); err != nil || d.Version != 2 || d.Canary != 30 {
		t.Errorf("the same code with another percentage: %+v, %v", d, err)
	}
	shows(AppVersion{Version: 2, Canary: 30}, AppVersion{Version: 1, Live: true})
	if got := g.runtime.last(); got != "deployed notes/book" {
		t.Errorf("the runtime was told %q", got)
	}
	if v, err := c.AppsRollback(ctx, "notes", "book", 0); err != nil || v.Version != 1 {
		t.Errorf("%+v, %v", v, err)
	}
	shows(AppVersion{Version: 2}, AppVersion{Version: 1, Live: true})
	if d, err := deploy(10, 2); err != nil || d.Version != 3 {
		t.Errorf("%+v, %v", d, err)
	}
	if v, err := c.AppsPromote(ctx, "notes", "book"); err != nil || v.Version != 3 || !v.Live || v.Canary != 0 {
		t.Errorf("%+v, %v", v, err)
	}
	shows(AppVersion{Version: 3, Live: true}, AppVersion{Version: 2}, AppVersion{Version: 1})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestObjectCalls(t *testing.T) {
	c := dial(t, serve(t, t.TempDir()).dir)
	ctx := t.Context()
	_, err := c.ObjectsLs(ctx, "notes", "", 0, "")
	wants(t, "no namespace", err, 404, "namespace_not_found")
	_, err = c.ObjectsCreate(ctx, "notes/alice")
	wants(t, "no namespace", err, 404, "namespace_not_found")
	if _, err := c.NamespacesCreate(ctx, "notes"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"..", "a/b", "\xff", "\xff\xff"} {
		a := address.Address{Namespace: "notes", Object: name}.String()
		o, err := c.ObjectsCreate(ctx, a)
		if err != nil || o.Object != name || o.Address != a || len(o.ID) != 64 {
			t.Errorf("%q: %+v, %v", name, o, err)
		}
	}
	var names []string
	for after := ""; ; {
		page, err := c.ObjectsLs(ctx, "notes", "", 1, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		after = page[0].Object
		names = append(names, after)
	}
	if got := fmt.Sprintf("%q", names); got != `[".." "a/b" "\xff" "\xff\xff"]` {
		t.Errorf("listed page by page: %s", got)
	}
	_, err = c.ObjectsCreate(ctx, "notes/%2E%2E")
	wants(t, "created twice", err, 409, "exists")
	_, err = c.ObjectsCreate(ctx, "notes")
	wants(t, "no object", err, 400, "bad_name")
	if err := c.ObjectsRm(ctx, "notes/.."); err != nil {
		t.Error(err)
	}
	wants(t, "removed twice", c.ObjectsRm(ctx, "notes/.."), 404, "object_not_found")
}

func TestFacetCalls(t *testing.T) {
	g := serve(t, t.TempDir())
	c := dial(t, g.dir)
	ctx := t.Context()
	if _, err := c.NamespacesCreate(ctx, "n"); err != nil {
		t.Fatal(err)
	}
	if list, err := c.FacetsLs(ctx, ""); err != nil || list == nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
	list, err := c.FacetsLs(ctx, "n/o")
	if err != nil || len(list) != 1 || list[0].Address != "n/o/a%2Fb" || list[0].Facet != "a/b" || *list[0].PID != 42 || list[0].Since != nil {
		t.Errorf("%+v, %v", list, err)
	}
	_, err = c.FacetsLs(ctx, "none")
	wants(t, "facets of no namespace", err, 404, "namespace_not_found")
	_, err = c.FacetsLs(ctx, "n/nobody/f")
	wants(t, "facets below none", err, 404, "facet_not_found")
	d, err := c.FacetsInspect(ctx, "n/o/f")
	if err != nil || string(d.Confinement) != `{"uid":7}` || d.Limits.CPUMilli != 1000 || d.LastExit != nil || d.Facet != "f" {
		t.Errorf("%+v, %v", d, err)
	}
	_, err = c.FacetsInspect(ctx, "n/nobody/f")
	wants(t, "an unknown facet", err, 404, "facet_not_found")
	for what, call := range map[string]func() error{
		"inspect": func() error { _, err := c.FacetsInspect(ctx, "none/nobody/f"); return err },
		"abort":   func() error { return c.FacetsAbort(ctx, "none/nobody/f", "") },
		"audit":   func() error { return c.Audit(ctx, "none/nobody/f", true) },
	} {
		wants(t, what+" of a facet of no namespace", call(), 404, "namespace_not_found")
	}
	_, err = c.FacetsInspect(ctx, "n/o")
	wants(t, "an object", err, 400, "bad_name")
	if u, err := c.FacetsUsage(ctx, "n/o/"); err != nil || u.Requests != 3 {
		t.Errorf("%+v, %v", u, err)
	}
	for want, call := range map[string]func() error{
		"abort n/o/f: en ough": func() error { return c.FacetsAbort(ctx, "n/o/f", "en ough") },
		"delete n/o/..":        func() error { return c.FacetsDelete(ctx, "n/o/..") },
		"clone n/o/a n/o/b":    func() error { return c.FacetsClone(ctx, "n/o/a", "n/o/b") },
	} {
		if err := call(); err != nil || g.runtime.last() != want {
			t.Errorf("%s: the runtime was told %q, %v", want, g.runtime.last(), err)
		}
	}
	wants(t, "an unknown facet", c.FacetsAbort(ctx, "n/nobody/f", ""), 404, "facet_not_found")
}

func TestInvoke(t *testing.T) {
	c := dial(t, serve(t, t.TempDir()).dir)
	for _, tc := range []struct{ path, want string }{
		{"", "/"}, {"/", "/"}, {"a", "/a"}, {"/a/../b//c", "/a/../b//c"}, {"/a%2Fb?x=1%202&y", "/a%2Fb?x=1%202&y"}, {"//x/y", "//x/y"}, {"/a b", "/a%20b"},
	} {
		resp, err := c.Invoke(t.Context(), InvokeRequest{Address: "n/o/%2F", Method: "PUT", Path: tc.path, Header: http.Header{"X-Test": {"yes"}, "Host": {"app.test"}}, Body: strings.NewReader("body")})
		if err != nil {
			t.Errorf("%q: %v", tc.path, err)
			continue
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if want := fmt.Sprintf(`true n/o/%%2F PUT %s app.test yes "body"`, tc.want); string(b) != want || resp.StatusCode != http.StatusTeapot {
			t.Errorf("%q: %d %s, want %s", tc.path, resp.StatusCode, b, want)
		}
	}
	resp, err := c.Invoke(t.Context(), InvokeRequest{Address: "n"})
	if err != nil || resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a namespace is invoked: %v, %v", resp, err)
	}
	resp.Body.Close()
}

func TestLogs(t *testing.T) {
	g := serve(t, t.TempDir())
	c := dial(t, g.dir)
	w := g.logs.Writer(address.Address{Namespace: "n", Object: "o", Facets: []string{"f"}}, 3)
	w.Append(logs.StreamOutput, "", "one")
	w.Append(logs.StreamLog, "req", "two")
	var got []string
	var second LogLine
	for l, err := range c.Logs(t.Context(), LogsOptions{Address: "n/o"}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, l.Line)
		second = l
	}
	if strings.Join(got, " ") != "one two" || *second.RequestID != "req" || second.Version != 3 {
		t.Errorf("%q, %+v", got, second)
	}
	next := map[string]string{"two": "three", "three": ""}
	for l, err := range c.Logs(t.Context(), LogsOptions{Since: second.Time, Follow: true}) {
		if err != nil {
			t.Fatal(err)
		}
		line, ok := next[l.Line]
		if !ok {
			t.Fatalf("line %q", l.Line)
		}
		if line == "" {
			break
		}
		w.Append(logs.StreamOutput, "", line)
	}
	for _, err := range c.Logs(t.Context(), LogsOptions{Address: "a//b"}) {
		wants(t, "a bad address", err, 400, "bad_name")
	}
}

func TestMetrics(t *testing.T) {
	g := serve(t, t.TempDir())
	c := dial(t, g.dir)
	if _, err := c.NamespacesCreate(t.Context(), "notes"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ObjectsCreate(t.Context(), "notes/alice"); err != nil {
		t.Fatal(err)
	}
	req, err := newRequest(t.Context(), http.MethodGet, pathMetrics, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.send(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	for _, want := range []string{`fgw_objects{namespace="notes"} 1`, `fgw_build_info{version="v1"} 1`, "fgw_facet_starts_total 5", "fgw_log_bytes 0", "go_goroutines"} {
		if !bytes.Contains(b, []byte(want+"\n")) && !bytes.Contains(b, []byte(want+" ")) {
			t.Errorf("no %s in\n%s", want, b)
		}
	}
}

// What the running part refuses is told with its own status, not as a failure of the gateway.
func TestProblemsKeepTheirCode(t *testing.T) {
	e := asError(fmt.Errorf("clone: %w", &problem.Error{Code: problem.StorageQuota, Message: "full", Hint: "delete something"}))
	if want := (Error{Status: 507, Code: "storage_quota", Message: "full", Hint: "delete something"}); *e != want {
		t.Errorf("got %+v, wanted %+v", *e, want)
	}
}
