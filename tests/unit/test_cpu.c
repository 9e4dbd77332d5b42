/* Each operator of the reference backend against its definition in double precision; and its two promises on rows. */
#include "fenced.h"

#include "gguf_maker.h"
#include "kvr/kvr_cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#define ROWS 70u /* of every work tensor: 64 and some for views that do not start at row 0 */

enum { MATRIX, VECTOR, FREQ, HEAD, SRC, DST, Q, ATT, KV_SRC, GATE, KEYS, VALUES, N_TENSORS };

typedef struct shape {
    uint32_t dtype, vector_dtype, kv_dtype, N, K, H, G, D, ctx;
} shape;

/* An open backend over one tensor of each kind, with random contents that are known on the host as floats. */
typedef struct rig {
    shape s;
    kvr_tensor_desc tensors[N_TENSORS];
    kvr_cpu cpu;
    kvr_backend b;
    kvr_backend_size size;
    fenced mem;
    gguf_bytes matrix, vector, freq, head;
    float *weight; /* [N][K] as the backend must see it */
    uint64_t rng;
} rig;

static float *floats(size_t n) {
    float *p = (float *)calloc(n, sizeof *p);
    assert_non_null(p);
    return p;
}

static void random_floats(rig *r, float *out, size_t n, float spread) {
    for (size_t i = 0; i < n; i++) out[i] = spread * gguf_random_float(&r->rng);
}

static void set(rig *r, uint32_t i, uint8_t role, uint32_t dtype, uint32_t rows, uint32_t cols, const void *data) {
    kvr_tensor_desc *t = &r->tensors[i];
    memset(t, 0, sizeof *t);
    t->role = role;
    t->dtype = (uint8_t)dtype;
    t->rows = rows;
    t->cols = cols;
    t->bytes = rows * kvr_dtype_row_bytes(dtype, cols);
    t->data = data;
}

static void write_rows(rig *r, uint32_t tensor, uint32_t row, uint32_t rows, const void *bytes) {
    const kvr_view v = {tensor, row};
    assert_int_equal(r->b.write(r->b.user, v, rows, bytes), KVR_OK);
}

static void read_rows(rig *r, uint32_t tensor, uint32_t row, uint32_t rows, void *bytes) {
    const kvr_view v = {tensor, row};
    kvr_fence fence = 99;
    assert_int_equal(r->b.read(r->b.user, v, rows, bytes, KVR_AFTER_ALL, &fence), KVR_OK);
    if (fence != 0) assert_int_equal(r->b.done(r->b.user, fence), KVR_OK);
}

static kvr_backend_need need_of(const rig *r) {
    kvr_backend_need need;
    memset(&need, 0, sizeof need);
    need.struct_bytes = sizeof need;
    need.n_tensors = N_TENSORS;
    need.tensors = r->tensors;
    need.batch_tokens = 64;
    need.ctx_tokens = r->s.ctx;
    need.n_heads = r->s.H;
    need.n_kv_heads = r->s.G;
    need.head_dim = r->s.D;
    return need;
}

