package sqld

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"golang.org/x/sys/unix"
)

// FuzzChannel sends packets of any content: the worker ends the channel or
// answers, and lets go of everything.
func FuzzChannel(f *testing.F) {
	add := func(packets ...[]byte) {
		var all []byte
		for _, p := range packets {
			all = append(binary.LittleEndian.AppendUint16(all, uint16(len(p))), p...)
		}
		f.Add(all)
	}
	packet := func(typ sqlchan.Type, session uint16, request uint32, body []byte) []byte {
		return append(sqlchan.Header{Type: typ, Session: session, Request: request}.Append(nil), body...)
	}
	add(packet(sqlchan.Query, 1, 1, payload(50*time.Millisecond, 1, "SELECT ?, 'x'", []any{1})), packet(sqlchan.Credit, 1, 1, []byte{3}))
	add(packet(sqlchan.Begin, 2, 1, []byte{20, 0}), packet(sqlchan.Exec, 2, 2, payload(50*time.Millisecond, -1, "CREATE TABLE t (a); INSERT INTO t VALUES (1)", nil)), packet(sqlchan.Commit, 2, 3, []byte{0}), packet(sqlchan.Close, 2, 4, nil))
	add(packet(sqlchan.Builtin, 1, 1, appendArgs([]byte{20, 4, 2}, []any{[]byte("k"), []byte("v")})), packet(sqlchan.Prepare, 1, 2, sqlchan.AppendText(nil, "SELECT 1; SELECT 2")), packet(sqlchan.Cancel, 1, 2, nil))
	part := func(session uint16, request uint32, sql string) []byte {
		return sqlchan.AppendPart(nil, packet(sqlchan.Exec, session, request, payload(50*time.Millisecond, -1, sql, nil)))
	}
	add(packet(sqlchan.BatchRequests, 0, 0, append(part(1, 1, "BEGIN"), part(2, 2, "CREATE TABLE t (a)")...)), packet(sqlchan.BatchRequests, 0, 0, part(1, 3, "ROLLBACK")))
	f.Fuzz(func(t *testing.T, data []byte) {
		fd, theirs := socketpair(t)
		done := make(chan error, 1)
		go func() { done <- ServeOne(context.Background(), theirs, "") }()
		for len(data) > 2 {
			n := min(int(binary.LittleEndian.Uint16(data)), len(data)-2)
			if err := unix.Sendmsg(fd, data[2:2+n], nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT); err != nil {
				break
			}
			data = data[2+n:]
		}
		unix.Close(fd)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the worker does not let go of the channel")
		}
	})
}
