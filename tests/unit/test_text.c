#include "test_tokenizers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SPACE "\xE2\x96\x81"
#define BYTE_ID(byte) ((int32_t)(byte) + 3)

static void open_ok(vocab_file *f) {
    kvr_error error = {0};
    assert_int_equal(vocab_file_open(f, &error), KVR_OK);
}

/* Ids: 0 <unk>, 1 <s>, 2 </s>, then the bytes, then the caller's from 259. */
static vocab_file start_spm(void) {
    vocab_file f = vocab_file_start("llama", NULL);
    vocab_file_token(&f, "<unk>", 5, KVRI_TOKEN_UNKNOWN, 0);
    vocab_file_token(&f, "<s>", 3, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&f, "</s>", 4, KVRI_TOKEN_CONTROL, 0);
    char name[8];
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", byte);
        vocab_file_token(&f, name, 6, KVRI_TOKEN_BYTE, 0);
    }
    return f;
}

/* Adds the text of an id to a line; the buffer is as small as promised. */
static void decode(const kvr_model *model, kvr_text_stream *stream, int32_t id, char *line, size_t *used) {
    const size_t cap = kvr_text_piece_cap(model);
    char *out = malloc(cap);
    size_t n = 0;
    assert_non_null(out);
    assert_int_equal(kvr_text_decode(model, stream, id, out, cap, &n), KVR_OK);
    memcpy(line + *used, out, n);
    *used += n;
    line[*used] = 0;
    free(out);
}

static const char *decoded(const kvr_model *model, const int32_t *ids, size_t n) {
    static char line[4096];
    kvr_text_stream stream = {{0}, 0, 0};
    size_t used = 0;
    size_t tail = 0;
    line[0] = 0;
    for (size_t i = 0; i < n; i++) decode(model, &stream, ids[i], line, &used);
    assert_int_equal(kvr_text_finish(&stream, line + used, 3, &tail), KVR_OK);
    line[used + tail] = 0;
    return line;
}

static void bos_is_put_in_front_when_asked_for_by_caller_and_file(void **state) {
    (void)state;
    for (uint32_t add = 0; add < 2; add++) {
        vocab_file f = start_spm();
        vocab_file_bool(&f, "tokenizer.ggml.add_bos_token", add);
        vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
        vocab_file_word(&f, "a", 0);
        open_ok(&f);
        assert_string_equal(encoded(f.model, "a", KVR_TEXT_BOS), add ? "1 259" : "259");
        assert_string_equal(encoded(f.model, "", KVR_TEXT_BOS), add ? "1" : "");
        assert_string_equal(encoded(f.model, "a", 0), "259");
        vocab_file_close(&f);
    }
}

static void more_tokens_than_room_are_counted_and_none_is_written_outside(void **state) {
    (void)state;
    vocab_file f = start_spm();
    vocab_file_word(&f, SPACE, 0);
    open_ok(&f);
    const size_t work_bytes = kvr_text_work_bytes(f.model, 4);
    void *work = malloc(work_bytes);
    int32_t *ids = malloc(2 * sizeof *ids);
    assert_non_null(work);
    assert_non_null(ids);
    size_t n = 0;
    kvr_error error = {0};
    assert_int_equal(kvr_text_encode(f.model, "abcd", 4, KVR_TEXT_BOS, work, work_bytes, ids, 2, &n, &error),
                     KVR_ERR_CTX_FULL);
    assert_int_equal(n, 6);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[1], 259);
    assert_int_equal(error.wanted, 6);
    free(ids);
    free(work);
    vocab_file_close(&f);
}

