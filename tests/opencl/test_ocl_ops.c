/*
 * Every operator of the OpenCL and the reference backend against plain double-precision computations.
 */
#include "rig.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void close_to(const rig_side *side, double got, double want, double scale, uint32_t row, uint32_t col) {
    if (fabs(got - want) <= 3e-6 * scale + 1e-7) return;
    fail_msg("%s: row %u column %u is %.9g, want %.9g (scale %g)", side->name, row, col, got, want, scale);
}

/* ---- matmul ---- */

typedef struct product_case {
    kvr_dtype dtype;
    uint32_t N, K, rows, src_row, dst_row;
    kvr_path path;
    int add;
    int rounds; /* the OpenCL side quantises activations, or makes pairs of bfloat16 */
} product_case;

/* Activations as the integer products take them: 8 bits and a scale per 32, by the formula of product_int.cl. */
static void quantise(const float *x, uint32_t n, double *out) {
    for (uint32_t b = 0; b < n; b += 32) {
        float most = 0;
        for (uint32_t i = b; i < b + 32; i++) most = fmaxf(most, fabsf(x[i]));
        const float inverse = most > 0 ? 127.0f / most : 0.0f;
        for (uint32_t i = b; i < b + 32; i++)
            out[i] = nearbyint((double)x[i] * (double)inverse) * (double)(most / 127.0f);
    }
}

/* Rounded to 8 significant bits, to nearest even, as pair.cl says. */
static double to_bf16(double x) {
    int exponent = 0;
    const double fraction = frexp(x, &exponent);
    return ldexp(nearbyint(ldexp(fraction, 8)), exponent - 8);
}

static void check_product(const rig *r, const rig_side *side, const product_case *c, uint32_t weight, uint32_t src,
                          uint32_t dst, const float *x, const float *before) {
    const kvr_view to = {dst, c->dst_row};
    const kvr_view from = {src, c->src_row};
    const uint32_t all = r->tensors[dst].rows;
    const int rounds = c->rounds && side == &r->sides[0] && c->dtype != KVR_DTYPE_F32;
    const int is_16bit = c->dtype == KVR_DTYPE_F16 || c->dtype == KVR_DTYPE_BF16;
    const int integers = rounds && !is_16bit, pairs = rounds && is_16bit && c->path == KVR_PATH_PREFILL;
    float *got = rig_alloc(sizeof(float) * all * c->N);
    double *row = rig_alloc(sizeof(double) * c->K);
    rig_write(side, src, 0, r->tensors[src].rows, x);
    rig_write(side, dst, 0, all, before);
    rig_ok(side, side->backend.matmul(side->backend.user, to, weight, from, c->rows, c->path, c->add));
    rig_read(side, dst, 0, all, got);
    for (uint32_t t = 0; t < all; t++) {
        const int inside = t >= c->dst_row && t < c->dst_row + c->rows;
        const float *given = &x[(t - c->dst_row + c->src_row) * c->K];
        for (uint32_t k = 0; k < c->K && inside && !integers; k++)
            row[k] = pairs ? to_bf16((double)given[k]) : (double)given[k];
        if (inside && integers) quantise(given, c->K, row);
        for (uint32_t n = 0; n < c->N; n++) {
            const double old = (double)before[t * c->N + n];
            if (!inside) {
                assert_true((double)got[t * c->N + n] == old); /* rows beside the view are untouched */
                continue;
            }
            double sum = 0;
            double scale = 0;
            for (uint32_t k = 0; k < c->K; k++) {
                const double w = rig_value(r, weight, n, k), p = (pairs ? to_bf16(w) : w) * row[k];
                sum += p;
                scale += fabs(p);
            }
            close_to(side, (double)got[t * c->N + n], sum + (c->add ? old : 0), scale + fabs(old), t, n);
        }
    }
    free(row);
    free(got);
}

/* Rows of 512 are for the types that no other row fits: half the types in a program, half the time to compile it. */
static int is_tested(kvr_dtype dtype, uint32_t cols) {
    return rig_has_type(dtype) && rig_type_fits(dtype, cols) && (cols != 512 || !rig_type_fits(dtype, 64));
}

static void products(const kvr_opencl_config *config) {
    const int integers = config != NULL && config->precision == KVR_OPENCL_PRECISION_INTEGER;
    static const struct { uint32_t N, K; } shapes[] = {{64, 64},   {172, 64}, {64, 172}, {512, 64},
                                                        {100, 352}, {33, 17},  {52, 512}};
    const uint32_t batch = rig_small() ? 5 : 37;
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        if (!rig_has_case(s)) continue;
        rig r;
        const uint32_t N = shapes[s].N;
        const uint32_t K = shapes[s].K;
        uint32_t weights[RIG_TYPES];
        rig_begin(&r, batch, 64, 8, 4, 8);
        for (size_t d = 0; d < RIG_TYPES; d++)
            weights[d] = is_tested(rig_types[d], K) ? rig_add(&r, KVR_ROLE_MATRIX, rig_types[d], N, K) : RIG_TENSORS;
        const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, batch + 3, K);
        const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, batch + 3, N);
        rig_open(&r, config);
        float *x = rig_alloc(sizeof(float) * (batch + 3) * K);
        float *before = rig_alloc(sizeof(float) * (batch + 3) * N);
        rig_fill(x, (size_t)(batch + 3) * K, 5);
        rig_fill(before, (size_t)(batch + 3) * N, 6);
        for (size_t d = 0; d < RIG_TYPES; d++) {
            if (weights[d] == RIG_TENSORS) continue;
            const kvr_dtype type = rig_types[d];
            const product_case cases[] = {{type, N, K, batch, 0, 0, KVR_PATH_PREFILL, 0, integers},
                                          {type, N, K, 4, 2, 1, KVR_PATH_PREFILL, 1, integers},
                                          {type, N, K, 1, 3, 2, KVR_PATH_DECODE, 0, integers},
                                          {type, N, K, 1, 1, 4, KVR_PATH_DECODE, 1, integers}};
            for (size_t c = 0; c < 4; c++)
                for (size_t side = 0; side < 2; side++)
                    check_product(&r, &r.sides[side], &cases[c], weights[d], src, dst, x, before);
        }
        free(x);
        free(before);
        rig_close(&r);
    }
}

