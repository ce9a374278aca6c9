package build

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/appvendor"
)

// BenchmarkEdit measures an edit of a one-file app, from the files to the stored bundle, beside the same
// `go build` unconfined with a warm cache. The two alternate, so that both meet the same machine; the medians are told, and the ratio that
// is left once the allowance of 100 ms is taken off.
func BenchmarkEdit(b *testing.B) {
	r := theRig(b)
	dir := unconfined(b)
	r.must(b, map[string]string{"main.go": hello("first")})
	goBuild(b, dir, hello("first"))
	var ours, theirs []time.Duration
	for i := 0; b.Loop(); i++ {
		source := hello(fmt.Sprint(time.Now().UnixNano(), i))
		v := r.must(b, map[string]string{"main.go": source})
		if v.Bundle == "" {
			b.Fatalf("not built: %+v", v)
		}
		ours = append(ours, v.Took)
		theirs = append(theirs, goBuild(b, dir, source))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	mine, bare := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(mine.Milliseconds()), "confined-ms")
	b.ReportMetric(float64(bare.Milliseconds()), "go-build-ms")
	b.ReportMetric(float64(mine-100*time.Millisecond)/float64(bare), "ratio-after-100ms")
}

// unconfined makes the same app for the plain go command.
func unconfined(b *testing.B) string {
	sdk, err := appvendor.Open()
	if err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	if err := sdk.WriteVendor(dir); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(sdk.GoMod("app")), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

func goBuild(b *testing.B, dir, source string) time.Duration {
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o644); err != nil {
		b.Fatal(err)
	}
	started := time.Now()
	cmd := exec.Command("go", append(append([]string{"build"}, slices.Concat(fixedFlags, buildFlags)...), "-o", filepath.Join(dir, "out"), ".")...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=vendor", "GOPROXY=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("go build: %v\n%s", err, out)
	}
	return time.Since(started)
}
