package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/facetgateway/fgw/sdk"
)

// keptVersions is how many versions of an app's source are kept; older ones are forgotten.
const keptVersions = 50

// The studio's own database, which no app can reach. The database of an app is the app's.
const schema = `
	CREATE TABLE IF NOT EXISTS app (
		name        TEXT PRIMARY KEY,
		live        INTEGER NOT NULL DEFAULT 0,    -- the version that runs; 0: none built yet
		draft       TEXT,                          -- a source that did not build, so that it is not lost
		diagnostics TEXT NOT NULL DEFAULT '[]',    -- what is wrong with the draft
		settings    TEXT NOT NULL DEFAULT '{}',
		deleting    INTEGER NOT NULL DEFAULT 0,    -- its data is being deleted: nothing may start it any more
		created     DATETIME NOT NULL
	);
	CREATE TABLE IF NOT EXISTS version (
		app     TEXT NOT NULL REFERENCES app (name),
		number  INTEGER NOT NULL,
		source  TEXT NOT NULL,
		created DATETIME NOT NULL,
		PRIMARY KEY (app, number)
	)`

// app is what the studio knows of an app.
type app struct {
	Name        string
	Live        int
	Source      string // of the live version
	Draft       *string
	Diagnostics []sdk.Diagnostic
	Settings    settings
	Created     time.Time
}

// Shown is the source that an editor begins with.
func (a *app) Shown() string {
	if a.Draft != nil {
		return *a.Draft
	}
	return a.Source
}

// load reads which apps there are, and finishes deletions that were interrupted.
func (s *studio) load(ctx context.Context) error {
	apps, err := s.list(ctx, `deleting`)
	if err != nil {
		return err
	}
	for _, a := range apps {
		if err := s.remove(ctx, a.Name); err != nil {
			s.f.Logger().WarnContext(ctx, "an app is still not deleted", "app", a.Name, "error", err)
		}
	}
	if apps, err = s.list(ctx, `NOT deleting`); err != nil {
		return err
	}
	for _, a := range apps {
		s.note(a.Name, true)
	}
	return nil
}

const columns = `SELECT name, live, coalesce(source, ''), draft, diagnostics, settings, app.created
	FROM app LEFT JOIN version ON version.app = name AND number = live WHERE `

// list reads the apps that a condition holds for, by name.
func (s *studio) list(ctx context.Context, condition string, args ...any) ([]*app, error) {
	rows, err := s.f.DB().QueryContext(ctx, columns+condition+` ORDER BY name`, args...)
	if err != nil {
		return nil, fmt.Errorf("read the apps: %w", err)
	}
	defer rows.Close()
	var apps []*app
	for rows.Next() {
		a := new(app)
		var diagnostics, settings string
		if err := rows.Scan(&a.Name, &a.Live, &a.Source, &a.Draft, &diagnostics, &settings, &a.Created); err != nil {
			return nil, fmt.Errorf("read the apps: %w", err)
		}
		if err := errors.Join(json.Unmarshal([]byte(diagnostics), &a.Diagnostics), json.Unmarshal([]byte(settings), &a.Settings)); err != nil {
			return nil, fmt.Errorf("read the app %s: %w", a.Name, err)
		}
		apps = append(apps, a)
	}
	return apps, rows.Err()
}

// app reads one app; sdk.ErrNotFound where there is none.
func (s *studio) app(ctx context.Context, name string) (*app, error) {
	apps, err := s.list(ctx, `name = ? AND NOT deleting`, name)
	if err != nil {
		return nil, err
	}
	if len(apps) == 0 {
		return nil, fmt.Errorf("there is no app %q here: %w", name, sdk.ErrNotFound)
	}
	return apps[0], nil
}

// keepDraft keeps a source that does not build, making the app where there is none yet.
func (s *studio) keepDraft(ctx context.Context, name, source string, found []sdk.Diagnostic) error {
	text, err := json.Marshal(found)
	if err != nil {
		return err
	}
	_, err = s.f.DB().ExecContext(ctx, `INSERT INTO app (name, draft, diagnostics, created) VALUES (?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET draft = excluded.draft, diagnostics = excluded.diagnostics`, name, source, string(text), s.f.Now())
	return err
}

// errStale means that somebody else saved a version in between.
var errStale = errors.New("somebody saved another version in the meantime: copy your text, and load the page again")

// anyBase as a base lets a source replace whichever version is live.
const anyBase = -1

// publish makes a source the live version and returns its number. A source that is live already gets no new number. base
// is the version that the source was made from.
func (s *studio) publish(ctx context.Context, name, source string, base int) (number int, changed bool, err error) {
	tx, err := s.f.DB().BeginTx(ctx, nil)
	if err != nil {
		return 0, false, err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `INSERT INTO app (name, created) VALUES (?, ?) ON CONFLICT DO NOTHING`, name, s.f.Now()); err != nil {
		return 0, false, err
	}
	var live, newest int
	var current sql.NullString
	err = tx.QueryRowContext(ctx, `SELECT live, (SELECT source FROM version WHERE app = name AND number = live),
		coalesce((SELECT max(number) FROM version WHERE app = name), 0) FROM app WHERE name = ? AND NOT deleting`, name).Scan(&live, &current, &newest)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, fmt.Errorf("the app %q is being deleted: %w", name, sdk.ErrNotFound)
	case err != nil:
		return 0, false, err
	case base != anyBase && base != live:
		return 0, false, errStale
	}
	if changed = !current.Valid || current.String != source; changed {
		live = newest + 1
		if _, err := tx.ExecContext(ctx, `INSERT INTO version VALUES (?, ?, ?, ?)`, name, live, source, s.f.Now()); err != nil {
			return 0, false, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM version WHERE app = ? AND number <= ?`, name, live-keptVersions); err != nil {
			return 0, false, err
		}
	}
	if err := goLive(ctx, tx, name, live); err != nil {
		return 0, false, err
	}
	return live, changed, tx.Commit()
}

func goLive(ctx context.Context, tx *sql.Tx, name string, number int) error {
	_, err := tx.ExecContext(ctx, `UPDATE app SET live = ?, draft = NULL, diagnostics = '[]' WHERE name = ?`, number, name)
	return err
}

// version is an edition of an app's source.
type version struct {
	Number  int       `json:"version"`
	Created time.Time `json:"created_at"`
	Lines   int       `json:"lines"`
}

// versions lists what is kept, newest first.
func (s *studio) versions(ctx context.Context, name string) ([]version, error) {
	rows, err := s.f.DB().QueryContext(ctx, `SELECT number, created, length(source) - length(replace(source, char(10), '')) FROM version WHERE app = ? ORDER BY number DESC`, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []version
	for rows.Next() {
		var v version
		if err := rows.Scan(&v.Number, &v.Created, &v.Lines); err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, rows.Err()
}
