/* Tables of searched partitions: round trip, interpolation, hostile text. */
#include "fenced.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_cost.h"

static uint64_t work[(1 + KVR_MAX_BOARDS) * KVR_TABLE_ROWS / 2];

static kvr_status read_text(const char *text, kvr_table *out, kvr_error *error) {
    return kvr_table_read(text, strlen(text), work, sizeof work, out, error);
}

static const char GOOD[] = "kvr-table 1\n"
                           "# a remark\n"
                           "geometry tiny\n"
                           "boards 3 a b c\n"
                           "links 1g 1g 1g\n"
                           "row 10 0 4 6\n"
                           "\n"
                           "row 100 40 35 25\r\n"
                           "row 200\t90 65 45";

static void a_table_is_read_as_it_was_written(void **state) {
    (void)state;
    static const uint32_t rows[3][4] = {{16, 0, 0, 16}, {1000, 400, 350, 250}, {1048576, 500000, 500000, 48576}};
    char text[512] = "kvr-table 1\nboards 3 a b c\n";
    kvr_table t;
    for (int i = 0; i < 3; i++) {
        char *at = text + strlen(text);
        const size_t n = kvr_table_write_row(rows[i][0], rows[i] + 1, 3, at, 100);
        assert_true(n > 0);
        at[n] = '\0';
    }
    assert_int_equal(read_text(text, &t, NULL), KVR_OK);
    assert_int_equal(t.n_boards, 3);
    assert_int_equal(t.n_rows, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(t.n_tokens[i], rows[i][0]);
        assert_memory_equal(t.sizes + 3 * i, rows[i] + 1, 3 * sizeof(uint32_t));
    }
    assert_int_equal(kvr_table_write_row(1000, rows[1] + 1, 3, text, 10), 0);
}

static void a_prompt_in_a_row_gets_that_rows_partition(void **state) {
    (void)state;
    kvr_table t;
    uint32_t sizes[3];
    assert_int_equal(read_text(GOOD, &t, NULL), KVR_OK);
    for (uint32_t i = 0; i < t.n_rows; i++) {
        assert_int_equal(kvr_table_predict(&t, t.n_tokens[i], sizes), KVR_OK);
        assert_memory_equal(sizes, t.sizes + 3 * i, sizeof sizes);
    }
}

static void between_rows_shares_are_interpolated_and_beyond_them_kept(void **state) {
    (void)state;
    kvr_table t;
    uint32_t sizes[3];
    assert_int_equal(read_text(GOOD, &t, NULL), KVR_OK);
    static const uint32_t middle[3] = {64, 50, 36}; /* 42.5, 33.75, 23.75 % of 150, cuts rounded */
    assert_int_equal(kvr_table_predict(&t, 150, sizes), KVR_OK);
    assert_memory_equal(sizes, middle, sizeof sizes);
    static const uint32_t beyond[3] = {900, 650, 450};
    assert_int_equal(kvr_table_predict(&t, 2000, sizes), KVR_OK);
    assert_memory_equal(sizes, beyond, sizeof sizes);
    static const uint32_t below[3] = {0, 2, 3};
    assert_int_equal(kvr_table_predict(&t, 5, sizes), KVR_OK);
    assert_memory_equal(sizes, below, sizeof sizes);
}

/* Row 10 leaves the first board out, row 100 gives it 40 %: it comes in by and by. */
static void a_board_that_one_row_leaves_out_comes_in_gradually(void **state) {
    (void)state;
    kvr_table t;
    uint32_t sizes[3], before = 0;
    assert_int_equal(read_text(GOOD, &t, NULL), KVR_OK);
    for (uint32_t n = 10; n <= 100; n++) {
        assert_int_equal(kvr_table_predict(&t, n, sizes), KVR_OK);
        assert_true(sizes[0] >= before && sizes[0] <= before + 2);
        before = sizes[0];
    }
    assert_int_equal(before, 40);
}

