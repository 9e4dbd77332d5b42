/* Element types: sizes, and rows as floats. */
#include "fenced.h"

#include "kvr_dtype.h"
#include "kvr_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

/* IEEE 754 binary16 by its definition. */
static double half_value(uint16_t half) {
    const int exponent = (half >> 10) & 31;
    const double mantissa = half & 1023;
    const double size = exponent == 0 ? ldexp(mantissa, -24) : ldexp(mantissa + 1024.0, exponent - 25);
    return half & 0x8000 ? -size : size;
}

static int is_finite_half(uint32_t half) { return ((half >> 10) & 31) != 31; }

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void every_half_is_its_exact_value(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 65536; half++) {
        const float value = kvri_f16_to_f32((uint16_t)half);
        if (is_finite_half(half)) {
            if ((double)value != half_value((uint16_t)half)) fail_msg("half %x", (unsigned)half);
        } else if ((half & 1023) == 0) {
            assert_true(isinf(value));
        } else {
            assert_true(isnan(value));
        }
        assert_int_equal(bits_of(value) >> 31, half >> 15); /* also of zeros */
    }
}

static void every_half_survives_the_way_there_and_back(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 65536; half++) {
        const uint16_t back = kvri_f32_to_f16(kvri_f16_to_f32((uint16_t)half));
        if (is_finite_half(half) || (half & 1023) == 0) assert_int_equal(back, half);
        else assert_true(!is_finite_half(back) && (back & 1023) != 0); /* NaN stays one */
    }
}

/* Between every two neighbours: below the middle goes down, above up, the middle to the even one. */
static void rounding_is_to_the_nearest_and_ties_go_to_even(void **state) {
    (void)state;
    for (uint32_t half = 0; half < 0x7bff; half++) {
        const double low = half_value((uint16_t)half), high = half_value((uint16_t)(half + 1));
        const float middle = (float)((low + high) / 2); /* exact: one bit more than a half has */
        const uint32_t even = half % 2 == 0 ? half : half + 1;
        const float below = float_of(bits_of(middle) - 1), above = float_of(bits_of(middle) + 1);
        if (kvri_f32_to_f16(middle) != even || kvri_f32_to_f16(below) != half || kvri_f32_to_f16(above) != half + 1 ||
            kvri_f32_to_f16(-middle) != (even | 0x8000u))
            fail_msg("between halves %x and %x", (unsigned)half, (unsigned)half + 1);
    }
}

