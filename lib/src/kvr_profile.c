#include "kvr/kvr_profile.h"

#include "kvr_checked.h"
#include "kvr_fields.h"

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof(a)[0])
#define TEXT(type, name, n) {#name, KVRI_FIELD_TEXT, offsetof(type, name), n, 0, 0, 0}
#define WHOLE(type, name, low, high) {#name, KVRI_FIELD_U32, offsetof(type, name), 0, low, high, 0}
#define REAL(type, name, low, high) {#name, KVRI_FIELD_REAL, offsetof(type, name), 0, low, high, 0}
#define REAL_OR_0(type, name, low, high) {#name, KVRI_FIELD_REAL, offsetof(type, name), 0, low, high, 1}

/* Ranges: from a microcontroller to a data centre, and small enough that no product of them overflows. */
static const kvri_field BOARD[] = {
    TEXT(kvr_board_profile, name, KVR_PROFILE_NAME),
    TEXT(kvr_board_profile, source, KVR_PROFILE_SOURCE),
    WHOLE(kvr_board_profile, measured, 0, 1),
    WHOLE(kvr_board_profile, attention_tile, 0, 1u << 20),
    REAL(kvr_board_profile, dense_gmacs, 1e-6, 1e9),
    REAL(kvr_board_profile, attention_gmacs, 1e-6, 1e9),
    REAL(kvr_board_profile, memory_gbs, 1e-6, 1e9),
    REAL(kvr_board_profile, score_bytes, 0, 1e3),
    REAL(kvr_board_profile, call_us, 0, 1e6),
    REAL(kvr_board_profile, frame_gbs, 0, 1e9),
    REAL(kvr_board_profile, prompt_us, 0, 1e9),
};
static const kvri_field LINK[] = {
    TEXT(kvr_link_profile, name, KVR_PROFILE_NAME),
    TEXT(kvr_link_profile, source, KVR_PROFILE_SOURCE),
    REAL(kvr_link_profile, mbit, 0.1, 1e9),
    REAL(kvr_link_profile, latency_us, 0, 1e7),
    REAL(kvr_link_profile, message_us, 0, 1e6),
    REAL_OR_0(kvr_link_profile, slow_chance, 0, 1),
    REAL_OR_0(kvr_link_profile, slow_factor, 0.01, 1),
    REAL_OR_0(kvr_link_profile, period_ms, 1, 1e6),
};
static const kvri_field GEOMETRY[] = {
    TEXT(kvr_geometry, name, KVR_PROFILE_NAME),
    TEXT(kvr_geometry, source, KVR_PROFILE_SOURCE),
    WHOLE(kvr_geometry, n_layers, 1, 1024),
    WHOLE(kvr_geometry, model_dim, 1, 1u << 17),
    WHOLE(kvr_geometry, ffn_dim, 1, 1u << 19),
    WHOLE(kvr_geometry, n_heads, 1, 4096),
    WHOLE(kvr_geometry, n_kv_heads, 1, 4096),
    WHOLE(kvr_geometry, head_dim, 1, 4096),
    WHOLE(kvr_geometry, n_vocab, 1, 1u << 24),
    WHOLE(kvr_geometry, ffn_products, 2, 3),
    REAL(kvr_geometry, weight_bytes, 0.01, 8),
};

kvr_status kvr_board_profile_read(const char *text, size_t bytes, kvr_board_profile *out, kvr_error *error) {
    kvri_lines lines;
    kvr_board_profile p;
    memset(&p, 0, sizeof p);
    KVRI_TRY(kvri_lines_begin(&lines, text, bytes, KVR_PROFILE_MAX_BYTES, "kvr-board", error));
    KVRI_TRY(kvri_fields_read(&lines, BOARD, COUNT(BOARD), &p, "board profile", error));
    *out = p;
    return KVR_OK;
}