static void sizes_always_add_up_and_the_lead_has_a_token(void **state) {
    (void)state;
    kvr_table t;
    uint32_t sizes[3];
    assert_int_equal(read_text(GOOD, &t, NULL), KVR_OK);
    assert_int_equal(kvr_table_predict(&t, 0, sizes), KVR_ERR_PARTITION);
    for (uint32_t n = 1; n < 1000; n++) {
        assert_int_equal(kvr_table_predict(&t, n, sizes), KVR_OK);
        assert_int_equal((uint64_t)sizes[0] + sizes[1] + sizes[2], n);
        assert_true(sizes[2] > 0);
    }
}

static void bad_tables_are_refused_with_the_right_status(void **state) {
    (void)state;
    static const struct {
        const char *text;
        kvr_status status;
    } cases[] = {
        {"", KVR_ERR_MAGIC},
        {"\n\n", KVR_ERR_MAGIC},
        {"kvr-board 1\n", KVR_ERR_MAGIC},
        {"kvr-table", KVR_ERR_VERSION},
        {"kvr-table 2\nboards 1 a\nrow 1 1\n", KVR_ERR_VERSION},
        {"kvr-table 1\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 1 a\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nrow 1 1\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 0\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 65 a\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 4294967297 a\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 2 a\nrow 2 1 1\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 1 a\nboards 1 a\nrow 1 1\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 1 a\nlines 3\n", KVR_ERR_KEY},
        {"kvr-table 1\nboards 2 a b\nrow 2 1\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 1 1 1\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 1 2\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 2 0\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 0 0 0\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 1 x\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 -1 3\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 2 4294967295 3\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 3 1 2\nrow 3 1 2\n", KVR_ERR_CORRUPT},
        {"kvr-table 1\nboards 2 a b\nrow 3 1 2\nrow 2 1 1\n", KVR_ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kvr_table t, before;
        kvr_error error = {0};
        memset(&t, 0x5a, sizeof t);
        before = t;
        const kvr_status status = read_text(cases[i].text, &t, &error);
        if (status != cases[i].status) fail_msg("case %zu: %s", i, kvr_status_name(status));
        assert_int_equal(error.status, status);
        assert_memory_equal(&t, &before, sizeof t);
    }
}

static void a_table_cut_anywhere_is_read_or_refused_and_nothing_else(void **state) {
    (void)state;
    for (size_t n = 0; n < sizeof GOOD - 1; n++) {
        fenced f = fenced_copy(GOOD, n);
        kvr_table t;
        const kvr_status status = kvr_table_read((const char *)f.at, n, work, sizeof work, &t, NULL);
        assert_true(status == KVR_OK || status == KVR_ERR_MAGIC || status == KVR_ERR_VERSION || status == KVR_ERR_KEY ||
                    status == KVR_ERR_CORRUPT);
        if (status == KVR_OK) assert_true(t.n_rows >= 1);
        fenced_free(&f);
    }
}

static void rows_that_do_not_fit_the_memory_are_refused(void **state) {
    (void)state;
    kvr_table t;
    kvr_error error = {0};
    const size_t need = (KVR_TABLE_ROWS + 3 * 3) * sizeof(uint32_t);
    assert_int_equal(kvr_table_read(GOOD, sizeof GOOD - 1, work, need, &t, NULL), KVR_OK);
    assert_int_equal(kvr_table_read(GOOD, sizeof GOOD - 1, work, need - 1, &t, &error), KVR_ERR_NOMEM);
    assert_int_equal(error.wanted, need);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_is_read_as_it_was_written),
        cmocka_unit_test(a_prompt_in_a_row_gets_that_rows_partition),
        cmocka_unit_test(between_rows_shares_are_interpolated_and_beyond_them_kept),
        cmocka_unit_test(a_board_that_one_row_leaves_out_comes_in_gradually),
        cmocka_unit_test(sizes_always_add_up_and_the_lead_has_a_token),
        cmocka_unit_test(bad_tables_are_refused_with_the_right_status),
        cmocka_unit_test(a_table_cut_anywhere_is_read_or_refused_and_nothing_else),
        cmocka_unit_test(rows_that_do_not_fit_the_memory_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
