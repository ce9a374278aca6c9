package main

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"

	"github.com/pressly/goose/v3"

	"github.com/facetgateway/fgw/sdk"
)

// migrations are as authors write them: several statements each, one with a body that
// holds semicolons, one that rebuilds a table.
var migrations = fstest.MapFS{
	"00001_people.sql": {Data: []byte(`-- +goose Up
CREATE TABLE person (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, born DATETIME);
CREATE INDEX person_born ON person(born);
INSERT INTO person (name, born) VALUES ('Ada; Countess of Lovelace', '1815-12-10 00:00:00');
-- +goose Down
DROP TABLE person;
`)},
	"00002_trigger.sql": {Data: []byte(`-- +goose Up
CREATE TABLE seen (name TEXT NOT NULL);
-- +goose StatementBegin
CREATE TRIGGER person_seen AFTER INSERT ON person BEGIN
	INSERT INTO seen VALUES (new.name);
	UPDATE seen SET name = upper(name) WHERE name = new.name;
END;
-- +goose StatementEnd
-- +goose Down
DROP TRIGGER IF EXISTS person_seen;
DROP TABLE seen;
`)},
	"00003_rebuild.sql": {Data: []byte(`-- +goose NO TRANSACTION
-- +goose Up
PRAGMA foreign_keys = OFF;
CREATE TABLE person_new (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, born DATETIME, email TEXT NOT NULL DEFAULT '');
INSERT INTO person_new (id, name, born) SELECT id, name, born FROM person;
DROP TABLE person;
ALTER TABLE person_new RENAME TO person;
PRAGMA foreign_keys = ON;
-- +goose Down
ALTER TABLE person DROP COLUMN email;
`)},
}

// runGoose migrates up, down to nothing, and up again.
func runGoose(ctx context.Context, f *sdk.Facet) error {
	p, err := goose.NewProvider(goose.DialectSQLite3, f.DB(), migrations)
	if err != nil {
		return err
	}
	count := func() (n int, err error) {
		err = f.DB().QueryRowContext(ctx, `SELECT count(*) FROM person WHERE email = ''`).Scan(&n)
		return n, err
	}
	for round := range 2 {
		if _, err := p.Up(ctx); err != nil {
			return fmt.Errorf("round %d, up: %w", round, err)
		}
		n, err := count()
		if err := errors.Join(err, differ("people", n, 1)); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		version, err := p.GetDBVersion(ctx)
		if err := errors.Join(err, differ("version", version, 3)); err != nil {
			return err
		}
		if _, err := p.DownTo(ctx, 0); err != nil {
			return fmt.Errorf("round %d, down: %w", round, err)
		}
		if _, err := count(); err == nil {
			return fmt.Errorf("round %d: the table is still there", round)
		}
	}
	if _, err := p.Up(ctx); err != nil {
		return err
	}
	again, err := p.Up(ctx)
	return errors.Join(err, differ("migrations applied twice", len(again), 0))
}
