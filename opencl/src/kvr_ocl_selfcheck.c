/*
 * kvr_ocl_selfcheck.c - does this device compute? Drivers exist that build every kernel, report success, and return
 * wrong numbers. Before a session is handed out each operator runs once on its own weights and a few rows, and some
 * columns of the result, at both ends, are compared with plain C. Activations and caches have no contents yet, so they
 * are the place for it: no memory is taken. Inputs are whole numbers that bytes hold exactly, so that products in
 * integers are as exact as those in floats.
 */
#include "kvr_ocl.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "kvr_checked.h"
#include "kvr_dtype.h"

#define ROWS 3u    /* of a call, where there are so many */
#define COLS 16u   /* that are compared, at the front and at the end */
#define PIECE 256u /* a multiple of every block of weights */
#define POISON 1e30f

/* The share of the sum of magnitudes that a result may be off: float sums of thousands, scales kept in half precision.
 */
#define TOLERANCE 1e-3
#define PAIR_TOLERANCES 3.0 /* weights are rounded to bfloat16: 2^-9 more */

typedef struct check {
    kvr_opencl *cl;
    kvr_backend ops;
    const kvr_backend_need *need;
    kvr_error *error;
} check;

static const kvr_tensor_desc *desc_of(const check *c, uint32_t tensor) {
    return &c->need->tensors[tensor];
}

static kvr_status wrong(const check *c, const char *what) {
    return kvri_fail_s(c->error, KVR_ERR_DEVICE, "opencl",
                       "this device computes wrongly: update its driver, choose another device, or use the reference "
                       "backend (kvr: -d reference); wrong was",
                       what, strlen(what));
}

/* Products have more ways than one. */
static kvr_status wrong_product(const check *c, const char *what, uint32_t dtype) {
    const int is_exact = c->cl->precision == KVR_OPENCL_PRECISION_EXACT ||
                         (kvri_dtype_block(dtype) == 1 && !kvri_ocl_matmul_rounds(c->cl, kvri_ocl_type_of(dtype)));
    if (is_exact) return wrong(c, what);
    return kvri_fail_s(c->error, KVR_ERR_DEVICE, "opencl",
                       "this device computes wrongly: try precision exact (kvr: --precision exact), another device, or "
                       "the reference backend (kvr: -d reference); wrong was",
                       what, strlen(what));
}

/* What an operator said of itself. */
static kvr_status ran(const check *c, kvr_status status) {
    return status == KVR_OK ? status : kvri_ocl_fail(c->error, status, c->cl->last.text, (cl_int)c->cl->last.native);
}

/* Whole numbers from -127 to 127; every block of 32 has the largest, so that its scale is 1. */
static float known(uint32_t row, uint32_t col) {
    return col % 32u == 0 ? 127.0f : (float)((int)((col * 37u + row * 101u + 11u) % 255u) - 127);
}

/* Writes scale * known(row, ..) into a row of activations or of a cache, piece by piece; columns first .. first + n. */
static kvr_status put(const check *c, kvr_view to, float scale, uint32_t first, uint32_t n) {
    const kvr_tensor_desc *desc = desc_of(c, to.tensor);
    const size_t each = (size_t)kvr_dtype_row_bytes(desc->dtype, 1);
    const size_t at = (size_t)to.row * desc->cols;
    float values[PIECE];
    uint8_t bytes[PIECE * sizeof(float)];
    for (uint32_t col = first; col < first + n; col += PIECE) {
        const uint32_t here = (uint32_t)kvri_min(PIECE, first + n - col);
        for (uint32_t i = 0; i < here; i++) values[i] = scale == POISON ? POISON : scale * known(to.row, col + i);
        kvri_dtype_from_f32(desc->dtype, values, here, bytes);
        const cl_int native = clEnqueueWriteBuffer(c->cl->compute, c->cl->session->tensors[to.tensor].buffer, CL_TRUE,
                                                   (at + col) * each, here * each, bytes, 0, NULL, NULL);
        if (native != CL_SUCCESS)
            return kvri_ocl_fail(c->error, KVR_ERR_DEVICE, "the device's self-check could not be written", native);
    }
    kvri_ocl_matmul_changed(c->cl, to.tensor);
    return KVR_OK;
}

