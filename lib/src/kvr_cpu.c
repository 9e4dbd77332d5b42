/*
 * The reference backend. Every operator is the plain loop of its definition in kvr_backend.h; the only liberties are
 * those that cost no clarity: a dot product in 16 lanes (fixed order, and compilers turn it into vectors), a weight row
 * dequantised once for all rows, a block of keys converted once for all heads that share it.
 */
#include "kvr/kvr_cpu.h"

#include "kvr_carve.h"
#include "kvr_checked.h"
#include "kvr_dtype.h"
#include "kvr_error.h"
#include "kvr_q8.h"

#include <math.h>
#include <string.h>

#define MODULE "reference"
#define KEY_BLOCK KVR_BACKEND_RING /* keys per step of the online softmax; boundaries are absolute positions */

typedef struct cpu_state {
    kvr_backend_need need; /* .tensors points to our copy */
    kvr_tensor_desc *tensors;
    const uint8_t **places; /* [n_tensors] where each tensor lies: file, or this memory */
    uint8_t *kv, *work;     /* all KV tensors, all WORK tensors, back to back */
    float *row;             /* [widest matrix, vector or key] one dequantised weight row, a row less its mean, a rounded
                             * key */
    float *keys, *values;   /* [KEY_BLOCK][D] */
    float *scores;          /* [KEY_BLOCK] */
    float *row_max, *row_sum; /* [batch][H/G] */
    float *vector, *bias;   /* [widest matrix or vector] */
} cpu_state;

/* Sizes that place() derives from the tensor list. */
typedef struct cpu_parts {
    uint64_t kv_bytes, work_bytes, widest;
    uint64_t scratch_bytes;
    int overflow;
} cpu_parts;

static uint64_t padded(uint64_t bytes, int *overflow) {
    uint64_t out = 0;
    if (!kvri_align_up(bytes, KVRI_CARVE_ALIGN, &out)) *overflow = 1;
    return out;
}

static cpu_parts sum_parts(const kvr_backend_need *need) {
    cpu_parts p;
    memset(&p, 0, sizeof p);
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *t = &need->tensors[i];
        uint64_t *sum = t->role == KVR_ROLE_KV ? &p.kv_bytes : t->role == KVR_ROLE_WORK ? &p.work_bytes : NULL;
        if (sum != NULL && !kvri_add(*sum, padded(t->bytes, &p.overflow), sum)) p.overflow = 1;
        if ((sum == NULL || t->role == KVR_ROLE_KV) && t->cols > p.widest) p.widest = t->cols;
    }
    return p;
}

/* The one layout: measures with base NULL, places otherwise. */
static cpu_state *place(kvri_carve *c, const kvr_backend_need *need, cpu_parts *parts) {
    const uint32_t group = need->n_kv_heads != 0 ? need->n_heads / need->n_kv_heads : 1;
    cpu_state layout;
    memset(&layout, 0, sizeof layout);
    *parts = sum_parts(need);
    cpu_state *s = kvri_carve_take(c, 1, sizeof *s);
    layout.need = *need;
    layout.tensors = kvri_carve_take(c, need->n_tensors, sizeof *layout.tensors);
    layout.places = kvri_carve_take(c, need->n_tensors, sizeof *layout.places);
    layout.kv = kvri_carve_take(c, parts->kv_bytes, 1);
    layout.work = kvri_carve_take(c, parts->work_bytes, 1);
    const uint64_t before = c->used;
    layout.row = kvri_carve_take(c, parts->widest, sizeof(float));
    layout.vector = kvri_carve_take(c, parts->widest, sizeof(float));
    layout.bias = kvri_carve_take(c, parts->widest, sizeof(float));
    layout.keys = kvri_carve_take(c, (uint64_t)KEY_BLOCK * need->head_dim, sizeof(float));
    layout.values = kvri_carve_take(c, (uint64_t)KEY_BLOCK * need->head_dim, sizeof(float));
    layout.scores = kvri_carve_take(c, KEY_BLOCK, sizeof(float));
    layout.row_max = kvri_carve_take(c, (uint64_t)need->batch_tokens * group, sizeof(float));
    layout.row_sum = kvri_carve_take(c, (uint64_t)need->batch_tokens * group, sizeof(float));
    parts->scratch_bytes = c->used - before;
    if (parts->overflow) c->overflow = 1;
    if (s != NULL) *s = layout;
    return s;
}

