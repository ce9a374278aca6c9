package sqlchan

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
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

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestGoldenBytes(t *testing.T) {
	value := func(v any) []byte { return must[[]byte](t)(AppendValue(nil, v)) }
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		"header":       {Header{Query, More, 0x0102, 0x03040506, 0x0708090a}.Append(nil), "02 01 0201 06050403 0a090807"},
		"null":         {value(nil), "00"},
		"integer":      {value(int64(-300)), "01 d704"},
		"real":         {value(1.0), "02 000000000000f03f"},
		"text":         {value("aü"), "03 03 61c3bc"},
		"blob":         {value([]byte{0, 255}), "04 02 00ff"},
		"empty blob":   {value([]byte{}), "04 00"},
		"args":         {must[[]byte](t)(AppendArgs(nil, []Arg{{"", int64(1)}, {"n", nil}})), "02 00 0102 01 6e 00"},
		"no args":      {must[[]byte](t)(AppendArgs(nil, nil)), "00"},
		"columns":      {AppendColumns(nil, []Column{{"a", "INT"}, {"b", ""}}), "02 01 61 03 494e54 01 62 00"},
		"result":       {AppendResult(nil, Result{true, 2, -1}), "01 04 01"},
		"begins":       {Header{Exec, BeginImmediate, 1, 2, 0}.Append(nil), "01 04 0100 02000000 00000000"},
		"begins, too":  {Header{Query, BeginReadOnly | More, 1, 2, 0}.Append(nil), "02 09 0100 02000000 00000000"},
		"whole result": {AppendWholeResult(nil, Result{true, 2, -1}, []byte{1, 1, 'a', 0}, []byte{1, 1, 2}), "01 04 01 04 01016100 01 0102"},
		"no rows":      {AppendWholeResult(nil, Result{}, []byte{0}, []byte{0}), "00 00 00 01 00 00"},
		"failure":      {AppendFailure(nil, &Failure{true, "busy", 517, -1, "no"}), "01 04 62757379 8a08 01 02 6e6f"},
		"batch": {append(Header{BatchRequests, 0, 0, 0, 5}.Append(nil), AppendPart(AppendPart(nil, Header{Commit, 0, 1, 2, 5}.Append(nil)), append(Header{Rollback, 0, 3, 4, 5}.Append(nil), 0))...),
			"0b 00 0000 00000000 05000000 0c 05 00 0100 02000000 05000000 0d 06 00 0300 04000000 05000000 00"},
		"long text":    {AppendText(nil, strings.Repeat("x", 200))[:3], "c801 78"},
		"least number": {AppendInteger(nil, math.MinInt64), "01 ffffffffffffffffff01"},
	} {
		golden(t, name, c.got, c.want)
	}
}

func TestNumbersOfTheProtocol(t *testing.T) {
	for want, got := range map[Type]Type{1: Exec, 2: Query, 3: Prepare, 4: Begin, 5: Commit, 6: Rollback, 7: Credit, 8: Cancel, 9: Close, 10: Builtin,
		129: Done, 130: Columns, 131: Rows, 132: Prepared, 133: Error, 134: Reset, 135: WholeResult, 11: BatchRequests, 136: BatchAnswers} {
		if got != want {
			t.Errorf("%d is %d", want, got)
		}
	}
	if got := []int{KVGet, KVPut, KVDelete, KVList, AlarmSet, AlarmGet, AlarmDelete}; !reflect.DeepEqual(got, []int{1, 2, 3, 4, 5, 6, 7}) {
		t.Error("built-in statements", got)
	}
}

func TestThereAndBack(t *testing.T) {
	args := []Arg{{"", nil}, {"", int64(math.MaxInt64)}, {"x", math.Inf(-1)}, {"", "text\x00"}, {"", []byte{1}}, {"", []byte{}}}
	r := NewReader(must[[]byte](t)(AppendArgs(nil, args)))
	if got := r.Args(); !reflect.DeepEqual(got, args) || r.End() != nil {
		t.Errorf("%v %v", got, r.End())
	}
	f := &Failure{true, CodeConstraint, 2067, 4, "UNIQUE constraint failed"}
	r = NewReader(AppendFailure(nil, f))
	if got := r.Failure(); !reflect.DeepEqual(got, f) || r.End() != nil {
		t.Errorf("%v %v", got, r.End())
	}
	d := Result{true, 1 << 40, -5}
	r = NewReader(AppendResult(nil, d))
	if got := r.Result(); got != d || r.End() != nil {
		t.Errorf("%v %v", got, r.End())
	}
	cols := []Column{{"a", ""}, {"", "TEXT"}}
	r = NewReader(AppendColumns(nil, cols))
	if got := r.Columns(); !reflect.DeepEqual(got, cols) || r.End() != nil {
		t.Errorf("%v %v", got, r.End())
	}
	if _, err := AppendValue(nil, 1); err == nil {
		t.Error("an int is taken for a value")
	}
}

