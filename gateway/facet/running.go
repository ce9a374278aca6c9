package facet

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/facetgateway/fgw/gateway/marks"
	"github.com/facetgateway/fgw/gateway/sqlpool"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan/client"
)

// Each facet that runs has a mark (Config.Marks) from before its first statement until its alarm has been noted after its last. So a
// gateway that was killed leaves the names of those whose alarm its successor has to look at, however many sleep; and how
// to start them, which only their supervisors knew.

const (
	// recoverTime bounds how long looking at alarms may keep a gateway from serving. What is not looked at keeps its mark.
	recoverTime = 10 * time.Second
	// recoverAtOnce is how many are looked at together: it is the SQL workers that work.
	recoverAtOnce = 8
)

// mark says that the facet runs. Where the disk has no room for it the facet runs all the same: it is the crash of a gateway at
// such a time that would have to be made up for.
func (in *instance) mark() {
	how, err := in.howStarted()
	if err == nil {
		err = in.m.Marks.Add(in.alarm.mark(), how)
	}
	if err != nil {
		in.m.Log.Warn("mark a facet that runs", "facet", in.address(), "error", err)
	}
}

func (in *instance) unmark() {
	if err := in.m.Marks.Remove(in.alarm.mark()); err != nil {
		in.m.Log.Warn("take back the mark of a facet that ran", "facet", in.address(), "error", err)
	}
}

func (id alarmID) mark() marks.ID { return marks.ID{Object: id.object, N: id.n} }

// recoverAlarms looks at the alarms of facets that ran when the gateway was killed.
func (m *Manager) recoverAlarms(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recoverTime)
	defer cancel()
	slots := make(chan struct{}, recoverAtOnce)
	var wg sync.WaitGroup
	for _, id := range m.Marks.All() {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			id := alarmID{id.Object, id.N}
			if err := m.recoverAlarm(ctx, id); err != nil {
				m.retainMark(id)
				m.Log.Error("look at the alarm of a facet that ran when the gateway ended", "mark", id.mark().String(), "error", err)
			}
		})
	}
	wg.Wait()
}

// recoverAlarm looks at one facet's alarm and takes back its mark.
func (m *Manager) recoverAlarm(ctx context.Context, id alarmID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o, _, err := m.Registry.ObjectByID(ctx, id.object, id.n)
	if err == nil {
		p := placeOf(o, id.n)
		at, err := m.readAlarm(ctx, p, o.Namespace)
		if err != nil {
			return err
		}
		if err := m.noteAlarm(ctx, id, at, func() ([]byte, error) { return m.Marks.Start(id.mark()) }); err != nil {
			return err
		}
	} // else it was removed, and its alarm with it
	return m.Marks.Remove(id.mark())
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
