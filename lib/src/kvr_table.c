/* KVR-P: searched partitions as text, and between them. */
#include "kvr/kvr_cost.h"

#include "kvr_checked.h"
#include "kvr_fields.h"

#include <string.h>

#define MODULE "table"
#define MAX_TABLE_BYTES (1u << 20)

/* Checks one row and appends it. sizes: the place for it. */
static kvr_status read_row(kvri_word rest, kvr_table *t, uint32_t *n_tokens, uint32_t *sizes, kvr_error *error) {
    kvri_word word;
    uint32_t tokens = 0;
    uint64_t sum = 0;
    if (t->n_rows == KVR_TABLE_ROWS)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "too many rows", KVR_TABLE_ROWS, 0);
    if (!kvri_word_next(&rest, &word) || !kvri_word_u32(word, &tokens) || tokens == 0)
        return kvri_fail(error, KVR_ERR_CORRUPT, MODULE, "a row must begin with its prompt tokens");
    if (t->n_rows > 0 && tokens <= n_tokens[t->n_rows - 1])
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "rows must ascend; wanted = the row's tokens", tokens, 0);
    for (uint32_t r = 0; r < t->n_boards; r++) {
        if (!kvri_word_next(&rest, &word) || !kvri_word_u32(word, &sizes[r]))
            return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE,
                               "a row wants a size for every board; wanted = its tokens", tokens, 0);
        sum += sizes[r];
    }
    if (rest.n != 0)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE, "a row has more sizes than boards; wanted = its tokens",
                           tokens, 0);
    if (sum != tokens || sizes[t->n_boards - 1] == 0)
        return kvri_fail_n(error, KVR_ERR_CORRUPT, MODULE,
                           "a row's sizes must add up to its tokens, the last board's above 0; had = their sum", tokens,
                           sum);
    n_tokens[t->n_rows++] = tokens;
    return KVR_OK;
}

static kvr_status read_boards(kvri_word rest, kvr_table *t, kvr_error *error) {
    kvri_word word;
    uint32_t names = 0;
    if (t->n_boards != 0 || !kvri_word_next(&rest, &word) || !kvri_word_u32(word, &t->n_boards) || t->n_boards < 1 ||
        t->n_boards > KVR_MAX_BOARDS)
        return kvri_fail(error, KVR_ERR_KEY, MODULE,
                         "one line 'boards' with their number, 1..64, and their names is wanted");
    while (kvri_word_next(&rest, &word)) names++;
    if (names != t->n_boards)
        return kvri_fail_n(error, KVR_ERR_KEY, MODULE, "the line 'boards' wants a name for each", t->n_boards, names);
    return KVR_OK;
}

kvr_status kvr_table_read(const char *text, size_t bytes, void *work, size_t work_bytes, kvr_table *out,
                          kvr_error *error) {
    kvri_lines lines;
    kvri_word key, rest;
    kvr_table t;
    uint32_t *n_tokens = work, *sizes = NULL;
    memset(&t, 0, sizeof t);
    if (work == NULL || out == NULL) return kvri_fail(error, KVR_ERR_ARG, MODULE, "work and out must not be NULL");
    KVRI_TRY(kvri_lines_begin(&lines, text, bytes, MAX_TABLE_BYTES, "kvr-table", error));
    while (kvri_lines_next(&lines, &key, &rest)) {
        if (kvri_word_is(key, "geometry") || kvri_word_is(key, "links")) continue; /* for people */
        if (kvri_word_is(key, "boards")) {
            KVRI_TRY(read_boards(rest, &t, error));
            sizes = n_tokens + KVR_TABLE_ROWS;
            continue;
        }
        if (!kvri_word_is(key, "row"))
            return kvri_fail_s(error, KVR_ERR_KEY, MODULE, "no line of this file; remove it", key.at, key.n);
        if (t.n_boards == 0)
            return kvri_fail(error, KVR_ERR_CORRUPT, MODULE,
                             "a row before the line 'boards'; the file was edited: search again");
        const uint64_t need = (KVR_TABLE_ROWS + (uint64_t)(t.n_rows + 1) * t.n_boards) * sizeof *sizes;
        if (need > work_bytes)
            return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE, "give more working memory for the rows", need, work_bytes);
        KVRI_TRY(read_row(rest, &t, n_tokens, sizes + (size_t)t.n_rows * t.n_boards, error));
    }
    if (t.n_rows == 0) return kvri_fail(error, KVR_ERR_CORRUPT, MODULE, "no row in it; search again");
    t.n_tokens = n_tokens;
    t.sizes = sizes;
    *out = t;
    return KVR_OK;
}

size_t kvr_table_write_row(uint32_t n_tokens, const uint32_t *sizes, uint32_t n_boards, char *out, size_t cap) {
    kvri_writer w = {out, cap, 0, 0};
    kvri_write_text(&w, "row ");
    kvri_write_u64(&w, n_tokens);
    for (uint32_t r = 0; r < n_boards; r++) {
        kvri_write_text(&w, " ");
        kvri_write_u64(&w, sizes[r]);
    }
    kvri_write_text(&w, "\n");
    return w.full ? 0 : w.n;
}

kvr_status kvr_table_predict(const kvr_table *table, uint32_t n_tokens, uint32_t *out_sizes) {
    const uint32_t P = table->n_boards;
    uint32_t above = 0, given = 0;
    if (n_tokens == 0) return KVR_ERR_PARTITION;
    while (above < table->n_rows && table->n_tokens[above] < n_tokens) above++;
    const uint32_t hi = above < table->n_rows ? above : table->n_rows - 1;
    const uint32_t lo = above > 0 ? above - 1 : 0;
    const uint32_t *a = table->sizes + (size_t)lo * P, *b = table->sizes + (size_t)hi * P;
    const double at_a = table->n_tokens[lo], at_b = table->n_tokens[hi];
    double share_b = hi == lo ? 1 : (n_tokens - at_a) / (at_b - at_a), at = 0;
    if (share_b > 1) share_b = 1;
    for (uint32_t r = 0; r + 1 < P; r++) {
        at += a[r] / at_a * (1 - share_b) + b[r] / at_b * share_b;
        uint32_t cut = (uint32_t)(at * n_tokens + 0.5);
        if (cut > n_tokens - 1) cut = n_tokens - 1; /* the lead's token */
        out_sizes[r] = cut - given;
        given = cut;
    }
    out_sizes[P - 1] = n_tokens - given;
    return KVR_OK;
}