static kvr_status put_rows(const check *c, uint32_t tensor, uint32_t rows, float scale) {
    for (uint32_t row = 0; row < rows; row++) {
        const kvr_view to = {tensor, row};
        KVRI_TRY(put(c, to, scale, 0, desc_of(c, tensor)->cols));
    }
    return KVR_OK;
}

/* The columns that are compared: [0, COLS) or the last ones. */
typedef struct range {
    uint32_t first, n;
} range;

static range range_of(uint32_t cols, int at_end) {
    const uint32_t n = (uint32_t)kvri_min(COLS, cols);
    const range r = {at_end ? cols - n : 0, n};
    return r;
}

/* So that a kernel that does nothing is seen. */
static kvr_status poison(const check *c, uint32_t tensor, uint32_t rows) {
    for (uint32_t row = 0; row < rows; row++)
        for (int end = 0; end < 2; end++) {
            const range r = range_of(desc_of(c, tensor)->cols, end);
            const kvr_view to = {tensor, row};
            KVRI_TRY(put(c, to, POISON, r.first, r.n));
        }
    return KVR_OK;
}

static kvr_status get(const check *c, kvr_view from, range r, float out[COLS]) {
    const kvr_tensor_desc *desc = desc_of(c, from.tensor);
    const size_t each = (size_t)kvr_dtype_row_bytes(desc->dtype, 1);
    uint8_t bytes[COLS * sizeof(float)];
    const cl_int native =
        clEnqueueReadBuffer(c->cl->compute, c->cl->session->tensors[from.tensor].buffer, CL_TRUE,
                            ((size_t)from.row * desc->cols + r.first) * each, r.n * each, bytes, 0, NULL, NULL);
    if (native != CL_SUCCESS)
        return kvri_ocl_fail(c->error, KVR_ERR_DEVICE, "the device's self-check could not be read", native);
    kvri_dtype_to_f32(desc->dtype, bytes, r.n, out);
    return KVR_OK;
}

/* Not-a-number is never near, unless the file's own numbers are none, or too large: that is not the device's doing. */
static int near(float got, double wanted, double magnitude) {
    if (!(fabs(wanted) <= (double)FLT_MAX && magnitude <= (double)FLT_MAX)) return 1;
    return fabs((double)got - wanted) <= TOLERANCE * magnitude + 1e-6;
}

/* Activations with so many columns that are none of these two; n_tensors: none. */
static uint32_t find_work(const check *c, uint32_t cols, uint32_t not_this, uint32_t nor_this) {
    uint32_t i = 0;
    while (i < c->need->n_tensors && (desc_of(c, i)->role != KVR_ROLE_WORK || desc_of(c, i)->cols != cols ||
                                      desc_of(c, i)->rows == 0 || i == not_this || i == nor_this))
        i++;
    return i;
}

static uint32_t rows_for(const check *c, uint32_t a, uint32_t b) {
    uint64_t rows = kvri_min(ROWS, c->need->batch_tokens);
    rows = kvri_min(rows, desc_of(c, a)->rows);
    return (uint32_t)kvri_min(rows, desc_of(c, b)->rows);
}

/* --- products and embeddings: a weight against the file's own bytes ---------------------------------------------- */

static const uint8_t *weight_at(const kvr_tensor_desc *desc, uint32_t row, uint32_t col) {
    return (const uint8_t *)desc->data + row * kvr_dtype_row_bytes(desc->dtype, desc->cols) +
           kvr_dtype_row_bytes(desc->dtype, col);
}

