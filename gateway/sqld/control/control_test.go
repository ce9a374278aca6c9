package control

import (
	"errors"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T) (a, b *Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*Conn
	for i, fd := range fds {
		if conns[i], err = NewConn(os.NewFile(uintptr(fd), "end")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

func TestMessages(t *testing.T) {
	a, b := pair(t)
	sent := &Message{
		Op: Attach, ID: 7, Channel: 8, Slot: 3, File: "o/1.db", Epoch: 2, Reason: "why", Audited: true, ReadOnly: true,
		Limits: &Limits{Storage: 1, Memory: 2, Result: 3, StatementTimeout: time.Second, TxIdle: time.Minute},
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := a.Send(sent, w); err != nil {
		t.Fatal(err)
	}
	w.Close()
	got, f, err := b.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("got %+v", got)
	}
	if f == nil {
		t.Fatal("no descriptor came")
	}
	if _, err := f.WriteString("x"); err != nil {
		t.Error(err)
	}
	f.Close()
	if all, err := io.ReadAll(r); err != nil || string(all) != "x" {
		t.Errorf("through the descriptor: %q, %v", all, err)
	}

	if err := b.Send(&Message{Op: Reply, ID: 7}, nil); err != nil {
		t.Fatal(err)
	}
	if m, f, err := a.Receive(); err != nil || m.Op != Reply || f != nil {
		t.Errorf("%+v %v %v", m, f, err)
	}
	if err := a.Send(&Message{Op: Remove, Files: []string{strings.Repeat("x", maxMessage)}}, nil); !errors.Is(err, ErrTooLong) {
		t.Errorf("a message that is too long: %v", err)
	}
	a.Close()
	if _, _, err := b.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

// TestTrySend does not wait for a peer that does not read.
func TestTrySend(t *testing.T) {
	a, _ := pair(t)
	m := &Message{Op: Audit, Record: &Record{SQL: strings.Repeat("x", 4000)}}
	for range 10_000 {
		if !a.TrySend(m) {
			return
		}
	}
	t.Error("10,000 messages were taken by nobody")
}

func TestShared(t *testing.T) {
	f, a, err := CreateShared()
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer f.Close()
	b, err := MapShared(f)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a.Slot(5).Committed.Add(3)
	a.Slot(5).Running[1].Seq.Store(9)
	if n := b.Slot(5).Committed.Load(); n != 3 {
		t.Errorf("committed %d", n)
	}
	b.Slot(5).Clear()
	if a.Slot(5).Committed.Load() != 0 || a.Slot(5).Running[1].Seq.Load() != 0 {
		t.Error("a slot is not clear")
	}
	if a.Slot(MaxSlots) != nil || a.Slot(-1) != nil || a.Slot(MaxSlots-1) == nil {
		t.Error("slots that there are not")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("the memory could be taken away")
	}
}
