package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/facetgateway/fgw/sdk"
)

type planet struct {
	ID         int64     `db:"id"`
	Name       string    `db:"name"`
	Mass       float64   `db:"mass"`
	Moons      *int      `db:"moons"`
	Picture    []byte    `db:"picture"`
	Discovered time.Time `db:"discovered"`
}

func runSqlx(ctx context.Context, f *sdk.Facet) error {
	db := sqlx.NewDb(f.DB(), "sqlite3")
	if _, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS planet
		(id INTEGER PRIMARY KEY, name TEXT NOT NULL, mass REAL NOT NULL, moons INTEGER, picture BLOB, discovered DATETIME NOT NULL)`); err != nil {
		return err
	}
	found := time.Date(1781, 3, 13, 22, 0, 0, 0, time.UTC)
	moons := 27
	for _, p := range []planet{{Name: "Uranus", Mass: 14.5, Moons: &moons, Picture: []byte{0xff, 0}, Discovered: found}, {Name: "Venus", Mass: 0.8, Discovered: found}} {
		if _, err := db.NamedExecContext(ctx, `INSERT INTO planet (name, mass, moons, picture, discovered) VALUES (:name, :mass, :moons, :picture, :discovered)`, p); err != nil {
			return err
		}
	}
	var all []planet
	if err := db.SelectContext(ctx, &all, `SELECT * FROM planet ORDER BY name`); err != nil {
		return err
	}
	if len(all) != 2 || all[0].Moons == nil || *all[0].Moons != 27 || all[1].Moons != nil || len(all[0].Picture) != 2 || !all[0].Discovered.Equal(found) {
		return fmt.Errorf("it came back as %+v", all)
	}
	query, args, err := sqlx.In(`SELECT count(*) FROM planet WHERE name IN (?)`, []string{"Venus", "Uranus", "Vulcan"})
	if err != nil {
		return err
	}
	var n int
	if err := errors.Join(db.GetContext(ctx, &n, db.Rebind(query), args...), differ("found by list", n, 2)); err != nil && n != 2 {
		return err
	}
	tx, err := db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	stmt, err := tx.PrepareNamedContext(ctx, `UPDATE planet SET mass = :mass WHERE name = :name`)
	if err != nil {
		return err
	}
	result, err := stmt.ExecContext(ctx, map[string]any{"mass": 1.0, "name": "Venus"})
	if err != nil {
		return err
	}
	changed, err := result.RowsAffected()
	if err := errors.Join(err, differ("rows changed", changed, 1)); err != nil {
		return err
	}
	if err := tx.Rollback(); err != nil {
		return err
	}
	var mass float64
	err = db.GetContext(ctx, &mass, `SELECT mass FROM planet WHERE name = 'Venus'`)
	return errors.Join(err, differ("mass after a rollback", mass, 0.8))
}
