package sdk

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/facetgateway/fgw/sdk/wire"
	"github.com/facetgateway/fgw/sdk/wire/sqlchan"
)

// Alarm wakes the facet at a time, whether or not it runs then: the function given to OnAlarm is called. There is one
// alarm a facet. It is kept in the facet's database, set and deleted in the transactions of its data. It comes at least once; a function
// that fails is called again, six times, after 2, 4, 8 … seconds.
type Alarm struct{ kv *KV }

// Set sets the alarm, in place of one that is set. A time that has passed is now; the resolution is a millisecond.
func (a *Alarm) Set(ctx context.Context, t time.Time) error {
	return a.kv.run(ctx, "set the alarm", sqlchan.AlarmSet, t.UnixMilli())
}

// SetTx sets the alarm if and when the transaction commits.
func (a *Alarm) SetTx(tx *sql.Tx, t time.Time) error {
	return (&Alarm{a.kv.Tx(tx)}).Set(context.Background(), t)
}

// Get returns the time of the alarm, or ErrNotFound where none is set.
func (a *Alarm) Get(ctx context.Context) (time.Time, error) {
	rows, err := a.kv.call(ctx, sqlchan.AlarmGet)
	if err != nil {
		return time.Time{}, fmt.Errorf("get the alarm: %w", err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return time.Time{}, fmt.Errorf("get the alarm: %w", err)
		}
		return time.Time{}, fmt.Errorf("alarm: %w", ErrNotFound)
	}
	var ms int64
	if err := rows.Scan(&ms); err != nil {
		return time.Time{}, fmt.Errorf("get the alarm: %w", err)
	}
	return time.UnixMilli(ms), rows.Close()
}

// Delete takes the alarm back. That there is none is no error.
func (a *Alarm) Delete(ctx context.Context) error {
	return a.kv.run(ctx, "delete the alarm", sqlchan.AlarmDelete)
}

// errNoAlarm is what an alarm fails with that nobody listens to.
var errNoAlarm = errors.New("the app has given no function to OnAlarm")

// ring calls the function given to OnAlarm.
func (f *Facet) ring(ctx context.Context) (p *wire.Problem) {
	f.mu.Lock()
	ring := f.onAlarm
	f.mu.Unlock()
	defer func() {
		if v := recover(); v != nil {
			p = &wire.Problem{Message: cut(fmt.Sprintf("panic: %v", v)), Stack: cut(string(debug.Stack()))}
		}
	}()
	if ring == nil {
		return &wire.Problem{Message: errNoAlarm.Error()}
	}
	if err := ring(ctx); err != nil {
		return &wire.Problem{Message: cut(err.Error())}
	}
	return nil
}

// ringDue is how an alarm comes outside a gateway: where one is due it is taken back, and the function is called.
func (f *Facet) ringDue(ctx context.Context) (due bool, err error) {
	at, err := f.alarm.Get(ctx)
	if errors.Is(err, ErrNotFound) || err == nil && at.After(f.now()) {
		return false, nil
	}
	if err == nil {
		err = f.alarm.Delete(ctx)
	}
	if err != nil {
		return false, err
	}
	if p := f.ring(ctx); p != nil {
		return true, &FacetError{Code: codeStart, Message: p.Message, Stack: p.Stack}
	}
	return true, nil
}
