package sqlpool

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// TestSetAudit switches the audit of a channel on and off while it is used, and across a replacement.
func TestSetAudit(t *testing.T) {
	var mu sync.Mutex
	var heard []AuditRecord
	p, s := pool(t, func(cfg *Config) {
		cfg.OnAudit = func(c *Channel, r AuditRecord) {
			mu.Lock()
			defer mu.Unlock()
			if c.Owner() != "me" {
				t.Errorf("of a channel of %v", c.Owner())
			}
			heard = append(heard, r)
		}
	})
	has := func(text string) bool {
		mu.Lock()
		defer mu.Unlock()
		for _, r := range heard {
			if strings.Contains(r.SQL, text) {
				return true
			}
		}
		return false
	}
	c := attach(t, p, AttachOptions{Owner: "me"})
	c.query(1, "SELECT 'before'")
	if err := c.c.SetAudit(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.query(1, "SELECT 'first'")
	until(t, "the first record", func() bool { return has("first") })
	mu.Lock()
	if r := heard[0]; r.Rows != 1 || r.Bytes == 0 || r.Duration <= 0 || r.Code != "" {
		t.Errorf("%+v", r)
	}
	mu.Unlock()
	worker := s.last.Load()
	worker.Kill()
	<-worker.Done()
	until(t, "an answer of the next worker", func() bool { _, err := c.do(sqlchan.Query, 1, "SELECT 'second'"); return err == nil })
	until(t, "the record of the next worker", func() bool { return has("second") })
	if err := c.c.SetAudit(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	c.query(1, "SELECT 'silent'")
	if err := c.c.SetAudit(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	c.query(1, "SELECT 'last'")
	until(t, "the last record", func() bool { return has("last") })
	if has("before") || has("silent") {
		t.Errorf("records of statements that were not audited: %+v", heard)
	}
}

func TestRowsLimit(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{Limits: Limits{Rows: 3}})
	const counting = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < ?) SELECT n FROM c"
	if rows := c.query(1, counting, 3); len(rows) != 3 {
		t.Errorf("%v", rows)
	}
	_, err := c.do(sqlchan.Query, 1, counting, 4)
	if f, ok := errors.AsType[*sqlchan.Failure](err); !ok || f.Code != sqlchan.CodeResultLimit || !strings.Contains(f.Message, "rows=3") {
		t.Errorf("a row too many: %v", err)
	}
}

// TestPoolUsage counts what databases did whose channels are gone, once.
func TestPoolUsage(t *testing.T) {
	p, _ := pool(t, nil)
	for _, file := range []string{"object/1.db", "object/2.db"} {
		c := attach(t, p, AttachOptions{File: file})
		c.exec(1, "CREATE TABLE t (a)")
		c.exec(1, "INSERT INTO t VALUES (1), (2)")
		c.query(1, "SELECT a FROM t")
		if file == "object/1.db" {
			c.hangUp()
			if err := c.c.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if u := p.Usage(); u.Statements != 6 || u.RowsWritten != 4 || u.ResultBytes == 0 || u.Errors != 0 {
		t.Errorf("%+v", u)
	}
}
