package registry

import "testing"

func TestAudits(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	ctx := t.Context()
	ns := create(t, r, "notes")
	o, _ := ensure(t, r, ns, "alice", "book", "page")
	other, _ := ensure(t, r, ns, "bob", "book")
	is := func(o *Object, want bool, path ...string) {
		t.Helper()
		if got := r.Audited(o, path...); got != want {
			t.Errorf("%s %q: %v", o.Name, path, got)
		}
	}
	for _, path := range [][]string{nil, {"book", "page"}, {"book", "page"}} {
		if err := r.SetAudit(ctx, o, path, true); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		is(o, true)
		is(o, true, "book", "page")
		is(o, false, "book")
		is(other, false, "book")
	}
	check()
	r.Close()
	r = open(t, dir)
	check()
	// A facet that is deleted and made again is watched still.
	numbers, err := r.FindFacet(ctx, o, "book")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveFacet(ctx, o, numbers[0]); err != nil {
		t.Fatal(err)
	}
	check()
	if err := r.SetAudit(ctx, o, nil, false); err != nil {
		t.Fatal(err)
	}
	is(o, false)
	is(o, true, "book", "page")
	// An object that is removed and made again is another one, of the same id.
	if err := r.RemoveObject(ctx, "notes", "alice"); err != nil {
		t.Fatal(err)
	}
	o, _ = ensure(t, r, ns, "alice", "book", "page")
	is(o, false, "book", "page")
	if err := r.SetAudit(ctx, o, []string{"book"}, true); err != nil {
		t.Fatal(err)
	}
	if err := r.RemoveNamespace(ctx, "notes", true); err != nil {
		t.Fatal(err)
	}
	is(o, false, "book")
}