static rig *rig_open(shape s) {
    rig *r = (rig *)calloc(1, sizeof *r);
    assert_non_null(r);
    r->s = s;
    r->rng = 5;
    float *values = floats((size_t)s.N * s.K);
    random_floats(r, values, (size_t)s.N * s.K, 1.0f);
    gguf_put_le(&r->matrix, 0, 1); /* weights lie unaligned in the worst file */
    gguf_put_values(&r->matrix, s.dtype, values, (uint64_t)s.N * s.K);
    r->weight = values;
    const uint64_t row_bytes = kvr_dtype_row_bytes(s.dtype, s.K);
    for (uint32_t n = 0; n < s.N; n++)
        kvri_dtype_to_f32(s.dtype, r->matrix.at + 1 + n * row_bytes, s.K, values + (size_t)n * s.K);
    for (uint32_t i = 0; i < s.K; i++) {
        const float value = 1.0f + 0.5f * gguf_random_float(&r->rng);
        gguf_put_values(&r->vector, s.vector_dtype, &value, 1);
    }
    for (uint32_t i = 0; i < s.D / 2; i++) gguf_put_f32(&r->freq, powf(100.0f, -2.0f * (float)i / (float)s.D));
    for (uint32_t i = 0; i < s.D; i++) gguf_put_f32(&r->head, 1.0f + 0.5f * gguf_random_float(&r->rng));
    set(r, MATRIX, KVR_ROLE_MATRIX, s.dtype, s.N, s.K, r->matrix.at + 1);
    set(r, VECTOR, KVR_ROLE_VECTOR, s.vector_dtype, 1, s.K, r->vector.at);
    set(r, FREQ, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, s.D / 2, r->freq.at);
    set(r, HEAD, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, s.D, r->head.at);
    set(r, SRC, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.K, NULL);
    set(r, DST, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.N, NULL);
    set(r, Q, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.H * s.D, NULL);
    set(r, ATT, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.H * s.D, NULL);
    set(r, KV_SRC, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.G * s.D, NULL);
    set(r, GATE, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, s.K, NULL);
    set(r, KEYS, KVR_ROLE_KV, s.kv_dtype, s.ctx, s.G * s.D, NULL);
    set(r, VALUES, KVR_ROLE_KV, s.kv_dtype, s.ctx, s.G * s.D, NULL);
    kvr_cpu_backend(&r->cpu, &r->b);
    const kvr_backend_need need = need_of(r);
    kvr_error error = {0};
    assert_int_equal(r->b.measure(r->b.user, &need, &r->size, &error), KVR_OK);
    r->mem = fenced_alloc((size_t)r->size.host_bytes);
    assert_int_equal(r->b.open(r->b.user, &need, r->mem.at, r->mem.bytes, &error), KVR_OK);
    for (uint32_t i = SRC; i <= GATE; i++) {
        float *x = floats((size_t)ROWS * r->tensors[i].cols);
        random_floats(r, x, (size_t)ROWS * r->tensors[i].cols, 2.0f);
        write_rows(r, i, 0, ROWS, x);
        free(x);
    }
    return r;
}

static void rig_close(rig *r) {
    r->b.close(r->b.user);
    r->b.close(r->b.user); /* harmless */
    fenced_free(&r->mem);
    free(r->matrix.at);
    free(r->vector.at);
    free(r->freq.at);
    free(r->head.at);
    free(r->weight);
    free(r);
}

/* Rows of a work tensor, to be freed. */
static float *work(rig *r, uint32_t tensor, uint32_t row, uint32_t rows) {
    float *x = floats((size_t)rows * r->tensors[tensor].cols);
    read_rows(r, tensor, row, rows, x);
    return x;
}

static void near(double got, double want, double scale) {
    if (!(fabs(got - want) <= 2e-6 * scale + 1e-7)) fail_msg("got %.9g, want %.9g (scale %g)", got, want, scale);
}

static const kvr_norm rms = {VECTOR, KVR_NO_TENSOR, KVR_NORM_RMS, 1e-5f, 0};
static const shape plain = {KVR_DTYPE_F32, KVR_DTYPE_F32, KVR_DTYPE_F16, 13, 37, 6, 2, 10, 200};
static const shape shapes[] = {
    {KVR_DTYPE_F32, KVR_DTYPE_F32, KVR_DTYPE_F16, 13, 37, 6, 2, 10, 200},
    {KVR_DTYPE_F32, KVR_DTYPE_F16, KVR_DTYPE_F32, 1, 1, 1, 1, 2, 70},
    {KVR_DTYPE_F16, KVR_DTYPE_F16, KVR_DTYPE_F32, 7, 51, 5, 5, 34, 130},
    {KVR_DTYPE_Q8_0, KVR_DTYPE_F32, KVR_DTYPE_F16, 33, 96, 8, 1, 16, 140},
    {KVR_DTYPE_Q4_0, KVR_DTYPE_F16, KVR_DTYPE_F16, 5, 160, 4, 4, 64, 129}};
#define N_SHAPES (sizeof shapes / sizeof shapes[0])