static kvr_status compare_product(const check *c, uint32_t weight, uint32_t dst, uint32_t rows, const char *what) {
    const kvr_tensor_desc *desc = desc_of(c, weight);
    const double slack = kvri_ocl_matmul_rounds(c->cl, kvri_ocl_type_of(desc->dtype)) ? PAIR_TOLERANCES : 1.0;
    float got[ROWS][COLS], values[PIECE];
    for (int end = 0; end < 2; end++) {
        const range r = range_of(desc->rows, end);
        for (uint32_t t = 0; t < rows; t++) {
            const kvr_view from = {dst, t};
            KVRI_TRY(get(c, from, r, got[t]));
        }
        for (uint32_t i = 0; i < r.n; i++) {
            double sum[ROWS] = {0}, magnitude[ROWS] = {0};
            for (uint32_t col = 0; col < desc->cols; col += PIECE) {
                const uint32_t n = (uint32_t)kvri_min(PIECE, desc->cols - col);
                kvri_dtype_to_f32(desc->dtype, weight_at(desc, r.first + i, col), n, values);
                for (uint32_t t = 0; t < rows; t++)
                    for (uint32_t k = 0; k < n; k++) {
                        const double y = (double)values[k] * (double)known(t, col + k);
                        sum[t] += y;
                        magnitude[t] += fabs(y);
                    }
            }
            for (uint32_t t = 0; t < rows; t++)
                if (!near(got[t][i], sum[t], slack * magnitude[t])) return wrong_product(c, what, desc->dtype);
        }
    }
    return KVR_OK;
}

static kvr_status check_product(const check *c, uint32_t weight) {
    const kvr_tensor_desc *desc = desc_of(c, weight);
    const uint32_t src = find_work(c, desc->cols, UINT32_MAX, UINT32_MAX), dst = find_work(c, desc->rows, src, src);
    if (src == c->need->n_tensors || dst == c->need->n_tensors) return KVR_OK;
    const uint32_t rows = rows_for(c, src, dst);
    const kvr_view from = {src, 0}, to = {dst, 0};
    KVRI_TRY(put_rows(c, src, rows, 1.0f));
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.matmul(c->cl, to, weight, from, rows, KVR_PATH_PREFILL, 0)));
    KVRI_TRY(compare_product(c, weight, dst, rows, "a product of prompts"));
    KVRI_TRY(poison(c, dst, 1));
    KVRI_TRY(ran(c, c->ops.matmul(c->cl, to, weight, from, 1, KVR_PATH_DECODE, 0)));
    return compare_product(c, weight, dst, 1, "a matrix times a vector");
}

static kvr_status check_embedding(const check *c, uint32_t weight) {
    const kvr_tensor_desc *desc = desc_of(c, weight);
    const uint32_t dst = find_work(c, desc->cols, UINT32_MAX, UINT32_MAX);
    if (dst == c->need->n_tensors) return KVR_OK;
    const uint32_t rows = rows_for(c, dst, dst);
    const int32_t ids[ROWS] = {0, (int32_t)(desc->rows - 1), (int32_t)(desc->rows / 2)};
    const kvr_view to = {dst, 0};
    float got[COLS], values[PIECE];
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.embed(c->cl, to, weight, ids, rows)));
    for (uint32_t t = 0; t < rows; t++)
        for (int end = 0; end < 2; end++) {
            const range all = range_of(desc->cols, end);
            const uint32_t piece = all.first / PIECE * PIECE;
            const uint32_t n = (uint32_t)kvri_min(PIECE, desc->cols - piece);
            const range r = {all.first, (uint32_t)kvri_min(all.n, piece + n - all.first)};
            const kvr_view from = {dst, t};
            double most = 0;
            KVRI_TRY(get(c, from, r, got));
            kvri_dtype_to_f32(desc->dtype, weight_at(desc, (uint32_t)ids[t], piece), n, values);
            for (uint32_t i = 0; i < n; i++) most = fmax(most, fabs((double)values[i]));
            for (uint32_t i = 0; i < r.n; i++)
                if (!near(got[i], (double)values[r.first - piece + i], most)) return wrong(c, "an embedding");
        }
    return KVR_OK;
}

