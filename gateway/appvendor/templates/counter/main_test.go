package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/facetgateway/fgw/sdk/facettest"
)

func TestCounting(t *testing.T) {
	s := facettest.New(t, start)
	for _, want := range []string{"<output>0</output>", "<output>1</output>", "<output>2</output>"} {
		if status, page := s.Get("/"); status != http.StatusOK || !strings.Contains(page, want) {
			t.Fatalf("status %d, wanted %s in:\n%s", status, want, page)
		}
		if status, _ := s.Do(http.MethodPost, "/", "", nil); status != http.StatusOK {
			t.Fatalf("POST: %d", status)
		}
	}
}