static void embed_copies_rows_of_the_weight(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        const uint32_t N = r->s.N, K = r->s.K;
        const int32_t ids[3] = {(int32_t)N - 1, 0, (int32_t)N / 2};
        const kvr_view dst = {SRC, 2};
        float *before = work(r, SRC, 0, ROWS);
        assert_int_equal(r->b.embed(r->b.user, dst, MATRIX, ids, 3), KVR_OK);
        float *got = work(r, SRC, 0, ROWS);
        for (uint32_t t = 0; t < 3; t++)
            assert_memory_equal(got + (size_t)(2 + t) * K, r->weight + (size_t)ids[t] * K, K * sizeof *got);
        assert_memory_equal(got, before, 2 * (size_t)K * sizeof *got); /* other rows keep their contents */
        assert_memory_equal(got + 5 * (size_t)K, before + 5 * (size_t)K, (ROWS - 5) * (size_t)K * sizeof *got);
        free(before);
        free(got);
        rig_close(r);
    }
}

static void rms_norm_divides_by_the_root_of_the_mean_square(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        const uint32_t K = r->s.K;
        float *x = work(r, SRC, 3, 5), *w = floats(K);
        kvri_dtype_to_f32(r->s.vector_dtype, r->vector.at, K, w);
        memset(x, 0, K * sizeof *x); /* a row of zeros stays zero: eps */
        write_rows(r, SRC, 3, 5, x);
        const kvr_view dst = {GATE, 1}, src = {SRC, 3};
        assert_int_equal(r->b.norm(r->b.user, dst, src, &rms, 5), KVR_OK);
        float *got = work(r, GATE, 1, 5);
        for (uint32_t t = 0; t < 5; t++) {
            double mean = 0.0;
            for (uint32_t i = 0; i < K; i++) mean += (double)x[t * K + i] * (double)x[t * K + i] / K;
            for (uint32_t i = 0; i < K; i++)
                near((double)got[t * K + i], (double)x[t * K + i] / sqrt(mean + (double)1e-5f) * (double)w[i], 2.0);
        }
        free(x);
        free(w);
        free(got);
        rig_close(r);
    }
}

static void layer_norm_takes_the_mean_away_and_adds_a_bias(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        const uint32_t K = r->s.K;
        float *x = work(r, SRC, 3, 5), *w = floats(K), *before = work(r, GATE, 1, 5);
        kvri_dtype_to_f32(r->s.vector_dtype, r->vector.at, K, w);
        const kvr_view dst = {GATE, 1}, src = {SRC, 3};
        const kvr_norm how = {VECTOR, VECTOR, KVR_NORM_LAYER, 1e-5f, 1};
        assert_int_equal(r->b.norm(r->b.user, dst, src, &how, 5), KVR_OK);
        float *got = work(r, GATE, 1, 5);
        for (uint32_t t = 0; t < 5; t++) {
            double mean = 0.0, squares = 0.0;
            for (uint32_t i = 0; i < K; i++) mean += (double)x[t * K + i] / K;
            for (uint32_t i = 0; i < K; i++) squares += pow((double)x[t * K + i] - mean, 2) / K;
            for (uint32_t i = 0; i < K; i++)
                near((double)got[t * K + i],
                     (double)before[t * K + i] +
                         ((double)x[t * K + i] - mean) / sqrt(squares + (double)1e-5f) * (double)w[i] + (double)w[i],
                     10.0);
        }
        free(x);
        free(w);
        free(before);
        free(got);
        rig_close(r);
    }
}

static void a_norm_shorter_than_the_row_is_a_norm_per_head(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    const uint32_t H = r->s.H, D = r->s.D;
    const kvr_view q = {Q, 1};
    const kvr_norm how = {HEAD, KVR_NO_TENSOR, KVR_NORM_RMS, 1e-5f, 0};
    float *x = work(r, Q, 0, 4);
    assert_int_equal(r->b.norm(r->b.user, q, q, &how, 2), KVR_OK);
    float *got = work(r, Q, 0, 4);
    for (uint32_t i = 0; i < 4 * H; i++) {
        double mean = 0.0;
        for (uint32_t d = 0; d < D; d++) mean += (double)x[i * D + d] * (double)x[i * D + d] / D;
        for (uint32_t d = 0; d < D; d++) {
            const double w = (double)kvri_lef32(r->head.at + (size_t)d * 4);
            const double want = (double)x[i * D + d] / sqrt(mean + (double)1e-5f) * w;
            near((double)got[i * D + d], i >= H && i < 3 * H ? want : (double)x[i * D + d], 2.0);
        }
    }
    free(x);
    free(got);
    rig_close(r);
}

