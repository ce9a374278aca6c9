package sdk

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
)

// Whoever logs must not wait for a gateway that does not read, and what is lost is told.
func TestLoggingNeverWaits(t *testing.T) {
	loggers := make(chan *slog.Logger, 1)
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		loggers <- f.Logger()
		return http.NotFoundHandler(), nil
	}).ready()
	log := <-loggers
	const records = 5000
	text := strings.Repeat("x", 1000)
	for i := range records { // the harness takes 1000 of them, then stops reading
		log.Info(text, "i", i)
	}
	seen, dropped := 0, 0
	for dropped == 0 || seen+dropped < records {
		select {
		case r := <-g.logs:
			if n, ok := r["attrs"].(map[string]any)["dropped"]; ok {
				dropped += int(n.(float64))
			} else {
				seen++
			}
		case <-time.After(patience):
			t.Fatalf("%d records seen, %d dropped, of %d", seen, dropped, records)
		}
	}
	if dropped == 0 || seen+dropped != records {
		t.Errorf("%d records seen, %d dropped, of %d", seen, dropped, records)
	}
}

func TestRecordsThatAreTooLong(t *testing.T) {
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		f.Logger().Info(strings.Repeat("x", wire.MaxFrameBytes))
		return http.NotFoundHandler(), nil
	}).ready()
	if r := <-g.logs; r["attrs"].(map[string]any)["dropped"] != 1.0 {
		t.Errorf("%v", r)
	}
}

// The last records of an instance that stops are not lost.
func TestLogsAreFlushedAtTheEnd(t *testing.T) {
	g := startInstance(t, wire.Start{}, func(ctx context.Context, f *Facet) (http.Handler, error) {
		f.OnStop(func(ctx context.Context) {
			for i := range 100 {
				f.Logger().Debug("on the way out", "i", i)
			}
		})
		return http.NotFoundHandler(), nil
	}).ready()
	wire.WriteControl(g.control, wire.FrameStop, wire.Stop{GraceMS: 1000})
	n := 0
	for range g.logs { // until the stream ends
		n++
	}
	if n != 100 {
		t.Errorf("%d records", n)
	}
}

func BenchmarkLog(b *testing.B) {
	s := newShipper(nil)
	s.running = make(chan struct{}) // nobody sends: past the first megabyte, records are counted
	log := slog.New(s.handler())
	ctx := context.WithValue(context.Background(), requestIDKey{}, "0123456789abcdef")
	b.ReportAllocs()
	for b.Loop() {
		log.InfoContext(ctx, "page shown", "path", "/", "status", 200)
	}
}
