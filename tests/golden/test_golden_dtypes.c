/* Every tensor type against the values of the gguf package, bit for bit; dtypes.bin is made by make_dtypes.py. */
#include "test_files.h"

#include "kvr_dtype.h"
#include "kvr_gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void every_tensor_type_has_the_values_of_the_gguf_package(void **state) {
    (void)state;
    static const char *const names[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1",
                                        "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"};
    size_t bytes = 0, at = 0, n = 0;
    uint8_t *file = read_file(KVR_GOLDEN_DIR "/dtypes.bin", &bytes);
    assert_non_null(file);
    while (at < bytes) {
        assert_true(bytes - at > 8 && n < sizeof names / sizeof names[0]);
        const uint32_t dtype = kvri_le32(file + at), cols = kvri_le32(file + at + 4);
        const size_t row_bytes = (size_t)kvr_dtype_row_bytes(dtype, cols);
        assert_string_equal(kvr_dtype_name(dtype), names[n]);
        assert_true(row_bytes > 0 && bytes - at - 8 >= row_bytes + cols * sizeof(float));
        float *values = malloc(cols * sizeof *values);
        assert_non_null(values);
        kvri_dtype_to_f32(dtype, file + at + 8, cols, values);
        if (memcmp(values, file + at + 8 + row_bytes, cols * sizeof *values) != 0)
            for (uint32_t i = 0; i < cols; i++) {
                const float wanted = kvri_lef32(file + at + 8 + row_bytes + i * sizeof *values);
                if (memcmp(&values[i], &wanted, sizeof wanted) != 0)
                    fail_msg("%s element %u is %.9g, not %.9g", names[n], i, (double)values[i], (double)wanted);
            }
        free(values);
        at += 8 + row_bytes + cols * sizeof(float);
        n++;
    }
    assert_int_equal(n, sizeof names / sizeof names[0]);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_type_has_the_values_of_the_gguf_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
