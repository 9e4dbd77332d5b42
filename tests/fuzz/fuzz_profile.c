/* Any bytes as a profile or a geometry: an error, or values in their ranges that the cost model can work with. */
#include "fuzz_target.h"

#include "kvr/kvr_cost.h"

#include <math.h>
#include <string.h>

static void try_board(const char *text, size_t size) {
    kvr_board_profile p, again;
    kvr_error error;
    memset(&error, 0, sizeof error);
    const kvr_status status = kvr_board_profile_read(text, size, &p, &error);
    FUZZ_CHECK((status == KVR_OK) == (error.status == KVR_OK));
    if (status != KVR_OK) return;
    FUZZ_CHECK(isfinite(p.dense_gmacs) && p.dense_gmacs > 0 && p.memory_gbs > 0 && p.attention_gmacs > 0);
    FUZZ_CHECK(memchr(p.name, 0, sizeof p.name) != NULL && memchr(p.source, 0, sizeof p.source) != NULL);
    char out[2048];
    const size_t n = kvr_board_profile_write(&p, out, sizeof out);
    FUZZ_CHECK(n > 0);
    /* numbers far below their range's other end may be written as 0, which some fields refuse */
    if (kvr_board_profile_read(out, n, &again, NULL) == KVR_OK) FUZZ_CHECK(strcmp(again.name, p.name) == 0);
}

static void try_link_and_geometry(const char *text, size_t size) {
    kvr_link_profile l;
    kvr_geometry g;
    if (kvr_link_profile_read(text, size, &l, NULL) == KVR_OK) FUZZ_CHECK(l.mbit > 0 && l.slow_chance <= 1);
    if (kvr_geometry_read(text, size, &g, NULL) == KVR_OK) FUZZ_CHECK(g.n_layers > 0 && g.n_kv_heads <= g.n_heads);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* exactly as long as it is, so that one byte too far is seen */
    char *text = alloc_exact(size > 0 ? size : 1);
    if (size > 0) memcpy(text, data, size);
    try_board(text, size);
    try_link_and_geometry(text, size);
    free(text);
    return 0;
}
