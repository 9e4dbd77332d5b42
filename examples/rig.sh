#!/usr/bin/env bash
# Boards on this one machine that cannot reach each other but over a network: each in a network namespace of its own,
# joined by a switch, and every board's port as fast as you say. To see what a chain does on 100 Mbit before there are
# boards.
#
#   rig.sh [-n HELPERS] [-r RATE] [-u SEED] [-c] [-b "ARGS"]... -- COMMAND ...
#
#   -n HELPERS   so many helpers, the lead not counted (default 1)
#   -r RATE      what each board can send: 100mbit, 2.5gbit, ...; tc's token bucket (default: as fast as the machine)
#   -u SEED      an unsteady network: every 50 ms each port is at random (by this seed) at its rate or at half of it
#   -c           pins board i to core i, the lead last, and over again when there are more boards than cores
#   -b "ARGS"    of 'kvr board', without --listen: a model and, say, --emulate PROFILE. Given again: of the next helper;
#                the last one is for all that follow. Split at blanks.
#   COMMAND      runs as the lead. The words @boards and @listen in it become what --boards and --listen want, @listen
#                with --insecure behind it; the environment's RIG_BOARDS and RIG_LISTEN are the same for a script.
#
#   rig.sh -n 2 -r 100mbit -b "-m model.gguf -t 1" -- \
#       kvr run -m model.gguf -t 1 -f prompt.txt -n 16 --boards @boards --listen @listen
#
# Wants root, iproute2 and a kernel with network namespaces; where they are not to be had it says so and exits with 77.
# The program is the environment's KVR. Everything is taken down at the end, also after a failure or a signal; what a
# rig that was killed by force left behind, the next one removes. Exits as COMMAND does.
set -euo pipefail
case ${1:-} in -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
here=$(cd "$(dirname "$0")" && pwd)
kvr=${KVR:-$here/../build/release/bin/kvr}
period_s=0.05 slow_chance=0.5 slow_factor=0.5 # as examples/profiles/links/*-unsteady.txt
port=7000

usage() { echo "rig.sh: $*; see $0 --help" >&2; exit 2; }
skip() { echo "rig.sh: skipped: $*" >&2; exit 77; }

helpers=1 rate= seed= pinned=0 board_args=()
while getopts n:r:u:cb: option; do
    case $option in
    n) helpers=$OPTARG ;;
    r) rate=$OPTARG ;;
    u) seed=$OPTARG ;;
    c) pinned=1 ;;
    b) board_args+=("$OPTARG") ;;
    *) usage "wrong option" ;;
    esac
