#include "paper_runs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"
#include "say.h"

#define FIRST_LINE "kvr-runs 1"
#define MOST_MS 1e12

static int whole_of(const char *word, uint64_t most, uint64_t *out) {
    const char *end = word;
    return options_parse_whole(word, out, &end) && *end == '\0' && *out <= most;
}

/* 0: not a run. */
static int run_of(const char *line, paper_run *out) {
    char boards[24], tokens[24], ms[32], bytes[24];
    uint64_t n_boards = 0, n_tokens = 0;
    int at = 0;
    const int n = sscanf(line, "run %63s %63s %23s %23s %15s %31s %23s %n", out->model, out->link, boards, tokens,
                         out->strategy, ms, bytes, &at);
    if (n != 7 || line[at] != '\0') return 0;
    char *end = NULL;
    out->ttft_ms = strtod(ms, &end);
    if (*end != '\0' || !(out->ttft_ms > 0 && out->ttft_ms < MOST_MS)) return 0;
    if (!whole_of(boards, UINT32_MAX, &n_boards) || !whole_of(tokens, UINT32_MAX, &n_tokens)) return 0;
    out->n_boards = (uint32_t)n_boards;
    out->n_tokens = (uint32_t)n_tokens;
    return whole_of(bytes, UINT64_MAX, &out->bytes_moved);
}

static int read_lines(FILE *file, paper_runs *runs, const char *path, const char *board) {
    char line[512], name[64];
    int is_this_board = 0;
    for (unsigned number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        line[strcspn(line, "\r\n")] = '\0';
        if (number == 1 && strcmp(line, FIRST_LINE) != 0)
            return say_error("%s: begins with something else than '" FIRST_LINE "': it is no file of runs", path);
        if (number == 1 || line[0] == '\0' || line[0] == '#') continue;
        if (sscanf(line, "board %63s", name) == 1) {
            is_this_board = strcmp(name, board) == 0;
            continue;
        }
        paper_run *run = &runs->runs[runs->n];
        if (runs->n == PAPER_RUNS_CAP) return say_error("%s: more than %d runs", path, PAPER_RUNS_CAP);
        if (!run_of(line, run))
            return say_error("%s, line %u: wants 'board NAME' or 'run MODEL NETWORK P TOKENS STRATEGY MS BYTES'", path,
                             number);
        runs->n += is_this_board;
    }
    if (ferror(file)) return say_error("cannot read %s; check the name", path);
    return EXIT_OK;
}

int paper_runs_read(paper_runs *runs, const char *path, const char *board) {
    FILE *file = fopen(path, "r");
    if (file == NULL) return say_error("cannot read %s: %s; check the name", path, strerror(errno));
    const int code = read_lines(file, runs, path, board);
    fclose(file);
    return code;
}

const paper_run *paper_runs_find(const paper_runs *runs, const char *model, const char *link, uint32_t n_boards,
                                 uint32_t n_tokens, const char *strategy) {
    for (uint32_t i = runs->n; i > 0; i--) {
        const paper_run *run = &runs->runs[i - 1];
        if (run->n_boards == n_boards && run->n_tokens == n_tokens && strcmp(run->model, model) == 0 &&
            strcmp(run->link, link) == 0 && strcmp(run->strategy, strategy) == 0)
            return run;
    }
    return NULL;
}