static void products_agree_with_double_precision(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    products(NULL);
}

static void products_of_the_own_kernel_agree_too(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_opencl_config config = {0};
    config.gemm = KVR_OPENCL_GEMM_OWN;
    products(&config);
}

static void products_in_integers_and_pairs_are_those_of_rounded_operands(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_opencl_config config = {0};
    config.gemm = KVR_OPENCL_GEMM_OWN;
    config.precision = KVR_OPENCL_PRECISION_INTEGER;
    products(&config);
}

/* 16 MiB panels: 4096 columns of K = 1024, so 4100 rows of weight need two. */
static void a_weight_larger_than_a_panel_is_cut(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    const uint32_t N = 4100;
    const uint32_t K = 1024;
    rig r;
    rig_begin(&r, 4, 64, 8, 4, 8);
    const uint32_t weight = rig_add(&r, KVR_ROLE_MATRIX, KVR_DTYPE_Q8_0, N, K);
    const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, K);
    const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 4, N);
    rig_open(&r, NULL);
    float *x = rig_alloc(sizeof(float) * 4 * K);
    float *before = rig_alloc(sizeof(float) * 4 * N);
    rig_fill(x, 4 * K, 5);
    rig_fill(before, 4 * N, 6);
    const product_case c = {KVR_DTYPE_Q8_0, N, K, 2, 1, 1, KVR_PATH_PREFILL, 1, 0};
    check_product(&r, &r.sides[0], &c, weight, src, dst, x, before);
    free(x);
    free(before);
    rig_close(&r);
}

/* More rows than are packed at a time (512). */
static void a_large_batch_is_cut(void **state) {
    (void)state;
    if (rig_no_device() || rig_small()) skip();
    const uint32_t rows = 700;
    rig r;
    rig_begin(&r, rows, 64, 8, 4, 8);
    const uint32_t weight = rig_add(&r, KVR_ROLE_MATRIX, KVR_DTYPE_F16, 40, 48);
    const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, rows, 48);
    const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, rows, 40);
    rig_open(&r, NULL);
    float *x = rig_alloc(sizeof(float) * rows * 48);
    float *before = rig_alloc(sizeof(float) * rows * 40);
    rig_fill(x, rows * 48, 5);
    rig_fill(before, rows * 40, 6);
    const product_case c = {KVR_DTYPE_F16, 40, 48, rows, 0, 0, KVR_PATH_PREFILL, 0, 0};
    check_product(&r, &r.sides[0], &c, weight, src, dst, x, before);
    free(x);
    free(before);
    rig_close(&r);
}

/* ---- embed ---- */

static int has_least(kvr_dtype dtype) {
    return dtype == KVR_DTYPE_Q4_1 || dtype == KVR_DTYPE_Q5_1 || dtype == KVR_DTYPE_Q2_K || dtype == KVR_DTYPE_Q4_K ||
           dtype == KVR_DTYPE_Q5_K;
}

static void embedding_rows_are_exact(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const uint32_t all_cols[] = {64, 352, 172, 512};
    for (size_t s = 0; s < 4; s++) {
        if (!rig_has_case(s)) continue;
        const uint32_t cols = all_cols[s];
        rig r;
        uint32_t weights[RIG_TYPES];
        int32_t ids[21];
        float got[22 * 512];
        rig_begin(&r, 21, 64, 8, 4, 8);
        for (size_t d = 0; d < RIG_TYPES; d++)
            weights[d] =
                is_tested(rig_types[d], cols) ? rig_add(&r, KVR_ROLE_MATRIX, rig_types[d], 50, cols) : RIG_TENSORS;
        const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 22, cols);
        rig_open(&r, NULL);
        for (size_t d = 0; d < RIG_TYPES; d++)
            for (size_t side = 0; side < 2 && weights[d] != RIG_TENSORS; side++) {
                const rig_side *b = &r.sides[side];
                const kvr_view to = {dst, 1};
                for (int i = 0; i < 21; i++) ids[i] = (i * 17 + 49) % 50;
                rig_ok(b, b->backend.embed(b->backend.user, to, weights[d], ids, 21));
                memset(ids, 0x7f, sizeof ids); /* the ids were copied */
                rig_read(b, dst, 0, 22, got);
                for (uint32_t i = 0; i < 21; i++)
                    for (uint32_t k = 0; k < cols; k++) {
                        const double want = rig_value(&r, weights[d], (i * 17 + 49) % 50, k);
                        /* exact; scale and least are added with one rounding less than the gguf package has */
                        const double off = fabs((double)got[(i + 1) * cols + k] - want);
                        assert_true(off <= (has_least(rig_types[d]) ? 1e-6 : 0));
                    }
            }
        rig_close(&r);
    }
}

/* ---- norm, rope, silu ---- */

static void norms_agree_with_double_precision(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const uint32_t all_cols[] = {64, 172, 288, 20};
    for (size_t s = 0; s < 4; s++) {
        if (!rig_has_case(s)) continue;
        const uint32_t M = all_cols[s];
        rig r;
        float x[12 * 288];
        float got[12 * 288];
        rig_begin(&r, 10, 64, 8, 4, 8);
        const uint32_t weights[] = {rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, M),
                                    rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F16, 1, M)};
        const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 12, M);
        const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 12, M);
        rig_open(&r, NULL);
        rig_fill(x, 12 * M, 9);
        for (size_t w = 0; w < 2; w++)
            for (size_t side = 0; side < 2; side++) {
                const rig_side *b = &r.sides[side];
                const kvr_view from = {src, 2};
                const kvr_view to = {dst, 1};
                rig_write(b, src, 0, 12, x);
                rig_ok(b, rig_rms_norm(b, to, from, weights[w], 9));
                rig_read(b, dst, 0, 12, got);
                for (uint32_t t = 0; t < 9; t++) {
                    double squares = 0;
                    for (uint32_t i = 0; i < M; i++) squares += (double)x[(t + 2) * M + i] * (double)x[(t + 2) * M + i];
                    const double scale = 1 / sqrt(squares / M + (double)1e-5f);
                    for (uint32_t i = 0; i < M; i++) {
                        const double want = (double)x[(t + 2) * M + i] * scale * rig_value(&r, weights[w], 0, i);
                        close_to(b, (double)got[(t + 1) * M + i], want, 1, t, i);
                    }
                }
            }
        rig_close(&r);
    }
}

