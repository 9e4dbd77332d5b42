/*
 * One transformer layer (Llama: pre-norm, grouped-query attention, rotary positions, SiLU-gated feed-forward).
 * T tokens in the call, S in the cache, M model_dim, H heads, G KV heads, D head_dim, F ffn_dim, V vocabulary.
 */
#include "kvr_layer.h"

#include "kvr_error.h"

#define B (c->backend)
#define U (c->backend->user)

kvr_status kvri_layer_embed(const kvri_compute *c, const kvri_rows *r, const int32_t *ids) {
    return B->embed(U, kvri_work(&c->ids, KVRI_X, r->x_row), KVRI_EMBED, ids, r->rows);       /* x   [T][M] */
}

kvr_status kvri_layer_keys_values(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const kvr_model_info *m = c->info;
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    const kvr_view h = kvri_work(&c->ids, KVRI_H, 0);
    const kvr_view k = kvri_work(&c->ids, KVRI_K, 0);
    const kvr_view v = kvri_work(&c->ids, KVRI_V, 0);
    const kvr_view k_cache = {kvri_keys(&c->ids, layer), r->first_token};
    const kvr_view v_cache = {kvri_values(&c->ids, layer), r->first_token};
    const uint32_t T = r->rows;

    KVRI_TRY(B->rms_norm(U, h, x, kvri_weight(layer, KVRI_ATTN_NORM), T, m->norm_eps));       /* h   [T][M] */
    KVRI_TRY(B->matmul(U, k, kvri_weight(layer, KVRI_ATTN_K), h, T, r->path, 0));             /* k   [T][G][D] */
    KVRI_TRY(B->matmul(U, v, kvri_weight(layer, KVRI_ATTN_V), h, T, r->path, 0));             /* v   [T][G][D] */
    KVRI_TRY(B->rope(U, k, c->ids.freq, T, m->n_kv_heads, m->rope_dims, r->first_token));
    KVRI_TRY(B->store(U, k_cache, k, T));                                                     /* K   [S][G][D] */
    return B->store(U, v_cache, v, T);                                                        /* V   [S][G][D] */
}

kvr_status kvri_layer_attend(const kvri_compute *c, uint32_t layer, const kvri_rows *r, int normed) {
    const kvr_model_info *m = c->info;
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    const kvr_view h = kvri_work(&c->ids, KVRI_H, 0);
    const kvr_view q = kvri_work(&c->ids, KVRI_Q, 0);
    const kvr_view att = kvri_work(&c->ids, KVRI_ATT, 0);
    const kvr_view gate = kvri_work(&c->ids, KVRI_GATE, 0);
    const kvr_view up = kvri_work(&c->ids, KVRI_UP, 0);
    const uint32_t T = r->rows;

    if (!normed) KVRI_TRY(B->rms_norm(U, h, x, kvri_weight(layer, KVRI_ATTN_NORM), T, m->norm_eps));
    KVRI_TRY(B->matmul(U, q, kvri_weight(layer, KVRI_ATTN_Q), h, T, r->path, 0));             /* q   [T][H][D] */
    KVRI_TRY(B->rope(U, q, c->ids.freq, T, m->n_heads, m->rope_dims, r->first_token));
    KVRI_TRY(B->attention(U, att, q, kvri_keys(&c->ids, layer), kvri_values(&c->ids, layer), T, r->first_token));
    KVRI_TRY(B->matmul(U, x, kvri_weight(layer, KVRI_ATTN_OUT), att, T, r->path, 1));         /* x  += att . Wo^T */

    KVRI_TRY(B->rms_norm(U, h, x, kvri_weight(layer, KVRI_FFN_NORM), T, m->norm_eps));        /* h   [T][M] */
    KVRI_TRY(B->matmul(U, gate, kvri_weight(layer, KVRI_FFN_GATE), h, T, r->path, 0));        /* gate [T][F] */
    KVRI_TRY(B->matmul(U, up, kvri_weight(layer, KVRI_FFN_UP), h, T, r->path, 0));            /* up  [T][F] */
    KVRI_TRY(B->silu_mul(U, gate, up, T));
    return B->matmul(U, x, kvri_weight(layer, KVRI_FFN_DOWN), gate, T, r->path, 1);           /* x  += gate . Wd^T */
}

kvr_status kvri_layer_head(const kvri_compute *c, uint32_t x_row) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, x_row);
    const kvr_view h = kvri_work(&c->ids, KVRI_H, 0);
    const kvr_view logits = kvri_work(&c->ids, KVRI_LOGITS, 0);
    KVRI_TRY(B->rms_norm(U, h, x, KVRI_OUT_NORM, 1, c->info->norm_eps));                      /* h   [1][M] */
    return B->matmul(U, logits, c->head, h, 1, KVR_PATH_DECODE, 0);                           /* logits [1][V] */
}
