/* Profiles and geometries from text, and back. */
#include "fenced.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_profile.h"
#include "kvr_fields.h"

#include <math.h>

static const char BOARD[] = "kvr-board 1\n"
                            "# a remark\n"
                            "name   pi\n"
                            "source guessed, on a Sunday  \n"
                            "measured 0\n"
                            "attention_tile 16\n"
                            "dense_gmacs 60.5\n"
                            "attention_gmacs 2e1\n"
                            "memory_gbs 8\n"
                            "score_bytes 0\n"
                            "call_us 100\n"
                            "frame_gbs 1.5\n"
                            "prompt_us 0\n";
static const char LINK[] = "kvr-link 1\nname lan\nsource none\nmbit 940\nlatency_us 100\nmessage_us 10\n";
static const char GEOMETRY[] = "kvr-geometry 1\nname m\nsource s\nn_layers 2\nmodel_dim 64\nffn_dim 128\nn_heads 4\n"
                               "n_kv_heads 2\nhead_dim 16\nn_vocab 100\nffn_products 3\nweight_bytes 0.5625\n";

static kvr_status board(const char *text, kvr_board_profile *out, kvr_error *error) {
    return kvr_board_profile_read(text, strlen(text), out, error);
}

static void a_board_is_read_and_written_back(void **state) {
    (void)state;
    kvr_board_profile p, again;
    char text[1000];
    assert_int_equal(board(BOARD, &p, NULL), KVR_OK);
    assert_string_equal(p.name, "pi");
    assert_string_equal(p.source, "guessed, on a Sunday");
    assert_true(p.dense_gmacs == 60.5 && p.attention_gmacs == 20 && p.frame_gbs == 1.5 && p.attention_tile == 16);
    const size_t n = kvr_board_profile_write(&p, text, sizeof text);
    assert_true(n > 0);
    assert_int_equal(kvr_board_profile_read(text, n, &again, NULL), KVR_OK);
    assert_memory_equal(&p, &again, sizeof p);
    assert_int_equal(kvr_board_profile_write(&p, text, n - 1), 0);
}

static void what_a_board_measured_is_read_back_whatever_its_texts(void **state) {
    (void)state;
    kvr_board_profile p, again;
    char text[1000];
    assert_int_equal(board(BOARD, &p, NULL), KVR_OK);
    memset(p.name, 0, sizeof p.name);
    strcpy(p.source, "one line\nmemory_gbs 9");
    const size_t n = kvr_board_profile_write(&p, text, sizeof text);
    assert_int_equal(kvr_board_profile_read(text, n, &again, NULL), KVR_OK);
    assert_string_equal(again.name, "-");
    strcpy(p.name, "  ");
    const size_t blank = kvr_board_profile_write(&p, text, sizeof text);
    assert_int_equal(kvr_board_profile_read(text, blank, &again, NULL), KVR_OK);
    assert_string_equal(again.name, "-");
    assert_non_null(strstr(again.source, "memory_gbs 9"));
    assert_true(again.memory_gbs == p.memory_gbs);
}

static void links_and_geometries_are_read(void **state) {
    (void)state;
    kvr_link_profile l;
    kvr_geometry g;
    assert_int_equal(kvr_link_profile_read(LINK, sizeof LINK - 1, &l, NULL), KVR_OK);
    assert_true(l.mbit == 940 && l.latency_us == 100 && l.slow_chance == 0);
    assert_int_equal(kvr_geometry_read(GEOMETRY, sizeof GEOMETRY - 1, &g, NULL), KVR_OK);
    assert_int_equal(g.n_kv_heads, 2);
    assert_true(g.weight_bytes == 0.5625);
}

static void a_varying_link_wants_all_three_numbers(void **state) {
    (void)state;
    char text[400];
    kvr_link_profile l;
    strcpy(text, LINK);
    strcat(text, "slow_chance 0.5\n");
    assert_int_equal(kvr_link_profile_read(text, strlen(text), &l, NULL), KVR_ERR_KEY);
    strcat(text, "slow_factor 0.5\nperiod_ms 100\n");
    assert_int_equal(kvr_link_profile_read(text, strlen(text), &l, NULL), KVR_OK);
    assert_true(l.period_ms == 100);
}

