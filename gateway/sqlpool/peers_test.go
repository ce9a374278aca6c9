package sqlpool

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// TestBreach has every break of the protocol end the channel, and the worker live on.
func TestBreach(t *testing.T) {
	p, s := pool(t, nil)
	head := func(typ sqlchan.Type, flags byte, session uint16, request uint32) []byte {
		return sqlchan.Header{Type: typ, Flags: flags, Session: session, Request: request}.Append(nil)
	}
	exec := func(flags byte, request uint32, payload ...byte) []byte {
		return append(head(sqlchan.Exec, flags, 1, request), payload...)
	}
	endless := append(head(sqlchan.Query, 0, 1, 7), query("WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c) SELECT count(*) FROM c")...)
	full := exec(sqlchan.More, 1, make([]byte, sqlchan.MaxPacket-sqlchan.HeaderSize)...)
	part := sqlchan.AppendPart(nil, head(sqlchan.Rollback, 0, 1, 1))
	batch := func(flags byte, session uint16, request uint32, payload ...byte) []byte {
		return append(head(sqlchan.BatchRequests, flags, session, request), payload...)
	}
	tests := []struct {
		name    string
		packets [][]byte
		repeat  int
	}{
		{"short", [][]byte{{1, 2, 3}}, 1},
		{"empty", [][]byte{{}}, 1},
		{"too long", [][]byte{make([]byte, sqlchan.MaxPacket+1)}, 1},
		{"unknown type", [][]byte{head(77, 0, 1, 1)}, 1},
		{"an answer", [][]byte{head(sqlchan.Done, 0, 1, 1)}, 1},
		{"type 0", [][]byte{head(0, 0, 1, 1)}, 1},
		{"unknown flags", [][]byte{head(sqlchan.Rollback, 2, 1, 1)}, 1},
		{"session 0", [][]byte{head(sqlchan.Rollback, 0, 0, 1)}, 1},
		{"no payload", [][]byte{exec(0, 1)}, 1},
		{"length past the end", [][]byte{exec(0, 1, 0, 200)}, 1},
		{"number without an end", [][]byte{exec(0, 1, 0xff, 0xff, 0xff)}, 1},
		{"bytes left over", [][]byte{exec(0, 1, 0, 1, 'x', 0, 9)}, 1},
		{"kind of a value", [][]byte{exec(0, 1, 0, 1, 'x', 1, 0, 9)}, 1},
		{"many arguments", [][]byte{exec(0, 1, 0, 1, 'x', 0xff, 0xff, 0xff, 0x7f)}, 1},
		{"mode of BEGIN", [][]byte{append(head(sqlchan.Begin, 0, 1, 1), 0, 9)}, 1},
		{"CREDIT without a number", [][]byte{head(sqlchan.Credit, 0, 1, 1)}, 1},
		{"CANCEL with more", [][]byte{append(head(sqlchan.Cancel, 0, 1, 1), 1)}, 1},
		{"a number in use", [][]byte{endless, endless}, 1},
		{"goes on as another type", [][]byte{exec(sqlchan.More, 1, 0), head(sqlchan.Query, 0, 1, 1)}, 1},
		{"an empty batch", [][]byte{batch(0, 0, 0)}, 1},
		{"a session's batch", [][]byte{batch(0, 1, 0, part...)}, 1},
		{"a request's batch", [][]byte{batch(0, 0, 1, part...)}, 1},
		{"a batch that goes on", [][]byte{batch(sqlchan.More, 0, 0, part...)}, 1},
		{"a batch in a batch", [][]byte{batch(0, 0, 0, sqlchan.AppendPart(nil, batch(0, 0, 0, part...))...)}, 1},
		{"a batch of answers", [][]byte{append(head(sqlchan.BatchAnswers, 0, 0, 0), part...)}, 1},
		{"a part past the end", [][]byte{batch(0, 0, 0, append(part, 13)...)}, 1},
		{"a part that goes on", [][]byte{batch(0, 0, 0, sqlchan.AppendPart(nil, exec(sqlchan.More, 1, 0))...)}, 1},
		{"a part with session 0", [][]byte{batch(0, 0, 0, sqlchan.AppendPart(nil, head(sqlchan.Rollback, 0, 0, 1))...)}, 1},
		{"unfinished messages", [][]byte{full}, 200},
	}
	bystander := attach(t, p, AttachOptions{Object: "bystander"})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := attach(t, p, AttachOptions{})
			for range tt.repeat {
				for _, b := range tt.packets {
					if err := restart(func() error { _, err := unix.Write(c.fd, b); return err }); err != nil && tt.repeat == 1 {
						t.Fatal(err)
					}
				}
			}
			if tt.name == "empty" { // cannot be told from the end of the channel
				return
			}
			select {
			case <-c.c.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("the channel lives on")
			}
			if err := c.c.Err(); !errors.Is(err, ErrBreach) || strings.Contains(err.Error(), "SQL channel: SQL channel") {
				t.Errorf("ended with %v", err)
			}
			if v := bystander.query(1, "SELECT 1"); v[0] != int64(1) {
				t.Errorf("another channel reads %v", v)
			}
		})
	}
	if n := s.spawned.Load(); n != 1 {
		t.Errorf("%d workers were needed", n)
	}
}

