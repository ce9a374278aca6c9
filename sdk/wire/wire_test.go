package wire

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// golden compares bytes with what SPEC.md fixes; spaces in want are for people.
func golden(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(want, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, b) {
		t.Errorf("%s is\n% x, wanted\n% x", what, got, b)
	}
}

func TestGoldenHandshake(t *testing.T) {
	start := &Start{Namespace: "n", Object: "\xff", Name: "a", MaxStreams: 32, MaxSessions: 16, Limits: Limits{Memory: 1 << 28, Rows: 9}}
	got, err := AppendStart(nil, start)
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"namespace":"n","object":"","name":"a","id":"","database":false,"max_streams":32,"max_sessions":16,"limits":{"memory":268435456,"rows":9},"object_b64":"/w=="}`
	golden(t, "the start message", got, "46475701 0001 0001 0000009f"+hex.EncodeToString([]byte(body)))

	var b bytes.Buffer
	if err := WriteAnswer(&b, 1, "not said"); err != nil {
		t.Fatal(err)
	}
	golden(t, "the answer", b.Bytes(), "46475702 0001 0000")
	b.Reset()
	if err := WriteAnswer(&b, 0, "no"); err != nil {
		t.Fatal(err)
	}
	golden(t, "the refusal", b.Bytes(), "46475702 0000 0002 6e6f")
}

func TestGoldenFrames(t *testing.T) {
	for name, c := range map[string]struct {
		write func(io.Writer) error
		want  string
	}{
		"control stream": {func(w io.Writer) error { return WriteKind(w, StreamControl) }, "01000000"},
		"http stream":    {func(w io.Writer) error { return WriteKind(w, StreamHTTP) }, "02000000"},
		"event stream":   {func(w io.Writer) error { return WriteKind(w, StreamEvent) }, "04000000"},
		"log stream":     {func(w io.Writer) error { return WriteKind(w, StreamLog) }, "81000000"},
		"out stream":     {func(w io.Writer) error { return WriteKind(w, StreamOut) }, "82000000"},
		"ready":          {func(w io.Writer) error { return WriteControl(w, FrameReady, struct{}{}) }, "01 000002 7b7d"},
		"stopped":        {func(w io.Writer) error { return WriteControl(w, FrameStopped, struct{}{}) }, "03 000002 7b7d"},
		"failed": {func(w io.Writer) error { return WriteControl(w, FrameFailed, Failed{Message: "m", Panic: true}) },
			"02 00001c" + hex.EncodeToString([]byte(`{"message":"m","panic":true}`))},
		"stop": {func(w io.Writer) error { return WriteControl(w, FrameStop, Stop{Reason: "idle", GraceMS: 9}) },
			"10 00001e" + hex.EncodeToString([]byte(`{"reason":"idle","grace_ms":9}`))},
		"log record": {func(w io.Writer) error {
			return WriteMessage(w, LogRecord{Time: "t", Level: "INFO", Message: "m", Attrs: json.RawMessage(`{"k":1}`), RequestID: "r"})
		}, "0000004a" + hex.EncodeToString([]byte(`{"time":"t","level":"INFO","message":"m","attrs":{"k":1},"request_id":"r"}`))},
	} {
		var b bytes.Buffer
		if err := c.write(&b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes(), c.want)
	}
}

func TestStartThereAndBack(t *testing.T) {
	for name, in := range map[string]*Start{
		"empty": {},
		"all": {Namespace: "n", Object: "ü/\x00", Name: "a\xfe", ID: "\xff", App: "app", Version: 3, Bundle: "b", Entry: "e", Props: json.RawMessage(`{"a":[1,2]}`),
			Env: map[string]string{"K": "V"}, Secrets: map[string]string{"S": "T"}, Services: []string{"x"}, Egress: true, Database: true, Children: true, Root: true, MaxStreams: 192, MaxSessions: 16},
		"escapes": {Object: `<&"` + "\u2028", Name: "."},
	} {
		b, err := AppendStart([]byte("before"), in)
		if err != nil {
			t.Fatal(err)
		}
		r := bytes.NewReader(append(b[len("before"):], "behind"...))
		out, version, err := ReadStart(r)
		if err != nil || version != 1 || !reflect.DeepEqual(in, out) {
			t.Errorf("%s: %+v became %+v (%d, %v)", name, in, out, version, err)
		}
		if r.Len() != len("behind") {
			t.Errorf("%s: %d bytes of what follows were taken", name, len("behind")-r.Len())
		}
	}
	if _, err := AppendStart(nil, &Start{Object: strings.Repeat("x", MaxStartBytes)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a start message over its limit: %v", err)
	}
}

