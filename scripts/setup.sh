#!/bin/bash
# Installs what the tests need and this machine lacks: as root by apt-get, for
# anybody else it prints the one command and fails.
#
# Building fgw needs Go alone. The rest is for the tests: the seccomp compiler
# and the race detector (gcc, libseccomp), the virtual machine (qemu), and what
# the end-to-end tests look at the gateway with (curl, ss).
set -euo pipefail

packages=()
need() { # PACKAGE COMMAND...: the package where the command fails
    local package=$1; shift
    "$@" >/dev/null 2>&1 || packages+=("$package")
}
need gcc command -v gcc
need libc6-dev test -e /usr/include/stdlib.h
need pkg-config command -v pkg-config
need libseccomp-dev test -e /usr/include/seccomp.h
need iproute2 command -v ss
need curl command -v curl
need procps command -v ps
[ "$(uname -m)" != x86_64 ] || need qemu-system-x86 command -v qemu-system-x86_64

command -v go >/dev/null || { echo "setup: Go is missing: https://go.dev/dl/" >&2; exit 1; }
[ ${#packages[@]} -gt 0 ] || exit 0

install="apt-get install -y --no-install-recommends ${packages[*]}"
if ! command -v apt-get >/dev/null; then
    echo "setup: the tests need (by their Debian names): ${packages[*]}" >&2
    exit 1
elif [ "$(id -u)" != 0 ]; then
    echo "setup: the tests need some packages: sudo $install" >&2
    exit 1
fi
echo "setup: installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
# The lists of a fresh machine are empty, those of an old one out of date.
$install -qq -o DPkg::Lock::Timeout=120 >/dev/null 2>&1 ||
    { apt-get update -qq -o DPkg::Lock::Timeout=120 && $install -qq -o DPkg::Lock::Timeout=120 >/dev/null; }
