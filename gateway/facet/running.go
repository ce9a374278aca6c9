package facet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// Each facet that runs has a mark, a file in Config.Running, from before its first statement until its alarm has been noted after
// its last. So a gateway that was killed leaves the names of those whose alarm its successor has to look at, however many
// sleep; and, in the file, how to start them, which only their supervisors knew. A mark is not synced: it is written before the facet
// commits, and so reaches the disk before the commit does, or with it.

const (
	// recoverTime bounds how long looking at alarms may keep a gateway from serving. What is not looked at keeps its mark.
	recoverTime = 10 * time.Second
	// recoverAtOnce is how many are looked at together: it is the SQL workers that work.
	recoverAtOnce = 8
)

func (m *Manager) markFile(id alarmID) string {
	return filepath.Join(m.Running, id.object+"."+strconv.Itoa(id.n))
}

// mark says that the facet runs. Where the disk has no room for it the facet runs all the same: it is the crash of a gateway at
// such a time that would have to be made up for.
func (in *instance) mark() {
	var how []byte
	var err error
	if in.starter != nil {
		how, err = in.howStarted()
	}
	if err == nil {
		err = os.WriteFile(in.m.markFile(in.alarm), how, 0o600)
	}
	if err != nil {
		in.m.Log.Warn("mark a facet that runs", "facet", in.address(), "error", err)
	}
}

func (in *instance) unmark() {
	if err := os.Remove(in.m.markFile(in.alarm)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		in.m.Log.Warn("take back the mark of a facet that ran", "facet", in.address(), "error", err)
	}
}

// recoverAlarms looks at the alarms of facets that ran when the gateway was killed.
func (m *Manager) recoverAlarms(ctx context.Context) error {
	if err := os.MkdirAll(m.Running, 0o700); err != nil {
		return fmt.Errorf("make a place for the marks of facets that run: %w", err)
	}
	marks, err := os.ReadDir(m.Running)
	if err != nil {
		return fmt.Errorf("look for facets that ran: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	slots := make(chan struct{}, recoverAtOnce)
	var wg sync.WaitGroup
	for _, e := range marks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := m.recoverAlarm(ctx, e.Name()); err != nil {
				m.Log.Error("look at the alarm of a facet that ran when the gateway ended", "mark", e.Name(), "error", err)
			}
		})
	}
	wg.Wait()
	return nil
}

// recoverAlarm looks at one facet's alarm and takes back its mark.
func (m *Manager) recoverAlarm(ctx context.Context, mark string) error {
	object, number, _ := strings.Cut(mark, ".")
	n, err := strconv.Atoi(number)
	id := alarmID{object, n}
	if err != nil || filepath.Base(m.markFile(id)) != mark {
		return nil // no mark of ours
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	o, _, err := m.Registry.ObjectByID(ctx, object, n)
	if err == nil {
		p := placeOf(o, n)
		at, err := m.readAlarm(ctx, p, o.Namespace)
		if err != nil {
			return err
		}
		if err := m.noteAlarm(ctx, id, at, func() ([]byte, error) { return os.ReadFile(m.markFile(id)) }); err != nil {
			return err
		}
	} // else it was removed, and its alarm with it
	return os.Remove(m.markFile(id))
}

// readAlarm reads the alarm from a facet's database: -1 where there is none.
func (m *Manager) readAlarm(ctx context.Context, p place, namespace string) (at int64, err error) {
	if _, err := os.Stat(filepath.Join(m.Objects, p.file)); errors.Is(err, fs.ErrNotExist) {
		return -1, nil // to read it would make it
	}
	ns, err := m.Registry.Namespace(namespace)
	if err != nil {
		return 0, err
	}
	ch, err := m.Databases.Attach(ctx, sqlpool.AttachOptions{Object: p.object, File: p.file, Limits: sqlLimits(&Spec{Limits: ns.Limits})})
	if err != nil {
		return 0, err
	}
	defer func() {
		if closed := ch.Close(ctx); err == nil {
			err = closed
		}
	}()
	c, err := client.New(ch.FacetEnd(), 1)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.Session()
	if err != nil {
		return 0, err
	}
	rows, err := s.Builtin(ctx, sqlchan.AlarmGet, nil)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	switch err := rows.Next(); {
	case errors.Is(err, io.EOF):
		return -1, nil
	case err != nil:
		return 0, err
	}
	at, ok := rows.Value().(int64)
	if !ok {
		return 0, errors.New("its alarm is no number")
	}
	return at, rows.RowErr()
}
