/* Statuses, and the record of a first failure (kvr_error.c). */
#include "fenced.h"

#include "kvr_error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static const struct { kvr_status status; int value; const char *name; const char *text; } all[] = {
#define ROW(name, value, text) {name, value, #name, text},
    KVR_STATUS_LIST(ROW)
#undef ROW
};
#define N_ALL (sizeof all / sizeof all[0])

static void every_status_has_its_own_value_name_and_text(void **state) {
    (void)state;
    for (size_t i = 0; i < N_ALL; i++) {
        assert_int_equal((int)all[i].status, all[i].value);
        assert_string_equal(kvr_status_name(all[i].status), all[i].name);
        assert_string_equal(kvr_status_text(all[i].status), all[i].text);
        assert_true(all[i].text[0] != 0 && all[i].text[strlen(all[i].text) - 1] != '.');
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(all[i].value, all[k].value);
            assert_string_not_equal(all[i].name, all[k].name);
            assert_string_not_equal(all[i].text, all[k].text);
        }
    }
}

static void values_that_others_rely_on_never_change(void **state) {
    (void)state;
    assert_int_equal(KVR_END, 2);
    assert_int_equal(KVR_AGAIN, 1);
    assert_int_equal(KVR_OK, 0);
    assert_int_equal(KVR_ERR_ARG, -1);
    assert_int_equal(KVR_ERR_NOMEM, -2);
    assert_int_equal(KVR_ERR_CTX_FULL, -14);
    assert_int_equal(KVR_ERR_FRAME, -21);
    assert_int_equal(KVR_ERR_NUMERIC, -31);
    for (size_t i = 0; i < N_ALL; i++) /* failures are negative, news positive */
        assert_int_equal(strncmp(all[i].name, "KVR_ERR_", 8) == 0, all[i].value < 0);
}

static void a_value_outside_the_list_has_a_name_too(void **state) {
    (void)state;
    const int others[] = {3, -1000, 1000, -32, INT32_MAX};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if ((int)(kvr_status)others[i] != others[i]) continue; /* an ABI with enums of one byte (arm-none-eabi) */
        assert_string_equal(kvr_status_name((kvr_status)others[i]), "KVR_UNKNOWN");
        assert_non_null(kvr_status_text((kvr_status)others[i]));
    }
}

static void the_first_failure_wins(void **state) {
    (void)state;
    kvr_error e = {0};
    assert_int_equal(kvri_fail_n(&e, KVR_ERR_KEY, "first", "the cause", 1, 2), KVR_ERR_KEY);
    const kvr_error before = e;
    assert_int_equal(kvri_fail(&e, KVR_ERR_IO, "second", "x"), KVR_ERR_IO); /* still passed on */
    assert_int_equal(kvri_fail_s(&e, KVR_ERR_TYPE, "third", "x", "name", 4), KVR_ERR_TYPE);
    assert_int_equal(kvri_fail_n(&e, KVR_ERR_ARG, "fourth", "x", 8, 9), KVR_ERR_ARG);
    assert_memory_equal(&e, &before, sizeof e);
}

static void no_record_is_needed(void **state) {
    (void)state;
    assert_int_equal(kvri_fail(NULL, KVR_ERR_IO, "m", "t"), KVR_ERR_IO);
    assert_int_equal(kvri_fail_n(NULL, KVR_ERR_IO, "m", "t", 1, 2), KVR_ERR_IO);
    assert_int_equal(kvri_fail_s(NULL, KVR_ERR_IO, "m", "t", "d", 1), KVR_ERR_IO);
}

static void a_detail_is_made_printable_and_cut(void **state) {
    (void)state;
    kvr_error e = {0};
    kvri_fail_s(&e, KVR_ERR_KEY, "m", "t", "a\0b\n\x1b[31m\x7f\xff ~", 13);
    assert_string_equal(e.detail, "a?b??[31m?? ~");

    char wide[300];
    memset(wide, 'w', sizeof wide);
    memset(&e, 0, sizeof e);
    kvri_fail_s(&e, KVR_ERR_KEY, "m", "t", wide, sizeof wide);
    assert_int_equal(strlen(e.detail), sizeof e.detail - 1);

    /* the bytes may end where nothing may be read any more */
    fenced f = fenced_copy("key", 3);
    memset(&e, 0, sizeof e);
    kvri_fail_s(&e, KVR_ERR_KEY, "m", "t", f.at, 3);
    assert_string_equal(e.detail, "key");
    fenced_free(&f);

    memset(&e, 0, sizeof e);
    kvri_fail_s(&e, KVR_ERR_KEY, "m", "t", NULL, 0);
    assert_string_equal(e.detail, "");
}

