package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/facetgateway/fgw/sdk"
)

// maxSource is the longest source of an app. What a person or a model writes in one file is far below it.
const maxSource = 1 << 20

// requestError is what the one who asked can mend.
type requestError struct{ error }

func (e requestError) Unwrap() error { return e.error }

func badRequest(format string, args ...any) error { return requestError{fmt.Errorf(format, args...)} }

func code(source string) sdk.Code { return sdk.Source(map[string]string{"main.go": source}) }

// startApp says how an app starts. The gateway asks only when no instance runs.
func (s *studio) startApp(ctx context.Context, name string) (*sdk.Start, error) {
	a, err := s.app(ctx, name)
	if err != nil {
		return nil, err
	}
	if a.Live == 0 {
		return nil, fmt.Errorf("no source of %q has built yet", name)
	}
	return a.Settings.start(code(a.Source)), nil
}

// saved is what became of a source.
type saved struct {
	Version     int
	Diagnostics []sdk.Diagnostic // what is wrong with it; it was kept as a draft then
}

// save builds a source and, where it builds, lets it take over: the old instance ends, the next request starts the new code
// on the old data.
func (s *studio) save(ctx context.Context, name, source string, base int) (*saved, error) {
	if err := s.checkName(name); err != nil {
		return nil, err
	}
	switch {
	case source == "":
		return nil, badRequest("there is no source")
	case len(source) > maxSource:
		return nil, badRequest("the source has %d bytes; it may have %d", len(source), maxSource)
	case !utf8.ValidString(source):
		return nil, badRequest("the source is no text in UTF-8")
	}
	found, err := s.f.Loader().Check(ctx, code(source))
	if err != nil {
		return nil, fmt.Errorf("the source could not be tried: %w", err)
	}
	if len(found) > 0 {
		if err := s.keepDraft(ctx, name, source, found); err != nil {
			return nil, err
		}
		s.note(name, true)
		return &saved{Diagnostics: found}, nil
	}
	number, changed, err := s.publish(ctx, name, source, base)
	if err != nil {
		return nil, err
	}
	s.note(name, true)
	if changed {
		err = s.f.Facets().Abort(ctx, name, fmt.Sprintf("version %d takes over", number))
	}
	return &saved{Version: number}, err
}

// rollback makes an earlier version live again.
func (s *studio) rollback(ctx context.Context, name string, number int) error {
	tx, err := s.f.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	var there bool
	if err := tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM version WHERE app = ? AND number = ?)`, name, number).Scan(&there); err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%s has no version %d: %w", name, number, sdk.ErrNotFound)
	}
	if err := goLive(ctx, tx, name, number); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return s.f.Facets().Abort(ctx, name, fmt.Sprintf("back to version %d", number))
}

// set changes what an app may use. It holds from now on: a running instance ends.
func (s *studio) set(ctx context.Context, name string, to settings) error {
	if err := to.check(s.f.Limits()); err != nil {
		return err
	}
	text, err := json.Marshal(to)
	if err != nil {
		return err
	}
	done, err := s.f.DB().ExecContext(ctx, `UPDATE app SET settings = ? WHERE name = ? AND NOT deleting`, string(text), name)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n == 0 {
		return fmt.Errorf("there is no app %q here: %w", name, errors.Join(sdk.ErrNotFound, err))
	}
	return s.f.Facets().Abort(ctx, name, "its limits were changed")
}

// clone makes a new app of another's code, settings and data as they are now.
func (s *studio) clone(ctx context.Context, from, to string) error {
	if err := s.checkName(to); err != nil {
		return err
	}
	if s.has(to) {
		return badRequest("there is an app %q already", to)
	}
	a, err := s.app(ctx, from)
	if err != nil {
		return err
	}
	if a.Live == 0 {
		return badRequest("%s has never run: there is nothing to copy", from)
	}
	// The data first: an app that is in the list is whole.
	if err := s.f.Facets().Clone(ctx, from, to); err != nil {
		return err
	}
	text, err := json.Marshal(a.Settings)
	if err != nil {
		return err
	}
	if _, _, err := s.publish(ctx, to, a.Source, 0); err != nil {
		return err
	}
	if _, err := s.f.DB().ExecContext(ctx, `UPDATE app SET settings = ? WHERE name = ?`, string(text), to); err != nil {
		return err
	}
	s.note(to, true)
	return nil
}

// remove deletes an app with its data. The mark comes first, so that no request can start it
// again in between; a deletion that is interrupted is finished when the studio starts.
func (s *studio) remove(ctx context.Context, name string) error {
	if _, err := s.f.DB().ExecContext(ctx, `UPDATE app SET deleting = 1 WHERE name = ?`, name); err != nil {
		return err
	}
	s.note(name, false)
	if err := s.f.Facets().Delete(ctx, name); err != nil {
		return fmt.Errorf("delete the data of %s: %w", name, err)
	}
	tx, err := s.f.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, statement := range []string{`DELETE FROM version WHERE app = ?`, `DELETE FROM app WHERE name = ?`} {
		if _, err := tx.ExecContext(ctx, statement, name); err != nil {
			return err
		}
	}
	return tx.Commit()
}
