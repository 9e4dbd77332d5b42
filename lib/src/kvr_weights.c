/*
 * Some converters store matrices that share their input as one, rows behind rows ("attn_qkv", "ffn_up" with the gate in
 * front). Here they become the single tensors again: views of rows inside the file, so nothing is copied and the layer
 * does not know.
 */
#include "kvr_weights.h"

#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_error.h"

#include <string.h>

#define MODULE "model"
#define ROPE_FACTOR_MIN 1e-3f
#define ROPE_FACTOR_MAX 1e6f
#define MAX_VOCAB (1u << 22)

typedef struct shape {
    const char *name;
    uint8_t role;
    uint64_t rows, cols;
} shape;

/* One or several kinds that a tensor of the file holds, in the order of their rows (of their columns for a vector). */
typedef struct holding {
    kvri_tensor_kind kinds[3];
    uint32_t n; /* 0: not a tensor of any architecture */
    uint16_t layer;
} holding;

typedef struct walk {
    const kvri_gguf *gguf;
    const kvri_arch *arch;
    kvr_model_info *info;
    kvr_error *error;
    uint32_t found[KVRI_TENSOR_KINDS];
} walk;

static shape shape_of(const kvr_model_info *info, kvri_tensor_kind kind) {
    const uint64_t ONE = 1, M = info->model_dim, F = info->ffn_dim, D = info->head_dim, V = info->n_vocab;
    const uint64_t HD = (uint64_t)info->n_heads * D, GD = (uint64_t)info->n_kv_heads * D;
    const shape shapes[] = {
#define KVRI_SHAPE(id, text, role, rows, cols) {text, role, rows, cols},
        KVRI_GLOBAL_TENSORS(KVRI_SHAPE) KVRI_LAYER_TENSORS(KVRI_SHAPE)
#undef KVRI_SHAPE
    };
    return shapes[kind];
}

static int allowed(const kvri_arch *arch, kvri_tensor_kind kind) {
    return ((arch->needs | arch->may_have) >> kind & 1u) != 0;
}

static holding of_name(const walk *w, kvri_str name, uint64_t rows) {
    static const struct {
        const char *name;
        holding holds;
    } fused[] = {
        {"attn_qkv.weight", {{KVRI_ATTN_Q, KVRI_ATTN_K, KVRI_ATTN_V}, 3, 0}},
        {"attn_qkv.bias", {{KVRI_ATTN_Q_BIAS, KVRI_ATTN_K_BIAS, KVRI_ATTN_V_BIAS}, 3, 0}},
    };
    const holding none = {{KVRI_EMBED, KVRI_EMBED, KVRI_EMBED}, 0, 0};
    for (uint32_t k = 0; k < KVRI_GLOBALS; k++)
        if (kvri_str_eq(name, shape_of(w->info, (kvri_tensor_kind)k).name))
            return (holding){{(kvri_tensor_kind)k}, 1, 0};
    if (name.n < 5 || memcmp(name.at, "blk.", 4) != 0) return none;
    uint64_t i = 4, layer = 0;
    while (i < name.n && name.at[i] >= '0' && name.at[i] <= '9' && layer < w->info->n_layers)
        layer = layer * 10 + (name.at[i++] - '0');
    if (i == 4 || i >= name.n || name.at[i] != '.' || layer >= w->info->n_layers) return none;
    const kvri_str tail = {name.at + i + 1, name.n - i - 1};
    holding h = none;
    for (size_t f = 0; f < sizeof fused / sizeof fused[0]; f++)
        if (kvri_str_eq(tail, fused[f].name)) h = fused[f].holds;
    for (uint32_t k = KVRI_GLOBALS; k < KVRI_TENSOR_KINDS; k++)
        if (kvri_str_eq(tail, shape_of(w->info, (kvri_tensor_kind)k).name)) h = (holding){{(kvri_tensor_kind)k}, 1, 0};
    if (h.n == 1 && h.kinds[0] == KVRI_FFN_UP && allowed(w->arch, KVRI_FFN_GATE) &&
        rows == 2u * (uint64_t)w->info->ffn_dim)
        h = (holding){{KVRI_FFN_GATE, KVRI_FFN_UP}, 2, 0};
    h.layer = (uint16_t)layer;
    return h;
}

/* The record is this failure's own: an earlier one is left as it is. */
static kvr_status fail(const walk *w, kvr_status status, const char *text, const kvri_gguf_tensor *t, uint64_t wanted,
                       uint64_t had) {
    const int first = w->error != NULL && w->error->status == KVR_OK;
    kvri_fail_s(w->error, status, MODULE, text, t->name.at, t->name.n);
    if (first) w->error->wanted = wanted, w->error->had = had;
    return status;
}

