#include "kvr_layout.h"

#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_partition.h"
#include "kvr_rope.h"
#include "kvr_session_state.h"

#include <string.h>

typedef char kvri_room_for_work[(KVRI_WORK_COUNT + KVRI_ROPE_SETS <= 16) ? 1 : -1]; /* KVRI_SESSION_TENSORS */

kvri_ids kvri_layout_ids(const kvr_model *model, const kvr_plan *plan) {
    kvri_ids ids;
    ids.freq = model->n_weights;
    ids.n_freq = model->traits.local_rope_base != 0.0f ? KVRI_ROPE_SETS : 1;
    ids.work = ids.freq + ids.n_freq;
    ids.kv = ids.work + (uint32_t)KVRI_WORK_COUNT;
    ids.kv_layers = plan->kv_window_layers;
    ids.count = ids.kv + 2 * ids.kv_layers;
    ids.n_layers = model->info.n_layers;
    ids.ctx_tokens = plan->ctx_tokens;
    ids.ring_tokens = plan->ring_tokens;
    return ids;
}

/*
 * A token's keys are stored before it is attended to, together with those of a stretch of tokens that begins with it or
 * before: of a micro-batch, or of a whole chunk where keys travel before attention (kvr_forward.c). While the first of
 * them has still to be attended to, the tokens that it sees must be there; in a chain these come in whole pieces.
 */
uint32_t kvri_layout_ring_tokens(const kvr_model *model, const kvr_plan *plan, uint32_t all_keys) {
    const uint64_t stretch =
        plan->max_boards > 1 ? (uint64_t)plan->chunk_tokens + plan->frame_tokens - 1 : plan->batch_tokens;
    const uint64_t tokens = kvri_window_reach(&model->traits) + stretch;
    const uint64_t rows = kvri_ceil_div(tokens, KVR_BACKEND_RING) * KVR_BACKEND_RING;
    return model->traits.window == 0 || all_keys ? plan->ctx_tokens : (uint32_t)kvri_min(rows, plan->ctx_tokens);
}

uint32_t kvri_kv_rows(const kvri_ids *ids, const kvri_traits *traits, uint32_t layer) {
    for (uint32_t l = layer % ids->kv_layers; l < ids->n_layers; l += ids->kv_layers)
        if (!kvri_layer_has_window(traits, l)) return ids->ctx_tokens;
    return ids->ring_tokens;
}

static kvr_status set_tensor(kvr_tensor_desc *t, kvr_tensor_role role, uint32_t dtype, uint64_t rows, uint64_t cols,
                             const void *data) {
    memset(t, 0, sizeof *t);
    if (rows > UINT32_MAX || cols > UINT32_MAX || !kvri_mul(rows, kvr_dtype_row_bytes(dtype, cols), &t->bytes))
        return KVR_ERR_NOMEM;
    t->data = data;
    t->rows = (uint32_t)rows;
    t->cols = (uint32_t)cols;
    t->dtype = (uint8_t)dtype;
    t->role = (uint8_t)role;
    return KVR_OK;
}

kvr_status kvri_layout_need(const kvr_model *model, const kvr_plan *plan, const float *freq, kvr_backend_need *out) {
    const kvr_model_info *info = &model->info;
    const kvri_ids ids = kvri_layout_ids(model, plan);
    const uint64_t ONE = 1, M = info->model_dim, F = info->ffn_dim, V = info->n_vocab;
    const uint64_t B = plan->batch_tokens, C = plan->chunk_tokens;
    const uint64_t BG = model->weights.at[KVRI_FFN_GATE] != KVR_NO_TENSOR ? B : 1;
    const uint64_t HD = (uint64_t)info->n_heads * info->head_dim, GD = (uint64_t)info->n_kv_heads * info->head_dim;
    const struct { uint64_t rows, cols; } work[] = {
#define KVRI_SHAPE(name, rows, cols) {rows, cols},
        KVRI_WORK_TENSORS(KVRI_SHAPE)
#undef KVRI_SHAPE
    };
    kvr_tensor_desc *tensors = model->tensors;
    kvr_status status = KVR_OK;
    for (uint32_t i = 0; i < ids.n_freq && status == KVR_OK; i++)
        status = set_tensor(&tensors[ids.freq + i], KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, info->rope_dims / 2,
                            freq != NULL ? freq + (size_t)i * (info->rope_dims / 2) : NULL);
    for (uint32_t i = 0; i < (uint32_t)KVRI_WORK_COUNT && status == KVR_OK; i++)
        status = set_tensor(&tensors[ids.work + i], KVR_ROLE_WORK, KVR_DTYPE_F32, work[i].rows, work[i].cols, NULL);
    for (uint32_t i = ids.kv; i < ids.count && status == KVR_OK; i++) {
        const uint32_t layer = (i - ids.kv) / 2;
        status =
            set_tensor(&tensors[i], KVR_ROLE_KV, plan->kv_dtype, kvri_kv_rows(&ids, &model->traits, layer), GD, NULL);
        tensors[i].layer = (uint16_t)layer;
    }
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->n_tensors = ids.count;
    out->tensors = tensors;
    out->batch_tokens = plan->batch_tokens;
    out->ctx_tokens = plan->ctx_tokens;
    out->n_heads = info->n_heads;
    out->n_kv_heads = info->n_kv_heads;
    out->head_dim = info->head_dim;
    out->kv_8bit = plan->wire_kv == KVR_DTYPE_Q8_0;
    return status;
}

