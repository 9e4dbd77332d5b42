/*
 * The sacred rule: a row's bits do not depend on how many rows share the call, nor on where in the call the row stands,
 * nor on batch_tokens. A chain of boards gives the text of one board only because of it.
 */
#include "rig.h"

#include <string.h>

#define H 4u
#define G 2u
#define D 24u
#define M (H * D) /* 96 */
#define N 164u
#define WIDE 256u /* columns of weights of the other types, some of which have blocks of so many */
#define FEW 36u   /* their rows */
#define PLAIN_TYPES 4u /* of rig_types, with M columns */

enum { WEIGHTS, NORM = RIG_TYPES, FREQ, KEYS, VALUES, KEYS32, VALUES32, X, Y, Z, U, X_WIDE, Z_FEW };

static const uint32_t counts[] = {1, 2, 3, 7, 64, 1000};

static uint32_t tokens(void) {
    return rig_small() ? 11 : 150;
}

static void open_rig(rig *r, uint32_t batch, uint32_t gemm, uint32_t precision) {
    const uint32_t T = tokens();
    kvr_opencl_config config = {0};
    config.gemm = gemm;
    config.precision = precision;
    rig_begin(r, batch, T, H, G, D);
    for (size_t d = 0; d < RIG_TYPES; d++)
        rig_add(r, KVR_ROLE_MATRIX, rig_has_type(rig_types[d]) ? rig_types[d] : KVR_DTYPE_Q4_0,
                d < PLAIN_TYPES ? N : FEW, d < PLAIN_TYPES ? M : WIDE);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, M);
    rig_add(r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, D / 2);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, T, G * D);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F16, T, G * D);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F32, T, G * D);
    rig_add(r, KVR_ROLE_KV, KVR_DTYPE_F32, T, G * D);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, M);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, M);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, N);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, G * D);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, WIDE);
    rig_add(r, KVR_ROLE_WORK, KVR_DTYPE_F32, T + 5, FEW);
    rig_open(r, &config);
}

static float *inputs(uint32_t cols, uint32_t seed) {
    float *x = rig_alloc(sizeof(float) * tokens() * cols);
    rig_fill(x, (size_t)tokens() * cols, seed);
    return x;
}

/* One operator on `rows` rows of tokens first.. that stand at row `at` of the work tensors; the result is at `at` of
 * the tensor returned. Inputs of all tokens are in x (M columns), z (N columns). */
typedef uint32_t (*row_op)(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                           const float *z);

static kvr_view at_row(uint32_t tensor, uint32_t row) {
    const kvr_view view = {tensor, row};
    return view;
}

static uint32_t weight; /* of product */

static uint32_t product(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x, const float *z) {
    const int plain = weight < PLAIN_TYPES;
    const uint32_t from = plain ? X : X_WIDE, to = plain ? Z : Z_FEW;
    rig_write(b, from, at, rows, x + first * (plain ? M : WIDE));
    rig_write(b, to, at, rows, z + first * (plain ? N : FEW));
    rig_ok(b, b->backend.matmul(b->backend.user, at_row(to, at), weight, at_row(from, at), rows, KVR_PATH_PREFILL, 1));
    return to;
}
static uint32_t norm(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x, const float *z) {
    (void)z;
    rig_write(b, X, at, rows, x + first * M);
    rig_ok(b, rig_rms_norm(b, at_row(Y, at), at_row(X, at), NORM, rows));
    return Y;
}
static uint32_t rotation(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                         const float *z) {
    (void)z;
    rig_write(b, X, at, rows, x + first * M);
    rig_ok(b, rig_rope(b, at_row(X, at), FREQ, rows, H, D, first));
    return X;
}
static uint32_t gate(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x, const float *z) {
    (void)z;
    rig_write(b, X, at, rows, x + first * M);
    rig_write(b, Y, at, rows, x + first * M);
    rig_ok(b, rig_silu_mul(b, at_row(X, at), at_row(Y, at), rows));
    return X;
}
static uint32_t other_norm(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                           const float *z) {
    (void)z;
    const kvr_norm layer = {NORM, NORM, KVR_NORM_LAYER, 1e-5f, 1};
    const kvr_norm heads = {FREQ, KVR_NO_TENSOR, KVR_NORM_RMS, 1e-5f, 0};
    rig_write(b, X, at, rows, x + first * M);
    rig_write(b, Y, at, rows, x + first * M);
    rig_ok(b, b->backend.norm(b->backend.user, at_row(Y, at), at_row(X, at), &layer, rows));
    rig_ok(b, b->backend.norm(b->backend.user, at_row(Y, at), at_row(Y, at), &heads, rows));
    rig_ok(b, b->backend.add_bias(b->backend.user, at_row(Y, at), NORM, rows));
    rig_ok(b, b->backend.scale(b->backend.user, at_row(Y, at), 1.5f, 2.0f, rows));
    rig_ok(b, b->backend.activate(b->backend.user, at_row(Y, at), at_row(X, at), KVR_ACT_GELU, rows));
    rig_ok(b, b->backend.activate(b->backend.user, at_row(Y, at), at_row(KVR_NO_TENSOR, 0), KVR_ACT_GELU_TANH, rows));
    return Y;
}
static uint32_t attention_over(const rig_side *b, uint32_t k, uint32_t v, uint32_t at, uint32_t first, uint32_t rows,
                               const float *x, const float *z, const kvr_attention *how) {
    /* Keys and values of the tokens up to here come through store, in the same cut. */
    for (uint32_t t = first; t < first + rows; t++) rig_write(b, U, at + t - first, 1, z + t * N);
    rig_ok(b, b->backend.store(b->backend.user, at_row(k, first), at_row(U, at), rows));
    rig_ok(b, b->backend.store(b->backend.user, at_row(v, first), at_row(U, at), rows));
    rig_write(b, X, at, rows, x + first * M);
    rig_ok(b, b->backend.attention(b->backend.user, at_row(Y, at), at_row(X, at), k, v, how, rows, first));
    return Y;
}
static const kvr_attention all = {0.2f, 0.0f, 0, KVR_PATH_PREFILL};
static uint32_t attention_f16(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                              const float *z) {
    return attention_over(b, KEYS, VALUES, at, first, rows, x, z, &all);
}
static uint32_t attention_f32(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                              const float *z) {
    return attention_over(b, KEYS32, VALUES32, at, first, rows, x, z, &all);
}
static uint32_t attention_window(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                                 const float *z) {
    static const kvr_attention how = {0.3f, 1.5f, 37, KVR_PATH_PREFILL};
    return attention_over(b, KEYS, VALUES, at, first, rows, x, z, &how);
}
static uint32_t attention_narrow(const rig_side *b, uint32_t at, uint32_t first, uint32_t rows, const float *x,
                                 const float *z) {
    static const kvr_attention how = {0.3f, 0.0f, 2, KVR_PATH_PREFILL};
    return attention_over(b, KEYS, VALUES, at, first, rows, x, z, &how);
}

