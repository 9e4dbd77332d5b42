#!/usr/bin/env bash
# A Debian root of another architecture as a plain folder, without being root and without touching the system's
# packages: apt resolves and downloads with a configuration of its own, dpkg unpacks. Nothing in it is configured; it is
# for linking against and for qemu-user (-L), not for booting.
#   tests/root.sh ARCHITECTURE FOLDER PACKAGE...      e.g. arm64 build/roots/arm64 libzmq3-dev
# 77: this machine's archive does not have them.
set -euo pipefail
architecture=$1 folder=$2
shift 2
if [ -e "$folder/.done" ] && [ "$(cat "$folder/.done")" = "$*" ]; then exit 0; fi
for tool in apt-get apt-cache dpkg-deb; do
    command -v $tool >/dev/null || { echo "skipped: no $tool here, so no Debian root of $architecture"; exit 77; }
done

apt=$folder.apt
rm -rf "$folder" "$apt"
mkdir -p "$folder/usr/lib" "$apt/lists/partial" "$apt/cache/archives/partial"
folder=$(cd "$folder" && pwd) apt=$(cd "$apt" && pwd)
ln -s usr/lib "$folder/lib" # as on every Debian since 2019; libraries name each other by either path
: >"$apt/status"
# the archives that this machine takes its own packages from
apt-cache madison "${@:1:1}" |
    awk -F'|' '{ split($3, at, " "); split(at[2], in_, "/"); print "deb", at[1], in_[1], in_[2] }' |
    sort -u >"$apt/sources.list"
[ -s "$apt/sources.list" ] || { echo "skipped: apt knows no $1: run 'apt-get update' first"; exit 77; }
get() {
    apt-get -q -y -o APT::Architecture="$architecture" -o APT::Architectures::="$architecture" \
        -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null -o Dir::State="$apt" \
        -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null -o APT::Sandbox::User= "$@"
}
if ! { get update && get install --download-only --no-install-recommends "$@"; } >"$apt/log" 2>&1; then
    tail -n 5 "$apt/log"
    echo "skipped: the archive does not give $* for $architecture"
    exit 77
fi
for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$folder"; done
rm -rf "$apt"
echo "$*" >"$folder/.done"