static kvr_status check(walk *w, const kvri_gguf_tensor *t, const holding *h) {
    uint64_t rows = 0, cols = 0;
    const int vector = shape_of(w->info, h->kinds[0]).role == KVR_ROLE_VECTOR;
    for (uint32_t i = 0; i < h->n; i++) {
        const shape s = shape_of(w->info, h->kinds[i]);
        if (!allowed(w->arch, h->kinds[i])) /* left out it would change the answer: refuse rather than ignore */
            return fail(w, KVR_ERR_UNSUPPORTED, "a tensor that models of this architecture do not have:", t, 0, 0);
        rows = vector ? 1 : rows + s.rows;
        cols = vector ? cols + s.cols : s.cols;
    }
    if (!vector && rows == 0) { /* embedding and head without a vocabulary: the first of them says how many */
        rows = t->dims[1];
        if (rows > MAX_VOCAB) return fail(w, KVR_ERR_TENSOR, "more than 2^22 rows in tensor", t, 0, 0);
        w->info->n_vocab = (uint32_t)rows;
    }
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return fail(w, KVR_ERR_TENSOR, "not the shape that the file's own keys say: tensor", t, cols * rows,
                    t->dims[0] * t->dims[1]);
    if (kvri_dtype_block(t->type) == 0) {
        const int first = w->error != NULL && w->error->status == KVR_OK;
        fail(w, KVR_ERR_TYPE,
             "a tensor type that is not supported (native is its number in the format; F32, F16, BF16, Q4_0, Q4_1, "
             "Q5_0, "
             "Q5_1, Q8_0, Q2_K to Q6_K and IQ4_NL are): tensor",
             t, 0, 0);
        if (first) w->error->native = (int64_t)t->type;
        return KVR_ERR_TYPE;
    }
    if (vector && t->type != KVR_DTYPE_F32 && t->type != KVR_DTYPE_F16)
        return fail(w, KVR_ERR_TYPE, "a vector must be F32 or F16: tensor", t, 0, 0);
    if (t->dims[0] % kvri_dtype_block(t->type) != 0)
        return fail(w, KVR_ERR_CORRUPT, "rows are not whole blocks in tensor", t, 0, 0);
    return KVR_OK;
}

static kvr_status add(const walk *w, const kvri_gguf_tensor *t, const holding *h, const kvri_weights *map,
                      kvr_tensor_desc *list) {
    const uint8_t *data = w->gguf->file + t->offset;
    for (uint32_t i = 0; i < h->n; i++) {
        const shape s = shape_of(w->info, h->kinds[i]);
        kvr_tensor_desc *d = &list[kvri_weight(map, h->layer, h->kinds[i])];
        if (d->data != NULL) return fail(w, KVR_ERR_CORRUPT, "there twice: tensor", t, 0, 0);
        d->data = data;
        d->bytes = s.rows * kvr_dtype_row_bytes(t->type, s.cols); /* no more than t->bytes, which fit */
        d->rows = (uint32_t)s.rows;
        d->cols = (uint32_t)s.cols;
        d->dtype = (uint8_t)t->type;
        d->role = s.role;
        d->layer = h->layer;
        data += d->bytes;
    }
    return KVR_OK;
}

static void count_type(kvr_model_info *info, const kvri_gguf_tensor *t) {
    uint32_t k = 0;
    while (k < info->n_types && info->types[k].dtype != t->type) k++;
    if (k == KVR_TYPE_KINDS) return;
    if (k == info->n_types) info->types[info->n_types++].dtype = t->type;
    info->types[k].n_tensors++;
    info->types[k].bytes += t->bytes;
}

