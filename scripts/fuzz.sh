#!/bin/bash
# Runs each fuzz target for a while: scripts/fuzz.sh [TIME]
set -euo pipefail
cd "$(dirname "$0")/.."
while IFS=: read -r file line; do
    target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/' <<<"$line")
    echo "=== $(dirname "$file") $target"
    (cd "$(dirname "$file")" && go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" .)
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs grep -HE '^func Fuzz' | sort)
