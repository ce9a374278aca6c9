package sdk

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/wire"
)

// envFloor makes the test's binary end at once: what fork and exec alone cost.
const envFloor = "SDK_TEST_FLOOR"

// The test's own binary is the app where it is started as a gateway starts one.
func TestMain(m *testing.M) {
	if os.Getenv(envFloor) != "" {
		os.Exit(0)
	}
	if os.Getenv(wire.EnvWire) == "1" {
		Serve(func(ctx context.Context, f *Facet) (http.Handler, error) {
			if f.Name() == "fails" {
				return nil, errors.New("as it was told")
			}
			return http.HandlerFunc(sayHello), nil
		})
	}
	os.Exit(m.Run())
}

// startProcess starts the app as a gateway does: descriptors 3 and 4, an environment of one variable.
func startProcess(t testing.TB, said wire.Start) (*testGateway, *exec.Cmd) {
	t.Helper()
	ours, theirs := streamPair(t)
	sqlOurs, sqlTheirs := packetPair(t)
	defer sqlTheirs.Close()
	wireFile, err := theirs.(*net.UnixConn).File()
	if err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	defer wireFile.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = []string{wire.EnvWire + "=1"}
	cmd.ExtraFiles = []*os.File{wireFile, sqlTheirs}
	var errs strings.Builder
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &testGateway{t: t, conn: ours, sql: sqlOurs, ended: make(chan error, 1), logs: make(chan map[string]any, 10)}
	go func() {
		err := cmd.Wait()
		if err != nil {
			err = errors.Join(err, errors.New(errs.String()))
		}
		g.ended <- err
	}()
	g.shakeHands(said)
	return g, cmd
}

func TestProcess(t *testing.T) {
	g, cmd := startProcess(t, wire.Start{})
	if _, body := g.ready().do("GET", "/", nil, nil); body != "hello\n" {
		t.Errorf("%q", body)
	}
	wire.WriteControl(g.control, wire.FrameStop, wire.Stop{Reason: "idle", GraceMS: 1000})
	if kind, _ := g.frame(); kind != wire.FrameStopped {
		t.Errorf("frame %d", kind)
	}
	if err := g.end(); err != nil || cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("%v", err)
	}
}

func TestProcessThatFails(t *testing.T) {
	g, cmd := startProcess(t, wire.Start{Namespace: "n", Object: "o", Name: "fails"})
	if kind, body := g.frame(); kind != wire.FrameFailed || !strings.Contains(string(body), "as it was told") {
		t.Errorf("%d %s", kind, body)
	}
	if err := g.end(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(err.Error(), "as it was told") {
		t.Errorf("%v", err)
	}
}

func TestProcessWithoutItsGateway(t *testing.T) {
	g, cmd := startProcess(t, wire.Start{})
	g.ready().conn.Close()
	g.end()
	if cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("exit %d", cmd.ProcessState.ExitCode())
	}
}

func TestGatewayOfAnotherVersion(t *testing.T) {
	ours, theirs := streamPair(t)
	defer ours.Close()
	a, b := packetPair(t)
	defer a.Close()
	defer b.Close()
	ended := make(chan error)
	go func() { ended <- serveWire(theirs, b, nil) }()
	io.WriteString(ours, "FGW\x01\x00\x07\x00\x09\x00\x00\x00\x02{}")
	if _, err := wire.ReadAnswer(ours); !errors.Is(err, wire.ErrVersion) || !strings.Contains(err.Error(), "7 to 9") {
		t.Errorf("%v", err)
	}
	if err := <-ended; !errors.Is(err, wire.ErrVersion) {
		t.Errorf("%v", err)
	}
}

// BenchmarkColdStart is the time from fork to the first answer, beside fork and exec of the same binary alone.
func BenchmarkColdStart(b *testing.B) {
	b.Run("fork and exec", func(b *testing.B) {
		for b.Loop() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = []string{envFloor + "=1"}
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first answer", func(b *testing.B) {
		for b.Loop() {
			g, _ := startProcess(b, wire.Start{})
			g.ready().do("GET", "/", nil, nil)
			b.StopTimer()
			g.session.Close()
			g.end()
			b.StartTimer()
		}
	})
}
