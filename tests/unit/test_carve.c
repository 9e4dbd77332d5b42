/* One layout function for measuring and placing. */
#include "kvr_carve.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint64_t counts[] = {1, 63, 64, 65, 0, 1000, 3};
#define N_COUNTS (sizeof counts / sizeof counts[0])

static void measuring_and_placing_agree_on_the_bytes(void **state) {
    (void)state;
    uint8_t memory[8192];
    uint8_t *base = memory + (64 - (uintptr_t)memory % 64) % 64;
    kvri_carve measure = {NULL, 0, 0}, place = {NULL, 0, 0};
    place.base = base;
    uint8_t *last_end = base;
    for (size_t i = 0; i < N_COUNTS; i++) {
        assert_null(kvri_carve_take(&measure, counts[i], 3));
        uint8_t *p = (uint8_t *)kvri_carve_take(&place, counts[i], 3);
        assert_true(measure.used == place.used && place.used % KVRI_CARVE_ALIGN == 0);
        if (counts[i] == 0) {
            assert_null(p); /* and nothing was taken */
            continue;
        }
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % KVRI_CARVE_ALIGN, 0);
        assert_true(p >= last_end && p + counts[i] * 3 <= base + place.used);
        last_end = p + counts[i] * 3;
    }
    assert_false(measure.overflow || place.overflow);
}

static void a_size_that_does_not_fit_is_remembered(void **state) {
    (void)state;
    static const uint64_t wide[][2] = {
        {UINT64_MAX, 2}, {UINT64_MAX, 1}, {UINT64_C(1) << 32, UINT64_C(1) << 32}, {UINT64_MAX - 62, 1}};
    uint8_t memory[64];
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        kvri_carve c = {memory, 0, 0};
        assert_null(kvri_carve_take(&c, wide[i][0], wide[i][1]));
        assert_true(c.overflow);
        assert_null(kvri_carve_take(&c, 1, 1)); /* nothing is handed out afterwards */
        assert_true(c.overflow);
    }
}

static void a_sum_that_does_not_fit_is_remembered(void **state) {
    (void)state;
    kvri_carve c = {NULL, 0, 0};
    kvri_carve_take(&c, SIZE_MAX / 2, 1);
    assert_false(c.overflow);
    kvri_carve_take(&c, SIZE_MAX / 2, 1);
    kvri_carve_take(&c, 64, 1);
    assert_true(c.overflow);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measuring_and_placing_agree_on_the_bytes),
        cmocka_unit_test(a_size_that_does_not_fit_is_remembered),
        cmocka_unit_test(a_sum_that_does_not_fit_is_remembered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