static void layer_norms_and_norms_per_head_agree_too(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const uint32_t all_cols[] = {64, 172, 20};
    for (size_t s = 0; s < 3; s++) {
        if (!rig_has_case(s)) continue;
        const uint32_t M = all_cols[s], W = 2 * M; /* two stretches per row */
        rig r;
        float x[12 * 344], y[12 * 344], got[12 * 344];
        rig_begin(&r, 10, 64, 8, 4, 8);
        const uint32_t weight = rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, M);
        const uint32_t bias = rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F16, 1, M);
        const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 12, W);
        const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 12, W);
        rig_open(&r, NULL);
        rig_fill(x, 12 * W, 9);
        rig_fill(y, 12 * W, 10);
        for (uint32_t i = 0; i < 12 * W; i++) x[i] += 0.5f;
        for (size_t side = 0; side < 4; side++) {
            const rig_side *b = &r.sides[side % 2];
            const kvr_norm how = {weight, bias, KVR_NORM_LAYER, 1e-5f, side < 2};
            const kvr_view from = {src, 2}, to = {dst, 1};
            rig_write(b, src, 0, 12, x);
            rig_write(b, dst, 0, 12, y);
            rig_ok(b, b->backend.norm(b->backend.user, to, from, &how, 9));
            rig_read(b, dst, 0, 12, got);
            for (uint32_t t = 0; t < 18; t++) { /* stretches */
                const float *in = x + 2 * W + t * M;
                double mean = 0, squares = 0;
                for (uint32_t i = 0; i < M; i++) mean += (double)in[i] / M;
                for (uint32_t i = 0; i < M; i++) squares += ((double)in[i] - mean) * ((double)in[i] - mean);
                for (uint32_t i = 0; i < M; i++) {
                    const double scaled = ((double)in[i] - mean) / sqrt(squares / M + (double)1e-5f);
                    const double want = scaled * rig_value(&r, weight, 0, i) + rig_value(&r, bias, 0, i) +
                                        (side < 2 ? (double)y[W + t * M + i] : 0);
                    close_to(b, (double)got[W + t * M + i], want, 4, t, i);
                }
            }
        }
        rig_close(&r);
    }
}

static void bias_and_scale_agree_with_double_precision(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    const uint32_t F = 300;
    rig r;
    float x[6 * 300], got[6 * 300];
    rig_begin(&r, 5, 64, 8, 4, 8);
    const uint32_t bias = rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F16, 1, F);
    const uint32_t work = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 6, F);
    rig_open(&r, NULL);
    rig_fill(x, 6 * F, 3);
    for (size_t side = 0; side < 4; side++) {
        const rig_side *b = &r.sides[side % 2];
        const kvr_view view = {work, 1};
        const float cap = side < 2 ? 0.0f : 0.75f;
        rig_write(b, work, 0, 6, x);
        rig_ok(b, b->backend.add_bias(b->backend.user, view, bias, 5));
        rig_ok(b, b->backend.scale(b->backend.user, view, 3.0f, cap, 5));
        rig_read(b, work, 0, 6, got);
        for (uint32_t i = 0; i < 6 * F; i++) {
            const double sum = 3 * ((double)x[i] + rig_value(&r, bias, 0, i % F));
            const double want = cap != 0.0f ? (double)cap * tanh(sum / (double)cap) : sum;
            close_to(b, (double)got[i], i < F ? (double)x[i] : want, 4, i / F, i % F);
        }
    }
    rig_close(&r);
}

static void rope_turns_the_pairs_of_a_head(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const struct { uint32_t H, D, dims, first; kvr_rope_style style; float magnitude; } cases[] = {
        {8, 8, 8, 0, KVR_ROPE_PAIRS, 1.0f},        {3, 64, 64, 1000, KVR_ROPE_PAIRS, 1.0f},
        {2, 80, 20, 77, KVR_ROPE_PAIRS, 1.0f},     {8, 8, 8, 0, KVR_ROPE_HALVES, 1.0f},
        {3, 64, 64, 1000, KVR_ROPE_HALVES, 1.19f}, {2, 80, 20, 77, KVR_ROPE_HALVES, 1.0f}};
    for (size_t s = 0; s < sizeof cases / sizeof cases[0]; s++) {
        if (!rig_has_case(s)) continue;
        const uint32_t H = cases[s].H, D = cases[s].D, pairs = cases[s].dims / 2;
        const int halves = cases[s].style == KVR_ROPE_HALVES;
        rig r;
        float x[9 * 200];
        float got[9 * 200];
        rig_begin(&r, 8, 64, H, 1, D);
        const uint32_t freq = rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, pairs);
        const uint32_t work = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 9, H * D);
        for (uint32_t i = 0; i < pairs; i++)
            ((float *)r.data[freq])[i] = (float)pow(10000.0, -2.0 * i / cases[s].dims);
        rig_open(&r, NULL);
        rig_fill(x, 9 * H * D, 3);
        for (size_t side = 0; side < 2; side++) {
            const rig_side *b = &r.sides[side];
            const kvr_view view = {work, 1};
            const kvr_rope how = {freq, cases[s].dims, cases[s].style, cases[s].magnitude};
            const double m = (double)how.magnitude;
            rig_write(b, work, 0, 9, x);
            rig_ok(b, b->backend.rope(b->backend.user, view, &how, 8, H, cases[s].first));
            rig_read(b, work, 0, 9, got);
            for (uint32_t t = 0; t < 8; t++)
                for (uint32_t h = 0; h < H; h++) {
                    const float *in = &x[((t + 1) * H + h) * D];
                    const float *out = &got[((t + 1) * H + h) * D];
                    for (uint32_t d = 2 * pairs; d < D; d++) assert_true(in[d] == out[d]);
                    for (uint32_t i = 0; i < pairs; i++) {
                        const uint32_t p = halves ? i : 2 * i, q = halves ? i + pairs : 2 * i + 1;
                        /* The angle is rounded to float, as every implementation rounds it. */
                        const double angle = (double)((float)(cases[s].first + t) * ((float *)r.data[freq])[i]);
                        const double c = cos(angle) * m, n = sin(angle) * m;
                        close_to(b, (double)out[p], (double)in[p] * c - (double)in[q] * n, 1, t, i);
                        close_to(b, (double)out[q], (double)in[p] * n + (double)in[q] * c, 1, t, i);
                    }
                }
        }
        rig_close(&r);
    }
}

