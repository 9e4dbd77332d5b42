#include "kvr/kvr_plan.h"

#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_frame.h"
#include "kvr_layout.h"
#include "kvr_plan_core.h"
#include "kvr_q8.h"

#include <string.h>

#define MODULE "plan"
#define MAX_CTX_TOKENS (1u << 20)
#define DEFAULT_BATCH_TOKENS 256u
#define STALL_TIMES 15u /* kvr_plan.h says so */
#define MAX_BATCH_TOKENS 4096u

const char *kvr_region_name(kvr_region region) {
    static const char *const names[KVR_REGION_COUNT] = {"model", "session", "device", "mapped", "driver (estimate)"};
    return (uint32_t)region < KVR_REGION_COUNT ? names[region] : "?";
}

static uint32_t or_default(uint32_t value, uint32_t fallback) { return value != 0 ? value : fallback; }

static kvr_status out_of_range(kvr_error *error, const char *text, uint32_t max, uint32_t had) {
    return kvri_fail_n(error, KVR_ERR_ARG, MODULE, text, max, had);
}

/* Rows whose largest operator stays below what a board of a chain may do without a word. */
static uint32_t default_batch(const kvr_model_info *info, const kvr_backend *backend, const kvr_plan *p) {
    const uint64_t heads = (uint64_t)info->n_heads * info->head_dim;
    const uint64_t widest = heads > info->ffn_dim ? heads : info->ffn_dim;
    const uint64_t product = widest * info->model_dim, attention = 2 * heads * p->ctx_tokens;
    if (p->max_boards < 2 || backend->call_products == 0) return DEFAULT_BATCH_TOKENS;
    const uint64_t rows = backend->call_products / ((product > attention ? product : attention) + 1);
    return rows == 0 ? 1 : (uint32_t)kvri_min(rows, DEFAULT_BATCH_TOKENS);
}

/* Defaults applied, ranges checked. */
static kvr_status resolve(const kvr_model *model, const kvr_config *given, const kvr_backend *backend, kvr_plan *p,
                          kvr_error *error) {
    const kvr_model_info *info = &model->info;
    kvr_config c;
    memset(&c, 0, sizeof c);
    if (given != NULL && !kvri_size_fits(given->struct_bytes, sizeof c))
        return kvri_fail_n(error, KVR_ERR_ARG, MODULE, KVRI_OTHER_SIZE, sizeof c, given->struct_bytes);
    if (given != NULL) c = *given;
    p->ctx_tokens = or_default(c.ctx_tokens, info->train_ctx_tokens);
    p->chunk_tokens = or_default(c.chunk_tokens, p->ctx_tokens);
    p->max_boards = or_default(c.max_boards, 1);
    p->batch_tokens = or_default(c.batch_tokens, default_batch(info, backend, p));
    p->frame_tokens = or_default(c.frame_tokens, 128);
    p->peer_timeout_ms = or_default(c.peer_timeout_ms, 2000);
    p->stall_timeout_ms = or_default(c.stall_timeout_ms, p->peer_timeout_ms > UINT32_MAX / STALL_TIMES
                                                             ? UINT32_MAX
                                                             : STALL_TIMES * p->peer_timeout_ms);
    p->kv_dtype = c.kv_dtype == KVR_KV_F32 ? KVR_DTYPE_F32 : KVR_DTYPE_F16;
    if (c.kv_dtype != 0 && c.kv_dtype != KVR_DTYPE_F16 && c.kv_dtype != KVR_KV_F32)
        return out_of_range(error, "kv_dtype must be F16 or KVR_KV_F32", KVR_DTYPE_F16, c.kv_dtype);
    p->wire_kv = c.wire_kv == KVR_DTYPE_Q8_0 ? KVR_DTYPE_Q8_0 : p->kv_dtype;
    if (c.wire_kv != 0 && c.wire_kv != KVR_DTYPE_Q8_0 &&
        (c.wire_kv == KVR_KV_F32 ? KVR_DTYPE_F32 : c.wire_kv) != p->kv_dtype)
        return out_of_range(error, "wire_kv must be Q8_0 or the type of the cache", KVR_DTYPE_Q8_0, c.wire_kv);
    if (p->wire_kv == KVR_DTYPE_Q8_0 && info->n_kv_heads * info->head_dim % KVRI_Q8_BLOCK != 0)
        return kvri_fail_n(error, KVR_ERR_UNSUPPORTED, MODULE, "wire_kv Q8_0 wants keys of a multiple of 32 numbers",
                           KVRI_Q8_BLOCK, info->n_kv_heads * info->head_dim);
    p->kv_window_layers = (uint32_t)kvri_min(or_default(c.kv_window_layers, info->n_layers), info->n_layers);
    if (p->ctx_tokens > MAX_CTX_TOKENS)
        return out_of_range(error, "ctx_tokens too large", MAX_CTX_TOKENS, p->ctx_tokens);
    if (p->chunk_tokens > p->ctx_tokens)
        return out_of_range(error, "chunk_tokens larger than ctx_tokens", p->ctx_tokens, p->chunk_tokens);
    if (p->batch_tokens > MAX_BATCH_TOKENS)
        return out_of_range(error, "batch_tokens too large", MAX_BATCH_TOKENS, p->batch_tokens);
    if (p->max_boards > KVR_MAX_BOARDS)
        return out_of_range(error, "max_boards too large", KVR_MAX_BOARDS, p->max_boards);
    if (p->frame_tokens > MAX_BATCH_TOKENS)
        return out_of_range(error, "frame_tokens too large", MAX_BATCH_TOKENS, p->frame_tokens);
    if (p->batch_tokens > p->chunk_tokens) p->batch_tokens = p->chunk_tokens;
    p->ring_tokens = kvri_layout_ring_tokens(model, p, c.all_keys);
    return KVR_OK;
}

