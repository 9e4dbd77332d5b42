#!/usr/bin/env bash
# Builds and runs consumer/ against kvr, taken in one of three ways.
# consume.sh find_package|pkg_config|subproject CMAKE SOURCE_DIR BUILD_DIR CC PARTS [CFLAGS]   (PARTS: core,opencl,...)
set -euo pipefail
way=$1 cmake=$2 source=$3 build=$4 cc=$5 parts=$6 cflags=${7:-}

here=$source/tests/package/consumer
work=$build/package/$way
rm -rf "$work"
mkdir -p "$work"

if [ "$way" != subproject ]; then
    "$cmake" --install "$build" --prefix "$work/prefix" >"$work/install.log" || { cat "$work/install.log"; exit 1; }
    # Only the installed copy may be found: a path of the source or build tree in it would hide a mistake.
    if grep -rlF -e "$source/lib" -e "$build/lib" "$work/prefix" --include='*.cmake' --include='*.pc'; then
        echo "the files above name the tree that kvr was built in: the package could not be moved"
        exit 1
    fi
fi

case $way in
find_package)
    "$cmake" -S "$here" -B "$work/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$cflags" \
        -DCMAKE_PREFIX_PATH="$work/prefix" -DKVR_PARTS="${parts//,/;}"
    "$cmake" --build "$work/build"
    ;;
pkg_config)
    command -v pkg-config >/dev/null || { echo "pkg-config is not installed: skipped"; exit 77; }
    pc=$(dirname "$(find "$work/prefix" -name kvr.pc)")
    modules=kvr
    for part in ${parts//,/ }; do [ "$part" = core ] || modules="$modules kvr-$part"; done
    mkdir -p "$work/build"
    flags=$(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs $modules) # blanks of paths are escaped in them
    echo "$cc -std=c99 consumer.c $flags"
    eval "\"\$cc\" -std=c99 $cflags \"\$here/consumer.c\" -o \"\$work/build/consumer\" $flags"
    ;;
subproject)
    # settings of a parent that are its own affair
    "$cmake" -S "$here" -B "$work/odd" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$cflags -Ofast" \
        -DKVR_SOURCE="$source" -DBUILD_SHARED_LIBS=ON -DCMAKE_C_VISIBILITY_PRESET=hidden -DCMAKE_UNITY_BUILD=ON
    "$cmake" --build "$work/odd" -j 2
    "$work/odd/consumer"
    "$cmake" -S "$here" -B "$work/build" -DCMAKE_C_COMPILER="$cc" -DCMAKE_C_FLAGS="$cflags" -DKVR_SOURCE="$source"
    "$cmake" --build "$work/build" -j 2
    ;;
esac
# a shared kvr lies where no loader looks
LD_LIBRARY_PATH=$(dirname "$(find "$work" -name 'libkvr_core.*' | head -n 1)") "$work/build/consumer"