static double activated(double x, kvr_activation a) {
    if (a == KVR_ACT_SILU) return x / (1 + exp(-x));
    if (a == KVR_ACT_GELU) return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
}

static void activations_agree_with_double_precision(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    const uint32_t F = 300; /* one whole column chunk of 256, then 44 = 2 * 16 + 12 */
    rig r;
    float g[6 * 300];
    float u[6 * 300];
    float got[6 * 300];
    rig_begin(&r, 5, 64, 8, 4, 8);
    const uint32_t gate = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 6, F);
    const uint32_t up = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 6, F);
    rig_open(&r, NULL);
    rig_fill(g, 6 * F, 3);
    rig_fill(u, 6 * F, 4);
    for (uint32_t i = 0; i < 6 * F; i++) g[i] *= i % 2 == 0 ? 40.0f : 2.0f;
    g[F] = 200.0f;
    g[F + 1] = -200.0f; /* exp overflows; the result is -0 */
    for (int k = 0; k < 12; k++) {
        const rig_side *b = &r.sides[k % 2];
        const kvr_activation activation = (kvr_activation)(k / 4);
        const int alone = k / 2 % 2;
        const kvr_view a = {gate, 1};
        const kvr_view c = {alone ? KVR_NO_TENSOR : up, 0};
        rig_write(b, gate, 0, 6, g);
        rig_write(b, up, 0, 6, u);
        rig_ok(b, b->backend.activate(b->backend.user, a, c, activation, 5));
        rig_read(b, gate, 0, 6, got);
        for (uint32_t t = 0; t < 5; t++)
            for (uint32_t i = 0; i < F; i++) {
                const double x = (double)g[(t + 1) * F + i];
                const double want = activated(x, activation) * (alone ? 1 : (double)u[t * F + i]);
                close_to(b, (double)got[(t + 1) * F + i], want, fabs(x), t, i);
            }
    }
    rig_close(&r);
}

/* ---- keys and values ---- */

static void stored_keys_are_rounded_to_nearest_even(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    const uint32_t cols = 300;
    rig r;
    float x[5 * 300];
    uint16_t half[7 * 300];
    float whole[7 * 300];
    rig_begin(&r, 5, 7, 30, 30, 10);
    const uint32_t work = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 5, cols);
    const uint32_t kv16 = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 7, cols);
    const uint32_t kv32 = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, 7, cols);
    rig_open(&r, NULL);
    rig_fill(x, 5 * cols, 8);
    for (uint32_t i = 0; i < 5 * cols; i += 3) x[i] *= 300.0f;
    x[cols] = 1.00048828125f;     /* half way between two halves: to even, down */
    x[cols + 1] = 1.00146484375f; /* half way: to even, up */
    for (size_t side = 0; side < 2; side++) {
        const rig_side *b = &r.sides[side];
        const kvr_view from = {work, 1};
        const kvr_view to16 = {kv16, 3};
        const kvr_view to32 = {kv32, 3};
        rig_write(b, work, 0, 5, x);
        rig_ok(b, b->backend.store(b->backend.user, to16, from, 4));
        rig_ok(b, b->backend.store(b->backend.user, to32, from, 4));
        rig_read(b, kv16, 0, 7, half);
        rig_read(b, kv32, 0, 7, whole);
        for (uint32_t i = 0; i < 4 * cols; i++) {
            assert_int_equal(half[3 * cols + i], rig_to_half(x[cols + i]));
            assert_true(whole[3 * cols + i] == x[cols + i]);
        }
    }
    rig_close(&r);
}

/* Of 8 bits: exactly what the reference backend makes of them, on every device. */
static void stored_keys_of_8_bits_are_the_same_everywhere(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    const uint32_t cols = 320;
    rig r;
    float x[5 * 320];
    uint16_t half[7 * 320];
    uint16_t first_half[7 * 320] = {0};
    float whole[7 * 320];
    rig_begin(&r, 5, 7, 32, 32, 10);
    r.need.kv_8bit = 1;
    const uint32_t work = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 5, cols);
    const uint32_t kv16 = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 7, cols);
    const uint32_t kv32 = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, 7, cols);
    rig_open(&r, NULL);
    for (int e = -30; e < 18; e += 4) {
        rig_fill(x, 5 * cols, (uint32_t)(e + 31));
        for (uint32_t i = 0; i < 5 * cols; i++) x[i] = ldexpf(x[i], e);
        x[32] = 65519.0f;
        x[96] = e % 8 == 0 ? NAN : 1e30f; /* too large, as what is no number, makes its block none */
        for (uint32_t i = 64; i < 96; i++) x[i] = 0.0f;
        for (size_t side = 0; side < 2; side++) {
            const rig_side *b = &r.sides[side];
            const kvr_view from = {work, 0};
            const kvr_view to16 = {kv16, 1};
            const kvr_view to32 = {kv32, 1};
            rig_write(b, work, 0, 5, x);
            rig_ok(b, b->backend.store(b->backend.user, to16, from, 5));
            rig_ok(b, b->backend.store(b->backend.user, to32, from, 5));
            rig_read(b, kv16, 0, 7, half);
            rig_read(b, kv32, 0, 7, whole);
            if (side == 0) memcpy(first_half, half, sizeof half);
            for (uint32_t i = cols; i < 6 * cols; i++) {
                const uint32_t block = (i - cols) / 32;
                if (block == 3) assert_true(isnan(whole[i]) && (half[i] & 0x7fffu) > 0x7c00u);
                else assert_true(half[i] == first_half[i] && (double)whole[i] == rig_half(half[i]));
            }
        }
    }
    rig_close(&r);
}

