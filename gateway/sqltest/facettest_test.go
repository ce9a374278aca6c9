package sqltest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk"
	"github.com/facetgateway/fgw/sdk/facettest"
)

func TestServerOptions(t *testing.T) {
	type props struct{ Owner string }
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := facettest.New(t, func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var p props
			if err := f.Props(&p); err != nil {
				t.Error(err)
			}
			body, _ := io.ReadAll(r.Body)
			fmt.Fprint(w, f.Namespace(), f.Object(), f.Name(), f.Version(), f.Env("E"), f.Secret("S"), f.Env("none"), p.Owner, f.Now().Year(), string(body))
		}), nil
	}, facettest.WithName("n", "o", "f"), facettest.WithVersion(7), facettest.WithEnv("E", "e"), facettest.WithSecret("S", "s"),
		facettest.WithProps(props{"alice"}), facettest.WithTime(at), facettest.WithoutDatabase())
	if status, got := s.Do("POST", "/", "text/plain", strings.NewReader("!")); status != 200 || got != "nof7esalice2030!" {
		t.Errorf("%d %q", status, got)
	}
	s.Advance(365 * 24 * time.Hour)
	if s.Now().Year() != 2031 || !s.Facet.Now().Equal(s.Now()) {
		t.Error("the clock was not turned")
	}
}

func TestServerRestart(t *testing.T) {
	starts, stops := 0, 0
	s := facettest.New(t, func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		starts++
		memory := 0
		f.OnStop(func(context.Context) {
			stops++
			if ctx.Err() != nil {
				t.Error("the instance's context ended before OnStop")
			}
		})
		if _, err := f.DB().ExecContext(ctx, `CREATE TABLE IF NOT EXISTS t (a)`); err != nil {
			return nil, err
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			memory++
			var stored int
			f.DB().ExecContext(r.Context(), `INSERT INTO t VALUES (1)`)
			f.DB().QueryRowContext(r.Context(), `SELECT count(*) FROM t`).Scan(&stored)
			fmt.Fprint(w, memory, stored)
		}), nil
	})
	for _, want := range []string{"1 1", "2 2"} {
		if _, got := s.Get("/"); got != want {
			t.Errorf("%q, wanted %q", got, want)
		}
	}
	s.Restart()
	if _, got := s.Get("/"); got != "1 3" || starts != 2 || stops != 1 {
		t.Errorf("%q after %d starts and %d stops", got, starts, stops)
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	broken := errors.New("broken")
	for name, start := range map[string]sdk.StartFunc{
		"error": func(context.Context, *sdk.Facet) (http.Handler, error) { return nil, broken },
		"panic": func(context.Context, *sdk.Facet) (http.Handler, error) { panic("broken") },
		"sql": func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
			_, err := f.DB().ExecContext(ctx, `CREATE TABLE broken`)
			return nil, err
		},
	} {
		_, err := facettest.Start(t, start)
		var f *sdk.FacetError
		if !errors.As(err, &f) || !strings.Contains(f.Message, "broken") && name != "sql" || (f.Stack != "") != (name == "panic") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Where there is no fgw, a test says what to do.
func TestWithoutFgw(t *testing.T) {
	cmd := exec.Command("go", "test", "-count=1", "-run", "TestSigning", guestbook)
	cmd.Env = append(cmd.Environ(), "FGW=/nonexistent/fgw", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "FGW names no program") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Alarms ring when the test's clock passes them, each at its time.
func TestAlarmsRingByTheTestsClock(t *testing.T) {
	var rang []string
	fail := false
	s := facettest.New(t, func(ctx context.Context, f *sdk.Facet) (http.Handler, error) {
		f.OnAlarm(func(ctx context.Context) error {
			rang = append(rang, f.Now().Format("15:04"))
			if fail {
				return errors.New("not today")
			}
			if len(rang) == 1 {
				return f.Alarm().Set(ctx, f.Now().Add(time.Hour))
			}
			return nil
		})
		return http.NotFoundHandler(), f.Alarm().Set(ctx, f.Now().Add(time.Hour))
	})
	expect := func(want ...string) {
		t.Helper()
		if fmt.Sprint(rang) != fmt.Sprint(want) {
			t.Errorf("rang at %v, wanted %v", rang, want)
		}
	}
	s.Advance(59 * time.Minute)
	expect()
	s.Advance(3 * time.Hour)
	expect("13:00", "14:00")
	s.Advance(24 * time.Hour)
	expect("13:00", "14:00")
	if _, err := s.Facet.Alarm().Get(t.Context()); !errors.Is(err, sdk.ErrNotFound) {
		t.Errorf("the alarm is still set: %v", err)
	}
	// in a transaction
	tx, err := s.Facet.DB().Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Facet.Alarm().SetTx(tx, s.Now()); err != nil {
		t.Fatal(err)
	}
	tx.Rollback()
	s.Advance(time.Minute)
	expect("13:00", "14:00")
	// a failure keeps it
	fail = true
	s.Facet.Alarm().Set(t.Context(), s.Now())
	s.Advance(0)
	fail = false
	s.Advance(0)
	expect("13:00", "14:00", s.Now().Format("15:04"), s.Now().Format("15:04"))
	if err := s.Facet.Alarm().Delete(t.Context()); err != nil {
		t.Error(err)
	}
}
