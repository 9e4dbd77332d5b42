/*
 * The library never allocates. This program brings its own malloc, which counts; from the first byte of a model file to
 * the last token of a chain the count must stand still. Sanitizers bring their own too, so it is skipped under them.
 */
#include "gguf_maker.h"
#include "kvr/kvr.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

static volatile uint32_t n_calls;

#if OWN_MALLOC
/* Hands out an arena and takes nothing back: the simplest thing that works for a short program. */
#define ARENA_BYTES (64u << 20)
static union { uint8_t bytes[ARENA_BYTES]; long double aligned; } arena;
static size_t arena_used;

void *malloc(size_t bytes) {
    n_calls++;
    const size_t whole = 16 + (bytes + 15) / 16 * 16; /* its size lies in front */
    if (bytes > ARENA_BYTES || whole > ARENA_BYTES - arena_used) return NULL;
    uint8_t *place = arena.bytes + arena_used;
    arena_used += whole;
    memcpy(place, &bytes, sizeof bytes);
    return place + 16;
}

void *calloc(size_t count, size_t bytes) {
    if (bytes != 0 && count > ARENA_BYTES / bytes) return NULL;
    return malloc(count * bytes); /* zero already: no place is used twice */
}

void free(void *place) {
    (void)place;
    n_calls++;
}

void *realloc(void *place, size_t bytes) {
    uint8_t *larger = (uint8_t *)malloc(bytes);
    size_t old = 0;
    if (place == NULL || larger == NULL) return larger;
    memcpy(&old, (uint8_t *)place - 16, sizeof old);
    memcpy(larger, place, old < bytes ? old : bytes);
    return larger;
}
#endif

#define CTX 48u
#define BOARDS 3u

/* Everything that a board needs, in memory that is there from the start. */
static union { uint8_t bytes[256u << 10]; long double aligned; } model_block, session_block[BOARDS], loop_block;
static kvr_cpu cpus[BOARDS];

static uint8_t *aligned(uint8_t *bytes) { return bytes + (64 - (uintptr_t)bytes % 64) % 64; }

static uint64_t next_time(void *user) {
    static uint64_t now_us = 1;
    (void)user;
    return now_us += 10;
}

static kvr_model *open_model(const uint8_t *file, size_t bytes) {
    kvr_model_info info;
    kvr_model *model = NULL;
    kvr_error error = {0};
    assert_int_equal(kvr_model_probe(file, bytes, &info, &error), KVR_OK);
    assert_true(info.state_bytes <= sizeof model_block - 64);
    assert_int_equal(kvr_model_open(aligned(model_block.bytes), (size_t)info.state_bytes, file, bytes, &model, &error),
                     KVR_OK);
    return model;
}

static kvr_config chain_config(void) {
    kvr_config c;
    memset(&c, 0, sizeof c);
    c.ctx_tokens = CTX;
    c.batch_tokens = 8;
    c.max_boards = BOARDS;
    c.frame_tokens = 4;
    return c;
}

static kvr_session *open_session(const kvr_model *model, uint32_t board, kvr_plan *out_plan) {
    const kvr_config config = chain_config();
    kvr_backend backend;
    kvr_port port;
    kvr_session *session = NULL;
    kvr_error error = {0};
    memset(&port, 0, sizeof port);
    port.now_us = next_time;
    kvr_cpu_backend(&cpus[board], &backend);
    assert_int_equal(kvr_plan_make(model, &config, &backend, out_plan, &error), KVR_OK);
    const size_t bytes = (size_t)out_plan->region_bytes[KVR_REGION_SESSION];
    assert_true(bytes <= sizeof session_block[0] - 64);
    assert_int_equal(
        kvr_session_open(aligned(session_block[board].bytes), bytes, model, &config, &backend, &port, &session, &error),
        KVR_OK);
    return session;
}

static size_t encode(const kvr_model *model, int32_t *ids, size_t cap) {
    static const char text[] = "ab ba abc";
    static union { uint8_t bytes[4096]; uint64_t aligned; } scratch;
    size_t n = 0;
    kvr_error error = {0};
    assert_true(kvr_text_work_bytes(model, sizeof text - 1) <= sizeof scratch);
    assert_int_equal(kvr_text_encode(model, text, sizeof text - 1, KVR_TEXT_BOS | KVR_TEXT_SPECIAL, &scratch,
                                     sizeof scratch, ids, cap, &n, &error), KVR_OK);
    return n;
}

