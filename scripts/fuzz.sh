#!/bin/bash
# Runs each fuzz target for a while, all of them even if one fails:
# scripts/fuzz.sh [TIME]
set -uo pipefail
cd "$(dirname "$0")/.."
output=$(mktemp)
trap 'rm -f "$output"' EXIT
passed=0 failed=0
while IFS=: read -r file line; do
    dir=$(dirname "$file") target=$(sed -E 's/^func (Fuzz[A-Za-z0-9_]+).*/\1/' <<<"$line")
    echo "=== $dir $target"
    if (cd "$dir" && go test -run '^$' -fuzz "^$target\$" -fuzztime "${1:-10s}" .) >"$output" 2>&1 </dev/null; then
        passed=$((passed + 1))
        grep '^ok' "$output"
    # The go command sometimes takes the end of its own time for a failure. A
    # real one names the input.
    elif grep -q 'context deadline exceeded' "$output" && ! grep -q 'Failing input written' "$output"; then
        passed=$((passed + 1))
        echo "ok, ended by its time"
    else
        failed=$((failed + 1))
        cat "$output"
    fi
done < <(git ls-files -co --exclude-standard '*_test.go' | xargs grep -HE '^func Fuzz' | sort)
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
