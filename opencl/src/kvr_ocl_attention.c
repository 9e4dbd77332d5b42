/*
 * kvr_ocl_attention.c - attention: tiles of rows for prompts, parts of the context for a single row.
 */
#include "kvr_ocl.h"

#include "kvr_checked.h"

#define SPLIT 256u /* KVR_SPLIT of common.cl */
#define HEADS 8u   /* KVR_HEADS of attention_one.cl */

/* In launches of few rows: on a CPU driver a transfer gets its turn between two launches, and K, V frames that arrive
 * must not wait for a whole batch. */
#define ROWS 32u

static uint64_t pad8(uint64_t value) {
    return kvri_ceil_div(value, 8) * 8;
}

/* Query vectors of a work-item of attention_tile.cl: enough that converting a block of keys costs little beside its
 * use, few enough for private memory and for all compute units to get work. */
uint32_t kvri_ocl_attention_queries(uint32_t head_dim) {
    return head_dim <= 128 ? 128 : (uint32_t)pad8(8192 / head_dim);
}

static uint32_t queries_per_item(const kvr_opencl *cl, uint32_t rows) {
    const kvri_ocl_session *session = cl->session;
    const uint64_t items = 4ull * (cl->info.compute_units == 0 ? 1 : cl->info.compute_units);
    const uint64_t even = pad8(kvri_ceil_div((uint64_t)rows * session->n_heads, items));
    return (uint32_t)kvri_min(even < 16 ? 16 : even, kvri_ocl_attention_queries(session->head_dim));
}

static uint64_t most_splits(uint32_t ctx_tokens) {
    return kvri_ceil_div(ctx_tokens, SPLIT) + 1u; /* a window may begin inside its first */
}

uint64_t kvri_ocl_attention_scratch(const kvr_backend_need *need) {
    return most_splits(need->ctx_tokens) * need->n_heads * (need->head_dim + 2ull) * sizeof(cl_float);
}

/* Which kernel depends on the model alone, so that a row's bits do not depend on its place. */
static uint32_t tile_kernel(const kvr_opencl *cl, const kvr_attention *how, uint32_t type) {
    const int limited = how->soft_cap != 0.0f || (how->window != 0 && how->window < cl->session->ctx_tokens);
    return (limited ? KVRI_OCL_ATTENTION_LIMITED : KVRI_OCL_ATTENTION) + type;
}

static void common_args(kvri_ocl_call *call, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, uint32_t rows) {
    const kvri_ocl_session *session = call->cl->session;
    kvri_ocl_call_view(call, q);
    kvri_ocl_call_mem(call, session->tensors[k].buffer);
    kvri_ocl_call_mem(call, session->tensors[v].buffer);
    kvri_ocl_call_view(call, dst);
    kvri_ocl_call_u32(call, session->n_heads);
    kvri_ocl_call_u32(call, session->n_kv_heads);
    kvri_ocl_call_u32(call, rows);
}

static kvr_status put_rows(kvr_opencl *cl, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                           uint32_t rows, uint32_t first_token) {
    const kvri_ocl_session *session = cl->session;
    const uint32_t group = session->n_heads / session->n_kv_heads;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, tile_kernel(cl, how, session->tensors[k].type));
    uint64_t x = session->n_heads;
    uint64_t y = rows;
    common_args(&call, dst, q, k, v, rows);
    kvri_ocl_call_u32(&call, first_token);
    kvri_ocl_call_f32(&call, how->scale);
    kvri_ocl_call_f32(&call, how->soft_cap);
    kvri_ocl_call_u32(&call, how->window == 0 ? UINT32_MAX : how->window);
    kvri_ocl_call_u32(&call, session->tensors[k].rows);
    if (cl->limits.is_cpu) {
        const uint32_t per_item = queries_per_item(cl, rows);
        kvri_ocl_call_u32(&call, per_item);
        x = session->n_kv_heads;
        y = kvri_ceil_div((uint64_t)rows * group, per_item);
    }
    return kvri_ocl_call_run(&call, x, y, "attention could not be enqueued");
}

/* A head of the result can be quantised by itself. */
static int in_blocks(const kvr_opencl *cl) {
    return cl->session->head_dim % 32u == 0;
}

