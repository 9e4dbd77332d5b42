/*
 * Any bytes as a vocabulary and a text: text -> ids -> text. First byte: VOCAB_* and how to encode; second: the
 * pre-tokenizer; third and fourth: tokens and merges; a token is a type, a length and its bytes, a merge two lengths
 * and its bytes; what is left is the text.
 */
#include "fuzz_target.h"

#include "kvr/kvr_text.h"
#include "kvr_bpe.h"
#include "kvr_utf8.h"
#include "test_vocab_file.h"

#include <stdio.h>

enum {
    VOCAB_BPE = 1,
    VOCAB_BYTES = 2, /* a token for every byte first, so that every text can be written */
    VOCAB_TYPES = 4, /* tokens have the types that the input says; else all of them are normal */
    ENCODE_BOS = 8,
    ENCODE_SPECIAL = 16,
    NO_SPACE_PREFIX = 32,
    VOCAB_RAW = 64 /* BPE: token texts as they are, not made of the characters that stand for bytes */
};

typedef struct input {
    const uint8_t *at;
    size_t n;
} input;

static uint32_t take_byte(input *in) {
    if (in->n == 0) return 0;
    in->n--;
    return *in->at++;
}

static input take(input *in, size_t n) {
    if (n > in->n) n = in->n;
    const input taken = {in->at, n};
    in->at += n;
    in->n -= n;
    return taken;
}

/* As the characters that stand for the bytes. out: twice the bytes. */
static size_t mapped(input text, uint8_t *out) {
    size_t n = 0;
    for (size_t i = 0; i < text.n; i++) n += kvri_bpe_map(text.at[i], out + n);
    return n;
}

static void add_bytes(vocab_file *f, uint32_t how) {
    if (!(how & VOCAB_BPE)) vocab_file_word(f, "\xE2\x96\x81", -1000.0f); /* SPM writes a space with it */
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[8];
        const uint8_t raw = (uint8_t)byte;
        if (how & VOCAB_BPE) {
            uint8_t chars[2];
            const uint32_t n = kvri_bpe_map(raw, chars);
            vocab_file_token(f, chars, n, KVRI_TOKEN_NORMAL, 0);
        } else {
            snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
            vocab_file_token(f, text, 6, KVRI_TOKEN_BYTE, 0);
        }
    }
}

static vocab_file make_vocabulary(input *in, uint32_t how) {
    static const char *const pre[] = {"gpt-2",  "default",      "llama-bpe",      "falcon", "starcoder",    "qwen2",
                                      "tekken", "deepseek-llm", "deepseek-coder", "gpt-4o", "deepseek-v3",  "bloom",
                                      "viking", "smaug-bpe",    "seed-coder",     "",       "not in a list"};
    const char *chosen = pre[take_byte(in) % (sizeof pre / sizeof pre[0])];
    const uint32_t n_tokens = take_byte(in), n_merges = take_byte(in);
    vocab_file f = vocab_file_start(how & VOCAB_BPE ? "gpt2" : "llama", how & VOCAB_BPE ? chosen : NULL);
    if (how & NO_SPACE_PREFIX) vocab_file_bool(&f, "tokenizer.ggml.add_space_prefix", 0);
    vocab_file_u32(&f, "tokenizer.ggml.bos_token_id", 1);
    vocab_file_token(&f, "<unk>", 5, KVRI_TOKEN_UNKNOWN, 0);
    vocab_file_token(&f, "<s>", 3, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&f, "</s>", 4, KVRI_TOKEN_CONTROL, 0);
    if (how & VOCAB_BYTES) add_bytes(&f, how);
    for (uint32_t i = 0; i < n_tokens; i++) {
        uint8_t chars[512];
        const uint32_t type = take_byte(in);
        const input text = take(in, take_byte(in));
        const size_t n = mapped(text, chars);
        const int raw = !(how & VOCAB_BPE) || (how & VOCAB_RAW);
        vocab_file_token(&f, raw ? text.at : chars, raw ? text.n : n, how & VOCAB_TYPES ? type % 8 : KVRI_TOKEN_NORMAL,
                         -(float)type);
    }
    for (uint32_t i = 0; i < n_merges; i++) {
        uint8_t chars[1024 + 1];
        const size_t n_left = take_byte(in), n_right = take_byte(in);
        size_t n = mapped(take(in, n_left), chars);
        chars[n++] = ' ';
        n += mapped(take(in, n_right), chars + n);
        list_string(&f.merges, chars, n);
        f.n_merges++;
    }
    return f;
}