func TestBatch(t *testing.T) {
	var batch []byte
	for i := range uint32(3) {
		batch = AppendPart(batch, append(Header{Query, BeginImmediate, uint16(i) + 1, i, 7}.Append(nil), bytes.Repeat([]byte{9}, int(i)*100)...))
	}
	for i := range uint32(3) {
		h, message, rest, err := CutPart(batch)
		if err != nil || h != (Header{Query, BeginImmediate, uint16(i) + 1, i, 7}) || len(message) != int(i)*100 {
			t.Errorf("part %d: %+v, %d bytes, %v", i, h, len(message), err)
		}
		batch = rest
	}
	if len(batch) != 0 {
		t.Errorf("%d bytes are left", len(batch))
	}
}

func TestSplitAndAssemble(t *testing.T) {
	const room = MaxPacket - HeaderSize
	buf := make([]byte, 0, MaxPacket)
	for size, packets := range map[int]int{0: 1, 1: 1, room: 1, room + 1: 2, 3*room - 1: 3, MaxMessage: MaxMessage/room + 1} {
		payload := bytes.Repeat([]byte{7}, size)
		var whole []byte
		n := 0
		err := Split(Header{Exec, 0, 3, 4, 5}, payload, buf, func(p []byte) error {
			h, part, err := ParseHeader(p)
			if err != nil {
				return err
			}
			n++
			whole = append(whole, part...)
			if more := n < packets; h != (Header{Exec, boolByte(more), 3, 4, 5}) {
				t.Errorf("%d bytes, packet %d: %+v", size, n, h)
			}
			return nil
		})
		if err != nil || n != packets || !bytes.Equal(whole, payload) {
			t.Errorf("%d bytes: %d packets, %d bytes back, %v", size, n, len(whole), err)
		}
	}
	if err := Split(Header{}, make([]byte, MaxMessage+1), buf, func([]byte) error { return nil }); !errors.Is(err, ErrMalformed) {
		t.Errorf("a message over its limit: %v", err)
	}
	stop := errors.New("stop")
	if err := Split(Header{}, nil, buf, func([]byte) error { return stop }); err != stop {
		t.Errorf("%v", err)
	}
}

