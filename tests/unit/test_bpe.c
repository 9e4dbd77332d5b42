#include "kvr_bpe.h"
#include "test_tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void open_ok(vocab_file *f) {
    kvr_error error = {0};
    assert_int_equal(vocab_file_open(f, &error), KVR_OK);
}

/* Ids 0..255 are the bytes. */
static vocab_file start(const char *pre) {
    vocab_file f = vocab_file_start("gpt2", pre);
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t mapped[2];
        vocab_file_token(&f, mapped, kvri_bpe_map((uint8_t)byte, mapped), KVRI_TOKEN_NORMAL, 0);
    }
    return f;
}

static void check(const char *name) {
    const int different = conformance_differences(name);
    if (different < 0) skip();
    assert_int_equal(different, 0);
}

static void gpt_2_texts_get_the_recorded_ids(void **state) {
    (void)state;
    check("gpt-2");
}

static void falcon_texts_get_the_recorded_ids(void **state) {
    (void)state;
    check("falcon");
}

static void starcoder_texts_get_the_recorded_ids(void **state) {
    (void)state;
    check("starcoder");
}

static void each_byte_has_a_character_of_its_own(void **state) {
    (void)state;
    uint8_t seen[0x144] = {0};
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t mapped[2];
        const uint32_t n = kvri_bpe_map((uint8_t)byte, mapped);
        const uint32_t code = n == 1 ? mapped[0] : (mapped[0] & 0x1Fu) << 6 | (mapped[1] & 0x3Fu);
        assert_true(code > ' ' && code < sizeof seen && !seen[code]);
        seen[code] = 1;
        assert_int_equal(kvri_bpe_unmap(code), byte);
    }
    for (uint32_t code = 0; code < 0x400; code++) {
        if (code >= sizeof seen || !seen[code]) assert_int_equal(kvri_bpe_unmap(code), -1);
    }
    uint8_t space[2];
    assert_int_equal(kvri_bpe_map(' ', space), 2);
    assert_memory_equal(space, "\xC4\xA0", 2); /* the well-known G with a dot */
}

static void the_lowest_rank_merges_first(void **state) {
    (void)state;
    vocab_file f = start("gpt-2");
    vocab_file_word(&f, "bc", 0);         /* 256 */
    vocab_file_word(&f, "ab", 0);         /* 257 */
    vocab_file_word(&f, "abc", 0);        /* 258 */
    vocab_file_word(&f, "\xC4\xA0" "a", 0); /* 259 */
    vocab_file_merge(&f, "a b");
    vocab_file_merge(&f, "b c");
    vocab_file_merge(&f, "ab c");
    vocab_file_merge(&f, "\xC4\xA0 a");
    open_ok(&f);
    assert_string_equal(encoded(f.model, "abc", 0), "258");
    assert_string_equal(encoded(f.model, "bbc", 0), "98 256");
    assert_string_equal(encoded(f.model, " a abc", 0), "259 32 258"); /* "a b" ranks before the space */
    vocab_file_close(&f);
}

static void a_merge_that_is_no_token_falls_back_to_bytes(void **state) {
    (void)state;
    vocab_file f = start("gpt-2");
    vocab_file_word(&f, "xyz", 0); /* 256 */
    vocab_file_merge(&f, "x y");
    vocab_file_merge(&f, "xy z");
    vocab_file_merge(&f, "\xC4\xA0 x");
    open_ok(&f);
    assert_string_equal(encoded(f.model, "xy", 0), "120 121");
    assert_string_equal(encoded(f.model, "xyz", 0), "256");
    assert_string_equal(encoded(f.model, "a x", 0), "97 32 120");
    vocab_file_close(&f);
}

static void a_byte_without_a_token_is_dropped(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("gpt2", "gpt-2");
    vocab_file_word(&f, "a", 0);
    vocab_file_u32(&f, "tokenizer.ggml.unknown_token_id", 0);
    open_ok(&f);
    assert_string_equal(encoded(f.model, "aba\x0B", 0), "0 0");
    vocab_file_close(&f);
}