static void decode(const kvr_model *model, const int32_t *ids, size_t n) {
    static char out[256];
    kvr_text_stream stream;
    size_t bytes;
    memset(&stream, 0, sizeof stream);
    assert_true(kvr_text_piece_cap(model) <= sizeof out);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(kvr_text_decode(model, &stream, ids[i], out, sizeof out, &bytes), KVR_OK);
    assert_int_equal(kvr_text_finish(&stream, out, sizeof out, &bytes), KVR_OK);
}

static void ask(kvr_session *session, const int32_t *ids, uint32_t n, uint32_t n_boards, float temperature) {
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.ids = ids;
    prompt.n_ids = n;
    prompt.max_new_tokens = 8;
    prompt.ignore_eos = 1;
    prompt.n_boards = n_boards;
    prompt.sampling.temperature = temperature;
    prompt.sampling.top_p = 0.9f;
    prompt.sampling.repeat_penalty = 1.1f;
    assert_int_equal(kvr_session_prompt(session, &prompt), KVR_OK);
}

/* The lead is the last board. */
static void run_chain(kvr_session *const *sessions) {
    kvr_event event;
    for (uint32_t polls = 0; polls < 100000; polls++) {
        for (uint32_t b = 0; b + 1 < BOARDS; b++) assert_true(kvr_session_poll(sessions[b], &event) >= 0);
        const kvr_status status = kvr_session_poll(sessions[BOARDS - 1], &event);
        assert_true(status >= 0);
        if (status == KVR_END) return;
    }
    fail_msg("the chain did not end");
}

static void nothing_is_allocated_from_the_file_to_the_last_token(void **state) {
    (void)state;
    if (!OWN_MALLOC) {
        printf("skipped: a sanitizer's malloc cannot be replaced\n");
        skip();
    }
    gguf_shape shape;
    memset(&shape, 0, sizeof shape);
    shape.n_layers = 2;
    shape.model_dim = 32;
    shape.ffn_dim = 48;
    shape.n_heads = 4;
    shape.n_kv_heads = 2;
    shape.n_vocab = 340;
    shape.ctx = CTX;
    shape.seed = 9;
    size_t bytes;
    uint8_t *file = gguf_make_llama(&shape, &bytes);
    static const char *const helpers[] = {"loop:0", "loop:1"};
    kvr_session *sessions[BOARDS];
    kvr_plan plan;
    int32_t ids[CTX];
    assert_true(n_calls > 0); /* it does count */
    const uint32_t before = n_calls;

    kvr_model *model = open_model(file, bytes);
    const uint32_t n = (uint32_t)encode(model, ids, CTX);
    decode(model, ids, n);
    for (uint32_t b = 0; b < BOARDS; b++) sessions[b] = open_session(model, b, &plan);
    kvr_loop *loop = NULL;
    assert_true(kvr_loop_bytes(BOARDS, 4, (size_t)plan.frame_bytes) <= sizeof loop_block - 64);
    assert_int_equal(
        kvr_loop_open(aligned(loop_block.bytes), sizeof loop_block - 64, BOARDS, 4, (size_t)plan.frame_bytes, &loop),
        KVR_OK);
    for (uint32_t b = 0; b < BOARDS; b++) {
        kvr_link link;
        assert_int_equal(kvr_loop_link(loop, b, &link), KVR_OK);
        assert_int_equal(kvr_session_set_link(sessions[b], &link), KVR_OK);
        if (b + 1 < BOARDS) assert_int_equal(kvr_session_serve(sessions[b]), KVR_OK);
    }
    kvr_session *lead = sessions[BOARDS - 1];
    assert_int_equal(kvr_session_set_boards(lead, helpers, BOARDS - 1, "loop:2"), KVR_OK);
    for (int round = 0; round < 2; round++) {
        ask(lead, ids, n, 1, 0.8f);
        assert_int_equal(kvr_session_run(lead, NULL, NULL), KVR_OK);
        ask(lead, ids, n, BOARDS, 0.0f);
        run_chain(sessions);
    }
    assert_int_equal(kvr_session_dismiss(lead), KVR_OK);
    ask(lead, ids, n, 1, 0.0f);
    assert_int_equal(kvr_session_stop(lead), KVR_OK);
    for (uint32_t b = 0; b < BOARDS; b++) kvr_session_close(sessions[b]);

    assert_int_equal(n_calls, before);
    free(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_allocated_from_the_file_to_the_last_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
