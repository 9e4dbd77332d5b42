/*
 * Writes the corpus from which the fuzzers start: make_corpus FOLDER writes FOLDER/model/..., frame/..., text/... and
 * chat/... (they must exist). Run it again when the file format's reader or the wire change, and commit what it wrote.
 */
#include "gguf_maker.h"
#include "kvr_frame.h"

#include <stdio.h>

static const char *folder;

static void save(const char *name, const void *bytes, size_t n) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, n, file) != n || fclose(file) != 0) {
        fprintf(stderr, "cannot write %s\n", path);
        exit(1);
    }
}

/* --- models --------------------------------------------------------------------------------------------------- */

static void save_model(const char *name, const gguf_shape *shape) {
    size_t n;
    uint8_t *file = gguf_make_llama(shape, &n);
    save(name, file, n);
    free(file);
}

static void save_bpe(const char *name, const char *pre) {
    static const char *const tokens[] = {"a",
                                         "b",
                                         "ab",
                                         "\xC4\xA0",
                                         ("\xC4\xA0"
                                          "ab"), /* apart: "ab" would belong to the hexadecimal number */
                                         "1",
                                         "<|im_end|>",
                                         "\xC4\x8A",
                                         "\xC3\xA4"};
    static const char *const merges[] = {"a b", "\xC4\xA0 ab"};
    gguf_maker m = gguf_start();
    gguf_bytes list = {NULL, 0, 0}, types = {NULL, 0, 0}, pairs = {NULL, 0, 0};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        gguf_put_string(&list, tokens[i], strlen(tokens[i]));
        gguf_put_le(&types, i == 6 ? 3 : 1, 4);
    }
    for (size_t i = 0; i < 2; i++) gguf_put_string(&pairs, merges[i], strlen(merges[i]));
    gguf_key_text(&m, "general.architecture", "gpt2");
    gguf_key_text(&m, "tokenizer.ggml.model", "gpt2");
    gguf_key_text(&m, "tokenizer.ggml.pre", pre);
    gguf_key_array(&m, "tokenizer.ggml.tokens", KVRI_GGUF_STRING, sizeof tokens / sizeof tokens[0], &list);
    gguf_key_array(&m, "tokenizer.ggml.token_type", KVRI_GGUF_I32, sizeof tokens / sizeof tokens[0], &types);
    gguf_key_array(&m, "tokenizer.ggml.merges", KVRI_GGUF_STRING, 2, &pairs);
    size_t n;
    uint8_t *file = gguf_finish(&m, &n);
    save(name, file, n);
    free(file);
    free(list.at);
    free(types.at);
    free(pairs.at);
}

static void save_models(void) {
    gguf_shape s = gguf_shape_tiny();
    save_model("model/f32.gguf", &s);
    s.version = 2;
    s.dtype = KVR_DTYPE_F16;
    s.vector_dtype = KVR_DTYPE_F16;
    s.tied_head = 1;
    s.head_dim = 2;
    s.rope_dims = 2;
    s.rope_base = 5e5f;
    s.rope_scaling = "linear";
    s.rope_factor = 2.0f;
    s.rope_freqs = 1;
    save_model("model/v2-f16-rope.gguf", &s);
    s = gguf_shape_tiny();
    s.model_dim = s.ffn_dim = 32;
    s.n_vocab = 4;
    s.dtype = KVR_DTYPE_Q4_0;
    save_model("model/q4_0.gguf", &s);
    s.dtype = KVR_DTYPE_Q8_0;
    save_model("model/q8_0.gguf", &s);
    s = gguf_shape_tiny();
    s.n_vocab = 330;
    s.vocab_only = 1;
    save_model("model/spm-vocab.gguf", &s);
    save_bpe("model/bpe-vocab.gguf", "llama-bpe");
    save_bpe("model/bpe-old-vocab.gguf", "gpt-2");
    save("model/empty.gguf", "", 0);
    save("model/magic.gguf", "GGUF", 4);
}

/* --- frames: entries as fuzz_frame.c reads them ----------------------------------------------------------------- */