done
shift $((OPTIND - 1))
[[ $helpers =~ ^[1-9][0-9]?$ ]] && [ "$helpers" -le 63 ] || usage "-n is 1 to 63"
[ ${#board_args[@]} -gt 0 ] || usage "give the helpers' arguments with -b"
[ $# -gt 0 ] || usage "give the lead's command behind --"
kbit=
if [ -n "$rate" ]; then
    [[ $rate =~ ^([0-9]+(\.[0-9]+)?)(k|m|g)bit$ ]] || usage "-r is a rate as 100mbit or 2.5gbit"
    kbit=$(awk -v n="${BASH_REMATCH[1]}" -v unit="${BASH_REMATCH[3]}" \
        'BEGIN { printf "%d", n * (unit == "k" ? 1 : unit == "m" ? 1e3 : 1e6) }')
    [ "$kbit" -ge 64 ] || usage "-r is 64kbit at least"
fi
if [ -n "$seed" ]; then
    [[ $seed =~ ^[0-9]{1,9}$ ]] || usage "-u is a number"
    [ -n "$kbit" ] || usage "-u wants a rate: -r"
fi
[ -x "$kvr" ] || usage "no program at KVR='$kvr': build it, or set KVR"

# --- what this machine allows ------------------------------------------------------------------------------------

[ "$(id -u)" = 0 ] || skip "network namespaces want root"
for tool in ip tc taskset; do command -v $tool >/dev/null || skip "no '$tool' here (Debian: iproute2, util-linux)"; done

rig=kvr-rig-$$
remove_rig() { # remove_rig NAME: its namespaces and whatever runs in them
    local ns pids
    for ns in $(ip netns list | awk -v name="$1-" 'index($1, name) == 1 { print $1 }'); do
        pids=$(ip netns pids "$ns" 2>/dev/null) || pids=
        [ -z "$pids" ] || kill -9 $pids 2>/dev/null || true
        ip netns del "$ns" 2>/dev/null || true
    done
}
jobs_of_rig=() tmp=
take_down() {
    local code=$?
    trap - EXIT INT TERM HUP
    if [ ${#jobs_of_rig[@]} -gt 0 ]; then
        kill "${jobs_of_rig[@]}" 2>/dev/null || true
        wait "${jobs_of_rig[@]}" 2>/dev/null || true
    fi
    remove_rig $rig
    [ -z "$tmp" ] || rm -rf "$tmp"
    exit $code
}
trap take_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
ip netns list 2>/dev/null | sed -n 's/^kvr-rig-\([0-9]*\)-.*/\1/p' | sort -u | while read -r pid; do
    kill -0 "$pid" 2>/dev/null || remove_rig "kvr-rig-$pid"
done
tmp=$(mktemp -d)

switch=$rig-switch
try() { "$@" 2>"$tmp/why" || skip "'$*' is not allowed here: $(head -n 1 "$tmp/why")"; }
try ip netns add $switch
try ip -n $switch link add bridge0 type bridge
try ip -n $switch link set bridge0 up

board_ns() { echo "$rig-$1"; }
# Bytes of half a millisecond: a larger bucket would be a present, as every change of the rate fills it.
burst_of() { echo $(($1 / 16 > 4096 ? $1 / 16 : 4096)); }
for ((i = 0; i <= helpers; i++)); do
    ns=$(board_ns $i)
    try ip netns add "$ns"
    try ip -n $switch link add "port$i" type veth peer name eth0 netns "$ns"
    try ip -n $switch link set "port$i" master bridge0 up
    try ip -n "$ns" addr add "10.77.0.$((i + 1))/24" dev eth0
    try ip -n "$ns" link set eth0 up
    try ip -n "$ns" link set lo up
    [ -z "$kbit" ] ||
        try tc -n "$ns" qdisc add dev eth0 root tbf rate "${kbit}kbit" burst "$(burst_of "$kbit")" latency 50ms
done

# --- boards --------------------------------------------------------------------------------------------------------

inside() { # inside BOARD COMMAND...: as that board; replaces the shell
    local pin=()
    if [ $pinned = 1 ]; then pin=(taskset -c $(($1 % $(nproc)))); fi
    local ns=$(board_ns "$1")
    shift
    exec ip netns exec "$ns" "${pin[@]}" "$@"
}
addresses=
for ((i = 0; i < helpers; i++)); do
    args=${board_args[i < ${#board_args[@]} ? i : ${#board_args[@]} - 1]}
    mkfifo "$tmp/ready$i"
    (inside $i "$kvr" board --insecure --listen "tcp://10.77.0.$((i + 1)):$port" --announce-fd 7 $args \
        7>"$tmp/ready$i" >"$tmp/log$i" 2>&1) &
    jobs_of_rig+=($!)
    # the helper holds the other end open, so this ends with a line or with the helper
    if ! IFS= read -r address <"$tmp/ready$i"; then
        echo "rig.sh: helper $i did not come up:" >&2
        cat "$tmp/log$i" >&2
        exit 1
    fi
    addresses=$addresses${addresses:+,}$address
done

if [ -n "$seed" ]; then # one tc per port takes its orders from this awk
    awk -v n="$helpers" -v rig=$rig -v kbit="$kbit" -v burst="$(burst_of "$kbit")" -v seed="$seed" -v period=$period_s \
        -v chance=$slow_chance -v factor=$slow_factor 'BEGIN {
            srand(seed)
            for (;;) {
                for (i = 0; i <= n; i++) {
                    to = "tc -n " rig "-" i " -force -batch - 2>/dev/null"
                    now = rand() < chance ? kbit * factor : kbit
                    if (now == was[i]) continue
                    was[i] = now
                    printf "qdisc change dev eth0 root tbf rate %dkbit burst %d latency 50ms\n", now, burst | to
                    fflush(to)
                }
                if (system("sleep " period) != 0) exit
            }
        }' &
    jobs_of_rig+=($!)
fi

export RIG_BOARDS=$addresses RIG_LISTEN=tcp://10.77.0.$((helpers + 1)):$port
command=()
for word; do
    case $word in
    @boards) word=$RIG_BOARDS ;;
    @listen)
        command+=("$RIG_LISTEN")
        word=--insecure # a network that nobody else is in
        ;;
    esac
    command+=("$word")
done
if [ "${command[0]}" = kvr ]; then command[0]=$kvr; fi
# in the background, because a shell that waits for a command in front hears no signal before its end
(inside "$helpers" "${command[@]}") <&0 &
jobs_of_rig+=($!)
code=0
wait $! || code=$?
if [ $code != 0 ]; then
    for ((i = 0; i < helpers; i++)); do sed "s/^/helper $i: /" "$tmp/log$i" >&2; done
fi
exit $code
