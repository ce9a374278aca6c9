package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// loaded is what a load generator found.
type loaded struct {
	Requests int     `json:"requests"`
	Seconds  float64 `json:"seconds"`
	P50      float64 `json:"p50"` // microseconds
	P99      float64 `json:"p99"`
}

func (l *loaded) perSecond() float64 { return float64(l.Requests) / l.Seconds }

// load runs a load generator in a process of its own, so that its cost is the same whatever it measures. %d in the path is
// replaced by a number that counts from from, one for each request.
func (b *bench) load(addr, path string, conns, from int, stop ...string) (*loaded, error) {
	args := append([]string{"load", "-addr", addr, "-path", path, "-conns", strconv.Itoa(conns), "-from", strconv.Itoa(from), "-group", b.groups.load}, stop...)
	cmd := exec.Command(b.self, args...)
	cmd.SysProcAttr = diesWithUs()
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("load on %s%s: %w", addr, path, err)
	}
	var l loaded
	return &l, json.Unmarshal(text, &l)
}

// loadMain is the load generator: connections that each ask again as soon as they are answered. It is one thread that
// waits for all of them at once and reads of an answer no more than it has to: what it computes is taken from those who are
// measured, and with a goroutine for each connection that was nearly as much as they compute themselves.
func loadMain(args []string) error {
	set := flag.NewFlagSet("load", flag.ExitOnError)
	l := loader{}
	addr := set.String("addr", "", "host:port")
	set.StringVar(&l.path, "path", "/", "what is asked for")
	conns := set.Int("conns", 1, "connections")
	set.DurationVar(&l.lasting, "for", 0, "how long")
	set.IntVar(&l.count, "n", 0, "how many requests, on each connection, instead")
	set.DurationVar(&l.gap, "gap", 0, "a pause before each request, which is not counted")
	set.IntVar(&l.from, "from", 0, "the number that %d in the path begins with")
	group := set.String("group", "", "a cgroup to join")
	set.Parse(args)

	if *group != "" {
		if err := joinGroup(*group); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	began := time.Now()
	if err := l.run(*addr, *conns); err != nil {
		return err
	}
	took := time.Since(began)
	return json.NewEncoder(os.Stdout).Encode(loaded{len(l.times), took.Seconds(), quantile(l.times, 0.5), quantile(l.times, 0.99)})
}

// answerTime is how long one answer may take.
const answerTime = 30 * time.Second

// loader is a load generator at work.
type loader struct {
	addr, path  string
	count, from int
	lasting     time.Duration
	gap         time.Duration
	end         time.Time
	times       []float64 // microseconds of each request
}

// asker is one of its connections.
type asker struct {
	fd      int
	asked   int
	request []byte
	began   time.Time
	answer  []byte // what has come of it
}

func (l *loader) run(addr string, conns int) error {
	l.addr = addr
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(poll)
	all := make([]asker, conns)
	l.end = time.Now().Add(l.lasting)
	open := 0
	for i := range all {
		a := &all[i]
		if a.fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		defer unix.Close(a.fd)
		unix.SetsockoptInt(a.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := unix.Connect(a.fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}); err != nil {
			return fmt.Errorf("connect to %s: %w", addr, err)
		}
		if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, a.fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}); err != nil {
			return err
		}
		a.answer = make([]byte, 0, 16<<10)
		more, err := l.ask(a)
		if err != nil {
			return err
		}
		if more {
			open++
		}
	}
	events := make([]unix.EpollEvent, conns)
	for open > 0 {
		n, err := unix.EpollWait(poll, events, int(answerTime.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("no answer within %s", answerTime)
		}
		for _, e := range events[:n] {
			a := &all[e.Fd]
			whole, err := a.read()
			if err != nil {
				return fmt.Errorf("request %d: %w", a.asked, err)
			}
			if !whole {
				continue
			}
			l.times = append(l.times, float64(time.Since(a.began).Nanoseconds())/1000)
			more, err := l.ask(a)
			if err != nil {
				return err
			}
			if !more {
				open--
			}
		}
	}
	return nil
}

// ask sends the connection's next request; it reports whether there is one.
func (l *loader) ask(a *asker) (bool, error) {
	time.Sleep(l.gap)
	a.began = time.Now()
	if l.count > 0 && a.asked == l.count || l.count == 0 && !a.began.Before(l.end) {
		return false, nil
	}
	if a.request == nil || strings.Contains(l.path, "%d") {
		a.request = []byte(requestFor(l.addr, strings.Replace(l.path, "%d", strconv.Itoa(l.from+a.asked), 1)))
		a.began = time.Now()
	}
	a.asked++
	if n, err := unix.Write(a.fd, a.request); err != nil || n < len(a.request) {
		return false, fmt.Errorf("send request %d: wrote %d bytes of %d: %w", a.asked, n, len(a.request), err)
	}
	return true, nil
}

func requestFor(addr, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"
}

// read reads what has come and reports whether the answer is whole.
func (a *asker) read() (bool, error) {
	if len(a.answer) == cap(a.answer) {
		return false, errors.New("an answer that is too long to measure with")
	}
	n, err := unix.Read(a.fd, a.answer[len(a.answer):cap(a.answer)])
	if err == unix.EINTR {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n == 0 {
		return false, errors.New("the connection ended")
	}
	a.answer = a.answer[:len(a.answer)+n]
	size, err := answerSize(a.answer)
	if err != nil || size == 0 || size > len(a.answer) {
		return false, err
	}
	if size < len(a.answer) {
		return false, errors.New("more than an answer came")
	}
	a.answer = a.answer[:0]
	return true, nil
}

var (
	endOfHead  = []byte("\r\n\r\n")
	lengthName = []byte("\r\ncontent-length: ")
)

// answerSize is how long the answer is whose beginning is b, 0 where that does not tell yet. It has to be a 200, and has
// to say its length; nothing else of it is looked at.
func answerSize(b []byte) (int, error) {
	end := bytes.Index(b, endOfHead)
	if end < 0 {
		return 0, nil
	}
	head := b[:end+2]
	length := -1
	for at := bytes.IndexByte(head, '\r'); at >= 0 && at+len(lengthName) < len(head); {
		if bytes.EqualFold(head[at:at+len(lengthName)], lengthName) {
			digits, _, _ := bytes.Cut(head[at+len(lengthName):], []byte("\r"))
			n, err := strconv.Atoi(string(digits))
			if err != nil || n < 0 {
				return 0, fmt.Errorf("content-length %q", digits)
			}
			length = n
			break
		}
		next := bytes.IndexByte(head[at+1:], '\r')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	status, _, _ := bytes.Cut(head, []byte("\r"))
	if length < 0 {
		return 0, fmt.Errorf("%s, without a length", status)
	}
	size := end + len(endOfHead) + length
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200")) && size <= len(b) {
		return 0, fmt.Errorf("%s: %.500s", status, b[end+len(endOfHead):size])
	}
	return size, nil
}
