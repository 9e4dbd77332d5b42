#include "kvr_special.h"
#include "kvr_vocab.h"
#include "test_vocab_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

static int32_t find(const vocab_file *f, const char *text) {
    return kvri_vocab_find(kvri_model_vocab(f->model), (const uint8_t *)text, strlen(text));
}

static void open_ok(vocab_file *f) {
    kvr_error error = {0};
    if (vocab_file_open(f, &error) != KVR_OK) {
        char line[256];
        kvr_error_format(&error, line, sizeof line);
        fail_msg("%s", line);
    }
}

static void a_text_is_found_at_its_first_id(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_word(&f, "one", 0);
    vocab_file_word(&f, "", 0);
    vocab_file_word(&f, "two", 0);
    vocab_file_word(&f, "one", 0);
    vocab_file_token(&f, "\xFF\xC3\0z", 4, KVRI_TOKEN_NORMAL, 0); /* not UTF-8, not a C string */
    open_ok(&f);
    assert_int_equal(find(&f, "one"), 0);
    assert_int_equal(find(&f, "two"), 2);
    assert_int_equal(find(&f, ""), -1);
    assert_int_equal(find(&f, "on"), -1);
    assert_int_equal(find(&f, "ones"), -1);
    assert_int_equal(kvri_vocab_find(kvri_model_vocab(f.model), (const uint8_t *)"\xFF\xC3\0z", 4), 4);
    vocab_file_close(&f);
}

static void thousands_of_texts_are_all_found(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("gpt2", "gpt-2");
    char text[16];
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof text, "t%d", i);
        vocab_file_word(&f, text, 0);
        snprintf(text, sizeof text, "m%d x", i);
        vocab_file_merge(&f, text);
    }
    open_ok(&f);
    uint32_t last = 0;
    for (int i = 0; i < 20000; i++) {
        snprintf(text, sizeof text, "t%d", i);
        assert_int_equal(find(&f, text), i);
        uint32_t rank = 0;
        const uint32_t n_left = (uint32_t)snprintf(text, sizeof text, "m%dx", i) - 1;
        assert_int_equal(kvri_vocab_find_merge(kvri_model_vocab(f.model), (const uint8_t *)text, n_left, 1, &rank), 1);
        assert_true(rank > last); /* in the order of the list */
        last = rank;
    }
    assert_int_equal(find(&f, "t20000"), -1);
    vocab_file_close(&f);
}

static void merges_of_unknown_texts_do_no_harm(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("gpt2", "gpt-2");
    vocab_file_word(&f, "a", 0);
    vocab_file_merge(&f, "un known");
    vocab_file_merge(&f, "a b");
    vocab_file_merge(&f, "un known");
    open_ok(&f);
    const kvri_vocab *vocab = kvri_model_vocab(f.model);
    uint32_t first = 0;
    uint32_t second = 0;
    assert_int_equal(kvri_vocab_find_merge(vocab, (const uint8_t *)"unknown", 2, 5, &first), 1);
    assert_int_equal(kvri_vocab_find_merge(vocab, (const uint8_t *)"ab", 1, 1, &second), 1);
    assert_true(first < second); /* the first of two equal ones counts */
    assert_int_equal(kvri_vocab_find_merge(vocab, (const uint8_t *)"unknown", 3, 4, &first), 0);
    vocab_file_close(&f);
}

static void a_merge_that_is_not_two_texts_is_refused(void **state) {
    (void)state;
    static const char *const merges[] = {"nospace", "", " ", "a ", " b", "  "};
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++) {
        kvr_error error = {0};
        vocab_file f = vocab_file_start("gpt2", "gpt-2");
        vocab_file_word(&f, "a", 0);
        vocab_file_merge(&f, "a b");
        vocab_file_merge(&f, merges[i]);
        assert_int_equal(vocab_file_open(&f, &error), KVR_ERR_VOCAB);
        assert_string_equal(error.detail, merges[i]);
        vocab_file_close(&f);
    }
}

static void a_token_type_that_is_none_is_refused(void **state) {
    (void)state;
    static const uint32_t types[] = {7, 0x80000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        kvr_error error = {0};
        vocab_file f = vocab_file_start("llama", NULL);
        vocab_file_token(&f, "a", 1, types[i], 0);
        assert_int_equal(vocab_file_open(&f, &error), KVR_ERR_VOCAB);
        assert_int_equal(error.had, types[i]);
        vocab_file_close(&f);
    }
}