static void scratch_of_one_byte_less_is_refused(void **state) {
    (void)state;
    vocab_file f = start_spm();
    open_ok(&f);
    const size_t work_bytes = kvr_text_work_bytes(f.model, 4);
    void *work = malloc(work_bytes);
    assert_non_null(work);
    int32_t ids[8];
    size_t n = 77;
    kvr_error error = {0};
    assert_int_equal(kvr_text_encode(f.model, "abcd", 4, 0, work, work_bytes - 1, ids, 8, &n, &error), KVR_ERR_NOMEM);
    assert_int_equal(n, 77);
    assert_int_equal(error.wanted, work_bytes);
    assert_true(kvr_text_work_bytes(f.model, 1u << 20) < 40u << 20); /* 27 bytes per byte of text */
    assert_true(kvr_text_work_bytes(f.model, SIZE_MAX) == SIZE_MAX);
    free(work);
    vocab_file_close(&f);
}

static void a_file_without_a_vocabulary_says_so(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("t5", NULL);
    vocab_file_word(&f, "a", 0);
    open_ok(&f);
    assert_string_equal(encoded(f.model, "a", 0), "KVR_ERR_VOCAB");
    kvr_text_stream stream = {{0}, 0, 0};
    char out[8];
    size_t n = 0;
    assert_int_equal(kvr_text_decode(f.model, &stream, 0, out, sizeof out, &n), KVR_ERR_VOCAB);
    vocab_file_close(&f);
}

static void the_artificial_first_space_is_dropped_once(void **state) {
    (void)state;
    vocab_file f = start_spm();
    vocab_file_word(&f, SPACE "Hi", 0);                 /* 259 */
    vocab_file_word(&f, SPACE, 0);                      /* 260 */
    vocab_file_token(&f, " x", 2, KVRI_TOKEN_USER, 0);  /* 261 */
    open_ok(&f);
    assert_string_equal(decoded(f.model, (const int32_t[]){1, 259, 259}, 3), "Hi Hi");
    assert_string_equal(decoded(f.model, (const int32_t[]){260, 260, 259}, 3), "  Hi");
    assert_string_equal(decoded(f.model, (const int32_t[]){BYTE_ID(' '), 259}, 2), "  Hi");
    assert_string_equal(decoded(f.model, (const int32_t[]){261, 259}, 2), " x Hi");
    vocab_file_close(&f);

    f = start_spm();
    vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    vocab_file_word(&f, SPACE "Hi", 0);
    open_ok(&f);
    assert_string_equal(decoded(f.model, (const int32_t[]){259}, 1), " Hi");
    vocab_file_close(&f);
}

static void a_character_is_held_back_until_it_is_complete(void **state) {
    (void)state;
    vocab_file f = start_spm();
    vocab_file_word(&f, "\xA6\x99!", 0); /* 259: not UTF-8 by itself */
    open_ok(&f);
    kvr_text_stream stream = {{0}, 0, 0};
    char line[32];
    size_t used = 0;
    decode(f.model, &stream, BYTE_ID(0xF0), line, &used);
    assert_int_equal(used, 0);
    decode(f.model, &stream, BYTE_ID(0x9F), line, &used);
    assert_int_equal(used, 0);
    decode(f.model, &stream, 1, line, &used); /* a control token does not disturb */
    assert_int_equal(used, 0);
    decode(f.model, &stream, 259, line, &used);
    assert_string_equal(line, "\xF0\x9F\xA6\x99!");
    vocab_file_close(&f);
}

static void bytes_that_never_become_a_character_are_replaced(void **state) {
    (void)state;
    vocab_file f = start_spm();
    open_ok(&f);
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\xFF", "\xEF\xBF\xBD"},
        {"a\x80z", "a\xEF\xBF\xBDz"},
        {"\xE2\x82z", "\xEF\xBF\xBDz"},
        {"\xE2\x82\xE2\x82\xAC", "\xEF\xBF\xBD\xE2\x82\xAC"},
        {"\xC3\xC3\xA9", "\xEF\xBF\xBD\xC3\xA9"},
        {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xF0\x9F\xA6", "\xEF\xBF\xBD"}, /* held at the end */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int32_t ids[8];
        const size_t n = strlen(cases[i].bytes);
        for (size_t k = 0; k < n; k++) ids[k] = BYTE_ID((uint8_t)cases[i].bytes[k]);
        assert_string_equal(decoded(f.model, ids, n), cases[i].text);
    }
    vocab_file_close(&f);
}

