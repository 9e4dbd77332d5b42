# Sourced by eval_*.sh after common.sh: comparisons with recorded results of other implementations.
need_data models/stories260K.gguf golden/stories260K.llamacpp-logits.txt golden/stories260K.greedy500.txt
IDS=1,403,407,261,378

# near A B TOLERANCE: same lines, tokens and top ids; listed logits differ by at most the tolerance.
near() {
    awk -v tolerance="$3" '
        NR == FNR { wanted[FNR] = $0; n = FNR; next }
        {
            fields = split(wanted[FNR], w, " ")
            if (fields != NF) { print "line " FNR ": " NF " fields, not " fields; bad = 1; exit 1 }
            if ($1 == "greedy") { if ($0 != wanted[FNR]) { print "other greedy ids"; bad = 1; exit 1 } next }
            for (i = 1; i <= 5; i++) if ($i != w[i]) { print "line " FNR ": " $i ", not " w[i]; bad = 1; exit 1 }
            delete have
            for (i = 6; i <= 10; i++) { split($i, pair, ":"); have[pair[1]] = pair[2] }
            for (i = 6; i <= 10; i++) {
                split(w[i], pair, ":")
                if (!(pair[1] in have)) { print "line " FNR ": id " pair[1] " is not among the top"; bad = 1; exit 1 }
                off = have[pair[1]] - pair[2]
                if (off < 0) off = -off
                if (off > most) most = off
                if (off > tolerance) { print "line " FNR ": id " pair[1] " is off by " off; bad = 1; exit 1 }
            }
        }
        END {
            if (bad) exit 1
            if (FNR != n) { print FNR " lines, not " n; exit 1 }
            print "largest difference " most
        }' "$1" "$2"
}
# golden NAME TOLERANCE ARGS
golden() {
    file=$DATA/golden/stories260K.$1.txt tolerance=$2
    shift 2
    kvr eval -m "$STORIES" --ids $IDS -n 32 "$@"
    must_pass
    near "$file" "$TMP/out" "$tolerance" >"$TMP/near" || fail "$* against $file: $(cat "$TMP/near")"
    echo "  $*: $(cat "$TMP/near")"
}
greedy500() {
    kvr eval -m "$STORIES" --ids 1 -n 500 --greedy-only "$@"
    must_pass
    tr -s ' \n' '\n' <"$DATA/golden/stories260K.greedy500.txt" >"$TMP/wanted"
    tr -s ' \n' '\n' <"$TMP/out" >"$TMP/got"
    same "$TMP/wanted" "$TMP/got" "500 greedy ids, $*"
}