/* Of row t of n columns; other rows must be numbers. */
static void expect_none(const rig_side *b, const float *got, uint32_t rows, uint32_t cols, uint32_t t,
                        const char *what) {
    for (uint32_t i = 0; i < rows * cols; i++)
        if (isfinite(got[i]) == (i / cols == t)) fail_msg("%s: %s, row %u", b->name, what, i / cols);
}

/* A damaged weight makes one value of one row none; what comes of it must not pass for a number. */
static void what_is_no_number_stays_none(void **state) {
    (void)state;
    enum { ROWS = 5, K = 64, N = 48, H = 4, D = 16, CTX = 40, FIRST = 33 };
    static const kvr_dtype types[] = {KVR_DTYPE_F16, KVR_DTYPE_Q8_0, KVR_DTYPE_Q4_0};
    if (rig_no_device()) skip();
    rig r;
    uint32_t weights[3];
    rig_begin(&r, ROWS, CTX, H, H, D);
    for (size_t d = 0; d < 3; d++) weights[d] = rig_add(&r, KVR_ROLE_MATRIX, types[d], N, K);
    const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, K);
    const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, N);
    const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, H * D);
    const uint32_t k = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, CTX, H * D);
    const uint32_t v = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, CTX, H * D);
    const uint32_t out = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, H * D);
    rig_open(&r, NULL);
    float x[ROWS * K], got[ROWS * H * D], kv[CTX * H * D];
    for (size_t side = 0; side < 2; side++) {
        const rig_side *b = &r.sides[side];
        for (uint32_t n = 1; n <= ROWS; n += ROWS - 1)
            for (size_t d = 0; d < 3; d++) {
                rig_fill(x, ROWS * K, 3);
                x[(n - 1) * K + 37] = NAN;
                rig_write(b, src, 0, ROWS, x);
                const kvr_view to = {dst, 0}, from = {src, 0};
                rig_ok(b, b->backend.matmul(b->backend.user, to, weights[d], from, n,
                                            n == 1 ? KVR_PATH_DECODE : KVR_PATH_PREFILL, 0));
                rig_read(b, dst, 0, n, got);
                expect_none(b, got, n, N, n - 1, kvr_dtype_name(types[d]));
            }
        /* a query, a key, a value; all of the row's heads, so that every column shows it */
        for (int which = 0; which < 3; which++)
            for (uint32_t n = 1; n <= ROWS; n += ROWS - 1) {
                const kvr_attention how = {0.25f, 0.0f, 0, n == 1 ? KVR_PATH_DECODE : KVR_PATH_PREFILL};
                rig_fill(x, ROWS * H * D, 4);
                for (uint32_t h = 0; which == 0 && h < H; h++) x[(n - 1) * H * D + h * D + 3] = NAN;
                rig_write(b, q, 0, ROWS, x);
                for (uint32_t t = 1; t < 3; t++) { /* keys, values */
                    rig_fill(kv, CTX * H * D, 5 + t);
                    for (uint32_t i = 0; (int)t == which && i < H * D; i++)
                        if (t == 2 || i % D == 5) kv[(FIRST + n - 1) * H * D + i] = NAN; /* the last row's own token */
                    rig_write(b, t == 1 ? k : v, 0, CTX, kv);
                }
                const kvr_view to = {out, 0}, from = {q, 0};
                rig_ok(b, b->backend.attention(b->backend.user, to, from, k, v, &how, n, FIRST));
                rig_read(b, out, 0, n, got);
                expect_none(b, got, n, H * D, n - 1, which == 0 ? "a query" : which == 1 ? "a key" : "a value");
            }
    }
    rig_close(&r);
}

typedef struct attention_case {
    uint32_t H, G, D, ctx, first, rows;
    kvr_dtype dtype;
    kvr_attention how;
} attention_case;

static double kv_at(const attention_case *c, const void *kv, uint32_t i) {
    return c->dtype == KVR_DTYPE_F16 ? rig_half(((const uint16_t *)kv)[i]) : (double)((const float *)kv)[i];
}