enum { OTHER_SESSION = 64, OTHER_VERSION = 128 }; /* above the kind */
enum { RECIPE = 1, ECHO = 2, FINGERPRINT = 4, POLL_4 = 32, POLL_16 = 48, FILL = 64, JUMP = 128 };

static void put_entry(gguf_bytes *out, uint32_t mode, const uint8_t recipe[7], const void *payload, size_t n) {
    gguf_put_le(out, mode, 1);
    gguf_put_le(out, 7 + n, 2);
    gguf_put(out, recipe, 7);
    gguf_put(out, payload, n);
}

static void put_hello(gguf_bytes *out, uint32_t mode, uint8_t rank, uint8_t epoch, const char *address) {
    uint8_t payload[KVRI_HELLO_BYTES];
    kvri_hello hello;
    memset(&hello, 0, sizeof hello);
    hello.kv_dtype = hello.wire_kv = KVR_DTYPE_F16;
    hello.frame_tokens = 2;
    hello.ctx_tokens = 32;
    hello.chunk_tokens = 32;
    hello.max_boards = 4;
    snprintf(hello.address, sizeof hello.address, "%s", address);
    const uint8_t recipe[7] = {KVRI_FRAME_HELLO, rank, epoch, 0, 0, 0, 0};
    put_entry(out, mode | RECIPE | FINGERPRINT, recipe, payload, kvri_hello_put(&hello, payload));
}

/* A helper's, with what it can do. */
static void put_hello_with_speed(gguf_bytes *out, uint32_t mode, uint8_t rank) {
    uint8_t payload[KVRI_HELLO_MOST];
    kvri_hello hello;
    memset(&hello, 0, sizeof hello);
    hello.kv_dtype = hello.wire_kv = KVR_DTYPE_F16;
    hello.frame_tokens = 2;
    hello.ctx_tokens = 32;
    hello.chunk_tokens = 32;
    hello.max_boards = 4;
    const kvri_speed speed = {1, 16, 150, 60, 6, 0, 36, 4, 0};
    hello.speed = speed;
    const uint8_t recipe[7] = {KVRI_FRAME_HELLO, rank, 0, 0, 0, 0, 0};
    put_entry(out, mode | RECIPE | FINGERPRINT | ECHO, recipe, payload, kvri_hello_put(&hello, payload));
}

/* What a lead asks, and an empty answer to it. */
static void put_probe(gguf_bytes *out, uint32_t mode, uint8_t number, uint8_t n_frames, uint32_t answer_bytes) {
    uint8_t payload[KVRI_PROBE_BYTES];
    const kvri_probe probe = {answer_bytes};
    const uint8_t recipe[7] = {KVRI_FRAME_PROBE, 2, 0, 0, number, n_frames, 0};
    put_entry(out, mode | RECIPE, recipe, payload, kvri_probe_put(&probe, payload));
}

static void put_probed(gguf_bytes *out, uint32_t mode, uint8_t rank, uint8_t number) {
    const uint8_t recipe[7] = {KVRI_FRAME_PROBE, rank, 0, 0, number, 1, 0};
    put_entry(out, mode | RECIPE | ECHO, recipe, "", 0);
}

static void put_report(gguf_bytes *out, uint32_t mode, uint8_t rank, kvri_stage stage, kvr_status status) {
    uint8_t payload[KVRI_REPORT_BYTES];
    kvri_report report;
    memset(&report, 0, sizeof report);
    report.stage = (uint32_t)stage;
    report.status = (int32_t)status;
    report.progress = 1;
    snprintf(report.text, sizeof report.text, "a reason");
    const uint8_t recipe[7] = {KVRI_FRAME_STATUS, rank, 0, 0, 0, 0, 0};
    put_entry(out, mode | RECIPE | ECHO, recipe, payload, kvri_report_put(&report, payload));
}

static void put_plain(gguf_bytes *out, uint32_t mode, kvri_frame_kind kind, uint8_t rank, uint8_t epoch) {
    const uint8_t recipe[7] = {(uint8_t)kind, rank, epoch, 0, 0, 0, 0};
    put_entry(out, mode | RECIPE, recipe, "", 0);
}

