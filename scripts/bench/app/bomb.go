package main

import (
	"bytes"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/facetgateway/fgw/sdk"
)

// bomb does harm of one kind for as long as it is let: it is the bad neighbour of a well-behaved facet.
func bomb(f *sdk.Facet) http.HandlerFunc {
	kinds := map[string]http.HandlerFunc{
		"fork":   func(http.ResponseWriter, *http.Request) { forks() },
		"memory": func(http.ResponseWriter, *http.Request) { memory() },
		"cpu":    func(http.ResponseWriter, *http.Request) { spin() },
		"log":    func(http.ResponseWriter, *http.Request) { talk() },
		"stream": stream,
		"sql": func(_ http.ResponseWriter, r *http.Request) {
			var n int64
			f.DB().QueryRowContext(r.Context(), `WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT sum(n) FROM c`).Scan(&n)
		},
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if do := kinds[r.PathValue("kind")]; do != nil {
			do(w, r)
			return
		}
		http.NotFound(w, r)
	}
}

// forks asks for processes, which the filter refuses, and for threads until there are no more.
func forks() {
	debug.SetMaxThreads(1 << 20)
	for {
		syscall.RawSyscall(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0)
		go func() { runtime.LockOSThread(); select {} }()
		runtime.Gosched()
	}
}

// memory takes and touches more than there is.
func memory() {
	debug.SetMemoryLimit(1 << 40)
	debug.SetGCPercent(-1)
	var kept [][]byte
	for {
		kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
	}
}

func spin() {
	runtime.GOMAXPROCS(8)
	for range 8 {
		go func() {
			for {
			}
		}()
	}
	select {}
}

func talk() {
	block := strings.Repeat(strings.Repeat("talk ", 40)+"\n", 500)
	for {
		os.Stdout.WriteString(block)
	}
}

// stream answers without end.
func stream(w http.ResponseWriter, r *http.Request) {
	block := bytes.Repeat([]byte{'s'}, 32<<10)
	for r.Context().Err() == nil {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}
