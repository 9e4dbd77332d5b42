#!/bin/sh
# kvr beside llama.cpp (or a relative) on the same files in one run: both engines in turn, round by round, medians,
# ratios.
#
#   tests/bench/compare.sh [--threads N] [--rounds N] [--depth N] [FILE.gguf ...]
#
#   --threads N  CPU threads of both engines (default: all cores)
#   --rounds N   how often both take their turn; each turn is one run to warm up and two that count (default 3)
#   --depth N    measure pp512 also behind so many tokens; 0: do not (default 4096)
#   FILE         default: random models of 1.1 B parameters in Q4_0, Q8_0 and F16, made once in the scratch folder
#
#   KVR           the program (default: build/release/bin/kvr or build/ci/bin/kvr)
#   KVR_ARGS      further options of 'kvr bench', for example "--precision exact"
#   LLAMA_BENCH   a llama-bench, of llama.cpp or of another engine with its options and JSON (ik_llama.cpp)
#   LLAMA_PYTHON  without it: a python with llama-cpp-python; without that one is made in the scratch folder, which
#                 downloads and compiles llama.cpp for this machine (many minutes)
#   LLAMA_ARGS    further options of the other engine, for example "-fa 1"
#   SCRATCH       folder for models and Python (default: kvr-compare in TMPDIR); kept, because both take long to make
#
# Hold both to the same cores with taskset in front. Tests are those of llama-bench: pp512 = a prompt of 512 tokens,
# tg128 = 128 tokens one by one. llama-cpp-python is driven by llama_bench.py, which tells how.
set -eu
LC_ALL=C.UTF-8
export LC_ALL
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
die() { echo "compare.sh: $*" >&2; exit 1; }

threads=$(nproc) rounds=3 depth=4096
while [ $# -gt 0 ]; do
    case $1 in
    --threads | --rounds | --depth)
        case ${2:-} in '' | *[!0-9]*) die "$1 wants a whole number" ;; esac
        case $1 in --threads) threads=$2 ;; --rounds) rounds=$2 ;; --depth) depth=$2 ;; esac
        shift 2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "compare.sh: no option '$1'; see --help" >&2; exit 2 ;;
    *) break ;;
    esac
done
[ "$threads" -gt 0 ] && [ "$rounds" -gt 0 ] || die "--threads and --rounds want at least 1"

if [ -z "${KVR:-}" ]; then
    for KVR in "$top/build/release/bin/kvr" "$top/build/ci/bin/kvr"; do [ ! -x "$KVR" ] || break; done
fi
[ -x "$KVR" ] ||
    die "no program at '$KVR': build it (cmake --preset release && cmake --build --preset release), or set KVR"
SCRATCH=${SCRATCH:-${TMPDIR:-/tmp}/kvr-compare}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

# python MODULE PACKAGES: makes sure of $SCRATCH/venv with these; sets PYTHON.
python() {
    module=$1
    shift
    PYTHON=$SCRATCH/venv/bin/python
    [ -x "$PYTHON" ] || { mkdir -p "$SCRATCH" && python3 -m venv "$SCRATCH/venv"; }
    "$PYTHON" -c "import $module" 2>/dev/null && return 0
    echo "installing $* in $SCRATCH/venv" >&2
    CMAKE_ARGS="${CMAKE_ARGS:--DGGML_NATIVE=ON}" "$PYTHON" -m pip install -q "$@" >&2 || die "cannot install $*"
}

if [ -n "${LLAMA_BENCH:-}" ]; then
    [ -x "$LLAMA_BENCH" ] || die "LLAMA_BENCH='$LLAMA_BENCH' is no program"
    theirs() { "$LLAMA_BENCH" -ngl 0 "$@"; }
    if [ "$depth" != 0 ] && ! "$LLAMA_BENCH" --help 2>&1 | grep -q -- '--n-depth'; then
        echo "this llama-bench has no --n-depth: pp512 @ d$depth is left out" >&2
        depth=0
    fi
else
    if [ -z "${LLAMA_PYTHON:-}" ]; then
        python llama_cpp llama-cpp-python
        LLAMA_PYTHON=$PYTHON
    fi
    "$LLAMA_PYTHON" -c 'import llama_cpp' 2>/dev/null || die "LLAMA_PYTHON='$LLAMA_PYTHON' has no llama-cpp-python"
    theirs() { "$LLAMA_PYTHON" "$here/llama_bench.py" "$@"; }
fi