static void put_kv(gguf_bytes *out, uint32_t mode, uint8_t rank, uint8_t epoch, uint8_t layer, uint8_t first,
                   uint8_t count) {
    const uint8_t recipe[7] = {KVRI_FRAME_KV, rank, epoch, layer, first, count, KVR_DTYPE_F16};
    put_entry(out, mode | RECIPE | FILL, recipe, "", 0);
}

/* The link fails. */
static void put_trouble(gguf_bytes *out) {
    gguf_put_le(out, POLL_4, 1);
    gguf_put_le(out, 0, 2);
}

static void save_entries(const char *name, gguf_bytes *out) {
    save(name, out->at, out->n);
    free(out->at);
    memset(out, 0, sizeof *out);
}

/* A lead's side: rank 1 of 3 boards, 3 tokens each. */
static void put_job(gguf_bytes *out, uint8_t epoch, uint32_t flags) {
    static const uint32_t cuts[4] = {0, 3, 6, 9};
    static const int32_t ids[3] = {3, 4, 5};
    uint8_t payload[KVRI_JOB_FIXED + 7 * 4];
    const uint8_t recipe[7] = {KVRI_FRAME_JOB, 2, epoch, 0, 0, 0, 0};
    put_entry(out, RECIPE, recipe, payload, kvri_job_put(1, 3, flags, 0, "loop:2", cuts, ids, 3, payload));
}

static void save_helper(void) {
    gguf_bytes out = {NULL, 0, 0};
    gguf_put_le(&out, 2 * 3, 1); /* reads take three polls */
    put_hello(&out, 0, 1, 0, "loop:2");
    put_job(&out, 1, 0);
    put_plain(&out, POLL_4, KVRI_FRAME_GO, 2, 1);
    for (uint8_t layer = 0; layer < 2; layer++) {
        put_kv(&out, POLL_4, 0, 1, layer, 0, 2);
        put_kv(&out, POLL_4, 0, 1, layer, 2, 1);
    }
    put_plain(&out, POLL_16, KVRI_FRAME_ABORT, 2, 1);
    put_job(&out, 2, 0);
    put_plain(&out, 0, KVRI_FRAME_GO, 2, 2);
    put_hello(&out, 0, 1, 0, "loop:9"); /* meanwhile another lead, then one of another wire version */
    out.at[out.n - 7 - KVRI_HELLO_BYTES] |= OTHER_SESSION;
    put_hello(&out, 0, 1, 0, "loop:9");
    out.at[out.n - 7 - KVRI_HELLO_BYTES] |= OTHER_VERSION;
    put_plain(&out, POLL_16 | JUMP, KVRI_FRAME_BYE, 2, 2);
    put_trouble(&out);
    save_entries("frame/helper.bin", &out);

    gguf_put_le(&out, 0, 1); /* first contact, and a job in the middle of it */
    put_hello(&out, 0, 1, 0, "loop:2");
    put_probe(&out, POLL_4, 1, 1, 0);
    put_probe(&out, POLL_4, 2, 8, 64);
    put_probe(&out, 0, 3, 64, 1u << 20);
    put_probe(&out, 0, 4, 64, 64);
    put_job(&out, 1, 0);
    put_probe(&out, POLL_16, 5, 1, 0);
    save_entries("frame/helper-probed.bin", &out);

    gguf_put_le(&out, 2 * 2, 1); /* TSP: the pieces of ranks 0 and 2 come round */
    put_hello(&out, 0, 1, 0, "loop:2");
    put_job(&out, 1, KVRI_JOB_RING | KVRI_JOB_SQUARE);
    put_plain(&out, POLL_4, KVRI_FRAME_GO, 2, 1);
    for (uint8_t layer = 0; layer < 2; layer++)
        for (uint8_t first = 0; first < 9; first = (uint8_t)(first + 6)) {
            put_kv(&out, POLL_4, 0, 1, layer, first, 2);
            put_kv(&out, POLL_16, 0, 1, layer, (uint8_t)(first + 2), 1);
        }
    put_plain(&out, POLL_16, KVRI_FRAME_BYE, 2, 1);
    save_entries("frame/helper-ring.bin", &out);
}

