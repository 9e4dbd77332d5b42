#include "fenced.h"
#include "kvr_dtype.h"
#include "kvr_q8.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static uint64_t state_of_random = 1;
static float some(void) { /* -1..1 */
    state_of_random = state_of_random * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state_of_random >> 33) / 1073741824.0 - 1.0);
}

static void fill(float *x, uint32_t n, float magnitude) {
    for (uint32_t i = 0; i < n; i++) x[i] = some() * magnitude;
}

static void rounding_again_changes_nothing(void **state) {
    (void)state;
    for (int e = -40; e < 20; e++)
        for (int round = 0; round < 500; round++) {
            float x[64], y[64];
            fill(x, 64, ldexpf(1 + (float)round / 500, e));
            kvri_q8_round(x, 64);
            memcpy(y, x, sizeof y);
            kvri_q8_round(y, 64);
            assert_memory_equal(x, y, sizeof x);
        }
}

static void a_value_is_off_by_half_a_step_at_most(void **state) {
    (void)state;
    for (int round = 0; round < 2000; round++) {
        float x[32], y[32], most = 0;
        fill(x, 32, ldexpf(1, round % 30 - 20));
        memcpy(y, x, sizeof y);
        kvri_q8_round(y, 32);
        for (int i = 0; i < 32; i++) most = fmaxf(most, fabsf(x[i]));
        const float step = fmaxf(most / 63.75f, ldexpf(1, -24)); /* a power of two between most/127.5 and twice that */
        for (int i = 0; i < 32; i++) assert_true(fabsf(x[i] - y[i]) <= step / 2);
    }
}

static void what_is_cached_packed_and_unpacked_is_the_same(void **state) {
    (void)state;
    static const uint32_t types[2] = {KVR_DTYPE_F16, KVR_DTYPE_F32};
    for (int round = 0; round < 4000; round++) {
        const uint32_t type = types[round % 2];
        float x[96], back[96];
        uint8_t cached[96 * 4], wire[96 * 4], again[96 * 4];
        fill(x, 96, ldexpf(1, round % 60 - 35));
        kvri_q8_round(x, 96);
        kvri_dtype_from_f32(type, x, 96, cached);
        kvri_dtype_to_f32(type, cached, 96, back);
        assert_memory_equal(x, back, sizeof x); /* F16 holds it exactly */
        const size_t bytes = (size_t)kvr_dtype_row_bytes(type, 96);
        memcpy(wire, cached, bytes);
        kvri_q8_pack(type, wire, 96);
        memcpy(again, wire, 3 * 34);
        kvri_dtype_to_f32(KVR_DTYPE_Q8_0, wire, 96, back);
        assert_memory_equal(x, back, sizeof x); /* it is Q8_0 as others read it */
        kvri_q8_unpack(type, wire, 96);
        assert_memory_equal(wire, cached, bytes);
        kvri_q8_pack(type, wire, 96); /* a relay that reads it back sends the same bytes */
        assert_memory_equal(wire, again, 3 * 34);
    }
}

static void steps_change_where_the_largest_value_would_be_128(void **state) {
    (void)state;
    float x[32] = {127.49f, -3};
    kvri_q8_round(x, 32);
    assert_true(x[0] == 127.0f && x[1] == -3.0f);
    float y[32] = {127.5f, -3};
    kvri_q8_round(y, 32);
    assert_true(y[0] == 128.0f && y[1] == -4.0f); /* steps of 2, ties to even */
}

/* As with a cache in F16, which has no place for them: the logits must show it. */
static void what_is_no_number_or_too_large_makes_its_block_none(void **state) {
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e30f, -65520.0f};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        float x[64] = {1, 65519.0f};
        uint8_t bytes[64 * 4];
        x[32 + 7 * k] = bad[k];
        kvri_dtype_from_f32(KVR_DTYPE_F32, x, 64, bytes);
        kvri_q8_round(x, 64);
        kvri_q8_pack(KVR_DTYPE_F32, bytes, 64);
        kvri_q8_unpack(KVR_DTYPE_F32, bytes, 64);
        float y[64];
        kvri_dtype_to_f32(KVR_DTYPE_F32, bytes, 64, y);
        for (size_t i = 0; i < 64; i++)
            assert_true(i < 32 ? x[i] == y[i] && fabsf(y[i]) <= 65024.0f : isnan(x[i]) && isnan(y[i]));
    }
    float none[32] = {0};
    kvri_q8_round(none, 32);
    for (int i = 0; i < 32; i++) assert_true(none[i] == 0);
}

static void any_bytes_unpack_within_their_buffer(void **state) {
    (void)state;
    uint8_t bytes[64 * 4];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * 37);
    fenced f = fenced_copy(bytes, 64 * 2);
    kvri_q8_unpack(KVR_DTYPE_F16, f.at, 64);
    fenced_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rounding_again_changes_nothing),
        cmocka_unit_test(a_value_is_off_by_half_a_step_at_most),
        cmocka_unit_test(what_is_cached_packed_and_unpacked_is_the_same),
        cmocka_unit_test(steps_change_where_the_largest_value_would_be_128),
        cmocka_unit_test(what_is_no_number_or_too_large_makes_its_block_none),
        cmocka_unit_test(any_bytes_unpack_within_their_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
