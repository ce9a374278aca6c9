package sandboxd

import "testing"

func TestHello(t *testing.T) {
	b := newSandbox(t)
	f := b.spawn(t, small)
	if got := f.do(t, "hello"); got != "hello" {
		t.Errorf("the facet says %q", got)
	}
	c, err := f.Confinement(t.Context())
	t.Logf("%+v %v", c, err)
	s, err := f.Stats(t.Context())
	t.Logf("%+v %v", s, err)
	f.Kill()
	t.Log(f.end(t))
}
