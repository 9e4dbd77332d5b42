#include "kvr_q8.h"

#include "kvr_dtype.h"

#include <math.h>
#include <string.h>

#define BLOCK KVRI_Q8_BLOCK
#define PACKED (2u + BLOCK)
#define LEAST_EXPONENT (-24) /* 2^-24 is the smallest F16 */
#define MOST_EXPONENT 9      /* 127 * 2^9 is below the largest F16 */
#define F16_OVERFLOWS 65520.0f

/* The exponent of a block's scale: the least with which its largest value rounds to 127 at most. */
static int exponent_of(const float *x) {
    float most = 0;
    uint32_t bits;
    for (uint32_t i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > most) most = fabsf(x[i]);
    memcpy(&bits, &most, sizeof bits);
    /* most = m * 2^e with m in [1, 2); 127.5 = 1.9921875 * 2^6 */
    const int e = (int)(bits >> 23) - 127 - 6 + ((bits & 0x7fffffu) >= 0x7f0000u);
    return e < LEAST_EXPONENT ? LEAST_EXPONENT : e > MOST_EXPONENT ? MOST_EXPONENT : e;
}

static float power_of_two(int e) {
    const uint32_t bits = (uint32_t)(127 + e) << 23;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* -127..127, also of what is no number; the product is exact. A whole number has no negative zero. */
static int steps(float x, float per_unit) {
    const float q = rintf(x * per_unit);
    return q >= 127.0f ? 127 : q > -127.0f ? (int)q : -127;
}

/* One value that is no number, or too large for a cache in F16, makes its block one: bytes cannot say it, the scale
 * can. */
static int is_beyond(const float *x) {
    int beyond = 0;
    for (uint32_t i = 0; i < BLOCK; i++) beyond |= !(fabsf(x[i]) < F16_OVERFLOWS);
    return beyond;
}

void kvri_q8_round(float *x, uint32_t n) {
    for (uint32_t b = 0; b < n; b += BLOCK) {
        const int e = exponent_of(x + b);
        const float step = is_beyond(x + b) ? NAN : power_of_two(e);
        for (uint32_t i = b; i < b + BLOCK; i++) x[i] = (float)steps(x[i], power_of_two(-e)) * step;
    }
}

void kvri_q8_pack(uint32_t dtype, uint8_t *bytes, uint32_t n) {
    const size_t step = (size_t)kvr_dtype_row_bytes(dtype, BLOCK);
    for (uint32_t b = 0; b < n / BLOCK; b++) {
        float x[BLOCK];
        kvri_dtype_to_f32(dtype, bytes + b * step, BLOCK, x);
        const int e = exponent_of(x);
        const uint16_t scale = kvri_f32_to_f16(is_beyond(x) ? NAN : power_of_two(e));
        uint8_t *out = bytes + (size_t)b * PACKED;
        out[0] = (uint8_t)scale;
        out[1] = (uint8_t)(scale >> 8);
        for (uint32_t i = 0; i < BLOCK; i++) out[2 + i] = (uint8_t)(int8_t)steps(x[i], power_of_two(-e));
    }
}

void kvri_q8_unpack(uint32_t dtype, uint8_t *bytes, uint32_t n) {
    const size_t step = (size_t)kvr_dtype_row_bytes(dtype, BLOCK);
    for (uint32_t b = n / BLOCK; b-- > 0;) { /* from the end, because blocks grow */
        float x[BLOCK];
        kvri_dtype_to_f32(KVR_DTYPE_Q8_0, bytes + (size_t)b * PACKED, BLOCK, x);
        kvri_dtype_from_f32(dtype, x, BLOCK, bytes + b * step);
    }
}