/* A file may give a byte's token another meaning; what people wrote still ends no turn. */
static void no_byte_of_a_text_becomes_a_control_token(void **state) {
    (void)state;
    vocab_file bpe = vocab_file_start("gpt2", "gpt-2"), spm = vocab_file_start("llama", NULL);
    vocab_file_token(&bpe, "a", 1, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&bpe, "b", 1, KVRI_TOKEN_NORMAL, 0);
    open_ok(&bpe);
    assert_int_equal(kvri_model_vocab(bpe.model)->byte_id['a'], -1);
    assert_int_equal(kvri_model_vocab(bpe.model)->byte_id['b'], 1);
    vocab_file_token(&spm, "<0x61>", 6, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&spm, "<0x62>", 6, KVRI_TOKEN_BYTE, 0);
    open_ok(&spm);
    assert_int_equal(kvri_model_vocab(spm.model)->byte_id['a'], -1);
    assert_int_equal(kvri_model_vocab(spm.model)->byte_id['b'], 1);
    vocab_file_close(&bpe);
    vocab_file_close(&spm);
}

/* The hash is no secret; this is how an attacker computes a text's place in a table. */
static uint32_t place_of(const char *text, uint32_t n_slots) {
    uint32_t hash = 2166136261u;
    for (; *text != 0; text++) hash = (hash ^ (uint8_t)*text) * 16777619u;
    hash = (hash ^ (hash >> 16)) * 0x85EBCA6Bu;
    hash = (hash ^ (hash >> 13)) * 0xC2B2AE35u;
    hash ^= hash >> 16;
    return (uint32_t)(((uint64_t)hash * n_slots) >> 32);
}

#define COLLIDING 1000u

static void colliding(vocab_file *f, const char *format, void (*add)(vocab_file *f, const char *text)) {
    char text[32];
    uint32_t n = 0;
    for (uint32_t i = 0; n < COLLIDING; i++) {
        snprintf(text, sizeof text, format, (unsigned)i);
        if (place_of(text, COLLIDING + COLLIDING / 2 + 1) != 5) continue;
        add(f, text);
        n++;
    }
}

static void add_word(vocab_file *f, const char *text) { vocab_file_word(f, text, 0); }

static void a_file_made_to_collide_is_refused(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("llama", NULL);
    kvr_error error = {0};
    colliding(&f, "%x", add_word);
    assert_int_equal(vocab_file_open(&f, &error), KVR_ERR_CORRUPT);
    assert_string_equal(error.module, "vocab");
    vocab_file_close(&f);

    f = vocab_file_start("gpt2", "gpt-2");
    vocab_file_word(&f, "a", 0);
    memset(&error, 0, sizeof error);
    colliding(&f, "%x b", vocab_file_merge);
    assert_int_equal(vocab_file_open(&f, &error), KVR_ERR_CORRUPT);
    vocab_file_close(&f);
}

static void a_thousand_equal_texts_are_no_collision(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("gpt2", "gpt-2");
    for (int i = 0; i < 1000; i++) {
        vocab_file_word(&f, "same", 0);
        vocab_file_merge(&f, "sa me");
    }
    open_ok(&f);
    assert_int_equal(find(&f, "same"), 0);
    vocab_file_close(&f);
}

static void huge_texts_are_kept_but_never_matched(void **state) {
    (void)state;
    static char huge[KVRI_VOCAB_MATCH_BYTES + 2];
    memset(huge, 'a', sizeof huge - 1);
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_token(&f, huge, sizeof huge - 1, KVRI_TOKEN_NORMAL, 0);
    vocab_file_token(&f, huge, sizeof huge - 2, KVRI_TOKEN_NORMAL, 0);
    open_ok(&f);
    assert_int_equal(find(&f, huge), -1);
    huge[KVRI_VOCAB_MATCH_BYTES] = 0;
    assert_int_equal(find(&f, huge), 1);
    assert_int_equal(kvri_vocab_text(kvri_model_vocab(f.model), 0).n, KVRI_VOCAB_MATCH_BYTES + 1);
    assert_int_equal(kvri_model_vocab(f.model)->max_token_bytes, KVRI_VOCAB_MATCH_BYTES + 1);
    vocab_file_close(&f);
}

static void bytes_have_their_tokens(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_token(&f, "<0x0A>", 6, KVRI_TOKEN_BYTE, 0);
    vocab_file_token(&f, "<0xff>", 6, KVRI_TOKEN_BYTE, 0); /* not how it is written */
    vocab_file_word(&f, "z", 0);
    open_ok(&f);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id[0x0A], 0);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id[0xFF], -1);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id['z'], 2);
    vocab_file_close(&f);

    f = vocab_file_start("gpt2", "gpt-2");
    vocab_file_word(&f, "\xC4\xA0", 0); /* U+0120 stands for the space */
    vocab_file_word(&f, "z", 0);
    open_ok(&f);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id[' '], 0);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id['z'], 1);
    assert_int_equal(kvri_model_vocab(f.model)->byte_id[0x80], -1);
    vocab_file_close(&f);
}