static void check_attention(const attention_case *c) {
    rig r;
    const uint32_t cols = c->G * c->D;
    const uint32_t width = c->H * c->D;
    rig_begin(&r, c->rows, c->ctx, c->H, c->G, c->D);
    const uint32_t k = rig_add(&r, KVR_ROLE_KV, c->dtype, c->ctx, cols);
    const uint32_t v = rig_add(&r, KVR_ROLE_KV, c->dtype, c->ctx, cols);
    const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, c->rows + 1, width);
    const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, c->rows + 2, width);
    rig_open(&r, NULL);
    float *query = rig_alloc(sizeof(float) * (c->rows + 1) * width);
    float *got = rig_alloc(sizeof(float) * (c->rows + 2) * width);
    void *keys = rig_alloc(sizeof(float) * c->ctx * cols);
    void *values = rig_alloc(sizeof(float) * c->ctx * cols);
    uint32_t seed = 12;
    rig_fill(query, (size_t)(c->rows + 1) * width, 2);
    for (uint32_t i = 0; i < (c->rows + 1) * width; i++) query[i] *= 4.0f;
    for (uint32_t i = 0; i < c->ctx * cols; i++) {
        /* Past the last key: values that would show in any result. */
        const int seen = i < (c->first + c->rows) * cols;
        const float a = seen ? rig_random(&seed) : 60000.0f;
        const float b = seen ? rig_random(&seed) : 60000.0f;
        if (c->dtype == KVR_DTYPE_F16) {
            ((uint16_t *)keys)[i] = rig_to_half(a);
            ((uint16_t *)values)[i] = rig_to_half(b);
        } else {
            ((float *)keys)[i] = a;
            ((float *)values)[i] = b;
        }
    }
    double *p = rig_alloc(sizeof(double) * c->ctx);
    for (size_t side = 0; side < 2; side++) {
        const rig_side *b = &r.sides[side];
        const kvr_view from = {q, 1};
        const kvr_view to = {dst, 2};
        rig_write(b, q, 0, c->rows + 1, query);
        rig_write(b, k, 0, c->ctx, keys);
        rig_write(b, v, 0, c->ctx, values);
        rig_ok(b, b->backend.attention(b->backend.user, to, from, k, v, &c->how, c->rows, c->first));
        rig_read(b, dst, 0, c->rows + 2, got);
        for (uint32_t t = 0; t < c->rows; t++)
            for (uint32_t h = 0; h < c->H; h++) {
                const uint32_t g = h / (c->H / c->G);
                const uint32_t end = c->first + t + 1;
                const uint32_t start = c->how.window != 0 && end > c->how.window ? end - c->how.window : 0;
                double most = -1e300;
                double sum = 0;
                for (uint32_t j = start; j < end; j++) {
                    p[j] = 0;
                    for (uint32_t d = 0; d < c->D; d++)
                        p[j] +=
                            (double)query[((t + 1) * c->H + h) * c->D + d] * kv_at(c, keys, j * cols + g * c->D + d);
                    p[j] *= (double)c->how.scale;
                    if (c->how.soft_cap != 0.0f)
                        p[j] = (double)c->how.soft_cap * tanh(p[j] / (double)c->how.soft_cap);
                    if (p[j] > most) most = p[j];
                }
                for (uint32_t j = start; j < end; j++) sum += p[j] = exp(p[j] - most);
                for (uint32_t d = 0; d < c->D; d++) {
                    double want = 0;
                    for (uint32_t j = start; j < end; j++)
                        want += p[j] / sum * kv_at(c, values, j * cols + g * c->D + d);
                    close_to(b, (double)got[((t + 2) * c->H + h) * c->D + d], want, 1, t, h * c->D + d);
                }
            }
    }
    free(p);
    free(query);
    free(got);
    free(keys);
    free(values);
    rig_close(&r);
}

static void attention_agrees_with_double_precision(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const attention_case cases[] = {
        {8, 4, 8, 100, 0, 70, KVR_DTYPE_F16, {0.35f, 0.0f, 0, KVR_PATH_PREFILL}},
        {8, 4, 8, 100, 31, 34, KVR_DTYPE_F32, {0.35f, 0.0f, 0, KVR_PATH_PREFILL}},
        {4, 2, 32, 150, 63, 3, KVR_DTYPE_F16, {0.18f, 0.0f, 0, KVR_PATH_PREFILL}},
        {3, 1, 64, 140, 128, 1, KVR_DTYPE_F16, {0.1f, 0.0f, 0, KVR_PATH_PREFILL}},
        {2, 2, 80, 70, 20, 33, KVR_DTYPE_F16, {0.1f, 0.0f, 0, KVR_PATH_PREFILL}},
        {2, 1, 96, 40, 0, 33, KVR_DTYPE_F32, {0.1f, 0.0f, 0, KVR_PATH_PREFILL}},
        {2, 1, 128, 80, 32, 32, KVR_DTYPE_F16, {0.1f, 0.0f, 0, KVR_PATH_PREFILL}},
        {4, 4, 6, 65, 0, 65, KVR_DTYPE_F16, {0.4f, 0.0f, 0, KVR_PATH_PREFILL}},
        {8, 4, 8, 100, 0, 70, KVR_DTYPE_F16, {0.35f, 0.0f, 20, KVR_PATH_PREFILL}},
        {7, 1, 8, 200, 130, 40, KVR_DTYPE_F32, {0.3f, 2.0f, 64, KVR_PATH_PREFILL}},
        {4, 2, 32, 150, 63, 3, KVR_DTYPE_F16, {0.18f, 0.5f, 1, KVR_PATH_PREFILL}},
        {3, 1, 64, 140, 100, 33, KVR_DTYPE_F16, {0.1f, 0.0f, 2, KVR_PATH_PREFILL}},
        {6, 2, 6, 99, 0, 99, KVR_DTYPE_F16, {0.3f, 30.0f, 500, KVR_PATH_PREFILL}},
        {2, 1, 256, 60, 20, 40, KVR_DTYPE_F16, {0.06f, 50.0f, 33, KVR_PATH_PREFILL}},
        /* one row in parts: within the first, up to and over a boundary, with windows, groups of many sizes */
        {8, 4, 8, 300, 0, 1, KVR_DTYPE_F16, {0.35f, 0.0f, 0, KVR_PATH_DECODE}},
        {8, 1, 64, 300, 255, 1, KVR_DTYPE_F16, {0.1f, 0.0f, 0, KVR_PATH_DECODE}},
        {8, 1, 64, 300, 256, 1, KVR_DTYPE_F32, {0.1f, 0.0f, 0, KVR_PATH_DECODE}},
        {4, 4, 48, 900, 801, 1, KVR_DTYPE_F16, {0.1f, 0.0f, 0, KVR_PATH_DECODE}},
        {9, 1, 16, 900, 899, 1, KVR_DTYPE_F16, {0.3f, 5.0f, 0, KVR_PATH_DECODE}},
        {6, 2, 10, 900, 700, 1, KVR_DTYPE_F16, {0.3f, 0.0f, 450, KVR_PATH_DECODE}},
        {14, 2, 128, 700, 600, 1, KVR_DTYPE_F16, {0.08f, 0.0f, 89, KVR_PATH_DECODE}},
        {3, 1, 80, 600, 513, 1, KVR_DTYPE_F32, {0.1f, 1.5f, 2, KVR_PATH_DECODE}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!rig_has_case(i) || (rig_small() && cases[i].rows > 40)) continue;
        check_attention(&cases[i]);
    }
}

