# The deepest stack along the call graph, from GCC's -fcallgraph-info=su files (*.ci). Prints: BYTES FUNCTION > FUNCTION
# > ... Fails on recursion and on frames whose size is not known when compiling (alloca, arrays of variable length).
# Calls through pointers: those inside the core are listed in indirect(); every other pointer is taken for one of the
# backend's and costs as much as the reference backend's deepest operator. Not counted: links, ports, other backends,
# callbacks of the application, and what is outside the core (C library, libutf8proc): those frames begin where this sum
# ends.

function value(line, key,    at, rest) {
    at = index(line, key ": \"")
    if (at == 0) return ""
    rest = substr(line, at + length(key) + 3)
    return substr(rest, 1, index(rest, "\"") - 1)
}

# What is meant where the call graph says only "through a pointer": a pattern of function names, "" = not counted.
function indirect(caller) {
    if (caller == "kvri_dtype_to_f32" || caller == "kvri_dtype_parts" || caller ~ /kvr_dtype.c:/)
        return "^(f32_row|f16_row|bf16_row|kvri_block_)"
    if (caller == "kvri_pretok_next") return "^cut_"
    if (caller ~ /kvr_merge.c:/) return "^rank"
    if (caller == "kvri_sim_span" || caller ~ /kvr_loop.c:/) return ""
    return "^cpu_"
}

$1 == "node:" {
    title = value($0, "title")
    if ($0 ~ /shape *: *ellipse/) next # only declared here
    label = value($0, "label")
    n = split(label, part, "\\\\n")
    name[title] = part[1]
    for (i = 2; i <= n; i++) {
        if (part[i] !~ / bytes \(/) continue
        frame[title] = part[i] + 0
        if (part[i] ~ /dynamic/ && part[i] !~ /bounded/) { print "frame of unknown size: " part[1]; bad = 1 }
    }
}

$1 == "edge:" {
    from = value($0, "sourcename"); to = value($0, "targetname")
    if (!((from, to) in seen)) { seen[from, to] = 1; callees[from] = callees[from] to "\n" }
}

function visit(title,    list, n, i, k, inner, pattern, best, best_path) {
    if (state[title] == 2) return deepest[title]
    if (state[title] == 1) { print "recursion through " name[title]; bad = 1; return 0 }
    state[title] = 1
    n = split(callees[title], list, "\n")
    best = 0; best_path = ""
    for (i = 1; i < n; i++) {
        if (list[i] == "__indirect_call") {
            pattern = indirect(title)
            if (pattern == "") continue
            for (k = 1; k <= n_titles; k++) {
                if (name[titles[k]] !~ pattern) continue
                inner = visit(titles[k])
                if (inner > best) { best = inner; best_path = path[titles[k]] }
            }
        } else if (list[i] in frame) {
            inner = visit(list[i])
            if (inner > best) { best = inner; best_path = path[list[i]] }
        }
    }
    state[title] = 2
    deepest[title] = frame[title] + best
    path[title] = name[title] (best_path == "" ? "" : " > " best_path)
    return deepest[title]
}

END {
    for (title in frame) titles[++n_titles] = title
    if (n_titles == 0) { print "no functions in these files"; exit 1 }
    worst = -1
    for (k = 1; k <= n_titles; k++)
        # of equals the first by name, so that the answer does not depend on awk's order
        if (visit(titles[k]) > worst || (deepest[titles[k]] == worst && path[titles[k]] < path[at_worst])) {
            worst = deepest[titles[k]]; at_worst = titles[k]
        }
    if (bad) exit 1
    print worst, path[at_worst]
}