/* FNV-1a, 64 bit (Fowler, Noll, Vo). */
static uint64_t fnv(uint64_t hash, const uint8_t *bytes, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

/* Every kind that the architecture needs, in every layer or in none; then places for them. */
static kvr_status settle(const walk *w, kvri_weights *map) {
    memset(map, 0, sizeof *map);
    map->at[KVRI_NO_KIND] = KVR_NO_TENSOR;
    for (uint32_t k = 0; k < KVRI_TENSOR_KINDS; k++) {
        const uint32_t wanted = k < KVRI_GLOBALS ? 1 : w->info->n_layers;
        const char *name = shape_of(w->info, (kvri_tensor_kind)k).name;
        map->at[k] = KVR_NO_TENSOR;
        if (w->found[k] == 0 && (w->arch->needs >> k & 1u) == 0) continue;
        if (w->found[k] != wanted) {
            const int first = w->error != NULL && w->error->status == KVR_OK;
            const kvr_status status = w->found[k] > wanted ? KVR_ERR_CORRUPT : KVR_ERR_TENSOR;
            kvri_fail_s(w->error, status, MODULE,
                        status == KVR_ERR_CORRUPT ? "tensors of the model are there twice:"
                                                  : "tensors of the model are missing, the file is incomplete:",
                        name, strlen(name));
            if (first) w->error->wanted = wanted, w->error->had = w->found[k];
            return status;
        }
        map->at[k] = k < KVRI_GLOBALS ? map->n_globals++ : map->n_per_layer++;
    }
    return KVR_OK;
}

/* What models divide frequencies by; beyond it angles would lose all their digits or not be numbers. */
static int are_rope_factors(const uint8_t *at, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        const float factor = kvri_lef32(at + i * 4);
        if (!(factor >= ROPE_FACTOR_MIN && factor <= ROPE_FACTOR_MAX)) return 0;
    }
    return 1;
}

/* 1 when t is a tensor of rope factors; *status then tells whether a good one. */
static int take_rope_factors(const walk *w, const kvri_gguf_tensor *t, kvri_rope_factors *out, kvr_status *status) {
    const struct {
        const char *name;
        const uint8_t **to;
    } names[] = {{"rope_freqs.weight", &out->always},
                 {"rope_factors_short.weight", &out->short_ctx},
                 {"rope_factors_long.weight", &out->long_ctx}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!kvri_str_eq(t->name, names[i].name)) continue;
        *status = KVR_OK;
        if (*names[i].to != NULL) *status = fail(w, KVR_ERR_CORRUPT, "there twice: tensor", t, 0, 0);
        else if (t->type != KVR_DTYPE_F32 || t->dims[0] != w->info->rope_dims / 2 || t->n_dims != 1)
            *status = fail(w, KVR_ERR_TENSOR, "not one F32 factor per rotated pair: tensor", t, 0, 0);
        else if (!are_rope_factors(w->gguf->file + t->offset, t->dims[0]))
            *status = fail(w, KVR_ERR_CORRUPT, "rope factors must be from 0.001 to 1000000: tensor", t, 0, 0);
        *names[i].to = w->gguf->file + t->offset;
        return 1;
    }
    return 0;
}

kvr_status kvri_weights_read(const kvri_gguf *gguf, const kvri_arch *arch, kvr_model_info *info, kvr_tensor_desc *list,
                             kvri_weights_found *out, kvr_error *error) {
    walk w;
    memset(&w, 0, sizeof w);
    w.gguf = gguf;
    w.arch = arch;
    w.info = info;
    w.error = error;
    kvri_gguf_tensor t;
    uint64_t head_end = gguf->tensors_at;
    uint64_t hash = 0xcbf29ce484222325ull;
    kvri_gguf_cursor c = kvri_gguf_first_tensor(gguf);
    info->n_types = 0;
    memset(info->types, 0, sizeof info->types);
    info->n_params = info->weight_bytes = 0;
    memset(&out->rope, 0, sizeof out->rope);
    while (kvri_gguf_next_tensor(gguf, &c, &t) == KVR_OK) {
        kvr_status status;
        head_end = c.at;
        count_type(info, &t);
        info->n_params += t.dims[0] * t.dims[1] * t.dims[2] * t.dims[3];
        info->weight_bytes += t.bytes;
        const uint64_t sample = kvri_min(t.bytes, 256);
        hash = fnv(hash, gguf->file + t.offset, sample);
        hash = fnv(hash, gguf->file + t.offset + (t.bytes - sample) / 2, sample);
        if (take_rope_factors(&w, &t, &out->rope, &status)) {
            KVRI_TRY(status);
            continue;
        }
        const holding h = of_name(&w, t.name, t.dims[1]);
        if (h.n == 0)
            return fail(&w, KVR_ERR_UNSUPPORTED, "a tensor that models of this architecture do not have:", &t, 0, 0);
        KVRI_TRY(check(&w, &t, &h));
        for (uint32_t i = 0; i < h.n; i++) w.found[h.kinds[i]]++;
        if (list != NULL) KVRI_TRY(add(&w, &t, &h, &out->map, list));
    }
    info->tied_head = w.found[KVRI_HEAD] == 0;
    info->fingerprint = fnv(hash, gguf->file, head_end);
    if (list != NULL) return KVR_OK;
    KVRI_TRY(settle(&w, &out->map));
    out->n = out->map.n_globals + out->map.n_per_layer * info->n_layers;
    return KVR_OK;
}
