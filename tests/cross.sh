#!/usr/bin/env bash
# Cross-builds the core and runs its unit tests under qemu-user; then everything for two architectures against Debian
# roots, and chains of these with this machine.
#   tests/cross.sh [TRIPLE...]       default: every file in toolchains/ that names an emulator, then: android roots
# The two libraries that this needs for the target (utf8proc, cmocka) are not packaged for every architecture, so their
# Debian source packages are fetched and built into build/deps/TRIPLE. Linking is static: no target root is needed.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
cd "$(dirname "$0")/.."
for triple; do
    case $triple in android | roots) continue ;; esac
    [ -e "toolchains/$triple.cmake" ] && continue
    echo "tests/cross.sh: no triple '$triple': see --help and toolchains/" >&2
    exit 2
done
root=$PWD
deps=$root/build/deps
sources=$deps/src
triples=${*:-$(cd toolchains && grep -l EMULATOR -- *.cmake | sed 's/\.cmake$//') android roots}
roots=0 android=0
case " $triples " in *" roots "*) roots=1 triples=${triples/roots/} ;; esac
case " $triples " in *" android "*) android=1 triples=${triples/android/} ;; esac

# Fetches source packages with apt, from the same archives as the binaries, without touching the system's set-up.
fetch() {
    local apt=$deps/apt
    mkdir -p "$apt/lists/partial" "$apt/cache" "$sources"
    apt-cache madison libutf8proc-dev libcmocka-dev |
        awk -F'|' '{ split($3, at, " "); split(at[2], in_, "/"); print "deb-src", at[1], in_[1], in_[2] }' |
        sort -u >"$apt/sources.list"
    if [ ! -s "$apt/sources.list" ]; then
        echo "apt knows no libutf8proc-dev and libcmocka-dev: run 'apt-get update' first" >&2
        return 1
    fi
    local options="-q -o Dir::Etc::SourceList=$apt/sources.list -o Dir::Etc::SourceParts=/dev/null
        -o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt/cache -o APT::Sandbox::User="
    apt-get $options update
    (cd "$sources" && apt-get $options --download-only source utf8proc cmocka)
}

unpack() { # unpack NAME: the source package NAME as $sources/NAME
    rm -rf "${sources:?}/$1"
    dpkg-source --no-check -x "$sources/$1"_*.dsc "$sources/$1"
}

# build_library TRIPLE NAME OPTION...
build_library() {
    local triple=$1 name=$2
    shift 2
    cmake -S "$sources/$name" -B "$deps/$triple/build-$name" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_TOOLCHAIN_FILE="$root/toolchains/$triple.cmake" -DCMAKE_INSTALL_PREFIX="$deps/$triple" \
        -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF "$@"
    cmake --build "$deps/$triple/build-$name" --target install
}

quietly() { # what others' builds print is of interest only when they fail
    if ! "$@" >"$deps/log" 2>&1; then
        tail -n 40 "$deps/log"
        echo "tests/cross.sh: '$*' failed; its last lines are above" >&2
        exit 1
    fi
}

mkdir -p "$deps"
for triple in $triples; do
    for tool in "$triple-gcc" "$(sed -n 's/.*EMULATOR \([^ ]*\).*/\1/p' "toolchains/$triple.cmake")"; do
        command -v "$tool" >/dev/null || {
            echo "tests/cross.sh: $tool is missing: install $(tests/packages.sh --list cross)" >&2
            exit 1
        }
    done
done
if [ ! -e "$sources/utf8proc" ] || [ ! -e "$sources/cmocka" ]; then
    quietly fetch
    quietly unpack utf8proc
    quietly unpack cmocka
fi

bad=0
for triple in $triples; do
    echo "-- $triple"
    if [ ! -e "$deps/$triple/lib/libcmocka.a" ]; then
        quietly build_library "$triple" utf8proc
        threads=
        case $triple in *-none-*) threads=-DHAVE_GCC_THREAD_LOCAL_STORAGE=OFF ;; esac
        quietly build_library "$triple" cmocka -DWITH_EXAMPLES=OFF -DWITH_STATIC_LIB=ON $threads
        # cmocka 1 makes a shared library whatever one asks for, and gives the static one another name.
        rm -f "$deps/$triple"/lib/libcmocka.so*
        cp "$(find "$deps/$triple" -name 'libcmocka*.a' | head -n 1)" "$deps/$triple/lib/libcmocka.a"
    fi
    { cmake --preset "$triple" && cmake --build --preset "$triple"; } || {
        echo "did not build: $triple"
        bad=1
        continue
    }
    ctest --preset "$triple" -j "$(nproc)" || bad=1
    tests/size/size.sh "$triple" || bad=1
done

# Without an NDK: the core compiles for Android's triple, with the C library's headers that the cross compiler came
# with.
if [ $android = 1 ] && command -v clang >/dev/null && [ -e /usr/aarch64-linux-gnu/include/stdint.h ] &&
    [ -e "$deps/aarch64-linux-gnu/include/utf8proc.h" ]; then
    echo "-- aarch64-linux-android: compiled only"
    version=$(dirname "$(find build/aarch64-linux-gnu -name kvr_version.h | head -n 1)")/..
    for source in lib/src/*.c port/none/src/*.c; do
        clang --target=aarch64-linux-android24 -std=c99 -O2 -Wall -Wextra -Wpedantic -Werror -Ilib/include \
            -I"$version" -Iport/none/include -isystem "$deps/aarch64-linux-gnu/include" \
            -isystem /usr/aarch64-linux-gnu/include \
            -c "$source" -o "$deps/android.o" || { echo "did not build: aarch64-linux-android"; bad=1; break; }
    done
elif [ $android = 1 ]; then
    echo "-- aarch64-linux-android: skipped: needs clang and what the triple aarch64-linux-gnu needs"
fi

# with_root PRESET ARCHITECTURE PACKAGE...: everything that these packages allow. The mixed chain needs kvr for this
# machine.
with_root() {
    local preset=$1 architecture=$2 status=0
    shift 2
    echo "-- $preset"
    tests/root.sh "$architecture" "build/roots/$architecture" "$@" || status=$?
    if [ $status = 77 ]; then return 0; fi # it said why
    { [ $status = 0 ] && cmake --preset "$preset" && cmake --build --preset "$preset"; } || {
        echo "did not build: $preset"
        return 1
    }
    KVR=$native ctest --preset "$preset" -j "$(nproc)"
}

if [ $roots = 1 ]; then
    native=$root/build/ci/bin/kvr
    if [ ! -x "$native" ]; then
        quietly cmake --preset release
        quietly cmake --build --preset release --target kvr_cli
        native=$root/build/release/bin/kvr
    fi
    common="libc6-dev libutf8proc-dev libcmocka-dev libzmq3-dev"
    # shellcheck disable=SC2086
    with_root aarch64-root arm64 $common ocl-icd-opencl-dev opencl-headers libclblast-dev || bad=1
    # shellcheck disable=SC2086
    with_root s390x-root s390x $common || bad=1
fi
exit $bad