if [ $# = 0 ]; then
    mkdir -p "$SCRATCH"
    for type in Q4_0 Q8_0 F16; do
        file=$SCRATCH/random-1.1b-$type.gguf
        if [ ! -e "$file" ]; then
            python gguf numpy gguf
            echo "making $file" >&2
            "$PYTHON" "$here/make_model.py" --type "$type" -o "$file.part" >&2
            mv "$file.part" "$file"
        fi
        set -- "$@" "$file"
    done
fi

# turn ENGINE ARGS: one call of an engine; its samples go to $work/samples as "FILE|TEST|ENGINE tokens-per-second".
turn() {
    engine=$1
    shift
    case $engine in
    kvr) "$KVR" bench -o json -r 2 -t "$threads" ${KVR_ARGS:-} "$@" >"$work/out" ;;
    other) theirs -o json -r 2 -t "$threads" ${LLAMA_ARGS:-} "$@" >"$work/out" 2>"$work/err" ||
        { cat "$work/err" >&2; die "the other engine failed"; } ;;
    esac
    read_json "$engine" <"$work/out" >>"$work/samples"
}

# One key and value a line, arrays in one line: so write llama-bench, llama_bench.py and kvr. The samples come last.
read_json() {
    awk -v name="$file" -v engine="$1" -v version="$work/version.$1" '
        {
            key = $1
            gsub(/[":]/, "", key)
            text = $0
            sub(/^[^:]*: */, "", text)
            gsub(/[][",]/, " ", text)
            sub(/ *$/, "", text)
            sub(/^ */, "", text)
            value[key] = text
        }
        key == "samples_ts" {
            test = value["n_prompt"] + 0 > 0 ? "pp" value["n_prompt"] : "tg" value["n_gen"]
            if (value["n_depth"] + 0 > 0) test = test " @ d" value["n_depth"]
            n = split(text, x, " ")
            for (i = 1; i <= n; i++) print name "|" test "|" engine, x[i]
        }
        END {
            text = value["build_commit"]
            if (value["build_number"] != "") text = text " (build " value["build_number"] ")"
            print text >version
        }'
}

: >"$work/samples"
for file; do
    [ -r "$file" ] || die "cannot read '$file'"
    round=1
    while [ "$round" -le "$rounds" ]; do
        echo "$file: round $round of $rounds" >&2
        for engine in kvr other; do
            depth_option=-d
            [ $engine = other ] || depth_option=--depth
            turn $engine -m "$file" -p 512 -n 128
            [ "$depth" = 0 ] || turn $engine -m "$file" -p 512 -n 0 $depth_option "$depth"
        done
        round=$((round + 1))
    done
done

echo "kvr $(cat "$work/version.kvr") beside ${LLAMA_BENCH:+$(basename "$LLAMA_BENCH") }$(cat "$work/version.other");" \
    "threads $threads; tokens per second, medians of $((2 * rounds)) samples in $rounds rounds, in turn"
[ -z "${KVR_ARGS:-}${LLAMA_ARGS:-}" ] || echo "KVR_ARGS='${KVR_ARGS:-}' LLAMA_ARGS='${LLAMA_ARGS:-}'"
grep -m 1 'model name' /proc/cpuinfo 2>/dev/null | sed 's/.*: //' || true
echo
echo "| file | test | kvr | other | ratio |"
echo "| --- | --- | ---: | ---: | ---: |"
sort "$work/samples" | awk '
    function median(list,   x, n, i, j, t) {
        n = split(list, x, " ")
        for (i = 2; i <= n; i++)
            for (j = i; j > 1 && x[j] + 0 < x[j - 1] + 0; j--) { t = x[j]; x[j] = x[j - 1]; x[j - 1] = t }
        return n % 2 ? x[(n + 1) / 2] : (x[n / 2] + x[n / 2 + 1]) / 2
    }
    { at = match($0, / [^ ]*$/); key = substr($0, 1, at - 1); all[key] = all[key] " " substr($0, at + 1) }
    END {
        for (key in all) {
            if (key !~ /\|kvr$/) continue
            base = key; sub(/\|kvr$/, "", base)
            ours = median(all[key]); theirs = median(all[base "|other"])
            split(base, part, "|"); name = part[1]; sub(/.*\//, "", name)
            ratio = "-"
            if (theirs > 0) ratio = sprintf("%.2f", ours / theirs)
            printf "| %s | %s | %.2f | %.2f | %s |\n", name, part[2], ours, theirs, ratio
        }
    }' | sort