static void bias_and_scale_change_every_row_they_are_told(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    const uint32_t K = r->s.K;
    const kvr_view x = {SRC, 2};
    float *before = work(r, SRC, 0, 8), *w = floats(K);
    kvri_dtype_to_f32(r->s.vector_dtype, r->vector.at, K, w);
    assert_int_equal(r->b.add_bias(r->b.user, x, VECTOR, 3), KVR_OK);
    assert_int_equal(r->b.scale(r->b.user, x, 3.0f, 0.0f, 3), KVR_OK);
    assert_int_equal(r->b.scale(r->b.user, x, 1.0f, 0.75f, 2), KVR_OK);
    float *got = work(r, SRC, 0, 8);
    for (uint32_t t = 0; t < 8; t++)
        for (uint32_t i = 0; i < K; i++) {
            const double sum = 3.0 * ((double)before[t * K + i] + (double)w[i]);
            const double want = t < 2 || t > 4 ? (double)before[t * K + i] : t == 4 ? sum : 0.75 * tanh(sum / 0.75);
            near((double)got[t * K + i], want, 10.0);
        }
    free(before);
    free(w);
    free(got);
    rig_close(r);
}

static void matmul_is_the_product_with_the_transposed_weight(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        for (int add = 0; add < 2; add++) {
            rig *r = rig_open(shapes[k]);
            const uint32_t N = r->s.N, K = r->s.K;
            const kvr_view dst = {DST, 1}, src = {SRC, 2};
            float *x = work(r, SRC, 2, 3), *before = work(r, DST, 0, ROWS);
            assert_int_equal(r->b.matmul(r->b.user, dst, MATRIX, src, 3, KVR_PATH_PREFILL, add), KVR_OK);
            float *got = work(r, DST, 0, ROWS);
            for (uint32_t t = 0; t < 3; t++) {
                for (uint32_t n = 0; n < N; n++) {
                    double want = add ? (double)before[(1 + t) * N + n] : 0.0, scale = fabs(want);
                    for (uint32_t i = 0; i < K; i++) {
                        const double term = (double)x[t * K + i] * (double)r->weight[n * K + i];
                        want += term;
                        scale += fabs(term);
                    }
                    near((double)got[(1 + t) * N + n], want, scale);
                }
            }
            assert_memory_equal(got, before, N * sizeof *got);
            assert_memory_equal(got + 4 * (size_t)N, before + 4 * (size_t)N, (ROWS - 4) * (size_t)N * sizeof *got);
            free(x);
            free(before);
            free(got);
            rig_close(r);
        }
    }
}

static void rope_rotates_pairs_by_their_position(void **state) {
    (void)state;
    static const uint32_t firsts[] = {0, 1, 63, 100000};
    for (size_t k = 0; k < 8 * N_SHAPES; k++) {
        rig *r = rig_open(shapes[k / 8]);
        const int halves = k % 2 == 1;
        const uint32_t H = r->s.H, D = r->s.D, dims = D >= 8 ? D / 4 * 2 : D; /* also only a part of each head */
        const uint32_t first = firsts[k / 2 % 4], apart = halves ? dims / 2 : 1;
        const kvr_view x = {Q, 1};
        const kvr_rope how = {FREQ, dims, halves ? KVR_ROPE_HALVES : KVR_ROPE_PAIRS, halves ? 1.25f : 1.0f};
        float *want = work(r, Q, 0, 5);
        assert_int_equal(r->b.rope(r->b.user, x, &how, 3, H, first), KVR_OK);
        float *got = work(r, Q, 0, 5);
        for (uint32_t t = 1; t < 4; t++)
            for (uint32_t h = 0; h < H; h++)
                for (uint32_t i = 0; i < dims / 2; i++) {
                    float *pair = want + ((size_t)t * H + h) * D + (halves ? i : 2 * i);
                    const double a = (double)pair[0], b = (double)pair[apart], m = (double)how.magnitude;
                    /* the angle in F32, as devices compute it */
                    const double angle = (double)((float)(first + t - 1) * kvri_lef32(r->freq.at + (size_t)i * 4));
                    pair[0] = (float)(m * (a * cos(angle) - b * sin(angle)));
                    pair[apart] = (float)(m * (a * sin(angle) + b * cos(angle)));
                }
        for (uint32_t i = 0; i < 5 * H * D; i++) near((double)got[i], (double)want[i], 2.5);
        free(want);
        free(got);
        rig_close(r);
    }
}

