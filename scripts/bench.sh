#!/bin/bash
# scripts/bench.sh            one table: what the gateway does against what it could cost at least (BENCHMARKS.md)
# scripts/bench.sh go [TIME]  the benchmarks of the packages, one at a time so that they don't disturb each other
# BENCH_ONLY=ROWS picks rows of the table, BENCH_PEERS=1 measures workerd beside them (from the npm registry).
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0 FGW=$PWD/bin/fgw

if [ "${1:-}" = go ]; then
    git ls-files -co --exclude-standard '*_test.go' | xargs grep -lE '^func Benchmark' | xargs -n 1 dirname | sort -u |
        while read -r dir; do
            (cd "$dir" && go test -run '^$' -bench . -benchmem -benchtime "${2:-1s}" .) </dev/null
        done
    exit
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
go build -o "$dir/bench" ./scripts/bench
"$dir/bench" -fgw "$FGW" -only "${BENCH_ONLY:-}"
