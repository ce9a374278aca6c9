package registry

import (
	"errors"
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