/* The smallest weight of each type stands for all of them. */
static kvr_status check_weights(const check *c) {
    uint64_t seen = 0; /* bit per type */
    for (uint32_t i = 0; i < c->need->n_tensors; i++) {
        uint32_t least = i;
        if (desc_of(c, i)->role != KVR_ROLE_MATRIX || (seen >> desc_of(c, i)->dtype & 1u) != 0) continue;
        seen |= UINT64_C(1) << desc_of(c, i)->dtype;
        for (uint32_t k = i + 1; k < c->need->n_tensors; k++)
            if (desc_of(c, k)->role == KVR_ROLE_MATRIX && desc_of(c, k)->dtype == desc_of(c, i)->dtype &&
                desc_of(c, k)->bytes < desc_of(c, least)->bytes)
                least = k;
        KVRI_TRY(check_product(c, least));
        KVRI_TRY(check_embedding(c, least));
    }
    return KVR_OK;
}

/* --- attention ---------------------------------------------------------------------------------------------------- */

#define ATTENTION_UNIT (1.0f / 128.0f) /* queries, keys and values from -1 to 1, exact in half precision */

/* The result for one element: token t sees keys 0 .. t. */
static double attended(const check *c, const kvr_attention *how, uint32_t t, uint32_t head, uint32_t d) {
    const uint32_t D = c->need->head_dim, group = c->need->n_heads / c->need->n_kv_heads;
    double score[ROWS], most = -INFINITY, sum = 0, value = 0;
    for (uint32_t key = 0; key <= t; key++) {
        score[key] = 0;
        for (uint32_t i = 0; i < D; i++)
            score[key] += (double)(ATTENTION_UNIT * known(t, head * D + i)) *
                          (double)(ATTENTION_UNIT * known(key, head / group * D + i));
        score[key] *= (double)how->scale;
        if (how->soft_cap != 0.0f) score[key] = (double)how->soft_cap * tanh(score[key] / (double)how->soft_cap);
        most = fmax(most, score[key]);
    }
    for (uint32_t key = 0; key <= t; key++) {
        const double p = exp(score[key] - most);
        sum += p;
        value += p * (double)(ATTENTION_UNIT * known(key, head / group * D + d));
    }
    return value / sum;
}

static kvr_status compare_attention(const check *c, uint32_t dst, const kvr_attention *how, uint32_t from_row,
                                    uint32_t rows, const char *what) {
    float got[COLS];
    const uint32_t D = c->need->head_dim;
    for (uint32_t t = from_row; t < rows; t++)
        for (int end = 0; end < 2; end++) {
            const range r = range_of(desc_of(c, dst)->cols, end);
            const kvr_view from = {dst, t};
            KVRI_TRY(get(c, from, r, got));
            for (uint32_t i = 0; i < r.n; i++) {
                const uint32_t col = r.first + i;
                if (!near(got[i], attended(c, how, t, col / D, col % D), 1.0)) return wrong(c, what);
            }
        }
    return KVR_OK;
}

static kvr_status check_attention(const check *c, uint32_t k, uint32_t v) {
    const uint32_t cols = c->need->n_heads * c->need->head_dim;
    const uint32_t q = find_work(c, cols, UINT32_MAX, UINT32_MAX), dst = find_work(c, cols, q, q);
    const float scale = 1.0f / sqrtf((float)c->need->head_dim);
    const kvr_attention ways[] = {{scale, 0.0f, 0, KVR_PATH_PREFILL}, {scale, 2.0f, 0, KVR_PATH_PREFILL}};
    const kvr_attention one = {scale, 0.0f, 0, KVR_PATH_DECODE};
    if (q == c->need->n_tensors || dst == c->need->n_tensors) return KVR_OK;
    const uint32_t rows = (uint32_t)kvri_min(rows_for(c, q, dst), desc_of(c, k)->rows);
    const kvr_view from = {q, 0}, to = {dst, 0}, last_from = {q, rows - 1}, last_to = {dst, rows - 1};
    KVRI_TRY(put_rows(c, q, rows, ATTENTION_UNIT));
    KVRI_TRY(put_rows(c, k, rows, ATTENTION_UNIT));
    KVRI_TRY(put_rows(c, v, rows, ATTENTION_UNIT));
    for (size_t i = 0; i < 2; i++) {
        KVRI_TRY(poison(c, dst, rows));
        KVRI_TRY(ran(c, c->ops.attention(c->cl, to, from, k, v, &ways[i], rows, 0)));
        KVRI_TRY(compare_attention(c, dst, &ways[i], 0, rows, "attention of a prompt"));
    }
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.attention(c->cl, last_to, last_from, k, v, &one, 1, rows - 1)));
    return compare_attention(c, dst, &one, rows - 1, rows, "attention of one token");
}

