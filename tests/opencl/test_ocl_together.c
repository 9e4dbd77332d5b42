/*
 * test_ocl_together.c - operators that do several things in one launch give the bits of those things one by one.
 */
#include <stdio.h>
#include <string.h>

#include "rig.h"

enum { K = 96 };

static void products_of_a_row_in_one_launch_are_those_of_single_ones(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    static const uint32_t precisions[] = {KVR_OPENCL_PRECISION_EXACT, KVR_OPENCL_PRECISION_INTEGER};
    static const kvr_dtype types[][KVR_BACKEND_PRODUCTS] = {{KVR_DTYPE_Q4_0, KVR_DTYPE_Q4_0, KVR_DTYPE_Q4_0},
                                                            {KVR_DTYPE_Q8_0, KVR_DTYPE_F16, KVR_DTYPE_F16},
                                                            {KVR_DTYPE_F32, KVR_DTYPE_F32, KVR_DTYPE_Q8_0}};
    static const uint32_t N[KVR_BACKEND_PRODUCTS] = {48, 7, 33};
    for (size_t p = 0; p < 2; p++)
        for (size_t s = 0; s < sizeof types / sizeof types[0]; s++) {
            if (!rig_has_case(s)) continue;
            kvr_opencl_config config = {0};
            config.precision = precisions[p];
            config.gemm = KVR_OPENCL_GEMM_OWN;
            rig r;
            kvr_product products[KVR_BACKEND_PRODUCTS];
            uint32_t alone[KVR_BACKEND_PRODUCTS];
            float x[2 * K], want[48], got[2 * 48];
            rig_begin(&r, 2, 64, 4, 2, 16);
            for (uint32_t i = 0; i < KVR_BACKEND_PRODUCTS; i++) {
                products[i].weight = rig_add(&r, KVR_ROLE_MATRIX, types[s][i], N[i], K);
                products[i].dst.tensor = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 2, N[i]);
                products[i].dst.row = i % 2;
                alone[i] = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 2, N[i]);
            }
            const uint32_t src = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 2, K);
            rig_open(&r, &config);
            rig_fill(x, 2 * K, 11);
            const rig_side *b = &r.sides[0];
            const kvr_view row = {src, 1};
            assert_non_null(b->backend.matmul_many);
            rig_write(b, src, 0, 2, x);
            for (uint32_t i = 0; i < KVR_BACKEND_PRODUCTS; i++) {
                const kvr_view dst = {alone[i], 0};
                rig_ok(b, b->backend.matmul(b->backend.user, dst, products[i].weight, row, 1, KVR_PATH_DECODE, 0));
            }
            for (uint32_t n = 1; n <= KVR_BACKEND_PRODUCTS; n++) {
                rig_ok(b, b->backend.matmul_many(b->backend.user, products, n, row));
                for (uint32_t i = 0; i < n; i++) {
                    rig_read(b, alone[i], 0, 1, want);
                    rig_read(b, products[i].dst.tensor, 0, 2, got);
                    assert_memory_equal(got + products[i].dst.row * N[i], want, N[i] * sizeof(float));
                }
            }
            const kvr_view past = {src, 2};
            assert_int_equal(b->backend.matmul_many(b->backend.user, products, 1, past), KVR_ERR_ARG);
            assert_int_equal(b->backend.matmul_many(b->backend.user, products, KVR_BACKEND_PRODUCTS + 1, row),
                             KVR_ERR_ARG);
            rig_close(&r);
        }
}

