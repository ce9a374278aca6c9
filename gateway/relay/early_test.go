package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/yamux"

	"github.com/facetgateway/fgw/sdk/wire"
)

// hasty answers each request once it has its head, and reads the body then.
func hasty(c net.Conn) {
	mux, err := yamux.Server(c, wire.Config(8, time.Minute))
	if err != nil {
		return
	}
	for {
		st, err := mux.Accept()
		if err != nil {
			return
		}
		go func() {
			defer st.Close()
			if _, err := wire.ReadKind(st); err != nil {
				return
			}
			for r := bufio.NewReader(st); ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.WriteString(st, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nenough")
				io.Copy(io.Discard, req.Body)
			}
		}()
	}
}

// An answer that comes before its request's body is read leaves body on the connection,
// which neither the next request nor the server itself may stumble over.
func TestEarlyAnswers(t *testing.T) {
	s := raw(t, hasty, nil)
	srv, _ := front(t, s, Options{})
	var said bytes.Buffer
	log.SetOutput(&said) // where net/http tells of panics
	defer log.SetOutput(os.Stderr)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for i := range 120 {
				size := []int{1, 1000, 60 << 10, 100 << 10, 300 << 10, 5 << 20}[i%6]
				resp, err := client.Post(srv.URL+"/", "text/plain", struct{ io.Reader }{bytes.NewReader(make([]byte, size))})
				if err != nil {
					continue // the connection was closed under a client that still sent
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != 200 || err != nil || string(body) != "enough" {
					t.Errorf("%d bytes: %d %q, %v", size, resp.StatusCode, body, err)
				}
			}
		})
	}
	wg.Wait()
	srv.Close()
	if strings.Contains(said.String(), "panic") {
		t.Errorf("the server panicked:\n%.2000s", &said)
	}
}

// A client that asks for an upgrade with its body still to come would have two read from its connection.
func TestUpgradeBeforeTheBodysEnd(t *testing.T) {
	switched := make(chan struct{})
	s := raw(t, func(c net.Conn) {
		mux, err := yamux.Server(c, wire.Config(8, time.Minute))
		if err != nil {
			return
		}
		st, err := mux.Accept()
		if err != nil {
			return
		}
		wire.ReadKind(st)
		http.ReadRequest(bufio.NewReader(st))
		io.WriteString(st, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		<-switched
		mux.Close()
	}, nil)
	srv, failed := front(t, s, Options{})
	c, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n")
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	got, _ := io.ReadAll(c)
	if err := <-failed; !errors.Is(err, ErrClientGone) || len(got) > 0 {
		t.Errorf("answered %q: %v", got, err)
	}
	close(switched)
}

// A facet that takes a request's body, however slowly that comes, is given time for its answer.
func TestSlowUploads(t *testing.T) {
	const limit, pieces = 600 * time.Millisecond, 6
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}), nil)
	srv, failed := front(t, s, Options{HeadTimeout: limit})
	body, feed := io.Pipe()
	go func() {
		tick := time.NewTicker(limit / 3)
		defer tick.Stop()
		for range pieces {
			<-tick.C
			io.WriteString(feed, "piece")
		}
		feed.Close()
	}()
	resp, err := http.Post(srv.URL, "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || string(got) != fmt.Sprint(5*pieces) {
		t.Errorf("answered %d %q: %v", resp.StatusCode, got, <-failed)
	}
}

// A facet that answers and gives no leave to send more holds its callers for as long as an answer may take, not for ever.
func TestFacetThatTakesNothing(t *testing.T) {
	s := raw(t, func(c net.Conn) {
		// A peer by hand: yamux itself gives leave as soon as its user reads.
		head := make([]byte, 12)
		for {
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			id := head[4:8]
			switch {
			case head[1] == 0:
				n := int64(binary.BigEndian.Uint32(head[8:]))
				var data bytes.Buffer
				io.CopyN(&data, c, n)
				if bytes.Contains(data.Bytes(), []byte("POST")) {
					answer := "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
					c.Write(slices.Concat([]byte{0, 0, 0, 0}, id, []byte{0, 0, 0, byte(len(answer))}, []byte(answer)))
				}
			case head[3]&1 != 0: // SYN
				c.Write(slices.Concat([]byte{0, 1, 0, 2}, id, make([]byte, 4)))
			}
		}
	}, nil)
	srv, failed := front(t, s, Options{HeadTimeout: 200 * time.Millisecond})
	for i := range 16 {
		resp, err := http.Post(srv.URL, "text/plain", bytes.NewReader(make([]byte, 60<<10)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 200 {
			continue
		}
		if err := <-failed; !errors.Is(err, ErrHeadTimeout) || i < 3 {
			t.Errorf("request %d is told %v", i, err)
		}
		return
	}
	t.Error("the window has no end")
}

// A client that goes away in the midst of an answer is no fault of the facet's.
func TestClientGoneInTheMidstOfAnAnswer(t *testing.T) {
	told := make(chan struct{})
	s := facet(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-told // not the client's end: the answer could become whole before the gateway looks
	}), nil)
	defer close(told)
	srv, failed := front(t, s, Options{})
	resp, err := http.Get(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if err := <-failed; !errors.Is(err, ErrCut) || !errors.Is(err, ErrClientGone) || errors.Is(err, ErrProtocol) {
		t.Errorf("it ends with %v", err)
	}
}
