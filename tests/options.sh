#!/usr/bin/env bash
# Builds kvr with each part left out, and as shared libraries; installs each, and builds and runs consumers of what was
# installed.
#   tests/options.sh [NAME...]      names: no-opencl no-clblast no-zmq bare shared fast; default: all
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
model=examples/model/kvr-logbook.gguf

build() { # build NAME OPTION...
    local name=$1 folder=build/options/$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    { cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Debug -DKVR_WERROR=ON -DKVR_BUILD_TESTS=OFF "$@" &&
        cmake --build "$folder"; } >"$folder/log" 2>&1 ||
        { tail -n 40 "$folder/log"; echo "did not build: $name"; return 1; }
}

consume() { # consume NAME PARTS
    local way
    for way in find_package pkg_config; do
        tests/package/consume.sh $way cmake "$root" "$root/build/options/$1" "${CC:-cc}" "$2" \
            >build/options/consumer.log 2>&1 ||
            { cat build/options/consumer.log; echo "$1: no consumer by $way"; return 1; }
    done
}

answers() { # answers NAME DEVICE: its command line answers
    local kvr
    kvr=$(find "build/options/$1" -name kvr -type f -perm -u+x)
    "$kvr" run -m $model -p "Who was on watch?" -n 4 -d "$2" >build/options/answer.log 2>&1 ||
        { cat build/options/answer.log; echo "$1: kvr run -d $2 does not answer"; return 1; }
}

# Every symbol that a shared library shows is public, and its name says which interface it keeps.
shows_kvr_only() {
    local library others soname prefix=build/options/shared/package/find_package/prefix
    for library in $prefix/lib*/libkvr_*.so $prefix/lib*/*/libkvr_*.so; do
        [ -e "$library" ] || continue
        others=$(nm -D --defined-only -P "$library" | awk '$1 !~ /^kvr_/ { print $1 }')
        soname=$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')
        [ -z "$others" ] || { echo "$library shows what is not public:" $others; return 1; }
        case $soname in libkvr_*.so.[0-9]*.[0-9]*) ;; *) echo "$library has the SONAME '$soname'"; return 1 ;; esac
        echo "   $soname: $(nm -D --defined-only -P "$library" | wc -l) symbols, all kvr_"
    done
}

# As installed, with nothing said to the loader.
finds_its_libraries() {
    local kvr=build/options/shared/package/find_package/prefix/bin/kvr
    "$kvr" --version >build/options/answer.log 2>&1 ||
        { cat build/options/answer.log; echo "$kvr does not start"; return 1; }
}

# A parent's -Ofast would have NaN pass for numbers.
sees_nan_with_ofast() {
    local test folder=build/options/fast
    rm -rf $folder
    mkdir -p $folder
    { cmake -S . -B $folder -G Ninja -DCMAKE_C_FLAGS=-Ofast -DKVR_WITH_OPENCL=OFF -DKVR_WITH_ZMQ=OFF \
        -DKVR_BUILD_EXAMPLES=OFF && cmake --build $folder --target test_sample test_q8; } >$folder/log 2>&1 ||
        { tail -n 40 $folder/log; echo "did not build: fast"; return 1; }
    for test in test_sample test_q8; do
        "$(find $folder -name $test -type f -perm -u+x)" >$folder/log 2>&1 || { cat $folder/log; return 1; }
    done
}

bad=0
for name in ${*:-no-opencl no-clblast no-zmq bare shared fast}; do
    case $name in
    no-opencl) build $name -DKVR_WITH_OPENCL=OFF && answers $name reference && consume $name core,zmq,posix,none ;;
    no-clblast) build $name -DKVR_WITH_CLBLAST=OFF && answers $name opencl && consume $name core,opencl,none ;;
    no-zmq) build $name -DKVR_WITH_ZMQ=OFF && answers $name reference && consume $name core,opencl,posix ;;
    bare) build $name -DKVR_WITH_OPENCL=OFF -DKVR_WITH_ZMQ=OFF -DKVR_WITH_POSIX=OFF -DKVR_BUILD_EXAMPLES=OFF &&
        consume $name core,none ;;
    shared) build $name -DBUILD_SHARED_LIBS=ON && answers $name reference && consume $name core,opencl,zmq,posix,none &&
        shows_kvr_only && finds_its_libraries ;;
    fast) sees_nan_with_ofast ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac || { echo "FAILED: $name"; bad=1; continue; }
    echo "   $name: builds, answers, and can be used"
done
exit $bad