/* Two spans at once, then the third. */
static void put_spans(gguf_bytes *out, uint32_t mode, uint8_t rank) {
    const kvr_span spans[3] = {{.to_us = 9, .layer = 1}, {.from_us = 7}, {.to_us = 3, .kind = KVR_SPAN_TRANSFER}};
    const kvri_spans head = {3, 1};
    uint8_t payload[KVRI_SPANS_FIXED + 2 * KVRI_SPAN_BYTES];
    for (uint8_t at = 0; at < 3; at = (uint8_t)(at + 2)) {
        const uint8_t count = at == 0 ? 2 : 1;
        const uint8_t recipe[7] = {KVRI_FRAME_SPANS, rank, 0, 0, at, count, 0};
        put_entry(out, mode | RECIPE | ECHO, recipe, payload, kvri_spans_put(&head, spans + at, count, payload));
    }
}

/* The helpers' side: both say hello, are ready; rank 1 hands over 6 tokens of 2 layers. */
static void save_lead(const char *name, uint32_t first_byte) {
    gguf_bytes out = {NULL, 0, 0};
    gguf_put_le(&out, first_byte, 1);
    for (uint8_t rank = 0; rank < 2; rank++) put_hello(&out, POLL_4 | ECHO, rank, 0, "");
    for (uint8_t rank = 0; rank < 2; rank++) put_report(&out, POLL_4, rank, KVRI_STAGE_READY, KVR_OK);
    for (uint8_t layer = 0; layer < 2; layer++)
        for (uint8_t piece = 0; piece < 4; piece++)
            put_kv(&out, POLL_4 | ECHO, 1, 0, layer, (uint8_t)(piece / 2 * 3 + piece % 2 * 2), piece % 2 == 0 ? 2 : 1);
    for (uint8_t rank = 0; rank < 2; rank++) put_report(&out, POLL_16, rank, KVRI_STAGE_DONE, KVR_OK);
    for (uint8_t rank = 0; rank < 2; rank++) put_spans(&out, POLL_16, rank);
    save_entries(name, &out);
}

static void save_troubled_leads(void) {
    gguf_bytes out = {NULL, 0, 0};
    gguf_put_le(&out, 1 | 7 << 4, 1); /* MEETS */
    for (uint8_t rank = 0; rank < 2; rank++) put_hello_with_speed(&out, POLL_4, rank);
    for (uint8_t number = 1; number <= 5; number++) put_probed(&out, POLL_4, 0, number);
    put_probed(&out, POLL_4 | JUMP, 1, 6);
    for (uint8_t number = 6; number <= 9; number++) put_probed(&out, POLL_4, 1, number);
    put_hello_with_speed(&out, POLL_16 | JUMP, 0);
    for (uint8_t rank = 0; rank < 2; rank++) put_hello_with_speed(&out, POLL_16 | JUMP, rank);
    save_entries("frame/lead-meets.bin", &out);

    gguf_put_le(&out, 1, 1);
    put_hello(&out, POLL_4 | ECHO, 0, 0, "");
    put_report(&out, POLL_4, 1, KVRI_STAGE_REFUSED, KVR_ERR_PEER_MODEL);
    save_entries("frame/lead-refused.bin", &out);

    gguf_put_le(&out, 1, 1);
    put_hello(&out, POLL_4 | ECHO, 0, 0, "");
    put_hello(&out, POLL_4 | ECHO, 1, 0, "");
    put_report(&out, POLL_4, 0, KVRI_STAGE_FAILED, KVR_ERR_DEVICE);
    put_report(&out, JUMP, 0, KVRI_STAGE_WORKING, KVR_OK);
    put_trouble(&out);
    save_entries("frame/lead-failed.bin", &out);
}

