/* The tensor types on their way to the device, without one: what is staged is what the library dequantises. */
#include "rig.h"

#include <string.h>

#include "kvr_dtype.h"
#include "kvr_ocl.h"

#define COLS 768u
#define MOST_BYTES (4u * COLS)

static uint32_t bits_at(const uint8_t *bytes, uint32_t bits, uint32_t column) {
    return (uint32_t)bytes[column % (4 * bits)] >> (column / (4 * bits) * bits) & ((1u << bits) - 1u);
}

static float half_at(const uint8_t *at) {
    return kvri_f16_to_f32((uint16_t)(at[0] | at[1] << 8));
}

/* Column c of a staged row, by the words of kvr_ocl_convert.c. */
static float staged(uint32_t type, int32_t offset, const uint8_t *row, uint32_t c) {
    const kvri_ocl_type *t = kvri_ocl_type_at(type);
    const uint32_t group = kvri_ocl_type_group(type), head = kvri_ocl_type_head_bytes(type);
    const uint32_t block_bytes = 4 * (t->low + t->high);
    const uint8_t *at = row + c / group * (head + group / 32 * block_bytes);
    const uint8_t *codes = at + head + c % group / 32 * block_bytes;
    const uint8_t *small = at + 2 * (1 + t->has_least);
    const uint32_t part = c % group / (32 / t->parts);
    uint32_t code = bits_at(codes, t->low, c % 32);
    if (t->high != 0) code |= bits_at(codes + 4 * t->low, t->high, c % 32) << t->low;
    if (t->low == 8) code ^= 0x80u;
    float scale = half_at(at);
    if (t->has_small) scale *= (float)(int8_t)small[part];
    const float value = (float)((int32_t)code - offset) * scale;
    if (!t->has_least) return value;
    const float least = half_at(at + 2);
    return value + (t->has_small ? least * (float)(int8_t)small[8 * t->parts + part] : least);
}

static void staged_rows_are_the_dequantised_rows(void **state) {
    (void)state;
    static const int32_t offsets[] = {
#define OFFSET_OF(id, name, low, high, offset, parts, least, small) offset,
        KVRI_OCL_TYPE_LIST(OFFSET_OF)
#undef OFFSET_OF
    };
    for (size_t d = 0; d < RIG_TYPES; d++) {
        const kvr_dtype dtype = rig_types[d];
        const uint32_t type = kvri_ocl_type_of(dtype);
        rig r;
        uint8_t row[MOST_BYTES + 1];
        float want[COLS];
        rig_begin(&r, 1, 1, 1, 1, 2);
        const uint32_t tensor = rig_add(&r, KVR_ROLE_MATRIX, dtype, 1, COLS);
        const uint64_t bytes = kvri_ocl_type_row_bytes(type, COLS);
        assert_true(bytes <= MOST_BYTES);
        kvri_dtype_to_f32(dtype, r.data[tensor], COLS, want);
        if (kvri_ocl_convert_is_needed(dtype)) {
            row[bytes] = 0xa5;
            kvri_ocl_convert_row(dtype, r.data[tensor], COLS, row);
            assert_int_equal(row[bytes], 0xa5);
        } else { /* staged as they are */
            assert_int_equal(bytes, kvr_dtype_row_bytes(dtype, COLS));
            memcpy(row, r.data[tensor], (size_t)bytes);
        }
        for (uint32_t c = 0; c < COLS && kvri_ocl_type_has_codes(type); c++) {
            const float got = staged(type, offsets[type], row, c);
            if (got != want[c])
                fail_msg("%s column %u: %.9g, not %.9g", kvr_dtype_name(dtype), c, (double)got, (double)want[c]);
        }
        free(r.data[tensor]);
        free(r.values[tensor]);
    }
}

static void the_layout_has_as_many_bytes_as_the_staged_rows_of_whole_strips(void **state) {
    (void)state;
    for (uint32_t type = 0; type < KVRI_OCL_DTYPES; type++) {
        uint32_t scale_at = 0;
        const uint64_t bytes = kvri_ocl_type_bytes(type, 33, COLS, &scale_at);
        assert_int_equal(bytes, 48 * kvri_ocl_type_row_bytes(type, COLS));
        assert_int_equal(bytes - scale_at, 48 * (COLS / kvri_ocl_type_group(type)) * kvri_ocl_type_head_bytes(type));
    }
    uint32_t scale_at = 0;
    assert_int_equal(kvri_ocl_type_bytes(KVRI_OCL_F32, 3, 33, &scale_at), 16 * 64 * 4); /* padded */
}

static void a_type_grows_little_or_not(void **state) {
    (void)state;
    for (size_t d = 0; d < RIG_TYPES; d++) {
        const uint64_t file = kvr_dtype_row_bytes(rig_types[d], COLS);
        const uint64_t device = kvri_ocl_type_row_bytes(kvri_ocl_type_of(rig_types[d]), COLS);
        if (rig_types[d] == KVR_DTYPE_IQ4_NL) continue; /* becomes 8 bits */
        assert_true(device >= file && device - file <= COLS / 16); /* half a bit: small scales unpacked to bytes */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(staged_rows_are_the_dequantised_rows),
        cmocka_unit_test(the_layout_has_as_many_bytes_as_the_staged_rows_of_whole_strips),
        cmocka_unit_test(a_type_grows_little_or_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