func TestReadStartRefuses(t *testing.T) {
	unhex := func(s string) []byte { b, _ := hex.DecodeString(strings.ReplaceAll(s, " ", "")); return b }
	for name, c := range map[string]struct {
		in   []byte
		want error
	}{
		"nothing":         {nil, io.EOF},
		"half a header":   {unhex("46475701 0001"), io.ErrUnexpectedEOF},
		"the other end":   {unhex("46475702 0001 0001 00000002 7b7d"), nil},
		"too long":        {unhex("46475701 0001 0001 ffffffff"), ErrTooLarge},
		"short":           {unhex("46475701 0001 0001 00000003 7b7d"), io.ErrUnexpectedEOF},
		"later versions":  {unhex("46475701 0002 0009 00000002 7b7d"), ErrVersion},
		"earlier version": {unhex("46475701 0000 0000 00000002 7b7d"), ErrVersion},
		"not JSON":        {unhex("46475701 0001 0001 00000002 7b7b"), nil},
		"bad base64":      {append(unhex("46475701 0001 0001 00000012"), `{"object_b64":"~"}`...), nil},
	} {
		if _, _, err := ReadStart(bytes.NewReader(c.in)); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, wanted %v", name, err, c.want)
		}
	}
	if _, v, err := ReadStart(bytes.NewReader(unhex("46475701 0001 0009 00000002 7b7d"))); v != 1 || err != nil {
		t.Errorf("a range that begins where we are: %d %v", v, err)
	}
}

func TestReadAnswer(t *testing.T) {
	for in, c := range map[string]struct {
		version int
		want    error
	}{
		"46475702 0001 0000":      {1, nil},
		"46475702 0000 0002 6e6f": {0, ErrVersion},
		"46475701 0001 0000":      {0, ErrNotFacet},
		"46475702 0001 0001 00":   {0, ErrNotFacet},
		"46475702 0007 0000":      {0, ErrNotFacet},
		"46475702 0000 ffff":      {0, ErrNotFacet},
		"46475702 0000 0005 6e":   {0, ErrNotFacet},
		"48545450":                {0, ErrNotFacet},
		"":                        {0, io.EOF},
	} {
		b, _ := hex.DecodeString(strings.ReplaceAll(in, " ", ""))
		if v, err := ReadAnswer(bytes.NewReader(b)); v != c.version || !errors.Is(err, c.want) {
			t.Errorf("%s: %d %v, wanted %d %v", in, v, err, c.version, c.want)
		}
	}
	var b bytes.Buffer
	WriteAnswer(&b, 0, strings.Repeat("x", 5000))
	if _, err := ReadAnswer(&b); !errors.Is(err, ErrVersion) || b.Len() != 0 {
		t.Errorf("a long refusal: %v", err)
	}
}

func TestFrameLimits(t *testing.T) {
	long := strings.Repeat("x", MaxFrameBytes)
	if err := WriteControl(io.Discard, FrameFailed, Failed{Message: long}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if err := WriteMessage(io.Discard, long); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if _, _, err := ReadControl(bytes.NewReader([]byte{1, 0xff, 0xff, 0xff})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if _, err := ReadMessage(bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	if _, _, err := ReadControl(bytes.NewReader([]byte{1, 0, 0, 5, 'x'})); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
	if _, err := ReadKind(bytes.NewReader([]byte{1, 0, 1, 0})); err == nil {
		t.Error("reserved bytes may be set")
	}
}

func FuzzReadStart(f *testing.F) {
	b, _ := AppendStart(nil, &Start{Namespace: "n", Object: "\xff", Props: json.RawMessage(`1`)})
	f.Add(b)
	f.Add(b[:20])
	f.Fuzz(func(t *testing.T, in []byte) {
		s, version, err := ReadStart(bytes.NewReader(in))
		if err != nil {
			return
		}
		if version != 1 {
			t.Fatalf("version %d", version)
		}
		again, err := AppendStart(nil, s)
		if errors.Is(err, ErrTooLarge) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := ReadStart(bytes.NewReader(again))
		if err != nil || back.Object != s.Object || back.Name != s.Name || back.ID != s.ID {
			t.Fatalf("%q %q %q came back as %+v (%v)", s.Object, s.Name, s.ID, back, err)
		}
	})
}

func FuzzFacetSide(f *testing.F) {
	f.Add([]byte("FGW\x02\x00\x01\x00\x00\x01\x00\x00\x02{}"))
	f.Add([]byte("FGW\x02\x00\x00\x00\x02no"))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := bytes.NewReader(in)
		if _, err := ReadAnswer(r); err != nil {
			return
		}
		for {
			if _, body, err := ReadControl(r); err != nil {
				break
			} else if len(body) > MaxFrameBytes {
				t.Fatalf("a frame of %d bytes", len(body))
			}
		}
	})
}