static kvr_status cpu_measure(void *user, const kvr_backend_need *need, kvr_backend_size *out, kvr_error *error) {
    (void)user;
    kvri_carve c = {NULL, 0, 0};
    cpu_parts parts;
    place(&c, need, &parts);
    if (c.overflow)
        return kvri_fail(error, KVR_ERR_NOMEM, MODULE,
                         "the sizes do not fit this processor's addresses: lower ctx_tokens");
    memset(out, 0, sizeof *out);
    out->host_bytes = c.used;
    out->kv_bytes = parts.kv_bytes;
    out->work_bytes = parts.work_bytes;
    out->scratch_bytes = parts.scratch_bytes;
    out->in_host = 1;
    return KVR_OK;
}

static kvr_status cpu_open(void *user, const kvr_backend_need *need, void *mem, size_t mem_bytes, kvr_error *error) {
    kvr_cpu *cpu = user;
    kvr_backend_size size = {0};
    if (cpu->state != NULL)
        return kvri_fail(error, KVR_ERR_STATE, MODULE,
                         "this kvr_cpu serves a session already: give each session its own");
    KVRI_TRY(cpu_measure(user, need, &size, error));
    if (mem_bytes < size.host_bytes)
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE, "the backend's memory is smaller than measured",
                           size.host_bytes, mem_bytes);
    kvri_carve c = {mem, 0, 0};
    cpu_parts parts;
    cpu_state *s = place(&c, need, &parts);
    memcpy(s->tensors, need->tensors, need->n_tensors * sizeof *s->tensors);
    s->need.tensors = s->tensors;
    uint8_t *kv = s->kv, *work = s->work;
    for (uint32_t i = 0; i < need->n_tensors; i++) {
        const kvr_tensor_desc *t = &s->tensors[i];
        uint8_t **next = t->role == KVR_ROLE_KV ? &kv : t->role == KVR_ROLE_WORK ? &work : NULL;
        s->places[i] = next != NULL ? *next : t->data;
        int overflow = 0;
        if (next != NULL) *next += padded(t->bytes, &overflow);
    }
    cpu->state = s;
    return KVR_OK;
}

static void cpu_close(void *user) { ((kvr_cpu *)user)->state = NULL; }

static cpu_state *state_of(void *user) { return ((kvr_cpu *)user)->state; }

/* Rows of a WORK tensor; the plan made places writable. */
static float *work_rows(const cpu_state *s, kvr_view v) {
    return (float *)(uintptr_t)s->places[v.tensor] + (size_t)v.row * s->tensors[v.tensor].cols;
}

static const uint8_t *any_rows(const cpu_state *s, uint32_t tensor, uint32_t row) {
    const kvr_tensor_desc *t = &s->tensors[tensor];
    return s->places[tensor] + (size_t)row * kvr_dtype_row_bytes(t->dtype, t->cols);
}