static void bytes_that_are_not_utf8_become_replacement_characters(void **state) {
    (void)state;
    vocab_file f = start("gpt-2");
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a\xFF", 0), "97 239 191 189");
    assert_string_equal(encoded(f.model, "\xE2\x82", 0), "239 191 189 239 191 189");
    assert_string_equal(encoded(f.model, "\xC3\xA9", 0), "195 169");
    vocab_file_close(&f);
}

static void a_whole_word_may_skip_the_merges(void **state) {
    (void)state;
    static const char *const pre[] = {"gpt-2", "llama-bpe"};
    for (size_t i = 0; i < 2; i++) {
        vocab_file f = start(pre[i]);
        vocab_file_word(&f, "word", 0); /* 256, which no merges lead to */
        open_ok(&f);
        assert_string_equal(encoded(f.model, "word", 0), i == 0 ? "119 111 114 100" : "256");
        vocab_file_close(&f);
    }
}

static void an_unknown_pre_tokenizer_is_told_and_cuts_by_the_default_rule(void **state) {
    (void)state;
    static const char *const pre[] = {"from-the-future", "default"};
    for (size_t i = 0; i < 2; i++) {
        vocab_file f = start(pre[i]);
        vocab_file_word(&f, "1234", 0);
        vocab_file_merge(&f, "1 2");
        open_ok(&f);
        assert_int_equal(kvr_model_get_info(f.model)->unknown_pre, i == 0);
        assert_string_equal(kvr_model_get_info(f.model)->vocab_pre, pre[i]);
        assert_string_equal(encoded(f.model, "1234", 0), "49 50 51 52");
        vocab_file_close(&f);
    }
}

static void without_a_name_the_default_pre_tokenizer_is_taken(void **state) {
    (void)state;
    vocab_file f = start(NULL);
    vocab_file_word(&f, "1234", 0); /* 256 */
    vocab_file_merge(&f, "1 2");
    vocab_file_merge(&f, "3 4");
    vocab_file_merge(&f, "12 34");
    open_ok(&f);
    assert_string_equal(encoded(f.model, "1234", 0), "49 50 51 52"); /* cut behind three digits */
    vocab_file_close(&f);
}

static void control_tokens_are_found_only_in_trusted_text(void **state) {
    (void)state;
    vocab_file f = start("llama-bpe");
    vocab_file_token(&f, "<|x|>", 5, KVRI_TOKEN_CONTROL, 0); /* 256 */
    vocab_file_token(&f, "<|", 2, KVRI_TOKEN_CONTROL, 0);    /* 257: a whole word of its own */
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a<|x|>", KVR_TEXT_SPECIAL), "97 256");
    assert_string_equal(encoded(f.model, "<|x|>", 0), "60 124 120 124 62");
    assert_string_equal(encoded(f.model, "<|", 0), "60 124");
    vocab_file_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt_2_texts_get_the_recorded_ids),
        cmocka_unit_test(falcon_texts_get_the_recorded_ids),
        cmocka_unit_test(starcoder_texts_get_the_recorded_ids),
        cmocka_unit_test(each_byte_has_a_character_of_its_own),
        cmocka_unit_test(the_lowest_rank_merges_first),
        cmocka_unit_test(a_merge_that_is_no_token_falls_back_to_bytes),
        cmocka_unit_test(a_byte_without_a_token_is_dropped),
        cmocka_unit_test(bytes_that_are_not_utf8_become_replacement_characters),
        cmocka_unit_test(a_whole_word_may_skip_the_merges),
        cmocka_unit_test(an_unknown_pre_tokenizer_is_told_and_cuts_by_the_default_rule),
        cmocka_unit_test(without_a_name_the_default_pre_tokenizer_is_taken),
        cmocka_unit_test(control_tokens_are_found_only_in_trusted_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
