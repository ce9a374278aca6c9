package facet

import (
	"bufio"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/gateway/problem"
	"github.com/facetgateway/fgw/gateway/relay"
	"github.com/facetgateway/fgw/sdk/wire"
)

func TestRooms(t *testing.T) {
	budget := relay.NewBudget(3 * wire.Window)
	a, b := &rooms{budget: budget}, &rooms{budget: budget}
	for i := range ownRoom + 3 {
		if !a.take() {
			t.Fatalf("stream %d has no room", i)
		}
	}
	if a.take() || budget.Open() != 3 {
		t.Errorf("one more has room; %d are taken", budget.Open())
	}
	for i := range ownRoom { // whatever the other has
		if !b.take() {
			t.Fatalf("stream %d of the other has no room", i)
		}
	}
	if b.take() {
		t.Error("one more of the other has room")
	}
	a.give()
	if !b.take() || a.take() {
		t.Error("what one gave back is not the other's")
	}
	for range ownRoom + 2 {
		a.give()
	}
	for range ownRoom + 1 {
		b.give()
	}
	if budget.Open() != 0 || a.taken != 0 || b.taken != 0 {
		t.Errorf("%d are taken in the end", budget.Open())
	}
}

// outgoing is an instance whose facet the test plays, where there is room for the streams that every facet may open
// and for no other.
func outgoing(t *testing.T) (*instance, *yamux.Session) {
	t.Helper()
	ours, theirs := net.Pipe()
	m := NewManager(Config{Calls: relay.NewBudget(0), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { m.exchanges.Close() })
	in := newInstance(&node{m: m, key: key{"n", "o", ""}}, nil)
	in.spec, in.durable = &Spec{}, func() error { return nil }
	close(in.attached)
	share := &rooms{budget: m.Calls}
	in.bounds = &wire.Bounds{MaxOpen: wire.MaxOwnStreams, Take: share.take, Give: share.give}
	in.conn = wire.NewConn(ours, in.bounds, nil)
	var err error
	if in.mux, err = yamux.Client(in.conn, wire.Config(wire.MaxOwnStreams, time.Minute)); err != nil {
		t.Fatal(err)
	}
	in.session = relay.NewSession(in.mux, in.conn, in.gate, relay.NewBudget(0))
	facet, err := yamux.Server(wire.NewConn(theirs, nil, nil), wire.Config(8, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.mux.Close(); facet.Close() })
	go in.acceptStreams()
	return in, facet
}

// call opens a stream and says what it is for.
func call(t *testing.T, facet *yamux.Session, c *wire.Call) *yamux.Stream {
	t.Helper()
	st, err := facet.OpenStream()
	if err == nil {
		err = wire.WriteKind(st, wire.StreamOut)
	}
	if err == nil {
		err = wire.WriteMessage(st, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	st.SetDeadline(time.Now().Add(10 * time.Second))
	return st
}

// A facet whose stream finds no room is told so, as it would be told the answer, however much it sends meanwhile; and is not ended.
func TestRefusedCalls(t *testing.T) {
	in, facet := outgoing(t)
	var held []*yamux.Stream
	for range ownRoom { // nothing comes on them
		st, err := facet.OpenStream()
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, st)
	}
	for range 3 {
		st := call(t, facet, &wire.Call{Op: wire.OpService, Name: wire.NewName("desk")})
		go io.Copy(st, io.MultiReader(strings.NewReader("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n"), strings.NewReader(strings.Repeat("x", 1_000_000))))
		resp, err := http.ReadResponse(bufio.NewReader(st), nil)
		if err != nil {
			t.Fatal(err)
		}
		var told struct{ Error wire.Problem }
		if err := json.NewDecoder(resp.Body).Decode(&told); err != nil || resp.StatusCode != 503 || resp.Header.Get(wire.HeaderError) != problem.Overloaded || told.Error.Code != problem.Overloaded || !resp.Close {
			t.Errorf("an exchange is answered %d %v %+v, %v", resp.StatusCode, resp.Header, told, err)
		}
		st.Close()
		st = call(t, facet, &wire.Call{Op: wire.OpList})
		body, err := wire.ReadAnswerMessage(st, 1<<20)
		var a wire.Answer
		if err != nil || json.Unmarshal(body, &a) != nil || a.Error == nil || a.Error.Code != problem.Overloaded {
			t.Errorf("a question is answered %q, %v", body, err)
		}
		st.Close()
	}
	logs, err := facet.OpenStream() // which every facet has
	if err == nil {
		err = wire.WriteKind(logs, wire.StreamLog)
	}
	if err != nil {
		t.Fatal(err)
	}
	for admitted := false; !admitted; {
		admitted = !in.bounds.Refused(logs.StreamID())
		time.Sleep(time.Millisecond)
	}
	if err := logs.Close(); err != nil {
		t.Fatal(err)
	}
	held[0].Close()
	for in.mux.NumStreams() > ownRoom-1 { // until the gateway has closed it, too, which it does when nothing more comes
		time.Sleep(time.Millisecond)
	}
	st := call(t, facet, &wire.Call{Op: wire.OpList})
	body, err := wire.ReadAnswerMessage(st, 1<<20)
	if err != nil || !strings.Contains(string(body), problem.AccessDenied) { // it is asked, and has no right to it
		t.Errorf("with room again the answer is %q, %v", body, err)
	}
	select {
	case <-in.dead:
		t.Errorf("the facet was ended: %s", in.why)
	default:
	}
}
