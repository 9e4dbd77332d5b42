/*
 * Any bytes as a conversation and a chat template: whatever people write, it makes no control token. First byte:
 * TALK_*; second: the family, when it is not the template's; third: messages, each a role, a length and its bytes; what
 * is left is the file's template.
 */
#include "fuzz_target.h"

#include "kvr/kvr_chat.h"
#include "kvr_bpe.h"
#include "test_vocab_file.h"

#include <stdio.h>

enum { TALK_BPE = 1, TALK_OF_MODEL = 2, TALK_PHI3 = 4 };

#define MOST_MESSAGES 7u
#define MOST_PARTS 64u
#define MOST_IDS 8192u

static vocab_file make_vocabulary(uint32_t how, const uint8_t *chat_template, size_t bytes) {
    static const char *const markers[] = {
        "<|im_start|>",      "<|im_sep|>",      "<|im_end|>",    "<|eot_id|>", "<|start_header_id|>",
        "<|end_header_id|>", "<start_of_turn>", "<end_of_turn>", "[INST]",     "[/INST]",
        "[SYSTEM_PROMPT]",   "<|user|>",        "<|system|>",    "<|end|>",    "<|assistant|>",
        "[/SYSTEM_PROMPT]",  "<<SYS>>",         "<|endoftext|>", "<|",         "|>"};
    vocab_file f = vocab_file_start(how & TALK_BPE ? "gpt2" : "llama", how & TALK_BPE ? "llama-bpe" : NULL);
    vocab_file_text(&f, "general.name", how & TALK_PHI3 ? "phi-3" : "test");
    vocab_file_u32(&f, "tokenizer.ggml.bos_token_id", 1);
    vocab_file_u32(&f, "tokenizer.ggml.eos_token_id", 2);
    vocab_file_key(&f, "tokenizer.chat_template", KVRI_GGUF_STRING);
    list_string(&f.keys, chat_template, bytes);
    vocab_file_token(&f, "<unk>", 5, KVRI_TOKEN_UNKNOWN, 0);
    vocab_file_token(&f, "<s>", 3, KVRI_TOKEN_CONTROL, 0);
    vocab_file_token(&f, "</s>", 4, KVRI_TOKEN_CONTROL, 0);
    for (size_t i = 0; i < sizeof markers / sizeof markers[0]; i++)
        vocab_file_token(&f, markers[i], strlen(markers[i]), KVRI_TOKEN_CONTROL, 0);
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[8];
        uint8_t chars[2];
        const uint32_t n = kvri_bpe_map((uint8_t)byte, chars);
        snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        if (how & TALK_BPE) vocab_file_token(&f, chars, n, KVRI_TOKEN_NORMAL, 0);
        else vocab_file_token(&f, text, 6, KVRI_TOKEN_BYTE, 0);
    }
    return f;
}

static uint32_t n_families(void) {
    uint32_t n = 0;
    while (kvr_chat_name(n) != NULL) n++;
    return n;
}

/* The conversation as text in memory of exactly its size, and how many control tokens it makes. */
static size_t control_tokens(const kvr_model *model, uint32_t family, const kvr_chat_message *messages, size_t n) {
    kvr_text_part parts[MOST_PARTS];
    static int32_t ids[MOST_IDS];
    size_t bytes = 0, n_parts = 0, again = 0, sum = 0, n_ids = 0, found = 0;
    const kvr_status counted =
        kvr_chat_render(model, family, messages, n, NULL, 0, &bytes, parts, MOST_PARTS, &n_parts, NULL);
    FUZZ_CHECK(counted == (bytes > 0 ? KVR_ERR_NOMEM : KVR_OK) && n_parts <= MOST_PARTS);
    char *text = (char *)alloc_exact(bytes > 0 ? bytes : 1);
    if (bytes > 0)
        FUZZ_CHECK(kvr_chat_render(model, family, messages, n, text, bytes - 1, &again, parts, MOST_PARTS, &n_parts,
                                   NULL) == KVR_ERR_NOMEM);
    FUZZ_CHECK(kvr_chat_render(model, family, messages, n, text, bytes, &again, parts, n_parts, &n_parts, NULL) ==
               KVR_OK);
    FUZZ_CHECK(again == bytes);
    for (size_t i = 0; i < n_parts; i++) sum += parts[i].bytes;
    FUZZ_CHECK(sum == bytes);
    const size_t work_bytes = kvr_text_work_bytes(model, bytes);
    void *work = alloc_exact(work_bytes > 0 ? work_bytes : 1);
    FUZZ_CHECK(kvr_text_encode_parts(model, text, bytes, parts, n_parts, KVR_TEXT_BOS, work, work_bytes, ids, MOST_IDS,
                                     &n_ids, NULL) == KVR_OK);
    for (size_t i = 0; i < n_ids; i++) {
        found += kvri_vocab_type(kvri_model_vocab(model), ids[i]) == KVRI_TOKEN_CONTROL;
        (void)kvr_chat_is_end(model, family, ids[i]);
    }
    free(work);
    free(text);
    return found;
}

static void talk(const kvr_model *model, uint32_t family, const kvr_chat_message *messages, size_t n) {
    static char harmless[256];
    kvr_error error = {0};
    size_t bytes = 0, n_parts = 0;
    kvr_text_part none[1];
    kvr_chat_message others[MOST_MESSAGES];
    const kvr_status status = kvr_chat_render(model, family, messages, n, NULL, 0, &bytes, none, 0, &n_parts, &error);
    FUZZ_CHECK((status == KVR_OK) == (error.status == KVR_OK));
    if (status != KVR_OK && status != KVR_ERR_NOMEM) {
        FUZZ_CHECK(status == KVR_ERR_ARG && error.text != NULL);
        return;
    }
    memset(harmless, 'x', sizeof harmless);
    for (size_t i = 0; i < n; i++) {
        others[i] = messages[i];
        others[i].text = harmless;
    }
    FUZZ_CHECK(control_tokens(model, family, messages, n) == control_tokens(model, family, others, n));
    FUZZ_CHECK(kvr_chat_end_text(family) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    kvr_chat_message messages[MOST_MESSAGES];
    char *texts[MOST_MESSAGES];
    if (size < 3) return 0;
    const uint32_t how = data[0];
    uint32_t family = data[1] % (n_families() + 1); /* one that is none, too */
    const size_t n = data[2] % (MOST_MESSAGES + 1);
    size_t at = 3;
    for (size_t i = 0; i < n; i++) {
        const uint32_t role = at < size ? data[at++] % 4u : 0;
        size_t bytes = at < size ? data[at++] : 0;
        if (bytes > size - at) bytes = size - at;
        texts[i] = (char *)alloc_exact(bytes > 0 ? bytes : 1);
        if (bytes > 0) memcpy(texts[i], data + at, bytes);
        messages[i].role = role;
        messages[i].text = texts[i];
        messages[i].bytes = bytes;
        at += bytes;
    }
    vocab_file f = make_vocabulary(how, data + at, size - at);
    kvr_error error = {0};
    FUZZ_CHECK(vocab_file_open(&f, &error) == KVR_OK);
    if (how & TALK_OF_MODEL) {
        const kvr_status known = kvr_chat_of_model(f.model, &family, &error);
        FUZZ_CHECK(known == KVR_OK ? kvr_chat_name(family) != NULL
                                   : known == KVR_ERR_UNSUPPORTED && error.status == known && error.text != NULL);
    }
    talk(f.model, family, messages, n);
    vocab_file_close(&f);
    for (size_t i = 0; i < n; i++) free(texts[i]);
    return 0;
}
