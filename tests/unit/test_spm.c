#include "test_tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#define SPACE "\xE2\x96\x81"

/* Ids: 0 <unk>, 1 <s>, 2 </s>, then the caller's. */
static vocab_file start(void) {
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_token(&f, "<unk>", 5, KVRI_TOKEN_UNKNOWN, 0);
    vocab_file_token(&f, "<s>", 3, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&f, "</s>", 4, KVRI_TOKEN_CONTROL, 0);
    return f;
}

static void open_ok(vocab_file *f) {
    kvr_error error = {0};
    assert_int_equal(vocab_file_open(f, &error), KVR_OK);
}

static void llama_texts_get_the_recorded_ids(void **state) {
    (void)state;
    const int different = conformance_differences("llama-spm");
    if (different < 0) skip();
    assert_int_equal(different, 0);
}

static void phi_3_texts_get_the_recorded_ids(void **state) {
    (void)state;
    const int different = conformance_differences("phi-3");
    if (different < 0) skip();
    assert_int_equal(different, 0);
}

static void the_highest_score_merges_first_and_of_equals_the_leftmost(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    vocab_file_word(&f, "a", -9);   /* 3 */
    vocab_file_word(&f, "b", -9);   /* 4 */
    vocab_file_word(&f, "c", -9);   /* 5 */
    vocab_file_word(&f, "ab", -2);  /* 6 */
    vocab_file_word(&f, "bc", -1);  /* 7 */
    vocab_file_word(&f, "aa", -3);  /* 8 */
    vocab_file_word(&f, "abc", 2);  /* 9 */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "ab", 0), "6");
    assert_string_equal(encoded(f.model, "abc", 0), "9"); /* bc first, then a + bc */
    assert_string_equal(encoded(f.model, "abbc", 0), "6 7");
    assert_string_equal(encoded(f.model, "aaa", 0), "8 3");
    assert_string_equal(encoded(f.model, "aab", 0), "3 6");
    assert_string_equal(encoded(f.model, "", 0), "");
    vocab_file_close(&f);
}

static void scores_that_are_no_numbers_come_last(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    vocab_file_word(&f, "a", 0);
    vocab_file_word(&f, "b", 0);
    vocab_file_word(&f, "c", 0);
    vocab_file_word(&f, "ab", (float)NAN);       /* 6 */
    vocab_file_word(&f, "bc", -(float)INFINITY); /* 7 */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "abc", 0), "3 7");
    assert_string_equal(encoded(f.model, "ab", 0), "6");
    vocab_file_close(&f);
}

static void a_space_goes_in_front_unless_the_file_says_no(void **state) {
    (void)state;
    for (uint32_t prefix = 0; prefix < 2; prefix++) {
        vocab_file f = start();
        vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", prefix);
        vocab_file_word(&f, SPACE, -1);     /* 3 */
        vocab_file_word(&f, "a", -1);       /* 4 */
        vocab_file_word(&f, SPACE "a", -1); /* 5 */
        open_ok(&f);
        assert_string_equal(encoded(f.model, "a a", 0), prefix ? "5 5" : "4 5");
        assert_string_equal(encoded(f.model, " a", 0), prefix ? "3 5" : "5");
        assert_string_equal(encoded(f.model, "", 0), "");
        vocab_file_close(&f);
    }
}

static void characters_without_a_token_become_bytes(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    char name[8];
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", byte);
        vocab_file_token(&f, name, 6, KVRI_TOKEN_BYTE, 0);
    }
    vocab_file_word(&f, "a", -1); /* 259 */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a\xC3\xA9", 0), "259 198 172");
    assert_string_equal(encoded(f.model, "\xFF" "a\n", 0), "258 100 13"); /* a wrong lead byte takes two along */
    assert_string_equal(encoded(f.model, "<0x41>", 0), "63 51 123 55 52 65");
    vocab_file_close(&f);
}

/* A first byte of two, then a space, again and again: three symbols for two bytes of text, the most there can be. */
static void characters_cut_off_by_spaces_stay_within_the_scratch(void **state) {
    (void)state;
    vocab_file f = start();
    for (unsigned byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        vocab_file_token(&f, name, 6, KVRI_TOKEN_BYTE, 0);
    }
    open_ok(&f);
    for (size_t n = 1; n <= 400; n++) {
        static const int32_t bytes[] = {0xC3, 0xE2, 0x96, 0x81};
        char text[400];
        int32_t ids[TEST_IDS_CAP];
        size_t n_ids = 0;
        kvr_error error = {0};
        for (size_t i = 0; i < n; i++) text[i] = i % 2 == 0 ? '\xC3' : ' ';
        assert_int_equal(encode_bytes(f.model, text, n, 0, ids, &n_ids, &error), KVR_OK);
        assert_int_equal(n_ids, 3 + n / 2 * 4 + n % 2); /* the space in front, too */
        for (size_t i = 3; i < n_ids; i++) assert_int_equal(ids[i], 3 + bytes[(i - 3) % 4]);
    }
    vocab_file_close(&f);
}

