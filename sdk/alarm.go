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

// Alarm is the facet's one alarm: a time at which the gateway wakes the facet, if need be, and calls the function given to
// OnAlarm. It lives in the facet's database and survives everything that the data survives. It is kept to the millisecond.
type Alarm struct{ f *Facet }

// Alarm returns the facet's alarm.
func (f *Facet) Alarm() *Alarm { return &Alarm{f} }

// OnAlarm gives the function that is called when the alarm is due. Call it in start. The alarm is over once it returns nil, unless it has set
// another; an error or panic has it called again, at most 6 times, after 2 s, 4 s, 8 s …: so it may run more than once. It has 5 minutes.
func (f *Facet) OnAlarm(ring func(ctx context.Context) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ring = ring
}

// Set sets the alarm, over the one that is set. A time that has passed is due at once.
func (a *Alarm) Set(ctx context.Context, t time.Time) error {
	return a.f.kv.run(ctx, "set the alarm", sqlchan.AlarmSet, t.UnixMilli())
}

// SetTx sets the alarm in a transaction: it is set if and only if that commits.
func (a *Alarm) SetTx(tx *sql.Tx, t time.Time) error {
	return a.f.kv.Tx(tx).run(context.Background(), "set the alarm", sqlchan.AlarmSet, t.UnixMilli())
}

// Get returns the alarm's time, or ErrNotFound.
func (a *Alarm) Get(ctx context.Context) (time.Time, error) { return getAlarm(ctx, a.f.kv) }

// Delete takes the alarm back. That there is none is no error.
func (a *Alarm) Delete(ctx context.Context) error {
	return a.f.kv.run(ctx, "delete the alarm", sqlchan.AlarmDelete)
}

func getAlarm(ctx context.Context, kv *KV) (time.Time, error) {
	rows, err := kv.call(ctx, sqlchan.AlarmGet)
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

// ringAlarm calls the alarm's function for the alarm that was set to at, and takes the alarm back if it is still that one.
func (f *Facet) ringAlarm(ctx context.Context, at int64) *wire.Problem {
	now, err := f.Alarm().Get(ctx)
	if errors.Is(err, ErrNotFound) || err == nil && now.UnixMilli() != at {
		return nil // moved or taken back meanwhile
	}
	if err != nil {
		return &wire.Problem{Message: err.Error()}
	}
	f.mu.Lock()
	ring := f.ring
	f.mu.Unlock()
	if ring == nil {
		return &wire.Problem{Message: "the app has an alarm but no function for it: OnAlarm"}
	}
	if p := callAlarm(ctx, ring); p != nil {
		return p
	}
	if err := f.endAlarm(ctx, at); err != nil {
		return &wire.Problem{Message: err.Error()}
	}
	return nil
}

// ringDue is how an alarm rings outside a gateway: by the facet's own clock.
func (f *Facet) ringDue(ctx context.Context) (due bool, err error) {
	at, err := f.Alarm().Get(ctx)
	if errors.Is(err, ErrNotFound) || err == nil && at.After(f.now()) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if p := f.ringAlarm(ctx, at.UnixMilli()); p != nil {
		return true, &FacetError{Code: codeStart, Message: p.Message, Stack: p.Stack}
	}
	return true, nil
}

func callAlarm(ctx context.Context, ring func(context.Context) error) (p *wire.Problem) {
	defer func() {
		if v := recover(); v != nil {
			p = &wire.Problem{Message: cut(fmt.Sprintf("panic: %v", v)), Stack: cut(string(debug.Stack()))}
		}
	}()
	if err := ring(ctx); err != nil {
		return &wire.Problem{Message: cut(err.Error())}
	}
	return nil
}

func (f *Facet) endAlarm(ctx context.Context, at int64) error {
	tx, err := f.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	kv := f.kv.Tx(tx)
	if now, err := getAlarm(ctx, kv); err != nil || now.UnixMilli() != at {
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	}
	if err := kv.run(ctx, "end the alarm", sqlchan.AlarmDelete); err != nil {
		return err
	}
	return tx.Commit()
}
