#!/bin/bash
# Installs what the tests need and this machine lacks: as root by apt-get, for
# anybody else it prints the one command and fails.
#
# Building fgw needs Go alone. The rest is for the tests: the seccomp compiler
# and the race detector (gcc, libseccomp), the virtual machine (qemu), and what
# the end-to-end tests look at the gateway with (curl, ss). A browser is
# installed where there is one to be had: its tests say so where they skip.
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

options=(-y -qq --no-install-recommends -o DPkg::Lock::Timeout=120)
export DEBIAN_FRONTEND=noninteractive
update() { apt-get update -qq -o DPkg::Lock::Timeout=120; }
install() { # PACKAGE...
    echo "setup: installing $*"
    # The lists of a fresh machine are empty, those of an old one out of date.
    apt-get install "${options[@]}" "$@" >/dev/null 2>&1 || { update && apt-get install "${options[@]}" "$@" >/dev/null; }
}

if [ ${#packages[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: the tests need (by their Debian names): ${packages[*]}" >&2
        exit 1
    elif [ "$(id -u)" != 0 ]; then
        echo "setup: the tests need some packages: sudo apt-get install -y --no-install-recommends ${packages[*]}" >&2
        exit 1
    fi
    install "${packages[@]}"
fi

# The browser's tests need root as well. Ubuntu's package is a snap, which is no
# use here, and has no driver beside it.
has() { apt-cache show chromium-driver >/dev/null 2>&1; }
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! { command -v chromium && command -v chromedriver; } >/dev/null &&
    { has || { update && has; }; }; then
    install chromium chromium-driver || echo "setup: no browser could be installed; its tests will be skipped"
fi