static void store_converts_to_the_type_of_the_cache(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        const uint32_t cols = r->s.G * r->s.D;
        const kvr_view dst = {KEYS, 60}, src = {KV_SRC, 1};
        float *x = work(r, KV_SRC, 1, 8);
        uint8_t *got = (uint8_t *)floats((size_t)8 * cols), *want = (uint8_t *)floats((size_t)8 * cols);
        assert_int_equal(r->b.store(r->b.user, dst, src, 8), KVR_OK);
        read_rows(r, KEYS, 60, 8, got);
        kvri_dtype_from_f32(r->s.kv_dtype, x, 8 * cols, want);
        assert_memory_equal(got, want, (size_t)(8 * kvr_dtype_row_bytes(r->s.kv_dtype, cols)));
        free(x);
        free(got);
        free(want);
        rig_close(r);
    }
}

/* Fills keys and values and returns them as floats, [ctx][G*D]. */
static float *fill_cache(rig *r, uint32_t tensor) {
    const uint32_t cols = r->s.G * r->s.D;
    const size_t n = (size_t)r->s.ctx * cols;
    float *x = floats(n);
    uint8_t *stored = (uint8_t *)floats(n);
    random_floats(r, x, n, 2.0f);
    kvri_dtype_from_f32(r->s.kv_dtype, x, (uint32_t)n, stored);
    kvri_dtype_to_f32(r->s.kv_dtype, stored, (uint32_t)n, x);
    write_rows(r, tensor, 0, r->s.ctx, stored);
    free(stored);
    return x;
}

static void check_attention(rig *r, const float *keys, const float *values, uint32_t first, uint32_t rows,
                            const kvr_attention *how) {
    const uint32_t H = r->s.H, G = r->s.G, D = r->s.D;
    const kvr_view dst = {ATT, 2}, q = {Q, 1};
    float *query = work(r, Q, 1, rows);
    assert_int_equal(r->b.attention(r->b.user, dst, q, KEYS, VALUES, how, rows, first), KVR_OK);
    float *got = work(r, ATT, 2, rows);
    double *score = (double *)calloc(r->s.ctx, sizeof *score);
    for (uint32_t t = 0; t < rows; t++) {
        for (uint32_t h = 0; h < H; h++) {
            const uint32_t g = h / (H / G), seen = first + t + 1;
            const uint32_t from = how->window != 0 && seen > how->window ? seen - how->window : 0;
            double most = -INFINITY, sum = 0.0;
            for (uint32_t s = from; s < seen; s++) {
                score[s] = 0.0;
                for (uint32_t i = 0; i < D; i++)
                    score[s] += (double)query[((size_t)t * H + h) * D + i] * (double)keys[((size_t)s * G + g) * D + i];
                score[s] *= (double)how->scale;
                if (how->soft_cap != 0.0f) score[s] = (double)how->soft_cap * tanh(score[s] / (double)how->soft_cap);
                most = fmax(most, score[s]);
            }
            for (uint32_t s = from; s < seen; s++) sum += score[s] = exp(score[s] - most);
            for (uint32_t i = 0; i < D; i++) {
                double want = 0.0;
                for (uint32_t s = from; s < seen; s++)
                    want += score[s] / sum * (double)values[((size_t)s * G + g) * D + i];
                near((double)got[((size_t)t * H + h) * D + i], want, 20.0);
            }
        }
    }
    free(score);
    free(query);
    free(got);
}