uint32_t kvri_layout_max_pieces(const kvr_plan *plan) {
    return (uint32_t)kvri_partition_max_pieces(plan->ctx_tokens, plan->max_boards, plan->frame_tokens);
}

/* Bytes taken since *mark; moves the mark. */
static uint64_t since(const kvri_carve *carve, uint64_t *mark) {
    const uint64_t bytes = carve->used - *mark;
    *mark = carve->used;
    return bytes;
}

kvri_parts kvri_layout_session(const kvr_model *model, const kvr_plan *plan, uint64_t backend_host_bytes,
                               kvri_carve *carve, kvri_parts_bytes *out_bytes) {
    const kvr_model_info *info = &model->info;
    const int chain = plan->max_boards > 1;
    const uint64_t L = info->n_layers, pieces = kvri_layout_max_pieces(plan);
    kvri_parts p;
    uint64_t mark = carve->used;
    memset(&p, 0, sizeof p);
    p.session = kvri_carve_take(carve, 1, sizeof *p.session);
    p.freq = kvri_carve_take(carve, (uint64_t)KVRI_ROPE_SETS * (info->rope_dims / 2), sizeof *p.freq);
    p.pace = kvri_carve_take(carve, (KVRI_PACE + 1ull) * info->model_dim, sizeof *p.pace);
    out_bytes->state = since(carve, &mark);
    p.tokens = kvri_carve_take(carve, plan->ctx_tokens, sizeof *p.tokens);
    out_bytes->tokens = since(carve, &mark);
    p.logits = kvri_carve_take(carve, info->n_vocab, sizeof *p.logits);
    p.candidates = kvri_carve_take(carve, info->n_vocab, sizeof *p.candidates);
    out_bytes->logits = since(carve, &mark);
    p.rx = kvri_carve_take(carve, chain ? plan->frame_bytes : 0, 1);
    for (uint32_t i = 0; i < KVRI_TX_SLOTS; i++) p.tx[i] = kvri_carve_take(carve, chain ? plan->frame_bytes : 0, 1);
    out_bytes->link = since(carve, &mark);
    p.arrived = kvri_carve_take(carve, chain ? L : 0, kvri_ceil_div(pieces, 8));
    p.arrived_tokens = kvri_carve_take(carve, chain ? L : 0, sizeof *p.arrived_tokens);
    p.sent_pieces = kvri_carve_take(carve, chain ? L : 0, sizeof *p.sent_pieces);
    p.outbox = kvri_carve_take(carve, chain ? L * pieces : 0, sizeof *p.outbox);
    p.addresses = kvri_carve_take(carve, chain ? plan->max_boards : 0, KVR_ADDRESS_CAP);
    out_bytes->chain = since(carve, &mark);
    p.balance = kvri_carve_take(carve, chain ? kvri_balance_bytes(plan->max_boards, info->n_layers) : 0, 1);
    out_bytes->balance = since(carve, &mark);
    p.backend_mem = kvri_carve_take(carve, backend_host_bytes, 1);
    out_bytes->backend = since(carve, &mark);
    return p;
}