static kvr_error full_error(void) {
    kvr_error e = {0};
    kvri_fail_s(&e, KVR_ERR_DEVICE, "opencl", "the queue failed", "gpu", 3);
    e.wanted = 8;
    e.had = 4;
    e.native = -5;
    return e;
}

static void the_line_says_all_that_is_known(void **state) {
    (void)state;
    const kvr_error e = full_error();
    char line[256];
    const size_t n = kvr_error_format(&e, line, sizeof line);
    assert_string_equal(line, "opencl: the queue failed 'gpu' (wanted 8, has 4) [native -5]: "
                              "a compute device reported a failure");
    assert_int_equal(n, strlen(line));
}

static void the_line_leaves_out_what_is_not_known(void **state) {
    (void)state;
    char line[256];
    kvr_error e = {0};
    kvr_error_format(&e, line, sizeof line);
    assert_string_equal(line, "success");
    kvri_fail(&e, KVR_ERR_ARG, "plan", "too large");
    kvr_error_format(&e, line, sizeof line);
    assert_string_equal(line, "plan: too large: an argument is out of its range");
    e.had = 3; /* a wanted of 0 is a number too */
    kvr_error_format(&e, line, sizeof line);
    assert_string_equal(line, "plan: too large (wanted 0, has 3): an argument is out of its range");
}

static void numbers_at_the_ends_of_their_range_are_written_whole(void **state) {
    (void)state;
    char line[256];
    kvr_error e = {0};
    kvri_fail_n(&e, KVR_ERR_ARG, "m", "t", UINT64_MAX, 0);
    e.native = INT64_MIN;
    kvr_error_format(&e, line, sizeof line);
    assert_string_equal(line, "m: t (wanted 18446744073709551615, has 0) [native -9223372036854775808]: "
                              "an argument is out of its range");
    e.native = INT64_MAX;
    kvr_error_format(&e, line, sizeof line);
    assert_non_null(strstr(line, "[native 9223372036854775807]"));
}

static void every_capacity_gives_a_terminated_beginning_of_the_line(void **state) {
    (void)state;
    const kvr_error e = full_error();
    char whole[256];
    const size_t n = kvr_error_format(&e, whole, sizeof whole);
    fenced f = fenced_alloc(n + 8);
    for (size_t cap = 1; cap <= n + 8; cap++) {
        char *out = (char *)fenced_tail(&f, cap);
        memset(f.at, '#', f.bytes);
        const size_t written = kvr_error_format(&e, out, cap);
        assert_int_equal(written, cap <= n ? cap - 1 : n);
        assert_memory_equal(out, whole, written);
        assert_int_equal(out[written], 0);
        if (cap < f.bytes) assert_int_equal(f.at[f.bytes - cap - 1], '#');
    }
    memset(f.at, '#', f.bytes);
    assert_int_equal(kvr_error_format(&e, (char *)f.at, 0), 0);
    assert_int_equal(f.at[0], '#');
    fenced_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_value_name_and_text),
        cmocka_unit_test(values_that_others_rely_on_never_change),
        cmocka_unit_test(a_value_outside_the_list_has_a_name_too),
        cmocka_unit_test(the_first_failure_wins),
        cmocka_unit_test(no_record_is_needed),
        cmocka_unit_test(a_detail_is_made_printable_and_cut),
        cmocka_unit_test(the_line_says_all_that_is_known),
        cmocka_unit_test(the_line_leaves_out_what_is_not_known),
        cmocka_unit_test(numbers_at_the_ends_of_their_range_are_written_whole),
        cmocka_unit_test(every_capacity_gives_a_terminated_beginning_of_the_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
