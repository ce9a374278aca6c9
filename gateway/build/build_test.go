package build

import "testing"

func TestBuild(t *testing.T) {
	r := theRig(t)
	v := r.must(t, map[string]string{"main.go": hello("one")})
	t.Logf("%+v", v)
	v = r.must(t, map[string]string{"main.go": hello("two")})
	t.Logf("%+v", v)
	v = r.must(t, map[string]string{"main.go": hello("two") + "\nvar x int = \"a\"\n"})
	t.Logf("%+v", v)
}
