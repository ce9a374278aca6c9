package registry

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// open opens a registry for a test, and closes it afterwards.
func open(t testing.TB, dir string) *Registry {
	t.Helper()
	r, err := Open(context.Background(), dir, WithLogger(slog.New(slog.NewTextHandler(t.Output(), nil))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func create(t testing.TB, r *Registry, name string) *Namespace {
	t.Helper()
	ns, err := r.CreateNamespace(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func ensure(t testing.TB, r *Registry, ns *Namespace, name string, path ...string) (*Object, []int) {
	t.Helper()
	o, numbers, _, err := r.Ensure(context.Background(), ns, name, path...)
	if err != nil {
		t.Fatal(err)
	}
	return o, numbers
}

func TestNamespaces(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ns := create(t, r, "notes")
	if ns.Limits != DefaultLimits() || ns.Create != CreateOpen || ns.Access != AccessLocal || ns.Supervisor != "" || ns.CreatedAt.IsZero() {
		t.Errorf("a new namespace is %+v", ns)
	}
	if _, err := r.CreateNamespace(t.Context(), "notes"); !errors.Is(err, ErrExists) {
		t.Errorf("created twice: %v", err)
	}
	if _, err := r.CreateNamespace(t.Context(), "No"); err == nil {
		t.Error("a bad name is accepted")
	}
	if _, err := r.Namespace("other"); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown namespace: %v", err)
	}
	if _, err := r.SetNamespace(t.Context(), "notes", map[string]string{"supervisor": "maker"}); !errors.Is(err, ErrBadValue) {
		t.Errorf("a supervisor that is no app: %v", err)
	}
	if _, err := r.AddVersion(t.Context(), "notes", "maker", "b1", 1); err != nil {
		t.Fatal(err)
	}
	set, err := r.SetNamespace(t.Context(), "notes", map[string]string{
		"create": "admin", "access": "public", "supervisor": "maker", "memory": "64MiB", "cpu": "0.5", "idle_timeout": "3s",
		"egress": "a.test, *.b.test", "statement_timeout": "250ms", "request_timeout": "1m", "processes": "32", "storage": "1GiB", "in_flight": "8", "max_objects": "5", "body": "0",
	})
	if err != nil {
		t.Fatal(err)
	}
	if set.Limits.Memory != 64<<20 || set.Limits.CPUMilli != 500 || set.Limits.Body != 0 || ns.Limits.Memory == set.Limits.Memory {
		t.Errorf("limits are %+v", set.Limits)
	}
	r.Close()
	if again, err := open(t, dir).Namespace("notes"); err != nil || *again != *set {
		t.Errorf("after opening again: %+v, %v; want %+v", again, err, set)
	}
}

// With a supervisor a namespace has other defaults; what someone has set stays.
func TestSupervisorLimits(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	if _, err := r.AddVersion(t.Context(), "notes", "maker", "b1", 1); err != nil {
		t.Fatal(err)
	}
	want := DefaultLimits()
	want.Processes = 64 // the default, but set
	for _, step := range []struct {
		set    map[string]string
		change func()
	}{
		{map[string]string{"processes": "64"}, func() {}},
		{map[string]string{"supervisor": "maker"}, func() { want = SupervisorLimits(); want.Processes = 64 }},
		{map[string]string{"memory": "2GiB"}, func() { want.Memory = 2 << 30 }},
		{map[string]string{"access": "public"}, func() {}},
		{map[string]string{"supervisor": ""}, func() { want = DefaultLimits(); want.Memory = 2 << 30 }},
		{map[string]string{"supervisor": "maker", "memory": "64MiB"}, func() { want = SupervisorLimits(); want.Processes, want.Memory = 64, 64<<20 }},
	} {
		ns, err := r.SetNamespace(t.Context(), "notes", step.set)
		if step.change(); err != nil || ns.Limits != want {
			t.Errorf("after %v: %+v, want %+v: %v", step.set, ns.Limits, want, err)
		}
	}
	r.Close()
	if ns, err := open(t, dir).Namespace("notes"); err != nil || ns.Limits != want {
		t.Errorf("after opening again: %+v, %v", ns, err)
	}
}

// The first program stored every limit with each change: those that nobody had set are defaults again.
func TestLimitsOfAnOlderRegistry(t *testing.T) {
	dir := t.TempDir()
	db, err := openPool(filepath.Join(dir, "registry.db"), 1)
	if err != nil {
		t.Fatal(err)
	}
	all, err := json.Marshal(DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.NewReplacer(`"256MiB"`, `"512MiB"`, `"in_flight":64`, `"in_flight":8`).Replace(string(all))
	for _, m := range append(slices.Clone(migrations[:3]), `PRAGMA user_version = 3`) {
		if _, err := db.Exec(m); err != nil {
			t.Fatal(m, err)
		}
	}
	for name, limits := range map[string]string{"plain": string(all), "later": string(all), "changed": changed, "chosen": `{"memory":"256MiB","processes":"64"}`} {
		if _, err := db.Exec(`INSERT INTO namespace (name, supervisor, limits, created_at) VALUES (?1, iif(?1 = 'later', '', 'maker'), ?2, 0)`, name, limits); err != nil {
			t.Fatal(err)
		}
	}
	db.Close()
	r := open(t, dir)
	if _, err := r.AddVersion(t.Context(), "later", "maker", "b1", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SetNamespace(t.Context(), "later", map[string]string{"supervisor": "maker"}); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Limits){
		"plain": func(*Limits) {}, "later": func(*Limits) {}, "changed": func(l *Limits) { l.Memory, l.InFlight = 512<<20, 8 },
		"chosen": func(l *Limits) { l.Memory, l.Processes = 256<<20, 64 }, // stored by a program that stores what was set
	} {
		want := SupervisorLimits()
		change(&want)
		if ns, err := r.Namespace(name); err != nil || ns.Limits != want {
			t.Errorf("%s: %+v, wanted %+v: %v", name, ns, want, err)
		}
	}
}

func TestSetNamespaceRefuses(t *testing.T) {
	r := open(t, t.TempDir())
	before := *create(t, r, "notes")
	for _, tc := range []struct{ key, value, says string }{
		{"memory", "1MiB", "from 16MiB to 64GiB"},
		{"memory", "lots", "from 16MiB"},
		{"cpu", "0", "from 0.05 to 64"},
		{"cpu", "NaN", "from 0.05"},
		{"idle_timeout", "10", "from 100ms to 24h"},
		{"processes", "7", "from 8 to 4096"},
		{"create", "maybe", "open or admin"},
		{"access", "", "local or public or token"},
		{"supervisor", "Bad--Name", "bad name"},
		{"memroy", "64MiB", "use create, access"},
	} {
		_, err := r.SetNamespace(t.Context(), "notes", map[string]string{"cpu": "2", tc.key: tc.value})
		if tc.key == "cpu" {
			_, err = r.SetNamespace(t.Context(), "notes", map[string]string{tc.key: tc.value})
		}
		if !errors.Is(err, ErrBadValue) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s=%s: %v, want one that says %q", tc.key, tc.value, err, tc.says)
		}
	}
	if after, _ := r.Namespace("notes"); *after != before {
		t.Errorf("a refused change left %+v", after)
	}
	if _, err := r.SetNamespace(t.Context(), "other", map[string]string{"cpu": "2"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown namespace: %v", err)
	}
}

func TestRemoveNamespace(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice", "book")
	if _, err := r.AddVersion(t.Context(), "notes", "book", strings.Repeat("a", 64), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveNamespace(t.Context(), "notes", false); !errors.Is(err, ErrNotEmpty) {
		t.Errorf("with an object in it: %v", err)
	}
	if err := r.RemoveNamespace(t.Context(), "notes", true); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.ObjectDir(o)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the object's directory: %v", err)
	}
	if _, err := r.Live("notes", "book"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the app: %v", err)
	}
	if again := create(t, r, "notes"); again.ID == ns.ID || r.CountObjects(again) != 0 {
		t.Errorf("the new namespace has id %d (before: %d) and %d objects", again.ID, ns.ID, r.CountObjects(again))
	}
	if err := r.RemoveNamespace(t.Context(), "other", true); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown namespace: %v", err)
	}
}

func TestOpenRefusesNewer(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	r.Close()
	path := filepath.Join(dir, "registry.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`PRAGMA user_version = 9999`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(t.Context(), dir); !errors.Is(err, ErrNewer) {
		t.Fatalf("a newer registry: %v", err)
	}
	db, _ = sql.Open("sqlite", path)
	defer db.Close()
	var n, version int
	if err := db.QueryRow(`SELECT count(*) FROM namespace`).Scan(&n); err != nil || n != 1 {
		t.Errorf("it now has %d namespaces, %v", n, err)
	}
	if err := db.QueryRow(`PRAGMA user_version`).Scan(&version); err != nil || version != 9999 {
		t.Errorf("its version is now %d, %v", version, err)
	}
}

func TestOpenRefusesWhatIsNoDatabase(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "registry.db"), []byte(strings.Repeat("not a database\n", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := Open(t.Context(), dir); err == nil {
		r.Close()
		t.Error("it was opened")
	}
}

func TestSecretsAreNotForOthers(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	for _, name := range []string{"registry.db", "registry.db-wal", "registry.db-shm"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
	}
}

func TestClosed(t *testing.T) {
	r := open(t, t.TempDir())
	create(t, r, "notes")
	r.Close()
	if _, err := r.CreateNamespace(t.Context(), "more"); !errors.Is(err, ErrClosed) {
		t.Errorf("a change after Close: %v", err)
	}
}

// A change that is refused must not take those with it that share its commit,
// nor stay half done.
func TestGroupIsolatesFailures(t *testing.T) {
	r := open(t, t.TempDir())
	ns := create(t, r, "notes")
	boom := errors.New("boom")
	undone := false
	insert := func(c *change, name string) error {
		_, err := r.insertObject(c, ns, newObject(ns, name, r.now()), []string{"f"})
		return err
	}
	group := []*op{
		newOp(func(c *change) error { return insert(c, "one") }),
		newOp(func(c *change) error {
			c.onUndo(func() { undone = true })
			if err := insert(c, "two"); err != nil {
				return err
			}
			return boom
		}),
		newOp(func(c *change) error { return insert(c, "three") }),
	}
	r.commit(group) // the writer is idle: nothing else uses its connection
	for i, want := range []error{nil, boom, nil} {
		if err := <-group[i].done; !errors.Is(err, want) {
			t.Errorf("change %d: %v, want %v", i, err, want)
		}
	}
	if n := r.CountObjects(ns); n != 2 || !undone {
		t.Errorf("%d objects, undone %v", n, undone)
	}
	if _, err := r.Object(t.Context(), "notes", "two"); !errors.Is(err, ErrNotFound) {
		t.Errorf("the refused object: %v", err)
	}
	if _, err := os.Stat(r.ObjectDir(newObject(ns, "two", r.now()))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its directory: %v", err)
	}
	if _, err := r.Object(t.Context(), "notes", "three"); err != nil {
		t.Error(err)
	}
}

func BenchmarkNamespace(b *testing.B) {
	r := open(b, b.TempDir())
	create(b, r, "notes")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.Namespace("notes"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func TestFailedSyncEndsChanges(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	create(t, r, "notes")
	wal := r.write.wal
	pipe, _, err := os.Pipe() // what can't be synced
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	r.write.wal = pipe
	if _, err := r.CreateNamespace(t.Context(), "lost"); err == nil {
		t.Error("acknowledged without a sync")
	}
	r.write.wal = wal
	if _, err := r.CreateNamespace(t.Context(), "more"); err == nil {
		t.Error("a change after a failed sync")
	}
	if _, err := r.Namespace("notes"); err != nil {
		t.Error(err)
	}
}