static void texts_that_end_a_turn_are_control_tokens_whatever_the_file_says(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_token(&f, "<|im_end|>", 10, KVRI_TOKEN_NORMAL, 0);
    vocab_file_token(&f, "<|eot_id|>", 10, KVRI_TOKEN_USER, 0);
    vocab_file_token(&f, "<tool>", 6, KVRI_TOKEN_USER, 0);
    open_ok(&f);
    const kvri_vocab *vocab = kvri_model_vocab(f.model);
    assert_int_equal(kvri_vocab_type(vocab, 0), KVRI_TOKEN_CONTROL);
    assert_int_equal(kvri_vocab_type(vocab, 1), KVRI_TOKEN_CONTROL);
    assert_int_equal(kvri_vocab_type(vocab, 2), KVRI_TOKEN_USER);
    assert_int_equal(find(&f, "<|im_end|>"), 0);
    assert_int_equal(kvri_vocab_find_plain(vocab, (const uint8_t *)"<|im_end|>", 10), -1);
    vocab_file_close(&f);
}

static void the_longest_special_token_is_matched(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("llama", NULL);
    static const char *const users[] = {"<a", "<ab>", "<abc>", "<b>", "zz", "<ab>x"};
    for (size_t i = 0; i < 6; i++) vocab_file_token(&f, users[i], strlen(users[i]), KVRI_TOKEN_USER, 0);
    vocab_file_token(&f, "<ab>xy", 6, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&f, "\xFF\xFF", 2, KVRI_TOKEN_USER, 0);
    vocab_file_token(&f, "", 0, KVRI_TOKEN_USER, 0);
    open_ok(&f);
    static const struct {
        const char *text;
        int with_control;
        int32_t id;
        uint32_t bytes;
    } cases[] = {
        {"<ab>", 0, 1, 4},  {"<ab", 0, 0, 2},     {"<abcd", 0, 0, 2}, {"<abc>", 0, 2, 5},    {"<ab>xyz", 0, 5, 5},
        {"<ab>xyz", 1, 6, 6}, {"<", 1, -1, 0},    {"", 1, -1, 0},     {"zzz", 0, 4, 2},      {"y", 0, -1, 0},
        {"\xFF\xFF", 0, 7, 2}, {"\xFF", 0, -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t bytes = 0;
        assert_int_equal(kvri_special_match(kvri_model_vocab(f.model), (const uint8_t *)cases[i].text,
                                            strlen(cases[i].text), cases[i].with_control, &bytes),
                         cases[i].id);
        assert_int_equal(bytes, cases[i].bytes);
    }
    vocab_file_close(&f);
}

static void a_vocabulary_of_128k_tokens_takes_less_than_4_MiB(void **state) {
    (void)state;
    kvri_vocab vocab;
    kvri_carve carve = {NULL, 0, 0};
    memset(&vocab, 0, sizeof vocab);
    vocab.kind = KVR_VOCAB_BPE;
    vocab.n_vocab = 128256; /* Llama 3 */
    vocab.n_merges = 280147;
    kvri_vocab_place(&vocab, &carve);
    assert_false(carve.overflow);
    assert_true(carve.used < 4u << 20);
    vocab.n_vocab = UINT32_MAX;
    kvri_vocab_place(&vocab, &carve);
    assert_true(carve.overflow);
}

static void a_list_that_leaves_its_array_is_refused(void **state) {
    (void)state;
    static const uint8_t tokens[] = {1, 0, 0, 0, 0, 0, 0, 0, 'a', 200, 0, 0, 0, 0, 0, 0, 0, 'b'};
    uint32_t token_at[2];
    uint32_t slots[8];
    kvri_vocab vocab;
    kvr_error error = {0};
    memset(&vocab, 0, sizeof vocab);
    vocab.kind = KVR_VOCAB_SPM;
    vocab.source.tokens.data = tokens;
    vocab.source.tokens.bytes = sizeof tokens;
    vocab.n_vocab = 2;
    vocab.token_at = token_at;
    vocab.token_slots = vocab.merge_slots = slots;
    vocab.n_token_slots = vocab.n_merge_slots = 8;
    assert_int_equal(kvri_vocab_build(&vocab, &error), KVR_ERR_CORRUPT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_text_is_found_at_its_first_id),
        cmocka_unit_test(thousands_of_texts_are_all_found),
        cmocka_unit_test(merges_of_unknown_texts_do_no_harm),
        cmocka_unit_test(a_merge_that_is_not_two_texts_is_refused),
        cmocka_unit_test(a_token_type_that_is_none_is_refused),
        cmocka_unit_test(no_byte_of_a_text_becomes_a_control_token),
        cmocka_unit_test(a_file_made_to_collide_is_refused),
        cmocka_unit_test(a_thousand_equal_texts_are_no_collision),
        cmocka_unit_test(huge_texts_are_kept_but_never_matched),
        cmocka_unit_test(bytes_have_their_tokens),
        cmocka_unit_test(texts_that_end_a_turn_are_control_tokens_whatever_the_file_says),
        cmocka_unit_test(the_longest_special_token_is_matched),
        cmocka_unit_test(a_vocabulary_of_128k_tokens_takes_less_than_4_MiB),
        cmocka_unit_test(a_list_that_leaves_its_array_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