typedef struct ring_case {
    uint32_t H, G, D, ring, first, rows;
    kvr_dtype dtype;
    kvr_attention how;
} ring_case;

static void put_number(kvr_dtype dtype, void *at, size_t i, float value) {
    if (dtype == KVR_DTYPE_F16) ((uint16_t *)at)[i] = rig_to_half(value);
    else ((float *)at)[i] = value;
}

/* The same tokens in caches of all rows and in rings, whose other rows hold what is no number. */
static void check_ring(const ring_case *c) {
    rig r;
    const uint32_t cols = c->G * c->D, width = c->H * c->D, ctx = c->first + c->rows + 3;
    const size_t row_bytes = (size_t)kvr_dtype_row_bytes(c->dtype, cols);
    rig_begin(&r, c->rows, ctx, c->H, c->G, c->D);
    uint32_t kv[2][2], dst[2];
    for (uint32_t i = 0; i < 4; i++)
        kv[i / 2][i % 2] = rig_add(&r, KVR_ROLE_KV, c->dtype, i < 2 ? ctx : c->ring, cols);
    const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, c->rows, width);
    for (uint32_t i = 0; i < 2; i++) dst[i] = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, c->rows, width);
    rig_open(&r, NULL);
    const uint32_t end = c->first + c->rows, shown = c->rows + c->how.window - 1;
    const uint32_t start = end > shown ? end - shown : 0;
    uint8_t *cache = rig_alloc(ctx * row_bytes), *ring = rig_alloc(c->ring * row_bytes);
    float *query = rig_alloc(sizeof(float) * c->rows * width);
    float *got[2] = {rig_alloc(sizeof(float) * c->rows * width), rig_alloc(sizeof(float) * c->rows * width)};
    uint32_t seed = 5;
    rig_fill(query, (size_t)c->rows * width, 2);
    for (size_t side = 0; side < 2; side++) {
        const rig_side *b = &r.sides[side];
        const kvr_view from = {q, 0};
        rig_write(b, q, 0, c->rows, query);
        for (uint32_t v = 0; v < 2; v++) {
            for (size_t i = 0; i < (size_t)ctx * cols; i++) put_number(c->dtype, cache, i, rig_random(&seed));
            memset(ring, 0x7f, c->ring * row_bytes); /* F16 and F32: not a number */
            for (uint32_t t = start; t < end; t++)
                memcpy(ring + t % c->ring * row_bytes, cache + t * row_bytes, row_bytes);
            rig_write(b, kv[0][v], 0, ctx, cache);
            rig_write(b, kv[1][v], 0, c->ring, ring);
        }
        for (uint32_t i = 0; i < 2; i++) {
            const kvr_view to = {dst[i], 0};
            rig_ok(b, b->backend.attention(b->backend.user, to, from, kv[i][0], kv[i][1], &c->how, c->rows, c->first));
            rig_read(b, dst[i], 0, c->rows, got[i]);
        }
        if (memcmp(got[0], got[1], sizeof(float) * c->rows * width) != 0)
            fail_msg("%s: a ring of %u at token %u differs", b->name, c->ring, c->first);
    }
    free(cache);
    free(ring);
    free(query);
    free(got[0]);
    free(got[1]);
    rig_close(&r);
}

static void rings_give_the_bits_of_caches_of_all_rows(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    const kvr_path PRE = KVR_PATH_PREFILL, ONE = KVR_PATH_DECODE;
    const ring_case cases[] = {
        {4, 2, 32, 64, 50, 30, KVR_DTYPE_F16, {0.2f, 0.0f, 9, PRE}},
        {3, 1, 16, 64, 127, 33, KVR_DTYPE_F32, {0.2f, 0.0f, 32, PRE}},
        {6, 2, 10, 128, 500, 64, KVR_DTYPE_F16, {0.3f, 2.0f, 65, PRE}},
        {2, 1, 256, 64, 70, 40, KVR_DTYPE_F16, {0.1f, 50.0f, 2, PRE}},
        {4, 2, 32, 64, 191, 2, KVR_DTYPE_F16, {0.2f, 0.0f, 1, PRE}},
        {7, 1, 8, 192, 3000, 31, KVR_DTYPE_F32, {0.3f, 0.0f, 150, PRE}},
        {8, 4, 64, 64, 64, 1, KVR_DTYPE_F16, {0.1f, 0.0f, 7, ONE}},
        {8, 1, 64, 64, 639, 1, KVR_DTYPE_F16, {0.1f, 0.0f, 64, ONE}},
        {3, 1, 80, 128, 300, 1, KVR_DTYPE_F32, {0.1f, 1.5f, 100, ONE}},
        {6, 2, 10, 64, 257, 1, KVR_DTYPE_F16, {0.3f, 0.0f, 40, ONE}},
        {14, 2, 128, 640, 1300, 1, KVR_DTYPE_F16, {0.08f, 0.0f, 600, ONE}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!rig_has_case(i) || (rig_small() && cases[i].rows > 40)) continue;
        check_ring(&cases[i]);
    }
}

/* What a ring cannot hold is the caller's mistake. */
static void attention_over_more_than_a_ring_holds_is_refused(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    rig_begin(&r, 40, 300, 4, 2, 8);
    const uint32_t k = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 64, 16),
                   v = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 64, 16);
    const uint32_t odd = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F16, 70, 16);
    const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 40, 32),
                   dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 40, 32);
    rig_open(&r, NULL);
    const kvr_backend *b = &r.sides[0].backend;
    const kvr_view from = {q, 0}, to = {dst, 0};
    const struct { uint32_t k, v, window, rows, first; kvr_status status; } cases[] = {
        {k, v, 30, 35, 100, KVR_OK},       {k, v, 30, 36, 100, KVR_ERR_ARG},  {k, v, 0, 1, 64, KVR_ERR_ARG},
        {k, v, 0, 1, 63, KVR_OK},          {k, v, 30, 1, 300, KVR_ERR_ARG},   {k, v, UINT32_MAX, 1, 100, KVR_ERR_ARG},
        {odd, odd, 9, 1, 100, KVR_ERR_ARG}, {k, odd, 9, 1, 100, KVR_ERR_ARG}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const kvr_attention how = {0.3f, 0.0f, cases[i].window, KVR_PATH_PREFILL};
        assert_int_equal(b->attention(b->user, to, from, cases[i].k, cases[i].v, &how, cases[i].rows, cases[i].first),
                         cases[i].status);
    }
    rig_close(&r);
}