func TestMalformed(t *testing.T) {
	for name, read := range map[string]func() error{
		"short packet":      func() error { _, _, err := ParseHeader(make([]byte, HeaderSize-1)); return err },
		"long packet":       func() error { _, _, err := ParseHeader(make([]byte, MaxPacket+1)); return err },
		"unknown flag":      func() error { _, _, err := ParseHeader([]byte{1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"both begins":       func() error { _, _, err := ParseHeader([]byte{1, 12, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"BEGIN that begins": func() error { _, _, err := ParseHeader([]byte{4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"DONE that begins":  func() error { _, _, err := ParseHeader([]byte{129, 8, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"half a whole":      func() error { r := NewReader([]byte{0, 0, 0, 5, 1}); r.WholeResult(); return r.Err() },
		"BATCH that begins": func() error { _, _, err := ParseHeader([]byte{11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"part past end":     func() error { _, _, _, err := CutPart([]byte{13, 5, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0}); return err },
		"part of nothing":   func() error { _, _, _, err := CutPart([]byte{0}); return err },
		"part of a message": func() error { _, _, _, err := CutPart([]byte{12, 1, 1, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0}); return err },
		"batch in a batch":  func() error { _, _, _, err := CutPart([]byte{12, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"RESET in a batch":  func() error { _, _, _, err := CutPart([]byte{12, 134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}); return err },
		"no byte":           func() error { r := NewReader(nil); r.Byte(); return r.Err() },
		"endless number":    func() error { r := NewReader(bytes.Repeat([]byte{0xff}, 11)); r.Uvarint(); return r.Err() },
		"no number":         func() error { r := NewReader(nil); r.Varint(); return r.Err() },
		"text past end":     func() error { r := NewReader([]byte{5, 'a'}); r.Text(); return r.Err() },
		"huge text":         func() error { r := NewReader(AppendInteger(nil, math.MinInt64)[1:]); r.Text(); return r.Err() },
		"kind of value":     func() error { r := NewReader([]byte{5}); r.Value(); return r.Err() },
		"short real":        func() error { r := NewReader([]byte{2, 1}); r.Value(); return r.Err() },
		"too many args":     func() error { r := NewReader([]byte{0xff, 0xff, 0x7f}); r.Args(); return r.Err() },
		"missing args":      func() error { r := NewReader([]byte{3, 0, 0}); r.Args(); return r.Err() },
		"too many columns":  func() error { r := NewReader([]byte{0xff, 0xff, 0x7f}); r.Columns(); return r.Err() },
		"bytes left over":   func() error { r := NewReader([]byte{1, 2}); r.Byte(); return r.End() },
	} {
		if err := read(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := NewReader([]byte{5})
	r.Text()
	if r.Byte() != 0 || r.Uvarint() != 0 || r.Value() != nil || r.Args() != nil || r.Len() != 0 {
		t.Error("something was read after an error")
	}
}

// Whatever bytes come: no panic, no memory beyond their own size, and what was read can be written again.
func FuzzReader(f *testing.F) {
	a, _ := AppendArgs(nil, []Arg{{"n", "text"}, {"", []byte{1}}, {"", 1.5}})
	f.Add(byte(0), a)
	f.Add(byte(1), AppendColumns(nil, []Column{{"a", "INT"}}))
	f.Add(byte(2), AppendFailure(nil, &Failure{Code: "x"}))
	f.Add(byte(3), AppendResult(nil, Result{true, 1, 2}))
	f.Add(byte(4), AppendWholeResult(nil, Result{true, 1, 2}, []byte{1, 1, 'a', 0}, []byte{1, 0}))
	f.Fuzz(func(t *testing.T, what byte, in []byte) {
		if h, payload, err := ParseHeader(in); err == nil {
			if again := append(h.Append(nil), payload...); !bytes.Equal(again, in) {
				t.Fatal("a packet was changed")
			}
		}
		if h, message, rest, err := CutPart(in); err == nil {
			if again := append(AppendPart(nil, append(h.Append(nil), message...)), rest...); len(again) > len(in) || !bytes.HasSuffix(in, again[1:]) && len(message) < 100 {
				t.Fatal("a part was changed")
			}
		}
		r := NewReader(in)
		switch what % 5 {
		case 0:
			args := r.Args()
			if r.End() != nil {
				return
			}
			b, err := AppendArgs(nil, args)
			if err != nil {
				t.Fatal(err)
			}
			again := NewReader(b)
			if got := again.Args(); again.End() != nil || len(got) != len(args) {
				t.Fatalf("%v came back as %v", args, got)
			}
		case 1:
			cols := r.Columns()
			if again := NewReader(AppendColumns(nil, cols)); r.End() == nil && !reflect.DeepEqual(again.Columns(), cols) {
				t.Fatalf("%v came back otherwise", cols)
			}
		case 2:
			fail := r.Failure()
			if again := NewReader(AppendFailure(nil, fail)); r.End() == nil && !reflect.DeepEqual(again.Failure(), fail) {
				t.Fatalf("%v came back otherwise", fail)
			}
		case 3:
			d := r.Result()
			if again := NewReader(AppendResult(nil, d)); r.End() == nil && again.Result() != d {
				t.Fatalf("%v came back otherwise", d)
			}
		case 4:
			d, columns := r.WholeResult()
			if r.Err() != nil {
				return
			}
			rows := in[len(in)-r.Len():]
			again := NewReader(AppendWholeResult(nil, d, columns, rows))
			if got, cols := again.WholeResult(); got != d || !bytes.Equal(cols, columns) || again.Len() != len(rows) {
				t.Fatalf("%v, %q came back otherwise", d, columns)
			}
		}
	})
}

func BenchmarkReadRow(b *testing.B) {
	row := AppendText(append(AppendInteger(nil, 42), byte(Text)), "some text")
	b.ReportAllocs()
	for b.Loop() {
		r := Reader{b: row}
		r.Value()
		r.Value()
	}
}