static void attention_is_the_softmax_over_the_tokens_of_its_window(void **state) {
    (void)state;
    static const struct { uint32_t first, rows; } parts[] = {{0, 1}, {0, 5}, {0, 64}, {1, 1}, {62, 4}, {63, 1},
                                                             {64, 1}, {65, 5}, {127, 2}, {100, 29}};
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        float *keys = fill_cache(r, KEYS), *values = fill_cache(r, VALUES);
        const float scale = 1.0f / sqrtf((float)r->s.D);
        const kvr_path PRE = KVR_PATH_PREFILL;
        const kvr_attention hows[] = {{scale, 0.0f, 0, PRE},  {scale, 0.0f, 1, PRE},  {0.3f, 2.0f, 3, PRE},
                                      {scale, 0.5f, 0, PRE},  {scale, 0.0f, 64, PRE}, {0.1f, 0.0f, 70, PRE},
                                      {scale, 0.0f, 500, PRE}};
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
            for (size_t a = 0; a < sizeof hows / sizeof hows[0]; a++)
                if (parts[i].first + parts[i].rows <= r->s.ctx)
                    check_attention(r, keys, values, parts[i].first, parts[i].rows, &hows[a]);
        free(keys);
        free(values);
        rig_close(r);
    }
}

static void attention_reads_no_key_behind_its_token(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    const uint32_t cols = r->s.G * r->s.D;
    float *keys = fill_cache(r, KEYS), *values = fill_cache(r, VALUES);
    uint16_t *nan = (uint16_t *)malloc((size_t)r->s.ctx * cols * sizeof *nan);
    assert_non_null(nan);
    for (size_t i = 0; i < (size_t)r->s.ctx * cols; i++) nan[i] = 0x7e00;
    write_rows(r, KEYS, 80, r->s.ctx - 80, nan);
    write_rows(r, VALUES, 80, r->s.ctx - 80, nan);
    const kvr_attention how = {0.3f, 0.0f, 0, KVR_PATH_PREFILL};
    check_attention(r, keys, values, 70, 10, &how);
    free(nan);
    free(keys);
    free(values);
    rig_close(r);
}

static void one_sharp_key_takes_all_the_weight(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    float *keys = fill_cache(r, KEYS), *values = fill_cache(r, VALUES), *query = work(r, Q, 1, 1);
    for (uint32_t i = 0; i < r->s.H * r->s.D; i++)
        query[i] *= 400.0f; /* scores of some thousand: exp must not overflow */
    write_rows(r, Q, 1, 1, query);
    const kvr_attention how = {0.3f, 0.0f, 0, KVR_PATH_PREFILL};
    check_attention(r, keys, values, 150, 1, &how);
    free(keys);
    free(values);
    free(query);
    rig_close(r);
}

