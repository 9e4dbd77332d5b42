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

typedef struct projection {
    kvr_view dst;
    kvri_tensor_kind weight, bias;
} projection;

/* Several times project, of the same rows. */
static kvr_status project_all(const kvri_compute *c, uint32_t layer, const kvri_rows *r, const projection *p,
                              uint32_t n, kvr_view src) {
    kvr_product products[KVR_BACKEND_PRODUCTS] = {{{0, 0}, 0}}; /* compilers do not see that n > 0 */
    if (r->path != KVR_PATH_DECODE || B->matmul_many == NULL) {
        for (uint32_t i = 0; i < n; i++) KVRI_TRY(project(c, layer, r, p[i].dst, src, p[i].weight, p[i].bias, 0));
        return KVR_OK;
    }
    for (uint32_t i = 0; i < n; i++) {
        products[i].dst = p[i].dst;
        products[i].weight = kvri_weight(c->weights, layer, p[i].weight);
    }
    KVRI_TRY(B->matmul_many(U, products, n, src));
    for (uint32_t i = 0; i < n; i++)
        if (has(c, p[i].bias)) KVRI_TRY(B->add_bias(U, p[i].dst, kvri_weight(c->weights, layer, p[i].bias), r->rows));
    return KVR_OK;
}

static const kvr_rope *rope_of(const kvri_compute *c, uint32_t layer) {
    return &c->rope[kvri_layer_has_window(c->traits, layer) ? KVRI_ROPE_LOCAL : KVRI_ROPE_GLOBAL];
}

/* A norm per head, where there is one. */
static kvr_status head_norm(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view x,
                            kvri_tensor_kind weight) {
    return has(c, weight) ? norm(c, layer, x, x, weight, KVRI_NO_KIND, r->rows, 0) : KVR_OK;
}

/* Rows whose places in the cache follow each other. */
static kvr_status place_run(const kvri_compute *c, const kvr_rope *rope, const kvr_place *p, uint32_t rows,
                            uint32_t first_token) {
    if (B->place != NULL) return B->place(U, p, rope, rows, first_token);
    if (p->q.tensor != KVR_NO_TENSOR) KVRI_TRY(B->rope(U, p->q, rope, rows, p->n_heads, first_token));
    KVRI_TRY(B->rope(U, p->k, rope, rows, p->n_kv_heads, first_token));
    KVRI_TRY(B->store(U, p->k_cache, p->k, rows));                                                  /* K   [S][G][D] */
    return B->store(U, p->v_cache, p->v, rows);                                                     /* V   [S][G][D] */
}

/* Queries and keys are rotated, keys and values go into the cache, where a ring may begin again among them. */
static kvr_status place(const kvri_compute *c, uint32_t layer, const kvri_rows *r, kvr_view q) {
    const uint32_t S = kvri_kv_rows(&c->ids, c->traits, layer);
    for (uint32_t t = 0, n; t < r->rows; t += n) {
        const uint32_t token = r->first_token + t;
        const kvr_place p = {{q.tensor, q.row + t}, {at(c, KVRI_K).tensor, t}, {at(c, KVRI_V).tensor, t},
                             {kvri_keys(&c->ids, layer), token % S}, {kvri_values(&c->ids, layer), token % S},
                             c->info->n_heads, c->info->n_kv_heads};
        n = kvri_kv_run(S, token, r->rows - t);
        KVRI_TRY(place_run(c, rope_of(c, layer), &p, n, token));
    }
    return KVR_OK;
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

/* 1: queries are made together with keys and values. Of a prompt they cannot be kept until its keys have come: a chunk
 * has more rows than the work tensors. */
static int has_queries(const kvri_rows *r) { return r->path == KVR_PATH_DECODE; }

kvr_status kvri_layer_keys_values(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const projection kvq[] = {{at(c, KVRI_K), KVRI_ATTN_K, KVRI_ATTN_K_BIAS},                       /* k   [T][G][D] */
                              {at(c, KVRI_V), KVRI_ATTN_V, KVRI_ATTN_V_BIAS},                       /* v   [T][G][D] */
                              {at(c, KVRI_Q), KVRI_ATTN_Q, KVRI_ATTN_Q_BIAS}};                      /* q   [T][H][D] */
    const kvr_view none = {KVR_NO_TENSOR, 0};
    const int with_q = has_queries(r);

    KVRI_TRY(attention_norm(c, layer, r));                                                          /* h   [T][M] */
    KVRI_TRY(project_all(c, layer, r, kvq, with_q ? 3 : 2, at(c, KVRI_H)));
    if (with_q) KVRI_TRY(head_norm(c, layer, r, kvq[2].dst, KVRI_ATTN_Q_NORM));
    KVRI_TRY(head_norm(c, layer, r, kvq[0].dst, KVRI_ATTN_K_NORM));
    return place(c, layer, r, with_q ? kvq[2].dst : none);
}

/* h: the feed-forward's input. */
static kvr_status feed_forward(const kvri_compute *c, uint32_t layer, const kvri_rows *r) {
    const kvr_view none = {KVR_NO_TENSOR, 0};
    const kvr_view h = at(c, KVRI_H), up = at(c, KVRI_UP), gate = has(c, KVRI_FFN_GATE) ? at(c, KVRI_GATE) : up;
    const kvr_activation activation = c->traits->arch->activation;
    const projection both[] = {{up, KVRI_FFN_UP, KVRI_NO_KIND}, {gate, KVRI_FFN_GATE, KVRI_NO_KIND}}; /* [T][F] */
    KVRI_TRY(project_all(c, layer, r, both, has(c, KVRI_FFN_GATE) ? 2 : 1, h));
    KVRI_TRY(B->activate(U, gate, has(c, KVRI_FFN_GATE) ? up : none, activation, r->rows));
    return close_branch(c, layer, r, gate, KVRI_FFN_DOWN, KVRI_NO_KIND, KVRI_POST_FFN_NORM);        /* x  += . Wd^T */
}

/*
 * The products of these rows with the keys behind them, which a mask throws away: the work of TSP, not of the chain.
 * Row t of n at position F leaves C - F - 1 - t of C keys out. Operators never visit those, so the same number of
 * products is computed by a call whose rows attend C - F - n .. C - F - 1 keys, in the other order; its result is
 * overwritten.
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
    if (!has_queries(r)) {
        KVRI_TRY(project(c, layer, r, q, h, KVRI_ATTN_Q, KVRI_ATTN_Q_BIAS, 0));                     /* q   [T][H][D] */
        KVRI_TRY(head_norm(c, layer, r, q, KVRI_ATTN_Q_NORM));
        KVRI_TRY(B->rope(U, q, rope_of(c, layer), T, c->info->n_heads, r->first_token));
    }
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