/* Where a ring begins again: the last of some tokens behind its end sees these alone, which lie in its first rows. */
static kvr_status check_ring(const check *c, uint32_t k, uint32_t v) {
    const uint32_t cols = c->need->n_heads * c->need->head_dim, first_token = desc_of(c, k)->rows;
    const uint32_t q = find_work(c, cols, UINT32_MAX, UINT32_MAX), dst = find_work(c, cols, q, q);
    if (q == c->need->n_tensors || dst == c->need->n_tensors) return KVR_OK;
    const uint32_t rows = (uint32_t)kvri_min(rows_for(c, q, dst), c->need->ctx_tokens - first_token);
    const float scale = 1.0f / sqrtf((float)c->need->head_dim);
    const kvr_attention how = {scale, 0.0f, rows, KVR_PATH_PREFILL}, one = {scale, 0.0f, rows, KVR_PATH_DECODE};
    const kvr_view from = {q, 0}, to = {dst, 0}, last_from = {q, rows - 1}, last_to = {dst, rows - 1};
    KVRI_TRY(put_rows(c, q, rows, ATTENTION_UNIT));
    KVRI_TRY(put_rows(c, k, rows, ATTENTION_UNIT));
    KVRI_TRY(put_rows(c, v, rows, ATTENTION_UNIT));
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.attention(c->cl, to, from, k, v, &how, rows, first_token)));
    KVRI_TRY(compare_attention(c, dst, &how, rows - 1, rows, "attention of a prompt with a window"));
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.attention(c->cl, last_to, last_from, k, v, &one, 1, first_token + rows - 1)));
    return compare_attention(c, dst, &one, rows - 1, rows, "attention of one token with a window");
}

static uint32_t find_vector(const check *c) {
    uint32_t i = 0;
    while (i < c->need->n_tensors && desc_of(c, i)->role != KVR_ROLE_VECTOR) i++;
    return i;
}

/* By store, or by place without a rotation. */
static kvr_status check_store(const check *c, uint32_t kv, int by_place) {
    const uint32_t vector = find_vector(c);
    const uint32_t src = find_work(c, desc_of(c, kv)->cols, UINT32_MAX, UINT32_MAX);
    float got[COLS];
    if (src == c->need->n_tensors || (by_place && vector == c->need->n_tensors)) return KVR_OK;
    const uint32_t rows = (uint32_t)kvri_min(rows_for(c, src, kv), desc_of(c, kv)->rows);
    const kvr_view from = {src, 0}, to = {kv, 0};
    KVRI_TRY(put_rows(c, src, rows, ATTENTION_UNIT));
    KVRI_TRY(put_rows(c, kv, rows, 0.0f));
    const kvr_place what = {{KVR_NO_TENSOR, 0}, from, from, to, to, c->need->n_heads, c->need->n_kv_heads};
    const kvr_rope how = {vector, 0, KVR_ROPE_PAIRS, 1.0f};
    KVRI_TRY(ran(c, by_place ? c->ops.place(c->cl, &what, &how, rows, 0) : c->ops.store(c->cl, to, from, rows)));
    for (uint32_t t = 0; t < rows; t++)
        for (int end = 0; end < 2; end++) {
            const range r = range_of(desc_of(c, kv)->cols, end);
            const kvr_view at = {kv, t};
            KVRI_TRY(get(c, at, r, got));
            for (uint32_t i = 0; i < r.n; i++)
                if (!near(got[i], (double)(ATTENTION_UNIT * known(t, r.first + i)), 1.0))
                    return wrong(c, "storing keys and values");
        }
    return KVR_OK;
}

