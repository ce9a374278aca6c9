package registry

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
)

func TestAlarms(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := r.CreateNamespace(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	o, numbers, _, err := r.Ensure(t.Context(), ns, "alice", "app", "kid")
	if err != nil {
		t.Fatal(err)
	}
	kid := numbers[1]
	for _, a := range []Alarm{{Object: o.ID, N: 0, At: 50, Due: 50}, {Object: o.ID, N: kid, At: 10, Due: 10, Start: []byte("x")}, {Object: o.ID, N: kid, At: 20, Due: 30, Attempt: 1, Start: []byte("y")}} {
		if err := r.SetAlarm(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.SetAlarm(t.Context(), Alarm{Object: objectID(ns.ID, "nobody"), At: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an object that is not: %v", err)
	}
	if err := r.MoveAlarm(t.Context(), Alarm{Object: o.ID, N: kid, At: 25, Due: 30, Attempt: 1}); err != nil {
		t.Fatal(err)
	}
	if err := r.MoveAlarm(t.Context(), Alarm{Object: o.ID, N: 99, At: 1}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an alarm that is not: %v", err)
	}
	r.Close()
	if r, err = Open(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := r.Alarms(t.Context())
	if err != nil || len(all) != 2 || all[0].N != kid || all[0].At != 25 || all[0].Due != 30 || all[0].Attempt != 1 || string(all[0].Start) != "y" || all[1].N != 0 {
		t.Fatalf("%+v %v", all, err)
	}
	got, path, err := r.ObjectByID(t.Context(), o.ID, kid)
	if err != nil || got.Name != "alice" || got.Namespace != "t" || !slices.Equal(path, []string{"app", "kid"}) {
		t.Fatalf("%+v %v %v", got, path, err)
	}
	if err := r.ClearAlarm(t.Context(), o.ID, kid); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveObject(t.Context(), "t", "alice"); err != nil { // takes the others along
		t.Fatal(err)
	}
	if all, err := r.Alarms(t.Context()); err != nil || len(all) != 0 {
		t.Fatalf("%+v %v", all, err)
	}
}

// How to start a facet is written when it changes, and not with each alarm that the facet sets, clears and sets again.
func TestStartOfAnAlarmIsWrittenOnce(t *testing.T) {
	r, err := Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ns, err := r.CreateNamespace(t.Context(), "t")
	if err != nil {
		t.Fatal(err)
	}
	o, _, _, err := r.Ensure(t.Context(), ns, "alice")
	if err != nil {
		t.Fatal(err)
	}
	do := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(what, err)
		}
	}
	stored := func(want ...string) {
		t.Helper()
		var got []string
		rows, err := r.read.QueryContext(t.Context(), `SELECT start FROM alarm_start`)
		do("read", err)
		defer rows.Close()
		for rows.Next() {
			var start string
			do("read", rows.Scan(&start))
			got = append(got, start)
		}
		if !slices.Equal(got, want) {
			t.Errorf("stored: %q, wanted %q", got, want)
		}
	}
	set := func(at int64, start string) {
		t.Helper()
		do("set", r.SetAlarm(t.Context(), Alarm{Object: o.ID, At: at, Due: at, Start: []byte(start)}))
	}
	set(1, "long")
	do("mark", r.do(t.Context(), func(c *change) error { return c.exec(`UPDATE alarm_start SET start = x'6d61726b'`) })) // shows whether it is written again
	do("clear", r.ClearAlarm(t.Context(), o.ID, 0))
	set(2, "long")
	stored("mark")
	set(3, "other")
	stored("other")
	set(4, "")
	stored()
	set(5, "long")
	do("tidy", r.TidyAlarms(t.Context()))
	stored("long")
	do("clear", r.ClearAlarm(t.Context(), o.ID, 0))
	do("tidy", r.TidyAlarms(t.Context()))
	stored()
	set(6, "long")
	do("remove", r.RemoveAlarm(t.Context(), o.ID, 0))
	stored()
	if all, err := r.Alarms(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v %v", all, err)
	}
}

// A registry of the version before keeps its alarms.
func TestAlarmsOfAnOlderRegistry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	db, err := openPool(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range append(slices.Clone(migrations[:3]), `PRAGMA user_version = 3`,
		`INSERT INTO namespace (id, name, created_at) VALUES (1, 't', 0)`, `INSERT INTO object VALUES (x'01', 1, x'61', 1, 0)`,
		`INSERT INTO alarm VALUES (x'01', 0, 10, 20, 1, x'73'), (x'01', 1, 30, 40, 0, NULL)`) {
		if _, err := db.Exec(m); err != nil {
			t.Fatal(m, err)
		}
	}
	if _, err := migrate(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	r := &Registry{read: db}
	all, err := r.Alarms(t.Context())
	if err != nil || len(all) != 2 || string(all[0].Start) != "s" || all[0].Due != 20 || all[0].Attempt != 1 || len(all[1].Start) != 0 {
		t.Errorf("%+v %v", all, err)
	}
	db.Close()
}