static void what_is_too_large_becomes_infinity_and_too_small_zero(void **state) {
    (void)state;
    assert_int_equal(kvri_f32_to_f16(65504.0f), 0x7bff);
    assert_int_equal(kvri_f32_to_f16(float_of(bits_of(65520.0f) - 1)), 0x7bff);
    assert_int_equal(kvri_f32_to_f16(65520.0f), 0x7c00); /* the tie goes to the even one, which is infinity */
    assert_int_equal(kvri_f32_to_f16(-65520.0f), 0xfc00);
    assert_int_equal(kvri_f32_to_f16(3.4e38f), 0x7c00);
    assert_int_equal(kvri_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(kvri_f32_to_f16(-INFINITY), 0xfc00);
    const float half_of_least = ldexpf(1.0f, -25);
    assert_int_equal(kvri_f32_to_f16(half_of_least), 0);
    assert_int_equal(kvri_f32_to_f16(float_of(bits_of(half_of_least) + 1)), 1);
    assert_int_equal(kvri_f32_to_f16(-half_of_least), 0x8000);
    assert_int_equal(kvri_f32_to_f16(float_of(1)), 0); /* the least F32 */
    assert_int_equal(kvri_f32_to_f16(-0.0f), 0x8000);
    assert_true((kvri_f32_to_f16(NAN) & 0x7fff) > 0x7c00);
    assert_true((kvri_f32_to_f16(float_of(0x7f800001u)) & 0x7fff) > 0x7c00); /* a NaN with only low bits */
}

static void a_q8_0_block_is_its_numbers_times_its_scale(void **state) {
    (void)state;
    uint8_t row[2 * 34 + 1];
    float out[64];
    uint8_t *at = row + 1; /* unaligned, as in a file */
    for (int b = 0; b < 2; b++) {
        const uint16_t scale = b == 0 ? 0x3800 /* 0.5 */ : 0xc000 /* -2 */;
        at[b * 34] = (uint8_t)scale;
        at[b * 34 + 1] = (uint8_t)(scale >> 8);
        for (int i = 0; i < 32; i++) at[b * 34 + 2 + i] = (uint8_t)(b * 32 + i * 8 - 128);
    }
    kvri_dtype_to_f32(KVR_DTYPE_Q8_0, at, 64, out);
    for (int i = 0; i < 32; i++) {
        assert_true(out[i] == 0.5f * (float)(int8_t)(i * 8 - 128));
        assert_true(out[32 + i] == -2.0f * (float)(int8_t)(uint8_t)(32 + i * 8 - 128));
    }
    assert_true(out[0] == -64.0f && out[31] == 60.0f);
}

static void a_q4_0_block_has_its_first_half_in_the_low_nibbles(void **state) {
    (void)state;
    uint8_t row[2 * 18 + 1];
    float out[64];
    uint8_t *at = row + 1;
    for (int b = 0; b < 2; b++) {
        at[b * 18] = 0;
        at[b * 18 + 1] = b == 0 ? 0x3c /* 1 */ : 0x34 /* 0.25 */;
        for (int i = 0; i < 16; i++) at[b * 18 + 2 + i] = (uint8_t)(i | (15 - i) << 4);
    }
    kvri_dtype_to_f32(KVR_DTYPE_Q4_0, at, 64, out);
    for (int i = 0; i < 16; i++) {
        assert_true(out[i] == (float)(i - 8) && out[16 + i] == (float)(7 - i));
        assert_true(out[32 + i] == 0.25f * (float)(i - 8) && out[48 + i] == 0.25f * (float)(7 - i));
    }
}

static void rows_are_read_unaligned_and_to_their_last_byte_only(void **state) {
    (void)state;
    static const uint32_t types[] = {KVR_DTYPE_F32,  KVR_DTYPE_F16,  KVR_DTYPE_BF16, KVR_DTYPE_Q4_0, KVR_DTYPE_Q4_1,
                                     KVR_DTYPE_Q5_0, KVR_DTYPE_Q5_1, KVR_DTYPE_Q8_0, KVR_DTYPE_Q2_K, KVR_DTYPE_Q3_K,
                                     KVR_DTYPE_Q4_K, KVR_DTYPE_Q5_K, KVR_DTYPE_Q6_K, KVR_DTYPE_IQ4_NL};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        const uint32_t block = kvri_dtype_block(types[t]);
        for (uint32_t n = 1; n <= 3; n++) {
            const uint32_t cols = n * block;
            fenced in = fenced_alloc((size_t)kvr_dtype_row_bytes(types[t], cols));
            fenced out = fenced_alloc(cols * sizeof(float));
            memset(in.at, 0, in.bytes);
            kvri_dtype_to_f32(types[t], in.at, cols, (float *)(void *)out.at);
            for (uint32_t i = 0; i < cols; i++) {
                float value;
                memcpy(&value, out.at + i * sizeof value, sizeof value);
                assert_true(value == 0.0f);
            }
            fenced_free(&in);
            fenced_free(&out);
        }
    }
}

static void floats_are_written_as_f32_and_f16(void **state) {
    (void)state;
    const float values[5] = {0.0f, -1.5f, 65504.0f, 0.333333343f, 1e-7f};
    uint8_t out[20];
    kvri_dtype_from_f32(KVR_DTYPE_F32, values, 5, out);
    for (int i = 0; i < 5; i++) assert_true(kvri_lef32(out + 4 * i) == values[i]);
    kvri_dtype_from_f32(KVR_DTYPE_F16, values, 5, out);
    for (int i = 0; i < 5; i++) assert_int_equal(kvri_le16(out + 2 * i), kvri_f32_to_f16(values[i]));
}

static void rows_have_the_bytes_of_their_blocks(void **state) {
    (void)state;
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_F32, 7), 28);
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_F16, 7), 14);
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_Q4_0, 64), 36);
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_Q8_0, 64), 68);
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_Q8_0, 33), 0); /* not whole blocks */
    assert_int_equal(kvr_dtype_row_bytes(4, 256), 0);             /* not known */
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_F32, UINT64_MAX / 4 + 1), 0);
    assert_int_equal(kvr_dtype_row_bytes(KVR_DTYPE_Q8_0, UINT64_MAX / 32 * 32), 0);
    assert_int_equal(kvri_dtype_block(4), 0);
    assert_string_equal(kvr_dtype_name(KVR_DTYPE_Q4_0), "Q4_0");
    assert_string_equal(kvr_dtype_name(UINT32_MAX), "?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_is_its_exact_value),
        cmocka_unit_test(every_half_survives_the_way_there_and_back),
        cmocka_unit_test(rounding_is_to_the_nearest_and_ties_go_to_even),
        cmocka_unit_test(what_is_too_large_becomes_infinity_and_too_small_zero),
        cmocka_unit_test(a_q8_0_block_is_its_numbers_times_its_scale),
        cmocka_unit_test(a_q4_0_block_has_its_first_half_in_the_low_nibbles),
        cmocka_unit_test(rows_are_read_unaligned_and_to_their_last_byte_only),
        cmocka_unit_test(floats_are_written_as_f32_and_f16),
        cmocka_unit_test(rows_have_the_bytes_of_their_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
