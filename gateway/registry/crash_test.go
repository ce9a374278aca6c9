package registry

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// crashDir, where set, makes this test program the process that is killed.
const crashDir = "FGW_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		if err := churn(dir, os.Getenv("FGW_TEST_CRASH_ROUND")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// churn creates objects and facets and removes some, from several goroutines,
// and prints a line once something is acknowledged.
func churn(dir, round string) error {
	ctx := context.Background()
	r, err := Open(ctx, dir)
	if err != nil {
		return err
	}
	ns, err := r.Namespace("notes")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	errs := make(chan error, 4)
	for w := range 4 {
		go func() {
			for i := 0; ; i++ {
				name := fmt.Sprintf("o-%s-%d-%d", round, w, i/8)
				o, n, _, err := r.Ensure(ctx, ns, name, "app", fmt.Sprint("f", i))
				if err != nil {
					errs <- err
					return
				}
				say("add %s app %d", name, n[0])
				say("add %s app/f%d %d", name, i, n[1])
				if i%5 == 0 {
					say("removing %s %d", name, n[1])
					if _, err := r.RemoveFacet(ctx, o, n[1]); err != nil {
						errs <- err
						return
					}
					say("gone %s app/f%d", name, i)
				}
			}
		}()
	}
	return <-errs
}

// TestKill kills a process that changes the registry at moments of chance. What
// it had acknowledged must be there, with the same number, and no number may
// have been given twice.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	if _, err := r.SetNamespace(t.Context(), "notes", map[string]string{"max_objects": "1000000"}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	given := make(map[string]string) // object, number → path
	gone := make(map[string]bool)    // those whose removal began
	for round := range 12 {
		for _, line := range churnUntilKilled(t, dir, round) {
			w := strings.Fields(line)
			switch {
			case len(w) == 4 && w[0] == "add":
				key := w[1] + " " + w[3]
				if before, ok := given[key]; ok && before != w[2] {
					t.Fatalf("round %d: number %s of %s is given to %s and %s", round, w[3], w[1], before, w[2])
				}
				given[key] = w[2]
			case len(w) == 3 && w[0] == "removing":
				gone[w[1]+" "+w[2]] = true
			}
		}
		if len(given) == 0 {
			continue
		}
		r := open(t, dir)
		if round%3 == 2 { // what the directories alone say must do as well
			r.Close()
			loseRegistry(t, dir)
			r = open(t, dir)
		}
		checkGiven(t, r, given, gone)
		r.Close()
	}
	if len(given) < 100 {
		t.Fatalf("only %d facets were acknowledged in all", len(given))
	}
}

func churnUntilKilled(t *testing.T, dir string, round int) []string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDir+"="+dir, fmt.Sprint("FGW_TEST_CRASH_ROUND=", round))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A number of lines, so that the process is at work, and then a little more time.
	after := 1 + rand.IntN(200)
	var lines []string
	sc := bufio.NewScanner(out)
	for sc.Scan() {
		if lines = append(lines, sc.Text()); len(lines) == after {
			time.AfterFunc(rand.N(3*time.Millisecond), func() { cmd.Process.Kill() })
		}
	}
	if err := cmd.Wait(); err == nil || len(lines) < after {
		t.Fatalf("round %d ended by itself: %v", round, err)
	}
	return lines
}

func checkGiven(t *testing.T, r *Registry, given map[string]string, gone map[string]bool) {
	t.Helper()
	trees := make(map[string]map[string]bool)
	for key, path := range given {
		name, _, _ := strings.Cut(key, " ")
		if trees[name] == nil {
			trees[name] = tree(t, r, name)
		}
		_, n, _ := strings.Cut(key, " ")
		if !trees[name][n+" "+path] && !gone[key] {
			t.Errorf("facet %s of %s with number %s is lost", path, name, n)
		}
	}
}

func tree(t *testing.T, r *Registry, name string) map[string]bool {
	t.Helper()
	o, err := r.Object(t.Context(), "notes", name)
	if err != nil {
		t.Fatalf("%s is lost: %v", name, err)
	}
	facets, err := r.Facets(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, f := range facets {
		all[fmt.Sprint(f.N, " ", strings.Join(f.Path, "/"))] = true
	}
	return all
}
