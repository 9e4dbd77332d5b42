/*
 * One transformer layer: pre-norm, grouped-query attention with rotary positions, gated or plain feed-forward, one
 * after the other or side by side. What a model does not have (a bias, a norm per head, a norm behind a branch) its
 * file has no tensor for, and the step is skipped; the rest of the differences is in kvri_arch and kvri_traits.
 * T tokens in the call, S in the cache, M model_dim, H heads, G KV heads, D head_dim, F ffn_dim, V vocabulary.
 */
#include "kvr_layer.h"

#include "kvr_error.h"

#define B (c->backend)
#define U (c->backend->user)

void kvri_compute_init(kvri_compute *c, const kvr_model *model, const kvr_plan *plan, const kvr_backend *backend) {
    c->backend = backend;
    c->info = &model->info;
    c->traits = &model->traits;
    c->weights = &model->weights;
    c->ids = kvri_layout_ids(model, plan);
    for (uint32_t set = 0; set < KVRI_ROPE_SETS; set++) {
        c->rope[set].freq = c->ids.freq + (set < c->ids.n_freq ? set : 0);
        c->rope[set].dims = model->info.rope_dims;
        c->rope[set].style = model->traits.arch->rope;
        c->rope[set].magnitude = kvri_rope_magnitude(model, (int)set);
    }
}

static int has(const kvri_compute *c, kvri_tensor_kind kind) { return c->weights->at[kind] != KVR_NO_TENSOR; }

static kvr_view at(const kvri_compute *c, kvri_work_tensor which) { return kvri_work(&c->ids, which, 0); }

/* dst = norm(src), added to dst with add. */
static kvr_status norm(const kvri_compute *c, uint32_t layer, kvr_view dst, kvr_view src, kvri_tensor_kind weight,
                       kvri_tensor_kind bias, uint32_t T, int add) {
    const kvr_norm how = {kvri_weight(c->weights, layer, weight), kvri_weight(c->weights, layer, bias),
                          c->traits->arch->norm, c->info->norm_eps, add};
    return B->norm(U, dst, src, &how, T);
}

/* dst = src . W^T + bias; with add: dst += that. */
static kvr_status project(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view dst, kvr_view src,
                          kvri_tensor_kind weight, kvri_tensor_kind bias, int add) {
    KVRI_TRY(B->matmul(U, dst, kvri_weight(c->weights, layer, weight), src, r->rows, r->path, add));
    return has(c, bias) ? B->add_bias(U, dst, kvri_weight(c->weights, layer, bias), r->rows) : KVR_OK;
}

/* Queries or keys to their places: a norm per head where there is one, then the rotation. */
static kvr_status place_heads(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view x, uint32_t n_heads,
                              kvri_tensor_kind head_norm) {
    const int set = kvri_layer_has_window(c->traits, layer) ? KVRI_ROPE_LOCAL : KVRI_ROPE_GLOBAL;
    if (has(c, head_norm)) KVRI_TRY(norm(c, layer, x, x, head_norm, KVRI_NO_KIND, r->rows, 0));
    return B->rope(U, x, &c->rope[set], r->rows, n_heads, r->first_token);
}

/* h = what attention reads. */
static kvr_status attention_norm(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    const int own = has(c, KVRI_ATTN_NORM_2);
    return norm(c, layer, at(c, KVRI_H), x, own ? KVRI_ATTN_NORM_2 : KVRI_ATTN_NORM,
                own ? KVRI_ATTN_NORM_2_BIAS : KVRI_ATTN_NORM_BIAS, r->rows, 0);
}

/* x += the branch's result, through a norm where there is one behind it. */
static kvr_status close_branch(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view branch,
                               kvri_tensor_kind weight, kvri_tensor_kind bias, kvri_tensor_kind post_norm) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    const kvr_view h = at(c, KVRI_H);
    if (!has(c, post_norm)) return project(c, layer, r, x, branch, weight, bias, 1);
    KVRI_TRY(project(c, layer, r, h, branch, weight, bias, 0));
    return norm(c, layer, x, h, post_norm, KVRI_NO_KIND, r->rows, 1);
}

kvr_status kvri_layer_embed(const kvri_compute *c, const kvri_rows *r, const int32_t *ids) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    KVRI_TRY(B->embed(U, x, kvri_weight(c->weights, 0, KVRI_EMBED), ids, r->rows));                 /* x   [T][M] */
    return c->traits->embed_scale != 1.0f ? B->scale(U, x, c->traits->embed_scale, 0.0f, r->rows) : KVR_OK;
}

kvr_status kvri_layer_keys_values(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const kvr_view h = at(c, KVRI_H), k = at(c, KVRI_K), v = at(c, KVRI_V);
    const kvr_view k_cache = {kvri_keys(&c->ids, layer), r->first_token};
    const kvr_view v_cache = {kvri_values(&c->ids, layer), r->first_token};

    KVRI_TRY(attention_norm(c, layer, r));                                                          /* h   [T][M] */
    KVRI_TRY(project(c, layer, r, k, h, KVRI_ATTN_K, KVRI_ATTN_K_BIAS, 0));                         /* k   [T][G][D] */
    KVRI_TRY(project(c, layer, r, v, h, KVRI_ATTN_V, KVRI_ATTN_V_BIAS, 0));                         /* v   [T][G][D] */
    KVRI_TRY(place_heads(c, layer, r, k, c->info->n_kv_heads, KVRI_ATTN_K_NORM));
    KVRI_TRY(B->store(U, k_cache, k, r->rows));                                                     /* K   [S][G][D] */
    return B->store(U, v_cache, v, r->rows);                                                        /* V   [S][G][D] */
}