/* The values that belong to keys; n_tensors: none. */
static uint32_t find_values(const check *c, uint32_t k) {
    const kvr_tensor_desc *keys = desc_of(c, k);
    uint32_t v = k + 1;
    while (v < c->need->n_tensors &&
           (desc_of(c, v)->role != KVR_ROLE_KV || desc_of(c, v)->cols != keys->cols ||
            desc_of(c, v)->rows != keys->rows || desc_of(c, v)->dtype != keys->dtype ||
            keys->cols != c->need->n_kv_heads * c->need->head_dim))
        v++;
    return v;
}

/* The first keys and values, and the first that are a ring. */
static kvr_status check_caches(const check *c) {
    int attended_all = 0;
    for (uint32_t k = 0; k < c->need->n_tensors; k++) {
        if (desc_of(c, k)->role != KVR_ROLE_KV || desc_of(c, k)->rows == 0) continue;
        const uint32_t v = find_values(c, k);
        const int is_ring = desc_of(c, k)->rows < c->need->ctx_tokens && desc_of(c, k)->rows % KVR_BACKEND_RING == 0;
        if (!attended_all) {
            KVRI_TRY(check_store(c, k, 0));
            if (desc_of(c, k)->cols == c->need->n_kv_heads * c->need->head_dim) KVRI_TRY(check_store(c, k, 1));
            if (v < c->need->n_tensors) KVRI_TRY(check_attention(c, k, v));
            attended_all = v < c->need->n_tensors;
        }
        if (is_ring && v < c->need->n_tensors) return check_ring(c, k, v);
    }
    return KVR_OK;
}

/* --- norms, positions, activations -------------------------------------------------------------------------------- */

#define VECTOR_UNIT (1.0f / 64.0f)

static float vector_at(const kvr_tensor_desc *desc, uint32_t col) {
    float value;
    kvri_dtype_to_f32(desc->dtype, (const uint8_t *)desc->data + kvr_dtype_row_bytes(desc->dtype, col), 1, &value);
    return value;
}

static double squares(uint32_t row, uint32_t cols) {
    double sum = 0;
    for (uint32_t i = 0; i < cols; i++) {
        const double x = (double)(VECTOR_UNIT * known(row, i));
        sum += x * x;
    }
    return sum;
}

static kvr_status check_norm(const check *c, uint32_t vector) {
    const kvr_tensor_desc *desc = desc_of(c, vector);
    const uint32_t src = find_work(c, desc->cols, UINT32_MAX, UINT32_MAX), dst = find_work(c, desc->cols, src, src);
    const kvr_norm how = {vector, KVR_NO_TENSOR, KVR_NORM_RMS, 1e-5f, 0};
    float got[COLS];
    if (src == c->need->n_tensors || dst == c->need->n_tensors) return KVR_OK;
    const uint32_t rows = rows_for(c, src, dst);
    const kvr_view from = {src, 0}, to = {dst, 0};
    KVRI_TRY(put_rows(c, src, rows, VECTOR_UNIT));
    KVRI_TRY(poison(c, dst, rows));
    KVRI_TRY(ran(c, c->ops.norm(c->cl, to, from, &how, rows)));
    for (uint32_t t = 0; t < rows; t++) {
        const double factor = 1.0 / sqrt(squares(t, desc->cols) / (double)desc->cols + (double)how.eps);
        for (int end = 0; end < 2; end++) {
            const range r = range_of(desc->cols, end);
            const kvr_view at = {dst, t};
            KVRI_TRY(get(c, at, r, got));
            for (uint32_t i = 0; i < r.n; i++) {
                const double y =
                    (double)(VECTOR_UNIT * known(t, r.first + i)) * factor * (double)vector_at(desc, r.first + i);
                if (!near(got[i], y, fabs(y))) return wrong(c, "a norm");
            }
        }
    }
    return KVR_OK;
}