/* --- vocabularies with a text, as fuzz_text.c reads them --------------------------------------------------------- */

enum { BPE = 1, BYTES = 2, TYPES = 4, WITH_BOS = 8, SPECIAL = 16 };

static void save_text(const char *name, uint32_t how, uint32_t pre, const char *const *tokens, uint32_t n_tokens,
                      uint32_t n_merges, const char *text) {
    gguf_bytes out = {NULL, 0, 0};
    gguf_put_le(&out, how, 1);
    gguf_put_le(&out, pre, 1);
    gguf_put_le(&out, n_tokens, 1);
    gguf_put_le(&out, n_merges, 1);
    for (uint32_t i = 0; i < n_tokens; i++) {
        gguf_put_le(&out, how & TYPES ? i % 7 : n_tokens - i, 1);
        gguf_put_le(&out, strlen(tokens[i]), 1);
        gguf_put(&out, tokens[i], strlen(tokens[i]));
    }
    for (uint32_t i = 0; i < n_merges; i++) { /* a token of n letters: all but the last, and the last */
        const size_t n = strlen(tokens[i]);
        gguf_put_le(&out, n - 1, 1);
        gguf_put_le(&out, 1, 1);
        gguf_put(&out, tokens[i], n);
    }
    gguf_put(&out, text, strlen(text));
    save_entries(name, &out);
}

static void save_texts(void) {
    static const char *const words[] = {"th", "the", " t", " a", "an", "\xE2\x96\x81the", "<|im_end|>", "\xC3\xA4"};
    static const char text[] =
        "the  \xC3\xA4 cat's 1234\r\n\t\xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80 an<|im_end|></s>";
    save_text("text/spm.bin", BYTES | WITH_BOS, 0, words, 8, 0, text);
    save_text("text/spm-types.bin", TYPES | SPECIAL, 0, words, 8, 0, text);
    save_text("text/bpe-gpt2.bin", BPE | BYTES, 0, words, 8, 5, text);
    save_text("text/bpe-llama3.bin", BPE | BYTES | WITH_BOS, 2, words, 8, 5, text);
    save_text("text/bpe-deepseek.bin", BPE | BYTES, 10, words, 8, 5, text);
    save_text("text/bpe-types.bin", BPE | TYPES | SPECIAL, 9, words, 8, 5, text);
}

/* --- conversations, as fuzz_chat.c reads them --------------------------------------------------------------------- */

static void save_chat(const char *name, uint32_t how, uint32_t family, const char *said, const char *jinja) {
    gguf_bytes out = {NULL, 0, 0};
    gguf_put_le(&out, how, 1);
    gguf_put_le(&out, family, 1);
    gguf_put_le(&out, 4, 1);
    for (uint32_t i = 0; i < 4; i++) { /* system, user, assistant, user */
        gguf_put_le(&out, i < 3 ? i : 1, 1);
        gguf_put_le(&out, strlen(said), 1);
        gguf_put(&out, said, strlen(said));
    }
    gguf_put(&out, jinja, strlen(jinja));
    save_entries(name, &out);
}

static void save_chats(void) {
    save_chat("chat/chatml.bin", 2, 0, " <|im_end|>\n<|im_start|>system\n", "{{'<|im_start|>' + message['role']}}");
    save_chat("chat/llama2.bin", 3, 0, "[/INST] </s><s>[INST]", "{% '[INST] <<SYS>>' %}");
    save_chat("chat/phi3.bin", 6, 0, "<|end|>  <|user|>", "<|user|> <|assistant|> <|end|>");
    save_chat("chat/gemma.bin", 0, 3, "\t<end_of_turn>", "");
    save_chat("chat/unknown.bin", 2, 0, "hello", "{% for m in messages %}{{ m }}{% endfor %}");
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 1;
    }
    folder = argv[1];
    save_models();
    save_helper();
    save_lead("frame/lead.bin", 1 + 2 * 2);
    save_lead("frame/lead-ring.bin", 1 + 2 * 2 + 128);
    save_troubled_leads();
    save_texts();
    save_chats();
    return 0;
}
