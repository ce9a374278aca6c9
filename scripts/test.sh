#!/bin/bash
# Everything that has to hold, one step after another; the last line counts
# them. A step that fails does not keep the later ones from running, but the
# build does.
set -uo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=0
unset FGW_DATA
passed=0 failed=0 failures=()

step() { # NAME COMMAND...
    local name=$1 began=$SECONDS; shift
    echo "=== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) failures+=("$name")
        echo "--- FAIL: $name"
    fi
    echo "    $((SECONDS - began))s"
}

# beside starts a step that the next ones need not wait for, with what they leave of the machine; joined waits for
# it and tells of it. It is a session of its own, so that it can be ended with all that it started.
beside() { # NAME COMMAND...
    beside_name=$1 beside_log=$(mktemp) beside_began=$SECONDS; shift
    setsid nice -n 10 "$@" >"$beside_log" 2>&1 &
    beside_pid=$!
    trap 'kill -- "-$beside_pid" 2>/dev/null; rm -f "$beside_log"' EXIT
}

joined() {
    waited() { local status=0; wait "$beside_pid" || status=$?; cat "$beside_log"; return $status; }
    step "$beside_name" waited
    echo "    begun $((SECONDS - beside_began))s ago"
    trap - EXIT
    rm -f "$beside_log"
}

finish() {
    for name in "${failures[@]}"; do echo "failed: $name"; done
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]; exit
}

formatted() {
    local wrong
    wrong=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
    [ -z "$wrong" ] || { echo "not as gofmt writes it:"; echo "$wrong"; return 1; }
}

# go test, and what failed once more, alone: on a machine of two cores, tests that run processes by the hundred
# can miss a bound while another package compiles. What passes only then is named, since it wants mending.
tested() { # ARGUMENT...
    local log again
    log=$(mktemp)
    if go test "$@" 2>&1 | tee "$log"; [ "${PIPESTATUS[0]}" = 0 ]; then
        rm -f "$log"
        return 0
    fi
    again=$(awk '$1 == "FAIL" && $2 ~ /^github.com\// { print $2 }' "$log" | sort -u)
    rm -f "$log"
    [ -n "$again" ] || return 1
    echo "--- once more, one at a time:" $again
    local flags=()
    for a in "$@"; do case $a in -*) flags+=("$a") ;; [0-9]*m) flags+=("$a") ;; esac; done
    go test "${flags[@]}" -count=1 -p 1 $again || return 1
    echo "--- UNSTEADY, passed the second time:" $again
}

# The packages whose tests can run under the race detector. It needs cgo, under
# which the launcher and builders, which change all threads at once, can't be built; and
# what starts a gateway starts bin/fgw, which is another program.
race() ( # a shell of its own, for its environment
    local packages
    packages=$(go list ./... | grep -vE '/(cmd|scripts|sandboxd|seccomp|gateway/build|gateway/e2e)(/|$)')
    export CGO_ENABLED=1
    tested -race -short -gcflags=all=-d=checkptr=0 -timeout 10m $packages
)

# Modules of their own, for what only tests import.
nested() {
    local ok=0 mod
    for mod in $(git ls-files -co --exclude-standard '*/go.mod' | grep -v /vendor/); do
        (cd "$(dirname "$mod")" && go vet ./... && go test -timeout 10m ./...) || ok=1
    done
    return $ok
}

step setup scripts/setup.sh
step build make --no-print-directory build
[ "$failed" = 0 ] || finish
export FGW=$PWD/bin/fgw # the tests of apps run its SQL worker
step format formatted
step vet go vet ./...
step vet-cgo env CGO_ENABLED=1 go vet ./seccomp/...
[ "$(id -u)" = 0 ] || echo "not root: tests that need full confinement are skipped, by name (go test -v)"
step test tested -timeout 15m ./...
# The machine is one thread that computes. Tests that measure time have run by now.
machine=
if [ "$(uname -m)" = x86_64 ] && command -v qemu-system-x86_64 >/dev/null; then
    machine=yes
    beside cgroup2 scripts/test-cgroup2.sh
fi
step test-cgo env CGO_ENABLED=1 go test -timeout 5m ./seccomp/...
step nested nested
step race race
if [ -n "$machine" ]; then
    joined
else
    echo "no qemu-system-x86_64: the machine with cgroup v2 is skipped"
fi
finish