static double activated(double x, kvr_activation a) {
    if (a == KVR_ACT_SILU) return x / (1.0 + exp(-x));
    if (a == KVR_ACT_GELU) return 0.5 * x * (1.0 + erf(x / sqrt(2.0)));
    return 0.5 * x * (1.0 + tanh(sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
}

static void activations_gate_the_other_branch_or_stand_alone(void **state) {
    (void)state;
    static const float edges[] = {0.0f, -0.0f, 88.0f, -88.0f, 1000.0f, -1000.0f};
    for (int k = 0; k < 6; k++) {
        rig *r = rig_open(plain);
        const uint32_t K = r->s.K;
        const kvr_activation activation = (kvr_activation)(k / 2);
        const kvr_view g = {GATE, 1}, u = {k % 2 ? SRC : KVR_NO_TENSOR, 2};
        float *gate = work(r, GATE, 1, 4), *up = work(r, SRC, 2, 4);
        memcpy(gate, edges, sizeof edges);
        write_rows(r, GATE, 1, 4, gate);
        assert_int_equal(r->b.activate(r->b.user, g, u, activation, 4), KVR_OK);
        float *got = work(r, GATE, 1, 4);
        for (uint32_t i = 0; i < 4 * K; i++) {
            const double want = activated((double)gate[i], activation) * (k % 2 ? (double)up[i] : 1.0);
            near((double)got[i], want, fabs(want) + 1.0);
        }
        free(gate);
        free(up);
        free(got);
        rig_close(r);
    }
}

/* Runs one operator over rows [first, first + rows) of the work tensors; token t is row t. */
typedef void (*step_fn)(rig *r, uint32_t first, uint32_t rows);

static void step_norm(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {GATE, first}, src = {SRC, first};
    r->b.norm(r->b.user, dst, src, &rms, rows);
}
static void step_matmul(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {DST, first}, src = {SRC, first};
    r->b.matmul(r->b.user, dst, MATRIX, src, rows, KVR_PATH_PREFILL, 1);
}
static void step_rope(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view x = {Q, first};
    const kvr_rope how = {FREQ, r->s.D, KVR_ROPE_PAIRS, 1.0f};
    r->b.rope(r->b.user, x, &how, rows, r->s.H, first);
}
static void step_store(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {KEYS, first}, src = {KV_SRC, first};
    r->b.store(r->b.user, dst, src, rows);
}
static void step_attention(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {ATT, first}, q = {Q, first};
    const kvr_attention how = {0.3f, 0.0f, 0, KVR_PATH_PREFILL};
    r->b.attention(r->b.user, dst, q, KEYS, VALUES, &how, rows, first + 5); /* not at a block's boundary */
}
static void step_window(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {ATT, first}, q = {Q, first};
    const kvr_attention how = {0.3f, 1.5f, 9, KVR_PATH_PREFILL};
    r->b.attention(r->b.user, dst, q, KEYS, VALUES, &how, rows, first + 5);
}
static void step_layer_norm(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view dst = {GATE, first}, src = {SRC, first};
    const kvr_norm how = {VECTOR, VECTOR, KVR_NORM_LAYER, 1e-5f, 1};
    r->b.norm(r->b.user, dst, src, &how, rows);
}
static void step_scale(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view x = {SRC, first};
    r->b.add_bias(r->b.user, x, VECTOR, rows);
    r->b.scale(r->b.user, x, 1.5f, 2.0f, rows);
}
static void step_silu(rig *r, uint32_t first, uint32_t rows) {
    const kvr_view gate = {GATE, first}, up = {SRC, first};
    r->b.activate(r->b.user, gate, up, KVR_ACT_SILU, rows);
}

static const struct { step_fn step; uint32_t result;
} steps[] = {{step_norm, GATE},  {step_matmul, DST},    {step_rope, Q},
             {step_store, KEYS}, {step_attention, ATT}, {step_silu, GATE},
             {step_window, ATT}, {step_layer_norm, GATE}, {step_scale, SRC}};

/* All 64 rows in calls of so many rows each; the bytes of the result. */
static uint8_t *in_calls_of(shape s, size_t which, uint32_t rows) {
    rig *r = rig_open(s); /* the same contents every time */
    free(fill_cache(r, KEYS));
    free(fill_cache(r, VALUES));
    for (uint32_t first = 0; first < 64; first += rows)
        steps[which].step(r, first, first + rows <= 64 ? rows : 64 - first);
    uint8_t *bytes = (uint8_t *)floats((size_t)64 * r->tensors[steps[which].result].cols);
    read_rows(r, steps[which].result, 0, 64, bytes);
    rig_close(r);
    return bytes;
}

static void a_row_does_not_depend_on_how_many_share_the_call(void **state) {
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 7, 63};
    for (size_t k = 0; k < N_SHAPES; k++) {
        const uint32_t cols[N_TENSORS] = {[GATE] = shapes[k].K,
                                          [SRC] = shapes[k].K,
                                          [DST] = shapes[k].N,
                                          [Q] = shapes[k].H * shapes[k].D,
                                          [ATT] = shapes[k].H * shapes[k].D,
                                          [KEYS] = shapes[k].G * shapes[k].D};
        for (size_t which = 0; which < sizeof steps / sizeof steps[0]; which++) {
            const uint32_t result = steps[which].result;
            const uint64_t bytes =
                64 * kvr_dtype_row_bytes(result == KEYS ? shapes[k].kv_dtype : KVR_DTYPE_F32, cols[result]);
            uint8_t *whole = in_calls_of(shapes[k], which, 64);
            for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
                uint8_t *parts = in_calls_of(shapes[k], which, counts[i]);
                assert_memory_equal(parts, whole, (size_t)bytes);
                free(parts);
            }
            free(whole);
        }
    }
}

