/* Size arithmetic that says when it does not fit. */
#include "kvr_checked.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MAX UINT64_MAX

static void sums_up_to_the_largest_number_are_right(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_true(kvri_add(0, 0, &out) && out == 0);
    assert_true(kvri_add(MAX, 0, &out) && out == MAX);
    assert_true(kvri_add(MAX - 5, 5, &out) && out == MAX);
}

static void a_sum_that_does_not_fit_leaves_the_result_alone(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_false(kvri_add(MAX, 1, &out));
    assert_false(kvri_add(1, MAX, &out));
    assert_false(kvri_add(MAX, MAX, &out));
    assert_int_equal(out, 7);
}

static void products_up_to_the_largest_number_are_right(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_true(kvri_mul(0, MAX, &out) && out == 0);
    assert_true(kvri_mul(MAX, 0, &out) && out == 0);
    assert_true(kvri_mul(MAX, 1, &out) && out == MAX);
    assert_true(kvri_mul(UINT64_C(0xffffffff), UINT64_C(0x100000001), &out) && out == MAX);
}

static void a_product_that_does_not_fit_leaves_the_result_alone(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_false(kvri_mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    assert_false(kvri_mul(MAX, 2, &out));
    assert_false(kvri_mul(2, MAX, &out));
    assert_false(kvri_mul(MAX / 3 + 1, 3, &out));
    assert_int_equal(out, 7);
}

static void rounding_up_reaches_the_next_multiple_or_says_no(void **state) {
    (void)state;
    uint64_t out = 7;
    assert_true(kvri_align_up(0, 64, &out) && out == 0);
    assert_true(kvri_align_up(1, 64, &out) && out == 64);
    assert_true(kvri_align_up(64, 64, &out) && out == 64);
    assert_true(kvri_align_up(65, 64, &out) && out == 128);
    assert_true(kvri_align_up(MAX, 1, &out) && out == MAX);
    assert_true(kvri_align_up(MAX - 63, 64, &out) && out == MAX - 63);
    out = 7;
    assert_false(kvri_align_up(MAX - 62, 64, &out));
    assert_false(kvri_align_up(MAX, 2, &out));
    assert_int_equal(out, 7);
}

static void the_small_helpers_agree_with_division(void **state) {
    (void)state;
    assert_int_equal(kvri_min(3, 4), 3);
    assert_int_equal(kvri_min(MAX, 4), 4);
    assert_int_equal(kvri_ceil_div(0, 8), 0);
    assert_int_equal(kvri_ceil_div(1, 8), 1);
    assert_int_equal(kvri_ceil_div(8, 8), 1);
    assert_true(kvri_ceil_div(MAX, 8) == (UINT64_C(1) << 61)); /* no a + b - 1 that overflows */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_up_to_the_largest_number_are_right),
        cmocka_unit_test(a_sum_that_does_not_fit_leaves_the_result_alone),
        cmocka_unit_test(products_up_to_the_largest_number_are_right),
        cmocka_unit_test(a_product_that_does_not_fit_leaves_the_result_alone),
        cmocka_unit_test(rounding_up_reaches_the_next_multiple_or_says_no),
        cmocka_unit_test(the_small_helpers_agree_with_division),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
