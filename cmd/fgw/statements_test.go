package main

import (
	"slices"
	"strings"
	"testing"
)

func TestStatements(t *testing.T) {
	trigger := "CREATE TRIGGER t AFTER INSERT ON a BEGIN INSERT INTO b VALUES (CASE 1 WHEN 1 THEN 2 END); DELETE FROM c; END;"
	for _, test := range []struct {
		sql  string
		want []string
	}{
		{"", nil},
		{" \n-- nothing\n/* at all */ ;;", nil},
		{"select 1", []string{"select 1"}},
		{"select 1;select 2 ; ", []string{"select 1;", "select 2 ;"}},
		{"select ';'';', \";\", [;], `;` -- ;\n, /* ; */ 1; x", []string{"select ';'';', \";\", [;], `;` -- ;\n, /* ; */ 1;", "x"}},
		{trigger + " select 1", []string{trigger, "select 1"}},
		{"create temp trigger t begin select 1; end; select 2", []string{"create temp trigger t begin select 1; end;", "select 2"}},
		{"select 'open", []string{"select 'open"}},
		{"BEGIN; END; COMMIT", []string{"BEGIN;", "END;", "COMMIT"}},
	} {
		var got []string
		for s := range statements(test.sql) {
			got = append(got, s.text)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%q\n got %q\nwant %q", test.sql, got, test.want)
		}
	}
	var lines []int
	for s := range statements("select 1;\n\n-- two\nselect 2;\n select\n3") {
		lines = append(lines, s.line)
	}
	if !slices.Equal(lines, []int{1, 4, 5}) {
		t.Errorf("they begin on lines %v", lines)
	}
}

func TestComplete(t *testing.T) {
	for sql, want := range map[string]bool{"": true, "-- x": true, "select 1": false, "select 1;": true, "select 1; -- done": true, "select ';": false,
		"create trigger t begin select 1;": false, "select 1; select": false} {
		if got := complete(sql); got != want {
			t.Errorf("complete(%q) is %v", sql, got)
		}
	}
}

func FuzzStatements(f *testing.F) {
	f.Add("\v")
	f.Add("select 1; select ';' -- x\n; create trigger t begin select 1; end;")
	f.Fuzz(func(t *testing.T, sql string) {
		var all strings.Builder
		for s := range statements(sql) {
			if s.text == "" || s.line < 1 {
				t.Fatalf("%q gives the statement %q on line %d", sql, s.text, s.line)
			}
			all.WriteString(s.text)
		}
		// What was left out is blanks, comments and empty statements.
		again := 0
		for range statements(all.String()) {
			again++
		}
		if all.Len() == 0 && again > 0 {
			t.Fatalf("%q", sql)
		}
	})
}
