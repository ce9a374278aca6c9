#!/bin/bash
# Proves confinement on cgroup v2: the tests of sandboxd and one served request,
# on a virtual machine (scripts/cgroup2-vm.sh), as root and as an ordinary user
# with a delegated subtree. Needs bin/fgw; everything is compiled here, since the machine under
# emulation is too slow to compile.
#
#   scripts/test-cgroup2.sh [amd64|arm64]
set -euo pipefail
cd "$(dirname "$0")/.."
arch=${1:-amd64}
export CGO_ENABLED=0
stage=$(mktemp -d "${TMPDIR:-/tmp}/fgw-cgroup2.XXXXXX")
trap 'rm -rf "$stage"' EXIT

# vm [FLAGS] COMMAND...: tried again where the machine itself did not come up.
vm() {
    local status flags=()
    while [[ $1 == -* ]]; do
        flags+=("$1")
        [[ $1 == -u ]] || { flags+=("$2"); shift; }
        shift
    done
    for _ in 1 2 3; do
        status=0
        scripts/cgroup2-vm.sh -a "$arch" "${flags[@]}" "$stage" "$@" || status=$?
        [ "$status" = 125 ] || break
        echo "the machine did not come up; again"
    done
    return "$status"
}

packages=$(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./sandboxd/...)
module=$(go list -m)
for package in $packages; do
    dir=${package#"$module"/}
    mkdir -p "$stage/tests/$dir"
    GOARCH=$arch go test -c -o "$stage/tests/$dir/run.test" "./$dir"
    [ ! -d "$dir/testdata" ] || cp -R "$dir/testdata" "$stage/tests/$dir/"
done
if [ "$arch" = "$(go env GOHOSTARCH)" ]; then
    cp bin/fgw "$stage/"
else
    GOARCH=$arch go build -trimpath -ldflags='-s -w' -o "$stage/fgw" ./cmd/fgw
fi
bin/fgw new "$stage/app" --template counter >/dev/null
(cd "$stage/app" && GOARCH=$arch go build -mod=vendor -trimpath -ldflags='-s -w' -o "$stage/counter" .)
rm -rf "$stage/app"

cat >"$stage/tests.sh" <<'GUEST'
failed=0
# The long loops (-test.short leaves them out) take minutes under emulation, and
# are run on the host anyway.
for test in $(find tests -name run.test | sort); do
    echo "--- ${test%/run.test}"
    (cd "${test%/run.test}" && ./run.test -test.short -test.timeout 5m) || failed=1
done
exit $failed
GUEST

# A gateway, an app, a request, and where the kernel says that the app's process
# stands. Then the end, after which nothing of it may be left.
cat >"$stage/serve.sh" <<'GUEST'
fail() { echo "FAIL: $*"; cat log; exit 1; }
data=/tmp/data
./fgw doctor || fail "a required layer is missing"
./fgw serve --data $data --listen 127.0.0.1:8080 >out 2>log &
serving=$!
for i in $(seq 300); do grep -q '^fgw: serving' out && break; kill -0 $serving || break; sleep 0.1; done
grep -q '^fgw: serving http://127.0.0.1:8080 data /tmp/data$' out || fail "it does not serve: $(cat out)"
./fgw namespaces create t --data $data || fail namespace
./fgw namespaces set t memory=96MiB processes=40 cpu=0.5 --data $data || fail limits
./fgw deploy ./counter --namespace t --data $data || fail deploy
wget -q -O page http://127.0.0.1:8080/t/a/counter/ || fail "no answer"
grep -q '<output>0</output>' page || fail "the page: $(cat page)"
./fgw invoke t/a/counter / -X POST --data $data || fail invoke
./fgw sql t/a/counter 'SELECT n FROM counter' --output json --data $data >rows || fail sql
grep -q '^\[{"n":1}\]$' rows || fail "rows: $(cat rows)"
./fgw facets inspect t/a/counter --output json --data $data >inspect || fail inspect
cat inspect
grep -q '"seccomp": *"filter"' inspect || fail "no seccomp filter"
grep -q '"no_new_privs": *true' inspect || fail "new privileges"
pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' inspect)
group=$(sed -n 's/^0:://p' /proc/$pid/cgroup)
[ "$(wc -l </proc/$pid/cgroup)" = 1 ] || fail "more than one hierarchy: $(cat /proc/$pid/cgroup)"
[ "$(cat /sys/fs/cgroup$group/memory.max)" = 100663296 ] || fail "memory.max of $group: $(cat /sys/fs/cgroup$group/memory.max)"
[ "$(cat /sys/fs/cgroup$group/pids.max)" = 40 ] || fail "pids.max of $group"
grep -q '^5000 10000$' /sys/fs/cgroup$group/cpu.max || fail "cpu.max of $group: $(cat /sys/fs/cgroup$group/cpu.max)"
[ "$(cat /sys/fs/cgroup$group/memory.oom.group)" = 1 ] || fail "memory.oom.group of $group"
[ "$group" != "$(sed -n 's/^0:://p' /proc/$serving/cgroup)" ] || fail "the app is in the gateway's cgroup"
kill $serving
wait $serving || fail "serve ended with $?"
[ ! -e /proc/$pid ] || fail "the app outlived the gateway"
[ ! -e /sys/fs/cgroup$group ] || fail "its cgroup is left"
echo "served one confined request on cgroup v2 as $(id -un)"
GUEST

status=0
echo "confinement tests on cgroup v2"
vm -t 600 sh ./tests.sh || status=1
echo "a served request on cgroup v2, as root"
vm -t 180 sh ./serve.sh || status=1
echo "a served request on cgroup v2, as an ordinary user with a delegated subtree"
vm -u -t 180 sh ./serve.sh || status=1
exit $status
