package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/facetgateway/fgw/sdk"
)

func migrate(ctx context.Context, f *sdk.Facet) error {
	_, err := f.DB().ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL);
		INSERT INTO counter SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM counter);
		CREATE TABLE IF NOT EXISTS ledger (id INTEGER PRIMARY KEY, entry TEXT NOT NULL);
		CREATE TABLE IF NOT EXISTS blob (data BLOB NOT NULL);
		CREATE TABLE IF NOT EXISTS stop (born TEXT NOT NULL)`)
	return err
}

// data adds the handlers that use the database.
func (p *probe) data(mux *http.ServeMux) {
	mux.HandleFunc("/incr", func(w http.ResponseWriter, r *http.Request) {
		p.number(w, r, `UPDATE counter SET n = n + 1 RETURNING n`)
	})
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) { p.number(w, r, `SELECT n FROM counter`) })
	mux.HandleFunc("/stops", func(w http.ResponseWriter, r *http.Request) { p.number(w, r, `SELECT count(*) FROM stop`) })
	mux.HandleFunc("GET /ledger", p.entries)
	mux.HandleFunc("POST /ledger", p.enter)
	mux.HandleFunc("/fill", p.fill)
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) {
		if _, err := p.f.DB().ExecContext(r.Context(), `DELETE FROM blob`); err != nil {
			failed(w, err)
			return
		}
		fmt.Fprintln(w, "empty")
	})
	mux.HandleFunc("/check", func(w http.ResponseWriter, r *http.Request) {
		var said string
		if err := p.f.DB().QueryRowContext(r.Context(), `PRAGMA integrity_check`).Scan(&said); err != nil {
			failed(w, err)
			return
		}
		fmt.Fprint(w, said)
	})
}

func (p *probe) number(w http.ResponseWriter, r *http.Request, query string) {
	var n int64
	if err := p.f.DB().QueryRowContext(r.Context(), query).Scan(&n); err != nil {
		failed(w, err)
		return
	}
	fmt.Fprint(w, n)
}

// enter writes the body as one entry.
func (p *probe) enter(w http.ResponseWriter, r *http.Request) {
	entry, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = p.f.DB().ExecContext(r.Context(), `INSERT INTO ledger (entry) VALUES (?)`, string(entry))
	}
	if err != nil {
		failed(w, err)
		return
	}
	fmt.Fprintln(w, "entered")
}

// entries lists what was entered, in order.
func (p *probe) entries(w http.ResponseWriter, r *http.Request) {
	rows, err := p.f.DB().QueryContext(r.Context(), `SELECT entry FROM ledger ORDER BY id`)
	if err != nil {
		failed(w, err)
		return
	}
	defer rows.Close()
	list := []string{}
	for rows.Next() {
		var entry string
		if err := rows.Scan(&entry); err != nil {
			failed(w, err)
			return
		}
		list = append(list, entry)
	}
	if err := rows.Err(); err != nil {
		failed(w, err)
		return
	}
	answer(w, list)
}

// fill writes as many blobs of 256 KB as the query asks for, each in a transaction of its
// own, and stops at the first error.
func (p *probe) fill(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("blobs"))
	for range n {
		if _, err := p.f.DB().ExecContext(r.Context(), `INSERT INTO blob VALUES (randomblob(262144))`); err != nil {
			failed(w, err)
			return
		}
	}
	fmt.Fprintln(w, "written")
}
