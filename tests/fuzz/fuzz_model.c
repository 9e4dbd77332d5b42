/*
 * Any bytes as a model file: probe, open, tokenize with its vocabulary, run it when it has weights. What the calls
 * return is free; what they touch and how long they take is not.
 */
#include "fuzz_target.h"

#include "kvr/kvr.h"

#include <string.h>

#define MOST_BYTES (16u << 20) /* of state or session: enough for every input of some 100 KiB */

static uint64_t no_time(void *user) {
    (void)user;
    return 0;
}

/* Every refusal has its status, its module and a sentence. */
static void check_refusal(kvr_status status, const kvr_error *error) {
    char line[300];
    FUZZ_CHECK(status < 0 && error->status == status && error->module != NULL && error->text != NULL);
    FUZZ_CHECK(kvr_error_format(error, line, sizeof line) < sizeof line);
}

static void tokenize(const kvr_model *model, const uint8_t *text, size_t n, uint32_t flags) {
    const size_t work_bytes = kvr_text_work_bytes(model, n);
    if (work_bytes > MOST_BYTES) return;
    int32_t ids[64];
    size_t n_ids = 0, n_out = 0;
    kvr_error error = {0};
    void *work = malloc(work_bytes > 0 ? work_bytes : 1);
    FUZZ_CHECK(work != NULL);
    const kvr_status status =
        kvr_text_encode(model, (const char *)text, n, flags, work, work_bytes, ids, 64, &n_ids, &error);
    free(work);
    if (status != KVR_OK && status != KVR_ERR_CTX_FULL) return;
    FUZZ_CHECK(status == KVR_OK ? n_ids <= 64 : n_ids > 64);

    const size_t cap = kvr_text_piece_cap(model);
    if (cap > MOST_BYTES) return;
    char *piece = (char *)malloc(cap > 0 ? cap : 1);
    FUZZ_CHECK(piece != NULL);
    kvr_text_stream stream;
    memset(&stream, 0, sizeof stream);
    for (size_t i = 0; i < n_ids && i < 64; i++) {
        FUZZ_CHECK(kvr_text_decode(model, &stream, ids[i], piece, cap, &n_out) == KVR_OK);
        FUZZ_CHECK(n_out <= cap);
    }
    for (int32_t id = -1; id < 300; id++) {
        const kvr_status decoded = kvr_text_decode(model, &stream, id, piece, cap, &n_out);
        FUZZ_CHECK(decoded == KVR_OK || decoded == KVR_ERR_ARG);
    }
    char last[3];
    FUZZ_CHECK(kvr_text_finish(&stream, last, sizeof last, &n_out) == KVR_OK && n_out <= 3);
    free(piece);
}

/* A conversation in the file's own template, or in one of all. */
static void talk(const kvr_model *model, uint32_t family, const uint8_t *text, size_t n) {
    const kvr_chat_message messages[] = {{KVR_CHAT_SYSTEM, "Be short.", 9},
                                         {KVR_CHAT_USER, (const char *)text, n},
                                         {KVR_CHAT_ASSISTANT, " </s><|im_end|> ", 16},
                                         {KVR_CHAT_USER, (const char *)text, n / 2}};
    kvr_text_part parts[16];
    size_t bytes = 0, n_parts = 0, n_ids = 0;
    int32_t ids[64];
    kvr_error error = {0};
    if (kvr_chat_of_model(model, &family, &error) != KVR_OK) memset(&error, 0, sizeof error);
    const kvr_status status =
        kvr_chat_render(model, family, messages, 4, NULL, 0, &bytes, parts, 16, &n_parts, &error);
    if (status != KVR_ERR_NOMEM || bytes > MOST_BYTES) return;
    FUZZ_CHECK(n_parts <= 16);
    char *out = (char *)malloc(bytes > 0 ? bytes : 1);
    const size_t work_bytes = kvr_text_work_bytes(model, bytes);
    void *work = work_bytes <= 4 * MOST_BYTES ? malloc(work_bytes > 0 ? work_bytes : 1) : NULL;
    FUZZ_CHECK(out != NULL);
    FUZZ_CHECK(kvr_chat_render(model, family, messages, 4, out, bytes, &bytes, parts, 16, &n_parts, NULL) == KVR_OK);
    if (work != NULL) {
        const kvr_status encoded = kvr_text_encode_parts(model, out, bytes, parts, n_parts, KVR_TEXT_BOS, work,
                                                         work_bytes, ids, 64, &n_ids, NULL);
        FUZZ_CHECK(encoded == KVR_OK || encoded == KVR_ERR_CTX_FULL);
    }
    free(work);
    free(out);
}

static void run(const kvr_model *model, uint32_t batch) {
    kvr_cpu cpu = {NULL};
    kvr_backend backend;
    kvr_plan plan;
    kvr_error error = {0};
    kvr_config config;
    kvr_session *session;
    kvr_port port;
    memset(&config, 0, sizeof config);
    memset(&port, 0, sizeof port);
    port.now_us = no_time;
    config.struct_bytes = sizeof config;
    config.ctx_tokens = 6;
    config.batch_tokens = batch;
    kvr_cpu_backend(&cpu, &backend);
    const kvr_status planned = kvr_plan_make(model, &config, &backend, &plan, &error);
    if (planned != KVR_OK) {
        check_refusal(planned, &error);
        return;
    }
    if (plan.region_bytes[KVR_REGION_SESSION] > MOST_BYTES) return;
    void *mem = alloc_exact((size_t)plan.region_bytes[KVR_REGION_SESSION]);
    FUZZ_CHECK(kvr_session_open(mem, (size_t)plan.region_bytes[KVR_REGION_SESSION], model, &config, &backend, &port,
                                &session, &error) == KVR_OK);
    const int32_t ids[3] = {0, 0, 0};
    kvr_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    prompt.struct_bytes = sizeof prompt;
    prompt.n_ids = 3;
    prompt.ids = ids;
    prompt.max_new_tokens = 2;
    prompt.sampling.temperature = batch > 1 ? 1.0f : 0.0f;
    prompt.sampling.top_p = 0.9f;
    FUZZ_CHECK(kvr_session_prompt(session, &prompt) == KVR_OK);
    const kvr_status status = kvr_session_run(session, NULL, NULL);
    FUZZ_CHECK(status == KVR_OK || status == KVR_ERR_NUMERIC);
    kvr_session_close(session);
    free(mem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kvr_model_info info;
    kvr_model *model;
    kvr_error error = {0};
    const kvr_status probed = kvr_model_probe(data, size, &info, &error);
    if (probed != KVR_OK) {
        check_refusal(probed, &error);
        return 0;
    }
    if (info.state_bytes > MOST_BYTES) return 0;
    void *mem = alloc_exact((size_t)info.state_bytes);
    const kvr_status opened = kvr_model_open(mem, (size_t)info.state_bytes, data, size, &model, &error);
    if (opened == KVR_OK) {
        const size_t n = size < 48 ? size : 48; /* the end of the file is its text too */
        tokenize(model, data + size - n, n, KVR_TEXT_BOS);
        tokenize(model, data + size / 2, n / 2, KVR_TEXT_SPECIAL);
        tokenize(model, (const uint8_t *)"Hi  there's 42\n\xC3\xA4 <s>\xF0\x9F\x98\x80", 24,
                 KVR_TEXT_BOS | KVR_TEXT_SPECIAL);
        talk(model, (uint32_t)(size % 19), data + size - n, n);
        if (info.n_tensors > 0) run(model, 1 + (uint32_t)(size & 3));
    } else {
        check_refusal(opened, &error);
    }
    free(mem);
    return 0;
}
