package client

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// envPeer makes the test's own binary the other process of a benchmark.
const envPeer = "SQLCHAN_TEST_PEER"

func TestMain(m *testing.M) {
	switch os.Getenv(envPeer) {
	case "":
		os.Exit(m.Run())
	case "echo":
		echo(os.NewFile(3, "peer"))
	case "worker":
		answerAll(os.NewFile(3, "peer"))
	}
}

func echo(f *os.File) {
	b := make([]byte, sqlchan.MaxPacket)
	for {
		n, err := f.Read(b)
		if err != nil {
			return
		}
		f.Write(b[:n])
	}
}

// answerAll answers queries with one row and everything else with DONE, at once: what is measured
// against it is the client and the socket.
func answerAll(f *os.File) {
	in, out := make([]byte, sqlchan.MaxPacket), make([]byte, 0, sqlchan.MaxPacket)
	columns := sqlchan.AppendColumns(nil, []sqlchan.Column{{Name: "n", DeclType: "INTEGER"}})
	rows := sqlchan.AppendInteger([]byte{1}, 42)
	done := sqlchan.AppendResult(nil, sqlchan.Result{RowsAffected: 1})
	all := append(sqlchan.AppendText(append([]byte{}, done...), columns), rows...)
	answer := func(h sqlchan.Header) []byte {
		a, payload := h, done
		if a.Type = sqlchan.Done; h.Type == sqlchan.Query {
			a.Type, payload = sqlchan.WholeResult, all
		}
		return append(a.Append(make([]byte, 0, 64)), payload...)
	}
	for {
		n, err := f.Read(in)
		if err != nil {
			return
		}
		h, rest, err := sqlchan.ParseHeader(in[:n])
		if err != nil {
			return
		}
		switch h.Type {
		case sqlchan.Cancel, sqlchan.Credit:
			continue
		case sqlchan.BatchRequests:
			out = sqlchan.Header{Type: sqlchan.BatchAnswers}.Append(out[:0])
			for len(rest) > 0 {
				if h, _, rest, err = sqlchan.CutPart(rest); err != nil {
					return
				}
				out = sqlchan.AppendPart(out, answer(h))
			}
			f.Write(out)
		default:
			f.Write(answer(h))
		}
	}
}

func otherProcess(b *testing.B, kind string) *os.File {
	b.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		b.Fatal(err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "peer")
	defer theirs.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envPeer+"="+kind)
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	ours := os.NewFile(uintptr(fds[0]), "ours")
	b.Cleanup(func() { ours.Close(); cmd.Wait() })
	return ours
}

// BenchmarkEcho is the floor: 44 bytes to another process and back.
func BenchmarkEcho(b *testing.B) {
	f := otherProcess(b, "echo")
	p := make([]byte, 44)
	for b.Loop() {
		f.Write(p)
		if _, err := f.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkExec(b *testing.B) {
	c, err := New(otherProcess(b, "worker"), 0)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s := newSession(b, c)
	args := []sqlchan.Arg{{Value: int64(1)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Exec(context.Background(), "UPDATE t SET n = n + 1 WHERE id = ?", args); err != nil {
			b.Fatal(err)
		}
	}
}

func query(ctx context.Context, s *Session, args []sqlchan.Arg) error {
	r, err := s.Query(ctx, "SELECT n FROM t WHERE id = ?", args)
	if err != nil {
		return err
	}
	if err := r.Next(); err != nil {
		return err
	}
	r.Value()
	return r.Close()
}

func BenchmarkQueryRow(b *testing.B) {
	args := []sqlchan.Arg{{Value: int64(1)}}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, v := range []struct {
		name string
		ctx  context.Context
	}{{"plain", context.Background()}, {"cancellable", ctx}} {
		b.Run(v.name, func(b *testing.B) {
			c, err := New(otherProcess(b, "worker"), 0)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			s, ctx := newSession(b, c), v.ctx
			b.ReportAllocs()
			for b.Loop() {
				if err := query(ctx, s, args); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkQueryRowConcurrently(b *testing.B) {
	for _, sessions := range []int{4, 16} {
		b.Run(fmt.Sprint(sessions), func(b *testing.B) {
			c, err := New(otherProcess(b, "worker"), 0)
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range sessions {
				s := newSession(b, c)
				wg.Go(func() {
					args := []sqlchan.Arg{{Value: int64(1)}}
					for range b.N / sessions {
						if err := query(context.Background(), s, args); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