/* One line replaced (or added) at a time. */
static void a_bad_line_is_named_and_nothing_is_written(void **state) {
    (void)state;
    static const struct {
        const char *line, *instead, *detail;
    } cases[] = {
        {"memory_gbs 8\n", "", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 0\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs -8\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs nan\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs inf\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 1e299\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 1e400\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 8 9\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 8\nmemory_gbs 8\n", "memory_gbs"},
        {"memory_gbs 8\n", "memory_gbs 8\nwarp 9\n", "warp"},
        {"measured 0\n", "measured 2\n", "measured"},
        {"name   pi\n", "name\n", "name"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[1000];
        kvr_board_profile p, before;
        kvr_error error = {0};
        const char *at = strstr(BOARD, cases[i].line);
        assert_non_null(at);
        memcpy(text, BOARD, (size_t)(at - BOARD));
        text[at - BOARD] = '\0';
        strcat(text, cases[i].instead);
        strcat(text, at + strlen(cases[i].line));
        memset(&p, 0x5a, sizeof p);
        before = p;
        assert_int_equal(board(text, &p, &error), KVR_ERR_KEY);
        assert_string_equal(error.detail, cases[i].detail);
        assert_memory_equal(&p, &before, sizeof p);
    }
}

static void other_files_and_versions_are_refused(void **state) {
    (void)state;
    kvr_board_profile p;
    static char large[KVR_PROFILE_MAX_BYTES + 1];
    assert_int_equal(board("", &p, NULL), KVR_ERR_MAGIC);
    assert_int_equal(board("GGUF", &p, NULL), KVR_ERR_MAGIC);
    assert_int_equal(board(LINK, &p, NULL), KVR_ERR_MAGIC);
    assert_int_equal(board("kvr-board 2\n", &p, NULL), KVR_ERR_VERSION);
    assert_int_equal(board("kvr-board\n", &p, NULL), KVR_ERR_VERSION);
    assert_int_equal(kvr_board_profile_read(large, sizeof large, &p, NULL), KVR_ERR_ARG);
}

static void text_that_ends_anywhere_is_never_read_beyond(void **state) {
    (void)state;
    for (size_t n = 0; n < sizeof BOARD - 1; n++) {
        fenced f = fenced_copy(BOARD, n);
        kvr_board_profile p;
        assert_true(kvr_board_profile_read((const char *)f.at, n, &p, NULL) < 0 || n == sizeof BOARD - 2);
        fenced_free(&f);
    }
}

static void numbers_are_read_as_the_c_library_reads_them(void **state) {
    (void)state;
    static const char *const texts[] = {"0", "1", "0.5", ".5", "5.", "123456.789", "1e3", "1.5E-3", "2e+10",
                                        "00012", "123456789012345678901234567890", "0.000000000000000000001"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const kvri_word word = {texts[i], strlen(texts[i])};
        double value = -1;
        assert_true(kvri_word_real(word, &value));
        const double wanted = strtod(texts[i], NULL);
        assert_true(fabs(value - wanted) <= 1e-15 * wanted);
    }
    static const char *const bad[] = {"", ".", "-1", "+1", "1e", "1e-", "1e301", "0x10", "1,5", "1 2", "e5", "nan"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const kvri_word word = {bad[i], strlen(bad[i])};
        double value = -1;
        assert_false(kvri_word_real(word, &value));
        assert_true(value == -1);
    }
}

static void written_numbers_keep_six_digits(void **state) {
    (void)state;
    static const double values[] = {0, 1, 0.5, 12.25, 123456, 1234567, 0.001234, 99999.9, 3.14159265, 1e12};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char text[64];
        kvri_writer w = {text, sizeof text, 0, 0};
        kvri_write_real(&w, values[i]);
        const kvri_word word = {text, w.n};
        double back = -1;
        assert_true(kvri_word_real(word, &back));
        assert_true(fabs(back - values[i]) <= 1e-5 * values[i]);
    }
}

static void a_vocabulary_only_file_has_no_geometry(void **state) {
    (void)state;
    kvr_model_info info;
    kvr_geometry g;
    memset(&info, 0, sizeof info);
    assert_int_equal(kvr_geometry_of(&info, &g), KVR_ERR_UNSUPPORTED);
    info.n_layers = 2;
    info.n_params = 100;
    info.weight_bytes = 50;
    assert_int_equal(kvr_geometry_of(&info, &g), KVR_OK);
    assert_true(g.weight_bytes == 0.5);
}

static void a_gate_is_known_by_the_number_of_weights(void **state) {
    (void)state;
    kvr_model_info info;
    kvr_geometry g;
    memset(&info, 0, sizeof info);
    info.n_layers = 32;
    info.model_dim = 4544;
    info.ffn_dim = 18176;
    info.n_heads = 71;
    info.n_kv_heads = 1;
    info.head_dim = 64;
    info.n_vocab = 65024;
    info.tied_head = 1;
    info.n_params = 6921720704; /* Falcon 7B */
    assert_int_equal(kvr_geometry_of(&info, &g), KVR_OK);
    assert_int_equal(g.ffn_products, 2);
    info.model_dim = 4096;
    info.ffn_dim = 11008;
    info.n_heads = info.n_kv_heads = 32;
    info.head_dim = 128;
    info.n_vocab = 32000;
    info.tied_head = 0;
    info.n_params = 6738415616; /* Llama 2 7B */
    assert_int_equal(kvr_geometry_of(&info, &g), KVR_OK);
    assert_int_equal(g.ffn_products, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_board_is_read_and_written_back),
        cmocka_unit_test(what_a_board_measured_is_read_back_whatever_its_texts),
        cmocka_unit_test(links_and_geometries_are_read),
        cmocka_unit_test(a_varying_link_wants_all_three_numbers),
        cmocka_unit_test(a_bad_line_is_named_and_nothing_is_written),
        cmocka_unit_test(other_files_and_versions_are_refused),
        cmocka_unit_test(text_that_ends_anywhere_is_never_read_beyond),
        cmocka_unit_test(numbers_are_read_as_the_c_library_reads_them),
        cmocka_unit_test(written_numbers_keep_six_digits),
        cmocka_unit_test(a_gate_is_known_by_the_number_of_weights),
        cmocka_unit_test(a_vocabulary_only_file_has_no_geometry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
