package facet

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire"
)

func TestAuditLine(t *testing.T) {
	for _, c := range []struct {
		record sqlpool.AuditRecord
		by     string
		want   string
	}{
		{sqlpool.AuditRecord{SQL: "\n\tSELECT 1\n", Rows: 1, Bytes: 2, Duration: 1234567}, "", "SELECT 1 rows=1 bytes=2 time=1.235ms"},
		{sqlpool.AuditRecord{SQL: "SELEC", Code: "sql_error", Duration: time.Second, Dropped: 3}, "administrator", "SELEC rows=0 bytes=0 time=1s error=sql_error by=administrator dropped=3"},
	} {
		if got := auditLine(&c.record, c.by); got != c.want {
			t.Errorf("%q, wanted %q", got, c.want)
		}
	}
}

func TestDeriveRows(t *testing.T) {
	for _, c := range []struct {
		own, given, want int64
		code             string
	}{
		{0, 0, 0, ""}, {0, 5, 5, ""}, {9, 0, 9, ""}, {9, 9, 9, ""}, {9, 10, 0, problem.LimitAboveOwn}, {0, -1, 0, problem.BadRequest},
	} {
		got, err := deriveRows(c.own, c.given)
		p, _ := errors.AsType[*problem.Error](err)
		if got != c.want || (err == nil) != (c.code == "") || err != nil && p.Code != c.code {
			t.Errorf("%d of %d: %d, %v", c.given, c.own, got, err)
		}
	}
}

// What an administrator sees of a start holds names alone.
func TestSummary(t *testing.T) {
	s := &Spec{Bundle: "b", Rows: 7, Services: map[string]wire.Binding{"mail": {Service: "post", Props: json.RawMessage(`"hush"`)}}}
	s.Start = wire.Start{Props: json.RawMessage(`"hush"`), Env: map[string]string{"B": "hush", "A": "hush"}, Secrets: map[string]string{"KEY": "hush"}, Children: true}
	s.Egress = &Outlet{Grant: wire.Egress{Hosts: []string{"hush.example"}}}
	text, err := json.Marshal(s.summary())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "hush") {
		t.Errorf("it tells too much: %s", text)
	}
	for _, want := range []string{`"env":["A","B"]`, `"services":["mail"]`, `"egress":"hosts"`, `"children":true`, `"rows":7`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	s.Egress.Grant = wire.Egress{Via: &wire.Binding{Service: "guard"}}
	if got := s.summary().Egress; got != "service" {
		t.Errorf("egress %s", got)
	}
	s.Egress = nil
	if got := s.summary().Egress; got != "none" {
		t.Errorf("egress %s", got)
	}
}
