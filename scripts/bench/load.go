package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
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

// loadMain is the load generator: connections that each ask again as soon as they are answered.
func loadMain(args []string) error {
	set := flag.NewFlagSet("load", flag.ExitOnError)
	addr := set.String("addr", "", "host:port")
	path := set.String("path", "/", "what is asked for")
	conns := set.Int("conns", 1, "connections")
	lasting := set.Duration("for", 0, "how long")
	count := set.Int("n", 0, "how many requests, on each connection, instead")
	from := set.Int("from", 0, "the number that %d in the path begins with")
	group := set.String("group", "", "a cgroup to join")
	set.Parse(args)

	if *group != "" {
		if err := joinGroup(*group); err != nil {
			return err
		}
	}
	times := make([][]float64, *conns)
	errs := make([]error, *conns)
	var all sync.WaitGroup
	began := time.Now()
	for i := range *conns {
		all.Go(func() { times[i], errs[i] = ask(*addr, *path, *from, *count, *lasting) })
	}
	all.Wait()
	took := time.Since(began)
	var every []float64
	for i := range times {
		if errs[i] != nil {
			return errs[i]
		}
		every = append(every, times[i]...)
	}
	return json.NewEncoder(os.Stdout).Encode(loaded{len(every), took.Seconds(), quantile(every, 0.5), quantile(every, 0.99)})
}

// answerTime is how long one answer may take.
const answerTime = 30 * time.Second

// ask sends requests on one connection, one after another, and gives the microseconds that each took.
func ask(addr, path string, from, count int, lasting time.Duration) ([]float64, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := bufio.NewReaderSize(c, 4<<10)
	request := []byte(requestFor(addr, path))
	numbered := strings.Contains(path, "%d")
	var times []float64
	end := time.Now().Add(lasting)
	for n := 0; ; n++ {
		began := time.Now()
		if count > 0 && n == count || count == 0 && !began.Before(end) {
			return times, nil
		}
		if numbered {
			request = []byte(requestFor(addr, strings.Replace(path, "%d", strconv.Itoa(from+n), 1)))
			began = time.Now()
		}
		if n%256 == 0 {
			c.SetDeadline(began.Add(lasting + answerTime))
		}
		if _, err := c.Write(request); err != nil {
			return nil, err
		}
		if err := readAnswer(r); err != nil {
			return nil, fmt.Errorf("request %d: %w", n, err)
		}
		times = append(times, float64(time.Since(began).Nanoseconds())/1000)
	}
}

func requestFor(addr, path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"
}

// readAnswer reads one answer, which has to be 200 and have a length. It looks at nothing else, so that it costs
// little beside what is measured.
func readAnswer(r *bufio.Reader) error {
	length := -1
	var status string
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first {
			status = strings.TrimSpace(string(line))
			continue
		}
		if len(line) <= 2 {
			break
		}
		if len(line) > 16 && strings.EqualFold(string(line[:15]), "content-length:") {
			if length, err = strconv.Atoi(strings.TrimSpace(string(line[15:]))); err != nil {
				return err
			}
		}
	}
	if length < 0 {
		return fmt.Errorf("%s, without a length", status)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200") {
		text, _ := io.ReadAll(io.LimitReader(r, int64(min(length, 500))))
		return fmt.Errorf("%s: %s", status, text)
	}
	_, err := r.Discard(length)
	return err
}
