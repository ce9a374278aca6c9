package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// data adds what a player does with its database and its alarm.
func (p *player) data(mux *http.ServeMux) {
	mux.HandleFunc("/count", func(w http.ResponseWriter, r *http.Request) { // the counter before it counts
		var n int
		err := p.f.DB().QueryRowContext(r.Context(), `UPDATE counter SET n = n + 1 RETURNING n - 1`).Scan(&n)
		answer(w, n, err)
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := p.f.DB().QueryRowContext(r.Context(), `SELECT n FROM counter`).Scan(&n)
		answer(w, n, err)
	})
	mux.HandleFunc("/script", p.script)
	mux.HandleFunc("/alarm", p.alarm)
	mux.HandleFunc("/alarm/get", func(w http.ResponseWriter, r *http.Request) {
		at, err := p.f.Alarm().Get(r.Context())
		if errors.Is(err, sdk.ErrNotFound) {
			answer(w, "none", nil)
			return
		}
		answer(w, at.UnixMilli(), err)
	})
	mux.HandleFunc("/alarm/delete", func(w http.ResponseWriter, r *http.Request) { answer(w, "deleted", p.f.Alarm().Delete(r.Context())) })
	mux.HandleFunc("/rang", func(w http.ResponseWriter, r *http.Request) {
		all, err := rows(p.f.DB().QueryContext(r.Context(), `SELECT at FROM rang ORDER BY at`))
		answer(w, all, err)
	})
}

// result is what one statement of a script gave.
type result struct {
	Rows  [][]any
	Fault *fault
}

type querier interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}

// script runs statements, one after another, on one connection; with tx=commit or tx=rollback in a transaction, of
// which the end is the last result.
func (p *player) script(w http.ResponseWriter, r *http.Request) {
	var texts []string
	if err := json.NewDecoder(r.Body).Decode(&texts); err != nil {
		answer(w, nil, err)
		return
	}
	ctx := r.Context()
	conn, err := p.f.DB().Conn(ctx)
	if err != nil {
		answer(w, nil, err)
		return
	}
	defer conn.Close()
	if r.URL.Query().Has("keys") { // foreign keys are checked on this connection
		if _, err := conn.ExecContext(ctx, `PRAGMA foreign_keys = ON`); err != nil {
			answer(w, nil, err)
			return
		}
	}
	var on querier = conn
	end := func() error { return nil }
	if how := r.URL.Query().Get("tx"); how != "" {
		tx, err := conn.BeginTx(ctx, nil)
		if err != nil {
			answer(w, nil, err)
			return
		}
		defer tx.Rollback()
		on, end = tx, tx.Commit
		if how == "rollback" {
			end = tx.Rollback
		}
	}
	results := []result{}
	for _, text := range texts {
		all, err := rows(on.QueryContext(ctx, text))
		results = append(results, result{all, faultOf(err)})
	}
	answer(w, append(results, result{nil, faultOf(end())}), nil)
}

// alarm sets the alarm: in says when, fails how often its function will fail, tx whether it is set in a transaction
// that also counts, and how that ends.
func (p *player) alarm(w http.ResponseWriter, r *http.Request) {
	ctx, q := r.Context(), r.URL.Query()
	in, err := time.ParseDuration(q.Get("in"))
	if err != nil {
		answer(w, nil, err)
		return
	}
	at := time.Now().Add(in)
	if n, err := strconv.Atoi(q.Get("fails")); err == nil {
		if err := p.f.KV().Put(ctx, "fails", []byte(strconv.Itoa(n))); err != nil {
			answer(w, nil, err)
			return
		}
	}
	if q.Has("quiet") {
		go p.quietAlarm(at)
		answer(w, at.UnixMilli(), nil)
		return
	}
	if !q.Has("tx") {
		answer(w, at.UnixMilli(), p.f.Alarm().Set(ctx, at))
		return
	}
	tx, err := p.f.DB().BeginTx(ctx, nil)
	if err == nil {
		defer tx.Rollback()
		_, err = tx.ExecContext(ctx, `UPDATE counter SET n = n + 1`)
	}
	if err == nil {
		err = p.f.Alarm().SetTx(tx, at)
	}
	if err == nil && q.Get("tx") == "commit" {
		err = tx.Commit()
	}
	answer(w, fmt.Sprint(at.UnixMilli()), err)
}

// quietAlarm sets the alarm when somebody else has set the counter to 1000, and the counter to 2000 with it. Nothing that leaves the
// facet tells of either.
func (p *player) quietAlarm(at time.Time) {
	ctx := context.Background()
	for n := 0; n != 1000; time.Sleep(time.Millisecond) {
		if err := p.f.DB().QueryRowContext(ctx, `SELECT n FROM counter`).Scan(&n); err != nil {
			return
		}
	}
	tx, err := p.f.DB().BeginTx(ctx, nil)
	if err != nil {
		return
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `UPDATE counter SET n = 2000`); err != nil {
		return
	}
	if p.f.Alarm().SetTx(tx, at) == nil {
		tx.Commit()
	}
}