static void the_longest_piece_fits_the_promised_room(void **state) {
    (void)state;
    vocab_file f = start_spm();
    vocab_file_word(&f, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", 0); /* 259: each byte becomes three */
    open_ok(&f);
    const int32_t ids[] = {BYTE_ID(0xF0), BYTE_ID(0x9F), BYTE_ID(0xA6), 259};
    assert_int_equal(strlen(decoded(f.model, ids, 4)), 27);
    vocab_file_close(&f);
}

static void room_that_is_too_small_consumes_nothing(void **state) {
    (void)state;
    vocab_file f = start_spm();
    vocab_file_word(&f, SPACE "Hi\xE2", 0); /* 259 */
    open_ok(&f);
    kvr_text_stream stream = {{0}, 0, 0};
    char *out = malloc(1);
    assert_non_null(out);
    size_t n = 77;
    assert_int_equal(kvr_text_decode(f.model, &stream, 259, out, 1, &n), KVR_ERR_NOMEM);
    assert_int_equal(n, 77);
    free(out);
    char line[16];
    size_t used = 0;
    decode(f.model, &stream, 259, line, &used);
    assert_string_equal(line, "Hi");
    assert_int_equal(kvr_text_finish(&stream, line, 2, &n), KVR_ERR_NOMEM);
    assert_int_equal(kvr_text_finish(&stream, line, 3, &n), KVR_OK);
    assert_int_equal(n, 3);
    assert_int_equal(kvr_text_finish(&stream, line, 0, &n), KVR_OK);
    assert_int_equal(n, 0);
    vocab_file_close(&f);
}

static void ids_outside_the_vocabulary_are_refused(void **state) {
    (void)state;
    vocab_file f = start_spm();
    open_ok(&f);
    static const int32_t bad[] = {-1, 259, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        kvr_text_stream stream = {{0}, 0, 0};
        char out[64];
        size_t n = 0;
        assert_int_equal(kvr_text_decode(f.model, &stream, bad[i], out, sizeof out, &n), KVR_ERR_ARG);
    }
    kvr_text_stream broken = {{0}, 200, 0};
    char out[64];
    size_t n = 0;
    assert_int_equal(kvr_text_decode(f.model, &broken, 3, out, sizeof out, &n), KVR_ERR_ARG);
    vocab_file_close(&f);
}

static void byte_level_tokens_become_bytes_again(void **state) {
    (void)state;
    vocab_file f = vocab_file_start("gpt2", "gpt-2");
    vocab_file_word(&f, "\xC4\xA0" "a", 0);                   /* 0: " a" */
    vocab_file_word(&f, "\xC3\xB0\xC5\x81", 0);               /* 1: F0 9F */
    vocab_file_word(&f, "\xC2\xA6\xC4\xBB", 0);               /* 2: A6 99 */
    vocab_file_word(&f, "\xE4\xB8\xAD", 0);                   /* 3: a character that stands for no byte */
    vocab_file_token(&f, "\xC4\xA0!", 3, KVRI_TOKEN_USER, 0); /* 4: as it is */
    open_ok(&f);
    assert_string_equal(decoded(f.model, (const int32_t[]){0, 1, 2, 3, 4}, 5),
                        " a\xF0\x9F\xA6\x99\xE4\xB8\xAD\xC4\xA0!");
    vocab_file_close(&f);
}

/* Valid UTF-8 of all lengths, no U+2581, which SPM cannot tell from a space. */
static size_t random_text(uint32_t *seed, char *text) {
    static const char pieces[][5] = {"a",
                                     "e",
                                     "T",
                                     " ",
                                     " ",
                                     "\n",
                                     "'",
                                     "7",
                                     ".",
                                     "#",
                                     "th",
                                     "\t",
                                     "\xC3\xA9",
                                     "\xD0\x96",
                                     "\xE4\xB8\xAD",
                                     "\xE2\x82\xAC",
                                     "\xF0\x9F\xA6\x99",
                                     "\xCC\x81",
                                     "ing",
                                     "\x01"};
    size_t n = 0;
    *seed = *seed * 1664525u + 1013904223u;
    for (uint32_t left = *seed >> 26; left > 0; left--) {
        *seed = *seed * 1664525u + 1013904223u;
        const char *piece = pieces[(*seed >> 16) % (sizeof pieces / sizeof pieces[0])];
        memcpy(text + n, piece, strlen(piece));
        n += strlen(piece);
    }
    text[n] = 0;
    return n;
}

static void a_text_comes_back_from_its_ids(void **state) {
    (void)state;
    static const char *const paths[] = {"tokenizers/ggml-vocab-llama-spm.gguf", "tokenizers/ggml-vocab-gpt-2.gguf",
                                        "tokenizers/ggml-vocab-starcoder.gguf", "models/stories260K.gguf"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        vocab_file f;
        kvr_error error = {0};
        memset(&f, 0, sizeof f);
        f.file = read_conformance(paths[i], &f.file_bytes);
        if (f.file == NULL) skip();
        assert_int_equal(vocab_file_open_bytes(&f, &error), KVR_OK);
        uint32_t seed = 3;
        for (int round = 0; round < 1000; round++) {
            char text[512];
            int32_t ids[TEST_IDS_CAP];
            size_t n_ids = 0;
            const size_t n = random_text(&seed, text);
            assert_int_equal(encode_bytes(f.model, text, n, KVR_TEXT_BOS, ids, &n_ids, &error), KVR_OK);
            assert_string_equal(decoded(f.model, ids, n_ids), text);
        }
        vocab_file_close(&f);
    }
}

static void any_bytes_can_be_encoded(void **state) {
    (void)state;
    vocab_file spm = start_spm();
    vocab_file bpe = vocab_file_start("gpt2", "llama-bpe");
    vocab_file_word(&bpe, "a", 0);
    open_ok(&spm);
    open_ok(&bpe);
    uint32_t seed = 11;
    for (int round = 0; round < 3000; round++) {
        uint8_t text[64];
        int32_t ids[TEST_IDS_CAP];
        size_t n_ids = 0;
        kvr_error error = {0};
        const size_t n = (size_t)(round % 64);
        for (size_t i = 0; i < n; i++) {
            seed = seed * 1664525u + 1013904223u;
            text[i] = (uint8_t)(seed >> 24);
        }
        assert_int_equal(encode_bytes(spm.model, text, n, KVR_TEXT_SPECIAL, ids, &n_ids, &error), KVR_OK);
        assert_int_equal(encode_bytes(bpe.model, text, n, KVR_TEXT_SPECIAL, ids, &n_ids, &error), KVR_OK);
    }
    vocab_file_close(&spm);
    vocab_file_close(&bpe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bos_is_put_in_front_when_asked_for_by_caller_and_file),
        cmocka_unit_test(more_tokens_than_room_are_counted_and_none_is_written_outside),
        cmocka_unit_test(scratch_of_one_byte_less_is_refused),
        cmocka_unit_test(a_file_without_a_vocabulary_says_so),
        cmocka_unit_test(the_artificial_first_space_is_dropped_once),
        cmocka_unit_test(a_character_is_held_back_until_it_is_complete),
        cmocka_unit_test(bytes_that_never_become_a_character_are_replaced),
        cmocka_unit_test(the_longest_piece_fits_the_promised_room),
        cmocka_unit_test(room_that_is_too_small_consumes_nothing),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(byte_level_tokens_become_bytes_again),
        cmocka_unit_test(a_text_comes_back_from_its_ids),
        cmocka_unit_test(any_bytes_can_be_encoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