int kvr_board_profile_valid(const kvr_board_profile *profile) {
    for (size_t i = 0; i < COUNT(BOARD); i++) {
        const uint8_t *at = (const uint8_t *)profile + BOARD[i].offset;
        uint32_t whole = 0;
        double value = BOARD[i].low;
        if (BOARD[i].kind == KVRI_FIELD_U32) {
            memcpy(&whole, at, sizeof whole);
            value = whole;
        }
        if (BOARD[i].kind == KVRI_FIELD_REAL) memcpy(&value, at, sizeof value);
        if (!(value >= BOARD[i].low && value <= BOARD[i].high)) return 0; /* not a number is in no range */
    }
    return 1;
}

kvr_status kvr_link_profile_read(const char *text, size_t bytes, kvr_link_profile *out, kvr_error *error) {
    kvri_lines lines;
    kvr_link_profile p;
    memset(&p, 0, sizeof p);
    KVRI_TRY(kvri_lines_begin(&lines, text, bytes, KVR_PROFILE_MAX_BYTES, "kvr-link", error));
    KVRI_TRY(kvri_fields_read(&lines, LINK, COUNT(LINK), &p, "link profile", error));
    if (p.slow_chance > 0 && (p.slow_factor <= 0 || p.period_ms <= 0))
        return kvri_fail(error, KVR_ERR_KEY, "link profile", "slow_chance wants slow_factor and period_ms beside it");
    *out = p;
    return KVR_OK;
}

kvr_status kvr_geometry_read(const char *text, size_t bytes, kvr_geometry *out, kvr_error *error) {
    kvri_lines lines;
    kvr_geometry g;
    memset(&g, 0, sizeof g);
    KVRI_TRY(kvri_lines_begin(&lines, text, bytes, KVR_PROFILE_MAX_BYTES, "kvr-geometry", error));
    KVRI_TRY(kvri_fields_read(&lines, GEOMETRY, COUNT(GEOMETRY), &g, "geometry", error));
    if (g.n_kv_heads > g.n_heads)
        return kvri_fail_n(error, KVR_ERR_KEY, "geometry", "more n_kv_heads than n_heads", g.n_heads, g.n_kv_heads);
    *out = g;
    return KVR_OK;
}

/* Weights of a model of this shape, norms and biases aside. */
static double weights_of(const kvr_model_info *i, double ffn_products) {
    const double M = i->model_dim;
    const double layer = M * i->head_dim * (2.0 * i->n_heads + 2.0 * i->n_kv_heads) + ffn_products * M * i->ffn_dim;
    return i->n_layers * layer + (i->tied_head ? 1 : 2) * M * i->n_vocab;
}

static double distance(double a, double b) { return a > b ? a - b : b - a; }

kvr_status kvr_geometry_of(const kvr_model_info *info, kvr_geometry *out) {
    if (info->n_layers == 0 || info->n_params == 0) return KVR_ERR_UNSUPPORTED;
    memset(out, 0, sizeof *out);
    const char *name = info->name[0] != '\0' ? info->name : info->architecture;
    memcpy(out->name, name, (size_t)kvri_min(sizeof out->name - 1, strlen(name)));
    static const char source[] = "model file";
    memcpy(out->source, source, sizeof source);
    out->n_layers = info->n_layers;
    out->model_dim = info->model_dim;
    out->ffn_dim = info->ffn_dim;
    out->n_heads = info->n_heads;
    out->n_kv_heads = info->n_kv_heads;
    out->head_dim = info->head_dim;
    out->n_vocab = info->n_vocab;
    /* with or without a gate: a whole matrix per layer, so the number of weights tells */
    const double n = (double)info->n_params;
    out->ffn_products = distance(weights_of(info, 2), n) < distance(weights_of(info, 3), n) ? 2 : 3;
    out->weight_bytes = (double)info->weight_bytes / (double)info->n_params;
    return KVR_OK;
}

size_t kvr_board_profile_write(const kvr_board_profile *profile, char *out, size_t cap) {
    kvri_writer w = {out, cap, 0, 0};
    kvri_write_text(&w, "kvr-board 1\n");
    kvri_fields_write(&w, BOARD, COUNT(BOARD), profile);
    return w.full ? 0 : w.n;
}