/* h: the feed-forward's input. */
static kvr_status feed_forward(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const kvr_view none = {KVR_NO_TENSOR, 0};
    const kvr_view h = at(c, KVRI_H), up = at(c, KVRI_UP), gate = has(c, KVRI_FFN_GATE) ? at(c, KVRI_GATE) : up;
    const kvr_activation activation = c->traits->arch->activation;
    if (has(c, KVRI_FFN_GATE))
        KVRI_TRY(project(c, layer, r, gate, h, KVRI_FFN_GATE, KVRI_NO_KIND, 0));                    /* gate [T][F] */
    KVRI_TRY(project(c, layer, r, up, h, KVRI_FFN_UP, KVRI_NO_KIND, 0));                            /* up  [T][F] */
    KVRI_TRY(B->activate(U, gate, has(c, KVRI_FFN_GATE) ? up : none, activation, r->rows));
    return close_branch(c, layer, r, gate, KVRI_FFN_DOWN, KVRI_NO_KIND, KVRI_POST_FFN_NORM);        /* x  += . Wd^T */
}

/*
 * The products of these rows with the keys behind them, which a mask throws away: the work of TSP, not of the chain. Row
 * t of n at position F leaves C - F - 1 - t of C keys out. Operators never visit those, so the same number of products is
 * computed by a call whose rows attend C - F - n .. C - F - 1 keys, in the other order; its result is overwritten.
 */
static kvr_status masked_products(const kvri_compute *c, const kvri_rows *r, kvr_view att, kvr_view q, uint32_t k,
                                  uint32_t v, kvr_attention how) {
    const uint32_t behind = r->square_tokens - r->first_token - r->rows; /* keys after the last row */
    how.window = 0;
    if (behind > 0) return B->attention(U, att, q, k, v, &how, r->rows, behind - 1);
    return r->rows > 1 ? B->attention(U, att, q, k, v, &how, r->rows - 1, 0) : KVR_OK; /* one row leaves none out */
}

static kvr_status attention(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view att, kvr_view q) {
    const uint32_t k = kvri_keys(&c->ids, layer), v = kvri_values(&c->ids, layer);
    const kvr_attention how = {c->traits->attn_scale, c->traits->attn_soft_cap,
                               kvri_layer_has_window(c->traits, layer) ? c->traits->window : 0, r->path};
    if (r->square_tokens != 0 && B->attention_square != NULL)
        return B->attention_square(U, att, q, k, v, &how, r->rows, r->first_token, r->square_tokens);
    if (r->square_tokens != 0) KVRI_TRY(masked_products(c, r, att, q, k, v, how));
    return B->attention(U, att, q, k, v, &how, r->rows, r->first_token);
}

kvr_status kvri_layer_attend(const kvri_compute *c, uint32_t layer, const kvri_rows *r, int normed) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, r->x_row);
    const kvr_view h = at(c, KVRI_H), q = at(c, KVRI_Q), att = at(c, KVRI_ATT);
    const int parallel = c->traits->arch->parallel;
    const uint32_t T = r->rows;

    if (!normed) KVRI_TRY(attention_norm(c, layer, r));                                             /* h   [T][M] */
    KVRI_TRY(project(c, layer, r, q, h, KVRI_ATTN_Q, KVRI_ATTN_Q_BIAS, 0));                         /* q   [T][H][D] */
    KVRI_TRY(place_heads(c, layer, r, q, c->info->n_heads, KVRI_ATTN_Q_NORM));
    KVRI_TRY(attention(c, layer, r, att, q));                                                       /* att [T][H][D] */
    /* side by side: the feed-forward reads x as it is before attention is added, through h or a norm of its own */
    if (parallel && has(c, KVRI_ATTN_NORM_2))
        KVRI_TRY(norm(c, layer, h, x, KVRI_ATTN_NORM, KVRI_ATTN_NORM_BIAS, T, 0));                  /* h   [T][M] */
    KVRI_TRY(close_branch(c, layer, r, att, KVRI_ATTN_OUT, KVRI_ATTN_OUT_BIAS, KVRI_POST_ATTN_NORM)); /* x += . Wo^T */
    if (!parallel) KVRI_TRY(norm(c, layer, h, x, KVRI_FFN_NORM, KVRI_NO_KIND, T, 0));              /* h   [T][M] */
    return feed_forward(c, layer, r);
}

kvr_status kvri_layer_head(const kvri_compute *c, uint32_t x_row) {
    const kvr_view x = kvri_work(&c->ids, KVRI_X, x_row);
    const kvr_view h = at(c, KVRI_H), logits = at(c, KVRI_LOGITS);
    const kvri_rows one = {x_row, 1, 0, KVR_PATH_DECODE, 0};
    KVRI_TRY(norm(c, 0, h, x, KVRI_OUT_NORM, KVRI_OUT_NORM_BIAS, 1, 0));                            /* h   [1][M] */
    KVRI_TRY(project(c, 0, &one, logits, h, has(c, KVRI_HEAD) ? KVRI_HEAD : KVRI_EMBED, KVRI_NO_KIND, 0)); /* [1][V] */
    return c->traits->logit_soft_cap != 0.0f ? B->scale(U, logits, 1.0f, c->traits->logit_soft_cap, 1) : KVR_OK;
}