/* Pairs (2i, 2i + 1) of the first head, at positions 1, 2, 3. */
static kvr_status check_rope(const check *c, uint32_t vector) {
    const kvr_tensor_desc *desc = desc_of(c, vector);
    const uint32_t x = find_work(c, c->need->n_heads * c->need->head_dim, UINT32_MAX, UINT32_MAX);
    if (x == c->need->n_tensors || desc->cols == 0 || desc->cols > c->need->head_dim / 2u) return KVR_OK;
    const kvr_rope how = {vector, 2u * desc->cols, KVR_ROPE_PAIRS, 1.0f};
    const uint32_t rows = rows_for(c, x, x);
    const kvr_view at = {x, 0};
    float got[COLS];
    for (uint32_t i = 0; i < desc->cols; i++)
        if (!(fabsf(vector_at(desc, i)) <= 4.0f)) return KVR_OK; /* too fast for a fair comparison of angles */
    KVRI_TRY(put_rows(c, x, rows, VECTOR_UNIT));
    KVRI_TRY(ran(c, c->ops.rope(c->cl, at, &how, rows, c->need->n_heads, 1)));
    for (uint32_t t = 0; t < rows; t++) {
        const range r = {0, (uint32_t)kvri_min(COLS, how.dims)};
        const kvr_view from = {x, t};
        KVRI_TRY(get(c, from, r, got));
        for (uint32_t i = 0; i < r.n; i += 2) {
            const double angle = (double)(1u + t) * (double)vector_at(desc, i / 2u);
            const double a = (double)(VECTOR_UNIT * known(t, i)), b = (double)(VECTOR_UNIT * known(t, i + 1));
            if (!near(got[i], a * cos(angle) - b * sin(angle), 2.0) ||
                !near(got[i + 1], a * sin(angle) + b * cos(angle), 2.0))
                return wrong(c, "a rotation of positions");
        }
    }
    return KVR_OK;
}

static kvr_status check_activation(const check *c, uint32_t x) {
    const uint32_t rows = rows_for(c, x, x);
    const kvr_view at = {x, 0}, none = {KVR_NO_TENSOR, 0};
    float got[COLS];
    KVRI_TRY(put_rows(c, x, rows, VECTOR_UNIT));
    KVRI_TRY(ran(c, c->ops.activate(c->cl, at, none, KVR_ACT_SILU, rows)));
    for (uint32_t t = 0; t < rows; t++)
        for (int end = 0; end < 2; end++) {
            const range r = range_of(desc_of(c, x)->cols, end);
            const kvr_view from = {x, t};
            KVRI_TRY(get(c, from, r, got));
            for (uint32_t i = 0; i < r.n; i++) {
                const double value = (double)(VECTOR_UNIT * known(t, r.first + i));
                if (!near(got[i], value / (1.0 + exp(-value)), 1.0)) return wrong(c, "an activation");
            }
        }
    return KVR_OK;
}

static kvr_status check_vectors(const check *c) {
    uint32_t normed = 0, turned = 0, activated = 0;
    for (uint32_t i = 0; i < c->need->n_tensors; i++) {
        const kvr_tensor_desc *desc = desc_of(c, i);
        if (desc->role == KVR_ROLE_VECTOR) {
            if (!normed && find_work(c, desc->cols, UINT32_MAX, UINT32_MAX) < c->need->n_tensors) {
                normed = 1;
                KVRI_TRY(check_norm(c, i));
            }
            if (!turned && desc->cols <= c->need->head_dim / 2u) {
                turned = 1;
                KVRI_TRY(check_rope(c, i));
            }
        } else if (desc->role == KVR_ROLE_WORK && !activated && desc->rows > 0) {
            activated = 1;
            KVRI_TRY(check_activation(c, i));
        }
    }
    return KVR_OK;
}

kvr_status kvri_ocl_selfcheck(kvr_opencl *cl, const kvr_backend_need *need, kvr_error *error) {
    check c = {.cl = cl, .need = need, .error = error};
    kvr_opencl_backend(cl, &c.ops);
    KVRI_TRY(check_vectors(&c));
    KVRI_TRY(check_weights(&c));
    return check_caches(&c);
}