static kvr_status encode(const kvr_model *model, input text, uint32_t flags, int32_t *ids, size_t cap, size_t *out_n,
                         kvr_error *error) {
    const size_t work_bytes = kvr_text_work_bytes(model, text.n);
    char *exact = (char *)alloc_exact(text.n > 0 ? text.n : 1);
    void *work = alloc_exact(work_bytes > 0 ? work_bytes : 1);
    if (text.n > 0) memcpy(exact, text.at, text.n);
    const kvr_status status = kvr_text_encode(model, exact, text.n, flags, work, work_bytes, ids, cap, out_n, error);
    free(exact);
    free(work);
    return status;
}

/* What was put in must come out when every byte has a token and no token another meaning. */
static int comes_back(input text, uint32_t how) {
    if (!(how & VOCAB_BYTES) || (how & (VOCAB_TYPES | ENCODE_SPECIAL | VOCAB_RAW))) return 0;
    for (size_t at = 0; at < text.n;) {
        const size_t n = text.n - at < 4 ? text.n - at : 4;
        const int whole = kvri_utf8_check(text.at + at, n);
        if (whole <= 0) return 0;
        if (!(how & VOCAB_BPE) && whole == 3 && memcmp(text.at + at, "\xE2\x96\x81", 3) == 0)
            return 0; /* SPM's space */
        at += (size_t)whole;
    }
    return 1;
}

static void decode(const kvr_model *model, const int32_t *ids, size_t n_ids, input text, int must_equal) {
    const size_t cap = kvr_text_piece_cap(model);
    char *piece = (char *)alloc_exact(cap > 0 ? cap : 1);
    kvr_text_stream stream = {{0}, 0, 0};
    size_t n = 0, at = 0;
    for (size_t i = 0; i <= n_ids; i++) {
        const kvr_status status = i < n_ids ? kvr_text_decode(model, &stream, ids[i], piece, cap, &n)
                                            : kvr_text_finish(&stream, piece, cap, &n);
        FUZZ_CHECK(status == KVR_OK && n <= cap);
        for (size_t k = 0; k < n;) { /* only ever whole characters */
            const int whole = kvri_utf8_check((const uint8_t *)piece + k, n - k < 4 ? n - k : 4);
            FUZZ_CHECK(whole > 0);
            k += (size_t)whole;
        }
        if (must_equal) FUZZ_CHECK(at + n <= text.n && (n == 0 || memcmp(text.at + at, piece, n) == 0));
        at += n;
    }
    if (must_equal) FUZZ_CHECK(at == text.n);
    free(piece);
}

static void there_and_back(const kvr_model *model, input text, uint32_t how) {
    const uint32_t flags = (how & ENCODE_BOS ? KVR_TEXT_BOS : 0u) | (how & ENCODE_SPECIAL ? KVR_TEXT_SPECIAL : 0u);
    kvr_error error = {0};
    size_t n = 0, again = 0;
    kvr_status status = encode(model, text, flags, NULL, 0, &n, &error);
    if (status != KVR_OK && status != KVR_ERR_CTX_FULL) {
        FUZZ_CHECK(status == KVR_ERR_TEXT && error.status == status && error.text != NULL);
        return;
    }
    FUZZ_CHECK((status == KVR_OK) == (n == 0) && n <= 3 * text.n + 2);
    int32_t *ids = (int32_t *)alloc_exact(n > 0 ? n * sizeof *ids : 1);
    FUZZ_CHECK(encode(model, text, flags, ids, n, &again, NULL) == KVR_OK && again == n);
    if (n > 0) FUZZ_CHECK(encode(model, text, flags, ids, n - 1, &again, NULL) == KVR_ERR_CTX_FULL && again == n);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(ids[i] >= 0 && (uint32_t)ids[i] < kvr_model_get_info(model)->n_vocab);
        const int is_bos = i == 0 && (how & ENCODE_BOS) != 0;
        if (!(how & ENCODE_SPECIAL) && !is_bos)
            FUZZ_CHECK(kvri_vocab_type(kvri_model_vocab(model), ids[i]) != KVRI_TOKEN_CONTROL);
    }
    decode(model, ids, n, text, comes_back(text, how));
    free(ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    kvr_error error = {0};
    const uint32_t how = take_byte(&in);
    vocab_file f = make_vocabulary(&in, how);
    const kvr_status status = vocab_file_open(&f, &error);
    if (status == KVR_OK) {
        there_and_back(f.model, in, how);
    } else {
        FUZZ_CHECK(error.status == status && error.text != NULL);
    }
    vocab_file_close(&f);
    return 0;
}
