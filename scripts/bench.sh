#!/bin/bash
# Runs the benchmarks, one package at a time so that they don't disturb each
# other: scripts/bench.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
export FGW=$PWD/bin/fgw
git ls-files -co --exclude-standard '*_test.go' | xargs grep -lE '^func Benchmark' | xargs -n 1 dirname | sort -u |
    while read -r dir; do
        (cd "$dir" && go test -run '^$' -bench . -benchmem -benchtime "${1:-1s}" .) </dev/null
    done