static void both_paths_of_matmul_agree(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]);
        const kvr_view a = {DST, 0}, b = {DST, 1}, src = {SRC, 4};
        r->b.matmul(r->b.user, a, MATRIX, src, 1, KVR_PATH_PREFILL, 0);
        r->b.matmul(r->b.user, b, MATRIX, src, 1, KVR_PATH_DECODE, 0);
        float *got = work(r, DST, 0, 2);
        for (uint32_t n = 0; n < r->s.N; n++) near((double)got[n], (double)got[r->s.N + n], 100.0);
        free(got);
        rig_close(r);
    }
}

static void memory_is_measured_to_the_byte(void **state) {
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        rig *r = rig_open(shapes[k]); /* opens in fenced memory of exactly host_bytes */
        const kvr_backend_need need = need_of(r);
        kvr_cpu cpu = {NULL};
        kvr_backend b;
        kvr_error error = {0};
        kvr_cpu_backend(&cpu, &b);
        assert_int_equal(r->size.in_host, 1);
        assert_true(r->size.kv_bytes + r->size.work_bytes + r->size.scratch_bytes < r->size.host_bytes);
        assert_int_equal(r->size.weight_bytes, 0);
        assert_int_equal(r->size.driver_bytes, 0);
        fenced mem = fenced_alloc((size_t)r->size.host_bytes);
        memset(mem.at, 0xA5, mem.bytes);
        assert_int_equal(b.open(b.user, &need, mem.at, mem.bytes - 1, &error), KVR_ERR_NOMEM);
        for (size_t i = 0; i < mem.bytes; i++) assert_int_equal(mem.at[i], 0xA5);
        assert_null(cpu.state);
        fenced_free(&mem);
        rig_close(r);
    }
}

static void sizes_that_overflow_are_refused(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    kvr_backend_size size;
    kvr_error error = {0};
    const kvr_backend_need need = need_of(r);
    r->tensors[KEYS].bytes = UINT64_MAX;
    assert_int_equal(r->b.measure(r->b.user, &need, &size, &error), KVR_ERR_NOMEM);
    r->tensors[KEYS].bytes = r->tensors[VALUES].bytes = UINT64_MAX / 2 + 1;
    assert_int_equal(r->b.measure(r->b.user, &need, &size, NULL), KVR_ERR_NOMEM);
    rig_close(r);
}

static void one_object_serves_one_session(void **state) {
    (void)state;
    rig *r = rig_open(plain);
    kvr_error error = {0};
    const kvr_backend_need need = need_of(r);
    assert_int_equal(r->b.open(r->b.user, &need, NULL, SIZE_MAX, &error), KVR_ERR_STATE);
    rig_close(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embed_copies_rows_of_the_weight),
        cmocka_unit_test(rms_norm_divides_by_the_root_of_the_mean_square),
        cmocka_unit_test(matmul_is_the_product_with_the_transposed_weight),
        cmocka_unit_test(rope_rotates_pairs_by_their_position),
        cmocka_unit_test(store_converts_to_the_type_of_the_cache),
        cmocka_unit_test(attention_is_the_softmax_over_the_tokens_of_its_window),
        cmocka_unit_test(attention_reads_no_key_behind_its_token),
        cmocka_unit_test(one_sharp_key_takes_all_the_weight),
        cmocka_unit_test(activations_gate_the_other_branch_or_stand_alone),
        cmocka_unit_test(layer_norm_takes_the_mean_away_and_adds_a_bias),
        cmocka_unit_test(a_norm_shorter_than_the_row_is_a_norm_per_head),
        cmocka_unit_test(bias_and_scale_change_every_row_they_are_told),
        cmocka_unit_test(a_row_does_not_depend_on_how_many_share_the_call),
        cmocka_unit_test(both_paths_of_matmul_agree),
        cmocka_unit_test(memory_is_measured_to_the_byte),
        cmocka_unit_test(sizes_that_overflow_are_refused),
        cmocka_unit_test(one_object_serves_one_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
