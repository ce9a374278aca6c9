package launcher

import (
	"strings"
	"syscall"
	"testing"
	"testing/quick"
	"time"
)

func TestRoundTrip(t *testing.T) {
	if err := quick.Check(func(r Request) bool {
		got, err := parseRequest(r.Append(nil))
		return err == nil && got == r
	}, nil); err != nil {
		t.Error(err)
	}
	for _, e := range []Event{
		{ID: 1},
		{ID: 1<<64 - 1, Exited: true, Status: 0x8b, CPU: time.Hour},
		{ID: 2, Step: "landlock", Errno: syscall.EPERM, Child: true},
	} {
		if got, err := ParseEvent(e.Append(nil)); err != nil || got != e {
			t.Errorf("%+v comes back as %+v: %v", e, got, err)
		}
	}
	long := Event{Step: strings.Repeat("s", 2*stepBytes)}
	if got, err := ParseEvent(long.Append(nil)); err != nil || len(got.Step) != stepBytes {
		t.Errorf("a long step comes back as %q: %v", got.Step, err)
	}
	for _, o := range []Options{{}, {LandlockABI: 7, Seccomp: true, Namespaces: true, Identity: true}, {Namespaces: true}} {
		if got, err := parseOptions(o.Args()); err != nil || got != o {
			t.Errorf("%+v comes back as %+v: %v", o, got, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for _, args := range [][]string{nil, {""}, {"1,2"}, {"x,true,true,true"}, {"1", "2"}} {
		if _, err := parseOptions(args); err == nil {
			t.Errorf("options %q are taken", args)
		}
	}
	if _, err := parseRequest(make([]byte, RequestBytes+1)); err == nil {
		t.Error("a request that is too long is taken")
	}
	if _, err := ParseEvent(make([]byte, EventBytes-1)); err == nil {
		t.Error("an event that is too short is taken")
	}
}

func TestDescriptorsOfARequest(t *testing.T) {
	for _, test := range []struct {
		r    Request
		want int
	}{
		{Request{}, requestFiles},
		{Request{Joins: 4}, requestFiles + 4},
		{Request{Into: true}, requestFiles + 1},
	} {
		if got := test.r.descriptors(); got != test.want {
			t.Errorf("%+v brings %d descriptors, want %d", test.r, got, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Request{ID: 1, Into: true}.Append(nil))
	f.Add(Event{ID: 1, Step: "x"}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRequest(b); err == nil {
			if again, err := parseRequest(r.Append(nil)); err != nil || again != r {
				t.Errorf("%+v comes back as %+v: %v", r, again, err)
			}
		}
		ParseEvent(b)
	})
}
