package facet

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/gateway/logs"
	"github.com/facetgateway/fgw/sdk/wire"
)

func TestLogLine(t *testing.T) {
	for _, c := range []struct {
		record wire.LogRecord
		want   string
	}{
		{wire.LogRecord{Level: "INFO", Message: "hello"}, "hello"},
		{wire.LogRecord{Level: "WARN", Message: "m", Attrs: json.RawMessage(`{"b":1,"a":"x y","g":{"k":"v","e":{}},"n":null,"l":[1,2]}`)}, `WARN m b=1 a="x y" g.k=v n=null l=[1,2]`},
		{wire.LogRecord{Message: "m", Attrs: json.RawMessage(`{"a.b":{"c":1},"d":2}`)}, "m a.b.c=1 d=2"},
		{wire.LogRecord{Message: "m", Attrs: json.RawMessage(strings.Repeat(`{"g":`, 10) + "1" + strings.Repeat("}", 10))}, `m g.g.g.g.g.g.g.g.g={"g":1}`},
		{wire.LogRecord{Message: "m", Attrs: json.RawMessage(`[1]`)}, "m"},
		{wire.LogRecord{Message: "m", Attrs: json.RawMessage(`{"a":`)}, "m"},
	} {
		if got := logLine(&c.record, 100); got != c.want {
			t.Errorf("%s became %q, wanted %q", c.record.Attrs, got, c.want)
		}
	}
}

// A record of 64 KB whose text would be 200 MB costs no more than other records, and its line says that it was cut.
func TestLogLineIsBounded(t *testing.T) {
	group := func(n int, member string) json.RawMessage {
		return json.RawMessage(`{"` + strings.Repeat("k", n) + `":{` + strings.TrimSuffix(strings.Repeat(member, 6400), ",") + `}}`)
	}
	for _, c := range []struct {
		name   string
		record wire.LogRecord
		cut    bool
	}{
		{"leaves behind a long name", wire.LogRecord{Attrs: group(32<<10, `"":1,`)}, true},
		{"leaves behind a name that fits", wire.LogRecord{Attrs: group(8<<10, `"":1,`)}, true},
		{"groups without leaves", wire.LogRecord{Attrs: group(20<<10, `"":{},`)}, true},
		{"a long message", wire.LogRecord{Message: strings.Repeat("ä", 20<<10)}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			size := len(c.record.Attrs) + len(c.record.Message)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			line := logLine(&c.record, size)
			runtime.ReadMemStats(&after)
			if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
				t.Errorf("a record of %d bytes took %d bytes of memory", size, took)
			}
			if len(line) > logs.MaxLine {
				t.Errorf("a line of %d bytes", len(line))
			}
			if strings.Contains(line, "(cut: the record has ") != c.cut || strings.ContainsRune(line, '\uFFFD') {
				t.Errorf("the line ends with %q", line[max(0, len(line)-100):])
			}
		})
	}
}
