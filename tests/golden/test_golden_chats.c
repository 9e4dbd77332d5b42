/* Conversations as transformers writes them; chats.bin is made by make_chats.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_maker.h"
#include "test_files.h"

#include "kvr/kvr_chat.h"

#define MOST_MESSAGES 8u

typedef struct text {
    const char *at;
    uint32_t bytes;
} text;

typedef struct chat {
    text family, template_text, expected;
    uint32_t n;
    kvr_chat_message messages[MOST_MESSAGES];
} chat;

static uint32_t take_u32(const uint8_t **at) {
    const uint32_t value = kvri_le32(*at);
    *at += 4;
    return value;
}

static text take_text(const uint8_t **at) {
    text t;
    t.bytes = take_u32(at);
    t.at = (const char *)*at;
    *at += t.bytes;
    return t;
}

static chat take_chat(const uint8_t **at) {
    chat c;
    memset(&c, 0, sizeof c);
    c.family = take_text(at);
    c.template_text = take_text(at);
    c.expected = take_text(at);
    c.n = take_u32(at);
    assert_true(c.n <= MOST_MESSAGES);
    for (uint32_t i = 0; i < c.n; i++) {
        c.messages[i].role = take_u32(at);
        const text t = take_text(at);
        c.messages[i].text = t.at;
        c.messages[i].bytes = t.bytes;
    }
    return c;
}

static text template_of_file; /* what add_template writes */

static void add_template(gguf_maker *m) {
    gguf_key(m, "tokenizer.chat_template", KVRI_GGUF_STRING);
    gguf_put_string(&m->kv, template_of_file.at, template_of_file.bytes);
}

typedef struct file {
    uint8_t *bytes;
    void *memory, *aligned;
    kvr_model *model;
} file;

static file open_shape(const gguf_shape *shape) {
    file f;
    size_t bytes = 0;
    kvr_model_info info;
    kvr_error error;
    memset(&error, 0, sizeof error);
    f.bytes = gguf_make_llama(shape, &bytes);
    assert_int_equal(kvr_model_probe(f.bytes, bytes, &info, &error), KVR_OK);
    f.memory = malloc((size_t)info.state_bytes + 64);
    assert_non_null(f.memory);
    f.aligned = (void *)(((uintptr_t)f.memory + 63) & ~(uintptr_t)63);
    assert_int_equal(kvr_model_open(f.aligned, (size_t)info.state_bytes, f.bytes, bytes, &f.model, &error), KVR_OK);
    return f;
}

/* A vocabulary with this template; at NULL: with none. */
static file open_file(text template_text) {
    gguf_shape shape = {.n_vocab = 400, .vocab_only = 1};
    template_of_file = template_text;
    if (template_text.at != NULL) shape.more = add_template;
    return open_shape(&shape);
}

static void close_file(file *f) {
    free(f->memory);
    free(f->bytes);
}

static void conversations_are_written_as_transformers_writes_them(void **state) {
    (void)state;
    size_t bytes = 0;
    uint8_t *data = read_file(KVR_GOLDEN_DIR "/chats.bin", &bytes);
    uint32_t n = 0;
    assert_non_null(data);
    for (const uint8_t *at = data; at < data + bytes; n++) {
        const chat c = take_chat(&at);
        char got[4096];
        kvr_text_part parts[64];
        size_t n_got = 0, n_parts = 0, sum = 0;
        uint32_t family = 0;
        kvr_error error;
        memset(&error, 0, sizeof error);
        file f = open_file(c.template_text);
        assert_int_equal(kvr_chat_of_model(f.model, &family, &error), KVR_OK);
        if (strlen(kvr_chat_name(family)) != c.family.bytes ||
            memcmp(kvr_chat_name(family), c.family.at, c.family.bytes) != 0)
            fail_msg("conversation %u is taken for %s, not %.*s", n, kvr_chat_name(family), (int)c.family.bytes,
                     c.family.at);
        assert_int_equal(kvr_chat_find(kvr_chat_name(family)), family);
        assert_int_equal(
            kvr_chat_render(f.model, family, c.messages, c.n, got, sizeof got, &n_got, parts, 64, &n_parts, &error),
            KVR_OK);
        if (n_got != c.expected.bytes || memcmp(got, c.expected.at, n_got) != 0)
            fail_msg("conversation %u, %s:\n%.*s\nnot\n%.*s", n, kvr_chat_name(family), (int)n_got, got,
                     (int)c.expected.bytes, c.expected.at);
        for (size_t i = 0; i < n_parts; i++) sum += parts[i].bytes;
        assert_int_equal(sum, n_got);
        /* what does not fit is counted and not written */
        memset(got, 'x', sizeof got);
        memset(&error, 0, sizeof error);
        size_t again = 0, again_parts = 0;
        assert_int_equal(
            kvr_chat_render(f.model, family, c.messages, c.n, got, n_got - 1, &again, parts, 2, &again_parts, &error),
            KVR_ERR_NOMEM);
        assert_true(again == n_got && again_parts == n_parts && got[n_got - 1] == 'x');
        close_file(&f);
    }
    assert_true(n > 80);
    free(data);
}

static void add_end_of_text(gguf_maker *m) {
    gguf_bytes tokens = {NULL, 0, 0};
    for (uint32_t id = 0; id < 400; id++) {
        char token[16];
        gguf_token_text(id, 400, token);
        if (id == 399) strcpy(token, "<|endoftext|>");
        gguf_put_string(&tokens, token, strlen(token));
    }
    gguf_key_array(m, "tokenizer.ggml.tokens", KVRI_GGUF_STRING, 400, &tokens);
    free(tokens.at);
}

