#!/usr/bin/env bash
# The one list of Debian and Ubuntu packages, and installing those that are missing.
# packages.sh [--list] GROUP...     groups: build test check valgrind cross
# KVR_SKIP_INSTALL=1: install nothing, everything is here by other means.
set -euo pipefail

packages() {
    case $1 in
    build) # to build and run: compiler, CMake, OpenCL with a driver for this machine's CPU, CLBlast, ZeroMQ, Unicode
        echo build-essential cmake ninja-build pkg-config
        echo ocl-icd-opencl-dev opencl-headers pocl-opencl-icd libclblast-dev libzmq3-dev libutf8proc-dev
        ;;
    test) # two more OpenCL implementations: Mesa's, and a simulator that checks every access; networks between boards
        echo libcmocka-dev mesa-opencl-icd oclgrind iproute2
        ;;
    cross) # compilers for boards, and an emulator to run what they make
        echo gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
        echo gcc-riscv64-linux-gnu libc6-dev-riscv64-cross gcc-s390x-linux-gnu libc6-dev-s390x-cross qemu-user
        echo gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
        ;;
    check) # what reads sources instead of running them
        echo clang clang-tidy cppcheck
        ;;
    valgrind) echo valgrind ;;
    *)
        echo "packages.sh: no group '$1': build, test, check, valgrind or cross" >&2
        return 2
        ;;
    esac
}

list_only=0
if [ "${1:-}" = --list ]; then list_only=1; shift; fi
wanted=$(for group in "$@"; do packages "$group"; done | tr '\n' ' ')
if [ "$list_only" = 1 ]; then
    echo "$wanted"
    exit 0
fi
if [ "${KVR_SKIP_INSTALL:-0}" = 1 ]; then exit 0; fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
    echo "This machine has no apt-get. Install by its own means what these Debian packages hold:" >&2
    echo "  $wanted" >&2
    echo "and run again with KVR_SKIP_INSTALL=1." >&2
    exit 1
fi

missing= extra= # extra: not in every release (Debian 13 has none); what wants it is left out without it
for package in $wanted; do # dpkg-query: a line for each architecture that it is installed for
    dpkg-query -W -f='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed && continue
    case $package in oclgrind) extra=" $package" ;; *) missing="$missing $package" ;; esac
done
if [ -z "$missing$extra" ]; then exit 0; fi

as_root=
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null; then
        [ -n "$missing" ] || exit 0
        echo "Packages are missing, and this is neither root nor is there sudo. Have these installed:" >&2
        echo "  apt-get install$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt_get() { $as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y "$@" >>"$log" 2>&1 </dev/null; }
echo "Installing:$missing$extra"
# A foreign archive that does not answer is no reason to stop: what counts is whether the install succeeds.
apt_get update || true
[ -z "$extra" ] || apt_get install --no-install-recommends $extra || echo "Not to be had here, so left out:$extra"
if [ -n "$missing" ] && ! apt_get install --no-install-recommends $missing; then
    tail -n 30 "$log" >&2
    echo "apt-get could not install these packages; its last lines are above." >&2
    exit 1
fi
