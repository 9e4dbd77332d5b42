#!/usr/bin/env bash
# Runs rows of 'kvr bench --paper' with emulated boards: real frames, links, scheduling and sessions, and boards that
# sleep as long as their profile says. Writes the lines that 'kvr bench --paper --runs FILE' puts beside its
# predictions.
#
#   paper.sh [-b BOARD] [-m MODEL]... [-l NETWORK]... [-P BOARDS]... [-p TOKENS]... >examples/profiles/runs/BOARD.txt
#
# Defaults: a100; llama-7b, falcon-7b; paper-fast, paper-slow; 4, 8; 4096, 8192. All of it takes an hour.
#
# One machine cannot pass on as many bytes as 8 boards on 300 GB/s links. So time is stretched: all rates of board and
# network are divided by one factor, chosen so that frames take FRAMES_MBS (default 100) megabytes a second here, and
# what was measured is divided by it, too. Ports are shaped by examples/rig.sh (root) where the network is slower then
# than this machine, else the machine's loopback stands for them. Latency is not added. Hollow models are made by
# make_model.py (python3, numpy, gguf).
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
export LC_ALL=C.UTF-8
here=$(cd "$(dirname "$0")" && pwd)
export KVR=${KVR:-$here/../../build/release/bin/kvr}
profiles=$here/../../examples/profiles
frames_mbs=${FRAMES_MBS:-100} least_stretch=100
loopback_mbit=$((10 * frames_mbs)) # above what all frames together take: no port is in the way then
batch=4096         # a chunk at once, nearly: the most there is
# boards may end long after each other in stretched time
both="-c 16400 --batch $batch --board-timeout 300"
board=a100 models=() networks=() chains=() lengths=()
while getopts b:m:l:P:p: option; do
    case $option in
    b) board=$OPTARG ;;
    m) models+=("$OPTARG") ;;
    l) networks+=("$OPTARG") ;;
    P) chains+=("$OPTARG") ;;
    p) lengths+=("$OPTARG") ;;
    *) echo "see $0 --help" >&2; exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 0 ] || { echo "paper.sh: unexpected argument '$1'; see --help" >&2; exit 2; }
[ ${#models[@]} -gt 0 ] || models=(llama-7b falcon-7b)
[ ${#networks[@]} -gt 0 ] || networks=(paper-fast paper-slow)
[ ${#chains[@]} -gt 0 ] || chains=(4 8)
[ ${#lengths[@]} -gt 0 ] || lengths=(4096 8192)
[ -x "$KVR" ] || { echo "no program at KVR='$KVR': build it, or set KVR" >&2; exit 1; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

column() {
    awk -F, -v name="$1" 'NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i } NR == 2 { print $at[name] }' \
        "$tmp/predicted"
}
field() { awk -v name="$1" '$1 == name { print $2 }' "$2"; }
# stretched FILE: the profile of a board or a link on which everything takes `stretch` times as long
stretched() {
    awk -v by="$stretch" '
        /^(dense_gmacs|attention_gmacs|memory_gbs|frame_gbs|mbit) / { printf "%s %.6g\n", $1, $2 / by; next }
        /^(call_us|prompt_us|latency_us|message_us) / { printf "%s %.6g\n", $1, $2 * by; next }
        { print }' "$1"
}
# chain STRATEGY: one prompt; its time and bytes
chain() {
    local args=(bench -m "$model_file" --emulate "$tmp/board.txt" --profile "$tmp/board.txt" --link "$tmp/link.txt"
        -p "$tokens" -n 0 -r 1 --no-warmup --trace "$tmp/trace.json" --strategy "$1" $both -o csv)
    if [ "$mbit" -lt $loopback_mbit ]; then
        # a profile's rate is that of what is sent, a port's that of whole packets: 1514 bytes for 1448
        "$here/../../examples/rig.sh" -n $((boards - 1)) -r "$((mbit * 1514 / 1448))mbit" \
            -b "-m $model_file --emulate $tmp/board.txt --max-boards $boards $both" \
            -- kvr "${args[@]}" --boards @boards --listen @listen
    else
        "$KVR" "${args[@]}" --local-boards "$boards"
    fi >"$tmp/run.csv" 2>"$tmp/run.err" || { cat "$tmp/run.err" >&2; exit 1; }
    awk -F, -v by="$stretch" -v row="run $model $network $boards $tokens $1" '
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i }
        NR == 2 { # partitions have commas within quotes: count from the end
            moved = $(NF - (last - at["bytes_moved"]))
            if (moved == "") exit 1
            printf "%s %.2f %.0f\n", row, $(NF - (last - at["ttft_ms"])) / by, moved }
        { last = NF }' "$tmp/run.csv" || { echo "paper.sh: the boards did not tell what they moved" >&2; exit 1; }
}

echo "kvr-runs 1"
echo "# Emulated boards in stretched time, each row run once, by tests/bench/paper.sh: see there and README.md."
echo "board $board"
for model in "${models[@]}"; do
    model_file=$tmp/$model.gguf
    python3 "$here/make_model.py" --hollow --like "$model" --type F16 --ctx 16400 -o "$model_file" >"$tmp/make.log"
    for network in "${networks[@]}"; do
        for boards in "${chains[@]}"; do
            for tokens in "${lengths[@]}"; do
                "$KVR" bench --paper --board "$board" --models "$model" --link "$network" --boards "$boards" \
                    -p "$tokens" -o csv >"$tmp/predicted"
                stretch=$(awk -v bytes="$(column bytes_tsp)" -v ms="$(column tsp_ms)" -v mbs="$frames_mbs" \
                    -v least=$least_stretch \
                    'BEGIN { by = bytes / ms / 1e3 / mbs; printf "%d", by < least ? least : by + 1 }')
                stretched "$profiles/boards/$board.txt" >"$tmp/board.txt"
                stretched "$profiles/links/$network.txt" >"$tmp/link.txt"
                mbit=$(field mbit "$tmp/link.txt")
                mbit=${mbit%.*}
                echo "# x $stretch, $([ "$mbit" -lt $loopback_mbit ] && echo "ports of $mbit mbit" || echo loopback)"
                chain tsp
                chain chain
            done
        done
    done
done