static void placing_is_rope_and_store(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    enum { H = 6, G = 2, D = 48, ROWS = 3, CTX = 9 };
    static const struct { uint32_t dims, style, cache, with_q; } cases[] = {
        {48, KVR_ROPE_PAIRS, KVR_DTYPE_F16, 1},  {48, KVR_ROPE_HALVES, KVR_DTYPE_F16, 1},
        {20, KVR_ROPE_HALVES, KVR_DTYPE_F32, 0}, {20, KVR_ROPE_PAIRS, KVR_DTYPE_F16, 0},
        {0, KVR_ROPE_PAIRS, KVR_DTYPE_F16, 1}};
    for (size_t s = 0; s < sizeof cases / sizeof cases[0]; s++) {
        if (!rig_has_case(s)) continue;
        rig r;
        static float x[ROWS * H * D], got[2][ROWS * H * D];
        static unsigned char cache[2][2][CTX * G * D * sizeof(float)];
        rig_begin(&r, ROWS, CTX, H, G, D);
        const uint32_t freq = rig_add(&r, KVR_ROLE_VECTOR, KVR_DTYPE_F32, 1, D / 2);
        const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, H * D);
        const uint32_t k = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, G * D);
        const uint32_t v = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, ROWS, G * D);
        const uint32_t keys = rig_add(&r, KVR_ROLE_KV, cases[s].cache, CTX, G * D);
        const uint32_t values = rig_add(&r, KVR_ROLE_KV, cases[s].cache, CTX, G * D);
        for (uint32_t i = 0; i < D / 2; i++) ((float *)r.data[freq])[i] = 1.0f / (float)(1 + 3 * i);
        rig_open(&r, NULL);
        const rig_side *b = &r.sides[0];
        const kvr_rope how = {freq, cases[s].dims, (kvr_rope_style)cases[s].style, 1.25f};
        assert_non_null(b->backend.place);
        for (int together = 0; together < 2; together++) {
            kvr_place what = {{q, 0}, {k, 0}, {v, 0}, {keys, 5}, {values, 5}, H, G};
            void *u = b->backend.user;
            memset(cache[together], 0, sizeof cache[together]);
            rig_write(b, keys, 0, CTX, cache[together][0]);
            rig_write(b, values, 0, CTX, cache[together][1]);
            rig_fill(x, ROWS * H * D, 1);
            rig_write(b, q, 0, ROWS, x);
            rig_fill(x, ROWS * G * D, 2);
            rig_write(b, k, 0, ROWS, x);
            rig_fill(x, ROWS * G * D, 3);
            rig_write(b, v, 0, ROWS, x);
            if (!cases[s].with_q) what.q.tensor = KVR_NO_TENSOR;
            if (together) {
                rig_ok(b, b->backend.place(u, &what, &how, ROWS, 7));
            } else {
                if (cases[s].with_q) rig_ok(b, b->backend.rope(u, what.q, &how, ROWS, H, 7));
                rig_ok(b, b->backend.rope(u, what.k, &how, ROWS, G, 7));
                rig_ok(b, b->backend.store(u, what.k_cache, what.k, ROWS));
                rig_ok(b, b->backend.store(u, what.v_cache, what.v, ROWS));
            }
            rig_read(b, q, 0, ROWS, got[together]);
            rig_read(b, keys, 0, CTX, cache[together][0]);
            rig_read(b, values, 0, CTX, cache[together][1]);
        }
        assert_memory_equal(got[0], got[1], sizeof got[0]);
        assert_memory_equal(cache[0], cache[1], sizeof cache[0]);
        const kvr_place past = {{q, 0}, {k, 0}, {v, 0}, {keys, CTX}, {values, 0}, H, G};
        assert_int_equal(b->backend.place(b->backend.user, &past, &how, 1, 7), KVR_ERR_ARG);
        rig_close(&r);
    }
}

/* Attention of one row may leave it as bytes for the product behind it; the bytes are those of the row itself. */
static void a_product_behind_attention_is_one_of_its_row(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    enum { H = 6, G = 2, CTX = 700, N = 32 };
    static const uint32_t heads[] = {32, 48};
    for (size_t s = 0; s < 2; s++) {
        const uint32_t D = heads[s];
        kvr_opencl_config config = {0};
        config.precision = KVR_OPENCL_PRECISION_INTEGER;
        config.gemm = KVR_OPENCL_GEMM_OWN;
        rig r;
        rig_begin(&r, 1, CTX, H, G, D);
        const uint32_t weight = rig_add(&r, KVR_ROLE_MATRIX, KVR_DTYPE_Q4_0, N, H * D);
        const uint32_t q = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, H * D);
        const uint32_t a = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, H * D);
        const uint32_t dst = rig_add(&r, KVR_ROLE_WORK, KVR_DTYPE_F32, 1, N);
        const uint32_t keys = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, CTX, G * D);
        const uint32_t values = rig_add(&r, KVR_ROLE_KV, KVR_DTYPE_F32, CTX, G * D);
        rig_open(&r, &config);
        const rig_side *b = &r.sides[0];
        float *x = rig_alloc(sizeof(float) * CTX * G * D);
        float row[H * 48], want[N], got[N];
        rig_fill(x, CTX * G * D, 4);
        rig_write(b, keys, 0, CTX, x);
        rig_fill(x, CTX * G * D, 5);
        rig_write(b, values, 0, CTX, x);
        rig_fill(row, H * D, 6);
        rig_write(b, q, 0, 1, row);
        free(x);
        static const uint32_t tokens[] = {3, 255, 256, 699}; /* one part of the context, and several */
        for (size_t t = 0; t < 4; t++) {
            const kvr_view from = {q, 0}, to = {a, 0}, out = {dst, 0};
            const kvr_attention how = {0.25f, 0.0f, 0, KVR_PATH_DECODE};
            void *u = b->backend.user;
            rig_ok(b, b->backend.attention(u, to, from, keys, values, &how, 1, tokens[t]));
            rig_ok(b, b->backend.matmul(u, out, weight, to, 1, KVR_PATH_DECODE, 0));
            rig_read(b, dst, 0, 1, got);
            rig_read(b, a, 0, 1, row);
            rig_ok(b, b->backend.scale(u, to, 1.0f, 0.0f, 1)); /* the bytes are stale from here on */
            rig_ok(b, b->backend.matmul(u, out, weight, to, 1, KVR_PATH_DECODE, 0));
            rig_read(b, dst, 0, 1, want);
            assert_memory_equal(got, want, sizeof got);
        }
        rig_close(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_a_row_in_one_launch_are_those_of_single_ones),
        cmocka_unit_test(placing_is_rope_and_store),
        cmocka_unit_test(a_product_behind_attention_is_one_of_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