static void a_run_of_unknown_characters_is_one_unknown_token(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    vocab_file_word(&f, "a", -1); /* 3 */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a\xC3\xA9xyaz", 0), "3 0 3 0");
    vocab_file_close(&f);

    f = vocab_file_start("llama", NULL);
    vocab_file_u32(&f, "tokenizer.ggml.unknown_token_id", UINT32_MAX);
    vocab_file_word(&f, "a", -1);
    open_ok(&f);
    assert_string_equal(encoded(f.model, "az", 0), "KVR_ERR_TEXT");
    vocab_file_close(&f);
}

static void plain_text_never_becomes_a_control_token(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    static const char *const parts[] = {"<", "/", "s", ">", "</", "s>", "</s"};
    for (size_t i = 0; i < 7; i++) vocab_file_word(&f, parts[i], (float)i);
    open_ok(&f);
    assert_string_equal(encoded(f.model, "</s>", 0), "7 8"); /* "</" and "s>" */
    assert_string_equal(encoded(f.model, "<s>", 0), "3 8");
    assert_string_equal(encoded(f.model, "</s><s>", KVR_TEXT_SPECIAL), "2 1");
    vocab_file_close(&f);
}

static void user_defined_tokens_are_taken_as_they_are(void **state) {
    (void)state;
    vocab_file f = start();
    vocab_file_word(&f, SPACE "a", -1);                    /* 3 */
    vocab_file_word(&f, "a", -1);                          /* 4 */
    vocab_file_token(&f, "<tool>", 6, KVRI_TOKEN_USER, 0); /* 5 */
    vocab_file_token(&f, "  ", 2, KVRI_TOKEN_USER, 0);     /* 6 */
    vocab_file_word(&f, SPACE, -1);                        /* 7 */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a<tool>a", 0), "3 5 3"); /* a space in front of each stretch */
    assert_string_equal(encoded(f.model, "<tool>", 0), "5");
    assert_string_equal(encoded(f.model, "     ", 0), "6 6 7 7");
    vocab_file_close(&f);
}

static void phi_3_drops_white_space_behind_its_markers(void **state) {
    (void)state;
    static const char *const names[] = {"Phi3", "phi-3 mini", "Phil"};
    for (size_t i = 0; i < 3; i++) {
        vocab_file f = start();
        vocab_file_text(&f, "general.name", names[i]);
        vocab_file_word(&f, SPACE "a", -1);                           /* 3 */
        vocab_file_word(&f, SPACE, -1);                               /* 4 */
        vocab_file_word(&f, "a", -1);                                 /* 5 */
        vocab_file_token(&f, "<|user|>", 8, KVRI_TOKEN_CONTROL, 0);   /* 6 */
        vocab_file_word(&f, "\n", -1);                                /* 7 */
        open_ok(&f);
        const int phi = i < 2;
        assert_string_equal(encoded(f.model, "<|user|> \n a", KVR_TEXT_SPECIAL), phi ? "6 3" : "6 4 4 7 3");
        assert_string_equal(encoded(f.model, "<s> a", KVR_TEXT_SPECIAL), "1 4 3");
        vocab_file_close(&f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_texts_get_the_recorded_ids),
        cmocka_unit_test(phi_3_texts_get_the_recorded_ids),
        cmocka_unit_test(the_highest_score_merges_first_and_of_equals_the_leftmost),
        cmocka_unit_test(scores_that_are_no_numbers_come_last),
        cmocka_unit_test(a_space_goes_in_front_unless_the_file_says_no),
        cmocka_unit_test(characters_without_a_token_become_bytes),
        cmocka_unit_test(characters_cut_off_by_spaces_stay_within_the_scratch),
        cmocka_unit_test(a_run_of_unknown_characters_is_one_unknown_token),
        cmocka_unit_test(plain_text_never_becomes_a_control_token),
        cmocka_unit_test(user_defined_tokens_are_taken_as_they_are),
        cmocka_unit_test(phi_3_drops_white_space_behind_its_markers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