/* n tokens, `count` rows per call, at row `at`; out is [n][cols]. */
static void run_cut(const rig *r, const rig_side *b, row_op op, uint32_t n, uint32_t count, uint32_t at, const float *x,
                    const float *z, float *out, uint32_t *out_cols) {
    for (uint32_t first = 0; first < n; first += count) {
        const uint32_t rows = count < n - first ? count : n - first;
        const uint32_t tensor = op(b, at, first, rows, x, z);
        *out_cols = r->tensors[tensor].cols;
        rig_read(b, tensor, at, rows, out + first * *out_cols);
    }
}

/* The first n tokens. */
static void check_cuts(const rig *whole, const rig *small, size_t side, const char *name, row_op op, uint32_t n,
                       const float *x, const float *z, float *want, float *got) {
    uint32_t cols = 0;
    run_cut(whole, &whole->sides[side], op, n, n, 0, x, z, want, &cols);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (uint32_t at = 0; at < 6; at += counts[c] == 1 ? 1 : 5) {
            if (counts[c] == 1 && at > 2) break;
            if (c > 0 && counts[c - 1] >= n) break; /* all at once already */
            run_cut(whole, &whole->sides[side], op, n, counts[c], at, x, z, got, &cols);
            if (memcmp(want, got, sizeof(float) * n * cols) != 0)
                fail_msg("%s %s: %u rows per call at row %u change the bits", whole->sides[side].name, name, counts[c],
                         at);
        }
    run_cut(small, &small->sides[side], op, n, 3, 1, x, z, got, &cols);
    if (memcmp(want, got, sizeof(float) * n * cols) != 0)
        fail_msg("%s %s: batch_tokens changes the bits", whole->sides[side].name, name);
}

static void check_all_cuts(uint32_t gemm, uint32_t precision) {
    static const struct {
        const char *name;
        row_op op;
    } ops[] = {{"rms norm", norm},
               {"rope", rotation},
               {"silu", gate},
               {"attention f16", attention_f16},
               {"attention f32", attention_f32},
               {"attention in a window", attention_window},
               {"attention in a narrow window", attention_narrow},
               {"layer norm, norm per head, bias, scale, gelu", other_norm}};
    rig whole;
    rig small;
    float *x = inputs(WIDE, 1);
    float *z = inputs(N, 2);
    float *want = rig_alloc(sizeof(float) * tokens() * N);
    float *got = rig_alloc(sizeof(float) * tokens() * N);
    open_rig(&whole, tokens(), gemm, precision);
    open_rig(&small, 3, gemm, precision);
    for (size_t side = 0; side < 2; side++) {
        for (weight = 0; weight < RIG_TYPES; weight++) {
            if (!rig_has_type(rig_types[weight])) continue;
            check_cuts(&whole, &small, side, kvr_dtype_name(rig_types[weight]), product,
                       weight < PLAIN_TYPES || rig_small() ? tokens() : 40, x, z, want, got);
        }
        for (size_t o = 0; o < sizeof ops / sizeof ops[0]; o++)
            check_cuts(&whole, &small, side, ops[o].name, ops[o].op, tokens(), x, z, want, got);
    }
    rig_close(&whole);
    rig_close(&small);
    free(x);
    free(z);
    free(want);
    free(got);
}

static void a_row_has_the_same_bits_however_the_rows_are_cut(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check_all_cuts(KVR_OPENCL_GEMM_CLBLAST, KVR_OPENCL_PRECISION_EXACT);
}

static void so_it_is_with_the_own_product(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check_all_cuts(KVR_OPENCL_GEMM_OWN, KVR_OPENCL_PRECISION_EXACT);
}

static void and_with_the_products_in_integers(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    check_all_cuts(KVR_OPENCL_GEMM_OWN, KVR_OPENCL_PRECISION_INTEGER);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_has_the_same_bits_however_the_rows_are_cut),
        cmocka_unit_test(so_it_is_with_the_own_product),
        cmocka_unit_test(and_with_the_products_in_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