static kvr_status put_merge(kvr_opencl *cl, kvr_view dst, uint32_t splits, uint32_t stats_at, uint32_t rows) {
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_ATTENTION_MERGE);
    kvri_ocl_call_mem(&call, cl->session->scratch[KVRI_OCL_PARTIAL]);
    kvri_ocl_call_u32(&call, stats_at);
    kvri_ocl_call_u32(&call, splits);
    kvri_ocl_call_u32(&call, cl->session->n_heads);
    kvri_ocl_call_view(&call, dst);
    kvri_ocl_call_u32(&call, rows);
    kvri_ocl_matmul_bytes_args(&call, dst, rows, in_blocks(cl));
    return kvri_ocl_call_run(&call, cl->session->n_heads, 1, "attention_merge could not be enqueued");
}

/* rows: 1, or 0 to warm up. */
static kvr_status put_one(kvr_opencl *cl, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                          uint32_t rows, uint32_t token) {
    const kvri_ocl_session *session = cl->session;
    const uint32_t end = token + 1u;
    const uint32_t start = how->window != 0 && end > how->window ? end - how->window : 0u;
    const uint32_t first_split = start / SPLIT;
    const uint32_t splits = (uint32_t)kvri_ceil_div(end, SPLIT) - first_split;
    const uint32_t stats_at = splits * session->n_heads * session->head_dim; /* below 2^13 * 2^12 * 2^8, see measure */
    const int by_groups = cl->limits.is_cpu && session->head_dim % 16u == 0;
    kvri_ocl_call call = kvri_ocl_call_begin(cl, KVRI_OCL_ATTENTION_ONE + session->tensors[k].type);
    common_args(&call, dst, q, k, v, rows);
    kvri_ocl_call_u32(&call, start);
    kvri_ocl_call_u32(&call, end);
    kvri_ocl_call_u32(&call, session->tensors[k].rows);
    kvri_ocl_call_f32(&call, how->scale);
    kvri_ocl_call_f32(&call, how->soft_cap);
    kvri_ocl_call_u32(&call, first_split);
    kvri_ocl_call_u32(&call, splits == 1);
    kvri_ocl_call_mem(&call, session->scratch[KVRI_OCL_PARTIAL]);
    kvri_ocl_call_u32(&call, stats_at);
    kvri_ocl_matmul_bytes_args(&call, dst, rows, splits == 1 && in_blocks(cl));
    const uint64_t pieces = kvri_ceil_div(session->n_heads / session->n_kv_heads, HEADS);
    KVRI_TRY(kvri_ocl_call_run(&call, by_groups ? session->n_kv_heads * pieces : session->n_heads, splits,
                               "attention could not be enqueued"));
    return splits == 1 ? KVR_OK : put_merge(cl, dst, splits, stats_at, rows);
}

kvr_status kvri_ocl_attention_run(kvr_opencl *cl, kvr_view dst, kvr_view q, uint32_t k, uint32_t v,
                                  const kvr_attention *how, uint32_t rows, uint32_t first_token) {
    kvri_ocl_matmul_changed(cl, dst.tensor);
    if (how->path == KVR_PATH_DECODE) return put_one(cl, dst, q, k, v, how, rows, first_token);
    for (uint32_t t = 0; t < rows; t += ROWS) {
        const kvr_view from = {q.tensor, q.row + t};
        const kvr_view to = {dst.tensor, dst.row + t};
        KVRI_TRY(put_rows(cl, to, from, k, v, how, (uint32_t)kvri_min(ROWS, rows - t), first_token + t));
    }
    return KVR_OK;
}

kvr_status kvri_ocl_attention_warm_up(kvr_opencl *cl, kvr_view work, uint32_t kv) {
    const kvr_attention plain = {1.0f, 0.0f, 0, KVR_PATH_PREFILL};
    const kvr_attention limited = {1.0f, 1.0f, 0, KVR_PATH_PREFILL};
    KVRI_TRY(put_rows(cl, work, work, kv, kv, &plain, 0, 0));
    KVRI_TRY(put_rows(cl, work, work, kv, kv, &limited, 0, 0));
    KVRI_TRY(put_one(cl, work, work, kv, kv, &plain, 0, 0));
    return put_merge(cl, work, 0, 0, 0);
}