/* Lane j sums elements j, j+16, j+32, ...; the order never depends on the caller. */
static float dot(const float *a, const float *b, uint32_t n) {
    float lane[16] = {0};
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t j = 0; j < 16; j++) lane[j] += a[i + j] * b[i + j];
    for (; i < n; i++) lane[i & 15u] += a[i] * b[i];
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static float sum(const float *a, uint32_t n) {
    float lane[16] = {0};
    for (uint32_t i = 0; i < n; i++) lane[i & 15u] += a[i];
    for (uint32_t half = 8; half > 0; half /= 2)
        for (uint32_t j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

static kvr_status cpu_embed(void *user, kvr_view dst, uint32_t weight, const int32_t *ids, uint32_t rows) {
    cpu_state *s = state_of(user);
    const kvr_tensor_desc *w = &s->tensors[weight];
    float *out = work_rows(s, dst);
    for (uint32_t t = 0; t < rows; t++)
        kvri_dtype_to_f32(w->dtype, any_rows(s, weight, (uint32_t)ids[t]), w->cols, out + (size_t)t * w->cols);
    return KVR_OK;
}

static void load_vector(const cpu_state *s, uint32_t tensor, float *out) {
    kvri_dtype_to_f32(s->tensors[tensor].dtype, s->places[tensor], s->tensors[tensor].cols, out);
}

static kvr_status cpu_norm(void *user, kvr_view dst, kvr_view src, const kvr_norm *how, uint32_t rows) {
    cpu_state *s = state_of(user);
    const uint32_t cols = s->tensors[how->weight].cols;
    const uint32_t stretches = rows * (s->tensors[src.tensor].cols / cols);
    const float *x = work_rows(s, src);
    float *out = work_rows(s, dst);
    load_vector(s, how->weight, s->vector);
    memset(s->bias, 0, cols * sizeof *s->bias);
    if (how->bias != KVR_NO_TENSOR) load_vector(s, how->bias, s->bias);
    for (uint32_t t = 0; t < stretches; t++, x += cols, out += cols) {
        const float mean = how->kind == KVR_NORM_LAYER ? sum(x, cols) / (float)cols : 0.0f;
        for (uint32_t i = 0; i < cols; i++) s->row[i] = x[i] - mean;
        const float scale = 1.0f / sqrtf(dot(s->row, s->row, cols) / (float)cols + how->eps);
        for (uint32_t i = 0; i < cols; i++) {
            const float y = s->row[i] * scale * s->vector[i] + s->bias[i];
            out[i] = how->add ? out[i] + y : y;
        }
    }
    return KVR_OK;
}

static kvr_status cpu_matmul(void *user, kvr_view dst, uint32_t weight, kvr_view src, uint32_t rows, kvr_path path,
                             int add) {
    (void)path; /* one arithmetic for both */
    cpu_state *s = state_of(user);
    const kvr_tensor_desc *w = &s->tensors[weight];
    const uint32_t K = w->cols, N = w->rows;
    const float *x = work_rows(s, src); /* [rows][K] */
    float *out = work_rows(s, dst);     /* [rows][N] */
    for (uint32_t n = 0; n < N; n++) {
        kvri_dtype_to_f32(w->dtype, any_rows(s, weight, n), K, s->row);
        for (uint32_t t = 0; t < rows; t++) {
            const float y = dot(x + (size_t)t * K, s->row, K);
            float *place_of = out + (size_t)t * N + n;
            *place_of = add ? *place_of + y : y;
        }
    }
    return KVR_OK;
}

static kvr_status cpu_add_bias(void *user, kvr_view x, uint32_t bias, uint32_t rows) {
    cpu_state *s = state_of(user);
    const uint32_t cols = s->tensors[x.tensor].cols;
    float *row = work_rows(s, x);
    load_vector(s, bias, s->bias);
    for (uint32_t t = 0; t < rows; t++, row += cols)
        for (uint32_t i = 0; i < cols; i++) row[i] += s->bias[i];
    return KVR_OK;
}

static float capped(float x, float soft_cap) { return soft_cap != 0.0f ? soft_cap * tanhf(x / soft_cap) : x; }

static kvr_status cpu_scale(void *user, kvr_view x, float factor, float soft_cap, uint32_t rows) {
    cpu_state *s = state_of(user);
    const size_t n = (size_t)rows * s->tensors[x.tensor].cols;
    float *row = work_rows(s, x);
    for (size_t i = 0; i < n; i++) row[i] = capped(row[i] * factor, soft_cap);
    return KVR_OK;
}

static kvr_status cpu_rope(void *user, kvr_view x, const kvr_rope *how, uint32_t rows, uint32_t n_heads,
                           uint32_t first_token) {
    cpu_state *s = state_of(user);
    const uint32_t D = s->need.head_dim, pairs = how->dims / 2;
    const uint32_t step = how->style == KVR_ROPE_PAIRS ? 2 : 1;      /* from pair to pair */
    const uint32_t apart = how->style == KVR_ROPE_PAIRS ? 1 : pairs; /* within a pair */
    float *row = work_rows(s, x);                                    /* [rows][n_heads][D] */
    load_vector(s, how->freq, s->vector);
    for (uint32_t t = 0; t < rows; t++, row += (size_t)n_heads * D) {
        for (uint32_t i = 0; i < pairs; i++) {
            const float angle = (float)(first_token + t) * s->vector[i];
            const float c = cosf(angle) * how->magnitude, n = sinf(angle) * how->magnitude;
            for (uint32_t h = 0; h < n_heads; h++) {
                float *pair = row + (size_t)h * D + step * (size_t)i;
                const float a = pair[0], b = pair[apart];
                pair[0] = a * c - b * n;
                pair[apart] = a * n + b * c;
            }
        }
    }
    return KVR_OK;
}

static kvr_status cpu_store(void *user, kvr_view dst, kvr_view src, uint32_t rows) {
    cpu_state *s = state_of(user);
    const kvr_tensor_desc *d = &s->tensors[dst.tensor];
    const size_t row_bytes = (size_t)kvr_dtype_row_bytes(d->dtype, d->cols);
    const float *x = work_rows(s, src); /* [rows][cols] */
    uint8_t *out = (uint8_t *)(uintptr_t)any_rows(s, dst.tensor, dst.row);
    for (uint32_t t = 0; t < rows; t++, x += d->cols, out += row_bytes) {
        if (s->need.kv_8bit) kvri_q8_round(memcpy(s->row, x, d->cols * sizeof *x), d->cols);
        kvri_dtype_from_f32(d->dtype, s->need.kv_8bit ? s->row : x, d->cols, out);
    }
    return KVR_OK;
}

/* Merges one block of keys into the running softmax of one query: max, sum, weighted values (Milakov 2018). */
static void attend_block(const float *q, const float *keys, const float *values, uint32_t n_keys, uint32_t D,
                         const kvr_attention *how, float *scores, float *max, float *total, float *out) {
    float block_max = *max;
    for (uint32_t k = 0; k < n_keys; k++) {
        scores[k] = capped(dot(q, keys + (size_t)k * D, D) * how->scale, how->soft_cap);
        if (scores[k] > block_max) block_max = scores[k];
    }
    const float shrink = expf(*max - block_max); /* 0 for the first block: max is -infinity */
    *total *= shrink;
    for (uint32_t i = 0; i < D; i++) out[i] *= shrink;
    for (uint32_t k = 0; k < n_keys; k++) {
        const float p = expf(scores[k] - block_max);
        const float *v = values + (size_t)k * D;
        *total += p;
        for (uint32_t i = 0; i < D; i++) out[i] += p * v[i];
    }
    *max = block_max;
}

static void load_block(const cpu_state *s, uint32_t tensor, uint32_t first, uint32_t n, uint32_t kv_head, float *out) {
    const uint32_t D = s->need.head_dim;
    const uint64_t skip = kvr_dtype_row_bytes(s->tensors[tensor].dtype, (uint64_t)kv_head * D);
    for (uint32_t k = 0; k < n; k++)
        kvri_dtype_to_f32(s->tensors[tensor].dtype, any_rows(s, tensor, first + k) + skip, D, out + (size_t)k * D);
}

/* First key that a token sees. */
static uint32_t window_start(const kvr_attention *how, uint32_t token) {
    return how->window != 0 && token >= how->window ? token - how->window + 1 : 0;
}

static kvr_status cpu_attention(void *user, kvr_view dst, kvr_view q, uint32_t k, uint32_t v, const kvr_attention *how,
                                uint32_t rows, uint32_t first_token) {
    cpu_state *s = state_of(user);
    const uint32_t D = s->need.head_dim, H = s->need.n_heads, group = H / s->need.n_kv_heads;
    const float *queries = work_rows(s, q); /* [rows][H][D] */
    float *out = work_rows(s, dst);         /* [rows][H][D] */
    const uint32_t end = first_token + rows; /* keys that the last row sees */
    const uint32_t start = window_start(how, first_token) / KEY_BLOCK * KEY_BLOCK;
    memset(out, 0, (size_t)rows * H * D * sizeof *out);
    for (uint32_t g = 0; g < s->need.n_kv_heads; g++) {
        for (uint32_t i = 0; i < rows * group; i++) s->row_max[i] = -INFINITY, s->row_sum[i] = 0.0f;
        for (uint32_t at = start; at < end; at += KEY_BLOCK) {
            const uint32_t n = end - at < KEY_BLOCK ? end - at : KEY_BLOCK;
            load_block(s, k, at % s->tensors[k].rows, n, g, s->keys);
            load_block(s, v, at % s->tensors[v].rows, n, g, s->values);
            for (uint32_t t = at > first_token ? at - first_token : 0; t < rows; t++) {
                /* of this block: keys from the window's start to the own position */
                const uint32_t own_end = (uint32_t)kvri_min(n, first_token + t + 1 - at);
                const uint32_t own_start = window_start(how, first_token + t);
                const uint32_t from = own_start > at ? own_start - at : 0;
                if (from >= own_end) continue;
                for (uint32_t h = 0; h < group; h++) {
                    const size_t head = ((size_t)t * H + (size_t)g * group + h) * D;
                    attend_block(queries + head, s->keys + (size_t)from * D, s->values + (size_t)from * D,
                                 own_end - from, D, how, s->scores, &s->row_max[t * group + h],
                                 &s->row_sum[t * group + h], out + head);
                }
            }
        }
        for (uint32_t t = 0; t < rows; t++)
            for (uint32_t h = 0; h < group; h++) {
                float *o = out + ((size_t)t * H + (size_t)g * group + h) * D;
                const float inverse = 1.0f / s->row_sum[t * group + h];
                for (uint32_t i = 0; i < D; i++) o[i] *= inverse;
            }
    }
    return KVR_OK;
}

static float activated(float x, kvr_activation activation) {
    switch (activation) {
    case KVR_ACT_SILU: return x / (1.0f + expf(-x));
    case KVR_ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case KVR_ACT_GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    }
    return x;
}

static kvr_status cpu_activate(void *user, kvr_view x, kvr_view up, kvr_activation activation, uint32_t rows) {
    cpu_state *s = state_of(user);
    const size_t n = (size_t)rows * s->tensors[x.tensor].cols;
    float *g = work_rows(s, x);
    for (size_t i = 0; i < n; i++) g[i] = activated(g[i], activation);
    if (up.tensor == KVR_NO_TENSOR) return KVR_OK;
    const float *u = work_rows(s, up);
    for (size_t i = 0; i < n; i++) g[i] *= u[i];
    return KVR_OK;
}

static kvr_status cpu_write(void *user, kvr_view dst, uint32_t rows, const void *src) {
    cpu_state *s = state_of(user);
    const kvr_tensor_desc *t = &s->tensors[dst.tensor];
    memcpy((uint8_t *)(uintptr_t)any_rows(s, dst.tensor, dst.row), src,
           (size_t)(rows * kvr_dtype_row_bytes(t->dtype, t->cols)));
    return KVR_OK;
}

static kvr_status cpu_read(void *user, kvr_view src, uint32_t rows, void *dst, kvr_mark after, kvr_fence *out_fence) {
    (void)after; /* operators compute at once */
    cpu_state *s = state_of(user);
    const kvr_tensor_desc *t = &s->tensors[src.tensor];
    memcpy(dst, any_rows(s, src.tensor, src.row), (size_t)(rows * kvr_dtype_row_bytes(t->dtype, t->cols)));
    *out_fence = 0;
    return KVR_OK;
}

static kvr_status cpu_done(void *user, kvr_fence fence) {
    (void)user;
    (void)fence;
    return KVR_OK;
}

void kvr_cpu_backend(kvr_cpu *cpu, kvr_backend *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = cpu;
    out->name = "reference";
    out->call_products = 1u << 27; /* a tenth of a second on a desktop, a second on a small core */
    out->measure = cpu_measure;
    out->open = cpu_open;
    out->close = cpu_close;
    out->embed = cpu_embed;
    out->norm = cpu_norm;
    out->matmul = cpu_matmul;
    out->add_bias = cpu_add_bias;
    out->scale = cpu_scale;
    out->rope = cpu_rope;
    out->store = cpu_store;
    out->attention = cpu_attention;
    out->activate = cpu_activate;
    out->write = cpu_write;
    out->read = cpu_read;
    out->done = cpu_done;
}
