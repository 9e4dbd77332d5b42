/* Any bytes as a table of partitions: an error, or rows that add up, ascend, and give partitions for every length. */
#include "fuzz_target.h"

#include <string.h>

#include "kvr/kvr_cost.h"

static void predict(const kvr_table *t) {
    uint32_t lengths[8] = {1, 2, 17, 1000, 1u << 20, UINT32_MAX};
    lengths[6] = t->n_tokens[t->n_rows / 2];
    lengths[7] = t->n_tokens[0] + 1;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint32_t sizes[KVR_MAX_BOARDS];
        uint64_t sum = 0;
        if (lengths[i] == 0) continue;
        FUZZ_CHECK(kvr_table_predict(t, lengths[i], sizes) == KVR_OK);
        for (uint32_t r = 0; r < t->n_boards; r++) sum += sizes[r];
        FUZZ_CHECK(sum == lengths[i] && sizes[t->n_boards - 1] > 0);
    }
}

/* Every row as text again is the row that was read. */
static void write_rows(const kvr_table *t) {
    for (uint32_t i = 0; i < t->n_rows; i++) {
        char line[16 * (KVR_MAX_BOARDS + 1)];
        const uint32_t *sizes = t->sizes + (size_t)i * t->n_boards;
        uint64_t sum = 0;
        for (uint32_t r = 0; r < t->n_boards; r++) sum += sizes[r];
        FUZZ_CHECK(sum == t->n_tokens[i] && (i == 0 || t->n_tokens[i] > t->n_tokens[i - 1]));
        const size_t n = kvr_table_write_row(t->n_tokens[i], sizes, t->n_boards, line, sizeof line);
        FUZZ_CHECK(n > 4 && n < sizeof line && line[n - 1] == '\n');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* exactly as long as it is, so that one byte too far is seen */
    char *text = alloc_exact(size > 0 ? size : 1);
    if (size > 0) memcpy(text, data, size);
    const size_t most = (1 + KVR_MAX_BOARDS) * KVR_TABLE_ROWS * sizeof(uint32_t);
    kvr_error error = {0};
    kvr_table t;
    void *work = alloc_exact(most);
    const kvr_status status = kvr_table_read(text, size, work, most, &t, &error);
    FUZZ_CHECK((status == KVR_OK) == (error.status == KVR_OK));
    if (status == KVR_OK) {
        predict(&t);
        write_rows(&t);
        const size_t need = (KVR_TABLE_ROWS + (size_t)t.n_rows * t.n_boards) * sizeof(uint32_t);
        void *exact = alloc_exact(need);
        FUZZ_CHECK(kvr_table_read(text, size, exact, need, &t, NULL) == KVR_OK);
        FUZZ_CHECK(kvr_table_read(text, size, exact, need - 1, &t, NULL) == KVR_ERR_NOMEM);
        free(exact);
    } else {
        FUZZ_CHECK(error.status == status && error.text != NULL);
    }
    free(work);
    free(text);
    return 0;
}
