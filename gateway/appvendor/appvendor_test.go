package appvendor

import (
	"archive/zip"
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// archive makes a small archive of the form that the build makes.
func archive(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, text := range files {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestSet(t *testing.T) {
	set, err := read(archive(t, map[string]string{
		"manifest.json": `{"go":"1.26.0","requires":[{"path":"a.example/sdk","version":"v1.2.3"},
			{"path":"b.example/mux","version":"v0.1.0","indirect":true}]}`,
		"vendor/modules.txt":           "modules\n",
		"vendor/a.example/sdk/sdk.go":  "package sdk\n",
		"templates/guestbook/main.go":  "package main\n",
		"templates/counter/main.go":    "package main // counter\n",
		"templates/counter/go_test.go": "package main\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := "module app/x\n\ngo 1.26.0\n\nrequire a.example/sdk v1.2.3\n\nrequire b.example/mux v0.1.0 // indirect\n"
	if got := set.GoMod("app/x"); got != want {
		t.Errorf("go.mod is %q, wanted %q", got, want)
	}
	if got := set.Templates(); !slices.Equal(got, []string{"counter", "guestbook"}) {
		t.Errorf("templates %v", got)
	}
	dir := t.TempDir()
	if err := set.WriteVendor(dir); err != nil {
		t.Fatal(err)
	}
	if err := set.WriteTemplate("counter", dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"vendor/modules.txt": "modules\n", "vendor/a.example/sdk/sdk.go": "package sdk\n", "main.go": "package main // counter\n", "go_test.go": "package main\n",
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q (%v)", name, got, err)
		}
	}
	if err := set.WriteTemplate("counter", dir); err == nil {
		t.Error("a template was written over files that are there")
	}
	if err := set.WriteTemplate("nosuch", dir); err == nil {
		t.Error("a template that there is not was written")
	}
}

func TestBrokenArchives(t *testing.T) {
	for name, data := range map[string][]byte{
		"no archive":   []byte("x"),
		"no manifest":  archive(t, map[string]string{"vendor/modules.txt": ""}),
		"bad manifest": archive(t, map[string]string{"manifest.json": "{"}),
	} {
		if _, err := read(data); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}