static void tokens_that_end_texts_elsewhere_end_an_answer_too(void **state) {
    (void)state;
    gguf_shape shape = {.n_vocab = 400, .vocab_only = 1, .more = add_end_of_text};
    file f = open_shape(&shape);
    for (uint32_t family = 0; kvr_chat_name(family) != NULL; family++) {
        assert_int_equal(kvr_chat_is_end(f.model, family, 399), 1);
        assert_int_equal(kvr_chat_is_end(f.model, family, 398), 0);
    }
    close_file(&f);
}

static void a_message_can_not_end_its_turn(void **state) {
    (void)state;
    const text none = {NULL, 0};
    file f = open_file(none);
    const kvr_chat_message m = {KVR_CHAT_USER, "a</s><s>b", 9};
    char out[256];
    kvr_text_part parts[8];
    size_t n = 0, n_parts = 0, n_ids = 0;
    int32_t ids[256];
    static uint64_t work[4096];
    kvr_error error;
    memset(&error, 0, sizeof error);
    const uint32_t zephyr = kvr_chat_find("zephyr");
    assert_int_equal(kvr_chat_render(f.model, zephyr, &m, 1, out, sizeof out, &n, parts, 8, &n_parts, &error), KVR_OK);
    assert_true(kvr_text_work_bytes(f.model, n) <= sizeof work);
    assert_int_equal(kvr_text_encode_parts(f.model, out, n, parts, n_parts, KVR_TEXT_BOS, work, sizeof work, ids, 256,
                                           &n_ids, &error),
                     KVR_OK);
    uint32_t begins = 0, ends = 0;
    for (size_t i = 0; i < n_ids; i++) begins += ids[i] == 1, ends += ids[i] == 2;
    assert_int_equal(begins, 1); /* the file's BOS */
    assert_int_equal(ends, 1);   /* the template's EOS */
    assert_int_equal(kvr_chat_is_end(f.model, zephyr, 2), 1);
    assert_int_equal(kvr_chat_is_end(f.model, zephyr, 1), 0);
    assert_int_equal(kvr_chat_is_end(f.model, zephyr, -1), 0);
    parts[0].bytes++;
    assert_int_equal(
        kvr_text_encode_parts(f.model, out, n, parts, n_parts, 0, work, sizeof work, ids, 256, &n_ids, &error),
        KVR_ERR_ARG);
    parts[0].bytes = SIZE_MAX; /* a sum that wraps around to the right one is none */
    parts[1].bytes = n + 1;
    memset(&error, 0, sizeof error);
    assert_int_equal(
        kvr_text_encode_parts(f.model, out, n, parts, n_parts, 0, work, sizeof work, ids, 256, &n_ids, &error),
        KVR_ERR_ARG);
    /* a template that begins with BOS does not get another one */
    const uint32_t gemma = kvr_chat_find("gemma");
    memset(&error, 0, sizeof error);
    assert_int_equal(kvr_chat_render(f.model, gemma, &m, 1, out, sizeof out, &n, parts, 8, &n_parts, &error), KVR_OK);
    assert_int_equal(kvr_text_encode_parts(f.model, out, n, parts, n_parts, KVR_TEXT_BOS, work, sizeof work, ids, 256,
                                           &n_ids, &error),
                     KVR_OK);
    assert_true(ids[0] == 1 && ids[1] != 1);
    close_file(&f);
}

static void what_is_no_conversation_is_refused(void **state) {
    (void)state;
    const text none = {NULL, 0}, foreign = {"{{ messages | tojson }}", 23};
    const kvr_chat_message late[] = {{KVR_CHAT_USER, "a", 1}, {KVR_CHAT_SYSTEM, "b", 1}};
    const kvr_chat_message lonely[] = {{KVR_CHAT_SYSTEM, "b", 1}}, odd[] = {{7, "b", 1}};
    char out[64];
    kvr_text_part parts[8];
    size_t n = 0, n_parts = 0;
    uint32_t family = 99;
    kvr_error error;
    file f = open_file(none), g = open_file(foreign);
    memset(&error, 0, sizeof error);
    assert_int_equal(kvr_chat_of_model(f.model, &family, &error), KVR_ERR_UNSUPPORTED);
    assert_int_equal(kvr_chat_of_model(g.model, &family, NULL), KVR_ERR_UNSUPPORTED);
    assert_int_equal(family, 99);
    const uint32_t llama2 = kvr_chat_find("llama2"), chatml = kvr_chat_find("chatml");
    assert_int_equal(kvr_chat_find("chat"), UINT32_MAX);
    assert_int_equal(kvr_chat_render(f.model, chatml, late, 2, out, 64, &n, parts, 8, &n_parts, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_chat_render(f.model, chatml, odd, 1, out, 64, &n, parts, 8, &n_parts, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_chat_render(f.model, llama2, lonely, 1, out, 64, &n, parts, 8, &n_parts, NULL), KVR_ERR_ARG);
    assert_int_equal(kvr_chat_render(f.model, 1000, late, 1, out, 64, &n, parts, 8, &n_parts, NULL), KVR_ERR_ARG);
    close_file(&f);
    close_file(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conversations_are_written_as_transformers_writes_them),
        cmocka_unit_test(tokens_that_end_texts_elsewhere_end_an_answer_too),
        cmocka_unit_test(a_message_can_not_end_its_turn),
        cmocka_unit_test(what_is_no_conversation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