// TestOldEpoch has requests of before a RESET not executed.
func TestOldEpoch(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	c.epoch = 9
	if _, err := c.start(sqlchan.Exec, 1, append(sqlchan.AppendText([]byte{0}, "INSERT INTO t VALUES (1)"), 0)); err != nil {
		t.Fatal(err)
	}
	c.epoch = 0
	if v := c.query(1, "SELECT count(*) FROM t"); v[0] != int64(0) {
		t.Errorf("%v rows", v[0])
	}
}

// TestClientThatNeverReads loses its channel, and holds up nobody meanwhile: not
// another facet, nor an administrator's session on the same database.
func TestClientThatNeverReads(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes the 10 s that a client has to read")
	}
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	c.exec(1, "CREATE TABLE t (a)")
	for s := range uint16(16) {
		b := binary.AppendUvarint([]byte{0}, 1<<30) // credit
		b = sqlchan.AppendText(b, "INSERT INTO t VALUES (1); WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c LIMIT 100000) SELECT hex(zeroblob(500)) FROM c")
		b, _ = sqlchan.AppendArgs(b, nil)
		if _, err := c.start(sqlchan.Query, s+1, b); err != nil {
			t.Fatal(err)
		}
	}
	other := attach(t, p, AttachOptions{Object: "other"})
	admin := attach(t, p, AttachOptions{})
	began := time.Now()
	n := 0
	for ended := false; !ended; n++ {
		at := time.Now()
		other.query(1, "SELECT 1")
		admin.exec(1, "INSERT INTO t VALUES (2)")
		if d := time.Since(at); d > time.Second {
			t.Errorf("others waited %v", d)
		}
		select {
		case <-c.c.Done():
			ended = true
		case <-time.After(20 * time.Millisecond):
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("the channel lives on")
		}
	}
	if err := c.c.Err(); !errors.Is(err, ErrBreach) {
		t.Errorf("ended with %v", err)
	}
	if n < 50 {
		t.Errorf("the others were served %d times", n)
	}
}

// TestFlood has a client send more than it may, without end, and be refused.
func TestFlood(t *testing.T) {
	p, _ := pool(t, nil)
	c := attach(t, p, AttachOptions{})
	other := attach(t, p, AttachOptions{Object: "other"})
	stop, flowing := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	go func() {
		n := 0
		for i := uint32(1); ; i++ {
			select {
			case <-stop:
				close(done)
				return
			default:
			}
			h := sqlchan.Header{Type: sqlchan.Query, Session: uint16(i%40 + 1), Request: i}
			b := append(h.Append(nil), query("SELECT 1")...)
			if err := unix.Sendmsg(c.fd, b, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL); err == nil {
				if n++; n == 1000 {
					close(flowing)
				}
			}
			unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
		}
	}()
	<-flowing
	for range 100 {
		began := time.Now()
		other.query(1, "SELECT 1")
		if d := time.Since(began); d > slack*500*time.Millisecond {
			t.Errorf("another facet's statement took %v", d)
		}
	}
	close(stop)
	<-done
}