static void add_row(kvr_plan *p, kvr_region region, const char *name, uint64_t bytes) {
    if (bytes == 0 || p->n_rows == KVR_PLAN_ROWS) return;
    p->rows[p->n_rows].region = region;
    p->rows[p->n_rows].name = name;
    p->rows[p->n_rows++].bytes = bytes;
    p->region_bytes[region] += bytes;
}

kvr_status kvri_plan_compute(const kvr_model *model, const kvr_config *config, const kvr_backend *backend,
                             kvr_plan *out, kvr_backend_size *out_size, kvr_error *error) {
    const kvr_model_info *info = &model->info;
    kvr_backend_need need;
    kvri_parts_bytes bytes;
    kvri_carve carve = {NULL, 0, 0};
    kvr_plan p;
    memset(&p, 0, sizeof p);
    p.struct_bytes = sizeof p;
    if (model->n_weights == 0)
        return kvri_fail(error, KVR_ERR_UNSUPPORTED, MODULE,
                         "the file holds only a vocabulary: it can tokenize, but not run; give a file with tensors");
    KVRI_TRY(resolve(model, config, backend, &p, error));
    p.frame_bytes = kvri_frame_cap(kvr_dtype_row_bytes(p.kv_dtype, (uint64_t)info->n_kv_heads * info->head_dim),
                                   p.frame_tokens, p.ctx_tokens, p.max_boards);
    if (p.frame_bytes == 0)
        return out_of_range(error, "a frame of so many tokens is too large: lower frame_tokens", 128, p.frame_tokens);
    memset(out_size, 0, sizeof *out_size);
    if (kvri_layout_need(model, &p, NULL, &need) != KVR_OK)
        return kvri_fail(error, KVR_ERR_NOMEM, MODULE, "the sizes overflow: lower ctx_tokens");
    KVRI_TRY(backend->measure(backend->user, &need, out_size, error));
    kvri_layout_session(model, &p, out_size->host_bytes, &carve, &bytes);
    if (carve.overflow)
        return kvri_fail(error, KVR_ERR_NOMEM, MODULE,
                         "the sizes do not fit this processor's addresses: lower ctx_tokens");

    const kvr_region home = out_size->in_host ? KVR_REGION_SESSION : KVR_REGION_DEVICE;
    const uint64_t in_host =
        out_size->in_host ? out_size->kv_bytes + out_size->work_bytes + out_size->scratch_bytes : 0;
    add_row(&p, KVR_REGION_MODEL, "tensor and vocabulary tables", info->state_bytes);
    add_row(&p, KVR_REGION_SESSION, "state", bytes.state);
    add_row(&p, KVR_REGION_SESSION, "tokens", bytes.tokens);
    add_row(&p, KVR_REGION_SESSION, "logits and candidates", bytes.logits);
    add_row(&p, KVR_REGION_SESSION, "link buffers", bytes.link);
    add_row(&p, KVR_REGION_SESSION, "chain tables", bytes.chain);
    add_row(&p, KVR_REGION_SESSION, "planner", bytes.balance);
    add_row(&p, KVR_REGION_SESSION, "backend state", bytes.backend - in_host);
    add_row(&p, home, "weights", out_size->in_host ? 0 : out_size->weight_bytes);
    add_row(&p, home, "keys and values", out_size->kv_bytes);
    add_row(&p, home, "activations", out_size->work_bytes);
    add_row(&p, home, "scratch", out_size->scratch_bytes);
    add_row(&p, KVR_REGION_MAPPED, "model file", info->file_bytes);
    add_row(&p, KVR_REGION_DRIVER, "driver and libraries", out_size->driver_bytes);
    *out = p;
    return KVR_OK;
}

kvr_status kvr_plan_make(const kvr_model *model, const kvr_config *config, const kvr_backend *backend, kvr_plan *out,
                         kvr_error *error) {
    kvr_backend_size size;
    if (model == NULL || backend == NULL || out == NULL)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "model, backend and out must not be NULL");
    return kvri_plan_compute(model, config, backend, out, &size, error);
}