/* ---- transfers ---- */

static void reads_see_all_operators_before_them_and_fences_are_a_fixed_pool(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    float ones[64];
    float got[KVR_BACKEND_FENCES][64];
    rig_begin(&r, 1, 64, 8, 4, 8);
    const uint32_t gate = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, 64);
    const uint32_t up = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, 64);
    rig_open(&r, NULL);
    const rig_side *b = &r.sides[0];
    const kvr_view a = {gate, 0};
    const kvr_view c = {up, 0};
    kvr_fence fences[KVR_BACKEND_FENCES];
    kvr_fence extra = 0;
    for (int i = 0; i < 64; i++) ones[i] = 1.0f;
    rig_write(b, gate, 0, 1, ones);
    rig_write(b, up, 0, 1, ones);
    double want = 1;
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        rig_ok(b, rig_silu_mul(b, a, c, 1));
        rig_ok(b, b->backend.read(b->backend.user, a, 1, got[i], KVR_AFTER_ALL, &fences[i]));
        /* The next operator changes what this read returns, and must not overtake it. */
        rig_ok(b, b->backend.wait(b->backend.user, fences[i]));
    }
    assert_int_equal(b->backend.read(b->backend.user, a, 1, got[0], KVR_AFTER_ALL, &extra), KVR_ERR_STATE);
    for (uint32_t i = 0; i < KVR_BACKEND_FENCES; i++) {
        rig_ok(b, b->backend.done(b->backend.user, fences[i]));
        want = want / (1 + exp(-want));
        close_to(b, (double)got[i][63], want, 1, i, 63);
    }
    assert_int_equal(b->backend.done(b->backend.user, fences[0]), KVR_ERR_STATE); /* asked once */
    rig_ok(b, b->backend.read(b->backend.user, a, 1, got[0], KVR_AFTER_ALL, &extra));
    while (b->backend.done(b->backend.user, extra) == KVR_AGAIN) {}
    assert_int_equal(b->backend.done(b->backend.user, 0), KVR_OK);
    rig_close(&r);
}

static void a_read_behind_a_mark_sees_what_was_enqueued_before_the_mark(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    rig r;
    float ones[64], got[64], written[64];
    rig_begin(&r, 1, 64, 8, 4, 8);
    const uint32_t gate = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, 64);
    const uint32_t up = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, 64);
    rig_open(&r, NULL);
    const rig_side *b = &r.sides[0];
    const kvr_view a = {gate, 0};
    const kvr_view c = {up, 0};
    kvr_fence marked = 0, plain = 0;
    for (int i = 0; i < 64; i++) ones[i] = 1.0f;
    assert_int_equal(b->backend.read(b->backend.user, a, 1, got, 1, &marked), KVR_ERR_ARG); /* never set */
    assert_int_equal(b->backend.mark(b->backend.user, KVR_BACKEND_MARKS + 1), KVR_ERR_ARG);
    rig_write(b, gate, 0, 1, ones);
    rig_write(b, up, 0, 1, ones);
    rig_ok(b, b->backend.mark(b->backend.user, 1)); /* will be set anew */
    rig_ok(b, rig_silu_mul(b, a, c, 1));
    rig_ok(b, b->backend.mark(b->backend.user, 1));
    rig_ok(b, rig_silu_mul(b, c, a, 1)); /* changes the other tensor only */
    rig_ok(b, b->backend.read(b->backend.user, a, 1, got, 1, &marked));
    rig_ok(b, b->backend.wait(b->backend.user, marked));
    rig_ok(b, b->backend.done(b->backend.user, marked));
    close_to(b, (double)got[5], 1 / (1 + exp(-1.0)), 1, 0, 5);
    for (int i = 0; i < 64; i++) ones[i] = 3.0f;
    rig_write(b, gate, 0, 1, ones);
    rig_ok(b, b->backend.read(b->backend.user, a, 1, written, KVR_AFTER_NOTHING, &plain));
    rig_ok(b, b->backend.wait(b->backend.user, plain));
    rig_ok(b, b->backend.done(b->backend.user, plain));
    assert_memory_equal(written, ones, sizeof ones);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree_with_double_precision),
        cmocka_unit_test(products_of_the_own_kernel_agree_too),
        cmocka_unit_test(products_in_integers_and_pairs_are_those_of_rounded_operands),
        cmocka_unit_test(a_weight_larger_than_a_panel_is_cut),
        cmocka_unit_test(a_large_batch_is_cut),
        cmocka_unit_test(embedding_rows_are_exact),
        cmocka_unit_test(norms_agree_with_double_precision),
        cmocka_unit_test(rope_turns_the_pairs_of_a_head),
        cmocka_unit_test(layer_norms_and_norms_per_head_agree_too),
        cmocka_unit_test(bias_and_scale_agree_with_double_precision),
        cmocka_unit_test(activations_agree_with_double_precision),
        cmocka_unit_test(stored_keys_are_rounded_to_nearest_even),
        cmocka_unit_test(stored_keys_of_8_bits_are_the_same_everywhere),
        cmocka_unit_test(what_is_no_number_stays_none),
        cmocka_unit_test(attention_agrees_with_double_precision),
        cmocka_unit_test(rings_give_the_bits_of_caches_of_all_rows),
        cmocka_unit_test(attention_over_more_than_a_ring_holds_is_refused),
        cmocka_unit_test(a_read_behind_a_mark_sees_what_was_enqueued_before_the_mark),
        cmocka_unit_test(reads_see_all_operators_before_them_and_fences_are_a_fixed_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
