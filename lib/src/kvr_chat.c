/*
 * Sources: the templates that the models' authors publish with their tokenizers; tests/golden/make_chats.py holds them
 * and compares with what transformers makes of them.
 */
#include "kvr/kvr_chat.h"

#include "kvr_error.h"
#include "kvr_model.h"

#include <string.h>

#define MODULE "chat"

/* In the texts of the table: the model's own tokens. */
#define BOS "\002"
#define EOS "\003"

typedef enum system_place { SYSTEM_OWN = 0, SYSTEM_IN_FIRST_USER, SYSTEM_IN_LAST_USER } system_place;

enum {
    TRIM_SYSTEM = 1u << KVR_CHAT_SYSTEM,
    TRIM_USER = 1u << KVR_CHAT_USER,
    TRIM_ASSISTANT = 1u << KVR_CHAT_ASSISTANT
};

typedef struct family {
    const char *name;
    const char *has[2]; /* a template of this family contains these; NULL: nothing more */
    const char *begin;
    struct {
        const char *before, *after;
    } turns[3];           /* by kvr_chat_role */
    const char *generate; /* behind all messages */
    const char *end_text;
    uint8_t trims; /* white space around the messages of these roles is dropped */
    uint8_t system_place;
} family;

/* The first one that fits counts: what others contain too comes later. */
static const family table[] = {
    {"phi4",
     {"<|im_sep|>"},
     "",
     {{"<|im_start|>system<|im_sep|>", "<|im_end|>"},
      {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
      {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"}},
     "<|im_start|>assistant<|im_sep|>",
     "",
     0,
     SYSTEM_OWN},
    {"chatml",
     {"<|im_start|>"},
     "",
     {{"<|im_start|>system\n", "<|im_end|>\n"},
      {"<|im_start|>user\n", "<|im_end|>\n"},
      {"<|im_start|>assistant\n", "<|im_end|>\n"}},
     "<|im_start|>assistant\n",
     "",
     0,
     SYSTEM_OWN},
    {"llama3",
     {"<|start_header_id|>"},
     BOS,
     {{"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
      {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
      {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"}},
     "<|start_header_id|>assistant<|end_header_id|>\n\n",
     "",
     TRIM_SYSTEM | TRIM_USER | TRIM_ASSISTANT,
     SYSTEM_OWN},
    {"gemma",
     {"<start_of_turn>"},
     BOS,
     {{"", "\n\n"}, {"<start_of_turn>user\n", "<end_of_turn>\n"}, {"<start_of_turn>model\n", "<end_of_turn>\n"}},
     "<start_of_turn>model\n",
     "",
     TRIM_USER | TRIM_ASSISTANT,
     SYSTEM_IN_FIRST_USER},
    {"mistral-v7",
     {"[SYSTEM_PROMPT] "},
     BOS,
     {{"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"}, {"[INST] ", "[/INST]"}, {" ", EOS}},
     "",
     "",
     0,
     SYSTEM_OWN},
    {"mistral-v7-tekken",
     {"[SYSTEM_PROMPT]"},
     BOS,
     {{"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, {"[INST]", "[/INST]"}, {"", EOS}},
     "",
     "",
     0,
     SYSTEM_OWN},
    {"mistral-v3-tekken",
     {"\"[INST]\""},
     BOS,
     {{"", "\n\n"}, {"[INST]", "[/INST]"}, {"", EOS}},
     "",
     "",
     0,
     SYSTEM_IN_LAST_USER},
    {"mistral-v3",
     {"\"[INST] \""},
     BOS,
     {{"", "\n\n"}, {"[INST] ", "[/INST]"}, {" ", EOS}},
     "",
     "",
     TRIM_ASSISTANT,
     SYSTEM_IN_LAST_USER},
    {"mistral-v1",
     {"' [INST] '"},
     BOS,
     {{"", "\n\n"}, {" [INST] ", " [/INST]"}, {" ", EOS}},
     "",
     "",
     0,
     SYSTEM_IN_FIRST_USER},
    {"llama2",
     {"[INST]", "<<SYS>>"},
     "",
     {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {BOS "[INST] ", " [/INST]"}, {" ", " " EOS}},
     "",
     "",
     TRIM_USER | TRIM_ASSISTANT,
     SYSTEM_IN_FIRST_USER},
    {"mistral", {"[INST]"}, BOS, {{"", "\n\n"}, {"[INST] ", " [/INST]"}, {"", EOS}}, "", "", 0, SYSTEM_IN_FIRST_USER},
    {"phi4-mini",
     {"+ '|>' + message['content'] + '<|end|>'"},
     "",
     {{"<|system|>", "<|end|>"}, {"<|user|>", "<|end|>"}, {"<|assistant|>", "<|end|>"}},
     "<|assistant|>",
     "",
     0,
     SYSTEM_OWN},
    {"phi3",
     {"<|end|>", "<|assistant|>"},
     "",
     {{"<|system|>\n", "<|end|>\n"}, {"<|user|>\n", "<|end|>\n"}, {"<|assistant|>\n", "<|end|>\n"}},
     "<|assistant|>\n",
     "",
     0,
     SYSTEM_OWN},
    {"zephyr",
     {"<|user|>\\n' + message['content'] + eos_token"},
     "",
     {{"<|system|>\n", EOS "\n"}, {"<|user|>\n", EOS "\n"}, {"<|assistant|>\n", EOS "\n"}},
     "<|assistant|>\n",
     "",
     0,
     SYSTEM_OWN},
    {"falcon3",
     {"<|user|>", "<|assistant|>"},
     "",
     {{"<|system|>\n", "\n"}, {"<|user|>\n", "\n"}, {"<|assistant|>\n", EOS "\n"}},
     "<|assistant|>\n",
     "\n<|user|>",
     0,
     SYSTEM_OWN},
    {"deepseek3",
     {"<\xEF\xBD\x9C"
      "Assistant\xEF\xBD\x9C>"},
     BOS,
     {{"", ""},
      {"<\xEF\xBD\x9CUser\xEF\xBD\x9C>", ""},
      {"<\xEF\xBD\x9C"
       "Assistant\xEF\xBD\x9C>",
       EOS}},
     "<\xEF\xBD\x9C"
     "Assistant\xEF\xBD\x9C>",
     "",
     0,
     SYSTEM_OWN},
    {"deepseek",
     {"'Assistant: ' + message['content'] + eos_token"},
     BOS,
     {{"", "\n\n"}, {"User: ", "\n\n"}, {"Assistant: ", EOS}},
     "Assistant:",
     "\nUser:",
     0,
     SYSTEM_OWN},
    {"falcon",
     {"Falcon:"},
     "",
     {{"System: ", "\n"}, {"User: ", "\n"}, {"Falcon: ", "\n"}},
     "Falcon:",
     "\nUser:",
     0,
     SYSTEM_OWN},
    {"plain", {"\001"}, "", {{"", "\n"}, {"", "\n"}, {"", "\n"}}, "", "", 0, SYSTEM_OWN}, /* by name only */
};
#define N_FAMILIES ((uint32_t)(sizeof table / sizeof table[0]))

const char *kvr_chat_name(uint32_t index) {
    return index < N_FAMILIES ? table[index].name : NULL;
}

uint32_t kvr_chat_find(const char *name) {
    for (uint32_t i = 0; i < N_FAMILIES; i++)
        if (strcmp(table[i].name, name) == 0) return i;
    return UINT32_MAX;
}

static int contains(kvri_str text, const char *part) {
    const size_t n = strlen(part);
    for (uint64_t i = 0; n <= text.n && i <= text.n - n; i++)
        if (memcmp(text.at + i, part, n) == 0) return 1;
    return 0;
}

kvr_status kvr_chat_of_model(const kvr_model *model, uint32_t *out_family, kvr_error *error) {
    const kvri_str text = model->chat_template;
    if (text.n == 0)
        return kvri_fail(error, KVR_ERR_UNSUPPORTED, MODULE,
                         "the file has no chat template: it may be a base model; name a template to chat all the same");
    for (uint32_t i = 0; i < N_FAMILIES; i++) {
        if (!contains(text, table[i].has[0]) || (table[i].has[1] != NULL && !contains(text, table[i].has[1]))) continue;
        *out_family = i;
        return KVR_OK;
    }
    return kvri_fail_s(
        error, KVR_ERR_UNSUPPORTED, MODULE,
        "the file's chat template is not one that this version knows: name the one that is closest; it begins", text.at,
        text.n);
}

/* --- rendering ------------------------------------------------------------------------------------------------ */

/* Counts what does not fit. */
typedef struct sink {
    const kvri_vocab *vocab;
    char *out;
    size_t cap, n;
    kvr_text_part *parts;
    size_t cap_parts, n_parts;
    uint32_t last_flags;
} sink;

static void put(sink *to, const void *text, size_t bytes, uint32_t flags) {
    if (bytes == 0) return;
    if (to->n <= to->cap && bytes <= to->cap - to->n) memcpy(to->out + to->n, text, bytes);
    to->n += bytes;
    const int joins = to->n_parts > 0 && to->last_flags == flags;
    if (!joins) to->n_parts++;
    to->last_flags = flags;
    if (to->n_parts > to->cap_parts) return;
    kvr_text_part *part = &to->parts[to->n_parts - 1];
    if (!joins) part->bytes = 0;
    part->bytes += bytes;
    part->flags = flags;
}

/* Text of the table, BOS and EOS replaced. */
static void put_marker(sink *to, const char *text) {
    for (; *text != '\0'; text++) {
        const int32_t id = *text == BOS[0] ? to->vocab->bos_id : *text == EOS[0] ? to->vocab->eos_id : -2;
        if (id == -2) put(to, text, 1, KVR_TEXT_SPECIAL);
        if (id < 0) continue;
        const kvri_str token = kvri_vocab_text(to->vocab, id);
        put(to, token.at, (size_t)token.n, KVR_TEXT_SPECIAL);
    }
}

static int is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void put_message(sink *to, const family *f, const kvr_chat_message *m, int keep_front) {
    const char *text = m->text;
    size_t bytes = m->bytes;
    if ((f->trims >> m->role & 1u) != 0) {
        while (!keep_front && bytes > 0 && is_space(text[0])) text++, bytes--;
        while (bytes > 0 && is_space(text[bytes - 1])) bytes--;
    }
    put(to, text, bytes, 0);
}

static kvr_status check(const kvr_chat_message *messages, size_t n, const family *f, kvr_error *error) {
    size_t users = 0;
    for (size_t i = 0; i < n; i++) {
        if (messages[i].role > KVR_CHAT_ASSISTANT || (messages[i].role == KVR_CHAT_SYSTEM && i > 0))
            return kvri_fail(error, KVR_ERR_ARG, MODULE, "roles are system (first only), user and assistant");
        users += messages[i].role == KVR_CHAT_USER;
    }
    if (n > 0 && messages[0].role == KVR_CHAT_SYSTEM && f->system_place != SYSTEM_OWN && users == 0)
        return kvri_fail(error, KVR_ERR_ARG, MODULE,
                         "this template puts the system message into a user's: there is none yet");
    return KVR_OK;
}

kvr_status kvr_chat_render(const kvr_model *model, uint32_t index, const kvr_chat_message *messages, size_t n_messages,
                           char *out, size_t cap, size_t *out_bytes, kvr_text_part *parts, size_t cap_parts,
                           size_t *out_n_parts, kvr_error *error) {
    if (index >= N_FAMILIES) return kvri_fail(error, KVR_ERR_ARG, MODULE, "no such chat template");
    if (model->vocab.kind == KVR_VOCAB_NONE)
        return kvri_fail(error, KVR_ERR_VOCAB, MODULE, "the file has no vocabulary of a supported kind (llama, gpt2)");
    const family *f = &table[index];
    KVRI_TRY(check(messages, n_messages, f, error));
    sink to = {&model->vocab, out, cap, 0, parts, cap_parts, 0, 0};
    const kvr_chat_message *system = n_messages > 0 && messages[0].role == KVR_CHAT_SYSTEM ? &messages[0] : NULL;
    size_t home = SIZE_MAX; /* the user's message that the system's goes into */
    for (size_t i = 0; system != NULL && i < n_messages && f->system_place != SYSTEM_OWN; i++)
        if (messages[i].role == KVR_CHAT_USER && (home == SIZE_MAX || f->system_place == SYSTEM_IN_LAST_USER)) home = i;
    put_marker(&to, f->begin);
    for (size_t i = 0; i < n_messages; i++) {
        const kvr_chat_message *m = &messages[i];
        if (m == system && home != SIZE_MAX) continue;
        put_marker(&to, f->turns[m->role].before);
        if (i == home) {
            put_marker(&to, f->turns[KVR_CHAT_SYSTEM].before);
            put_message(&to, f, system, 0);
            put_marker(&to, f->turns[KVR_CHAT_SYSTEM].after);
        }
        put_message(&to, f, m, i == home && f->turns[KVR_CHAT_SYSTEM].before[0] != '\0');
        put_marker(&to, f->turns[m->role].after);
    }
    put_marker(&to, f->generate);
    *out_bytes = to.n;
    *out_n_parts = to.n_parts;
    if (to.n > cap || to.n_parts > cap_parts)
        return kvri_fail_n(error, KVR_ERR_NOMEM, MODULE, "the conversation is longer than its buffer", to.n, cap);
    return KVR_OK;
}

/* --- ends of answers ------------------------------------------------------------------------------------------ */

int kvr_chat_is_end(const kvr_model *model, uint32_t index, int32_t id) {
    if (id < 0 || (uint32_t)id >= model->vocab.n_vocab) return 0;
    if (id == model->vocab.eos_id) return 1;
    if (index >= N_FAMILIES || model->vocab.kind == KVR_VOCAB_NONE) return 0;
    if (kvri_vocab_type(&model->vocab, id) == KVRI_TOKEN_NORMAL) return 0;
    if (kvri_vocab_ends_turn(&model->vocab, id)) return 1;
    /* "<|im_end|>\n" begins with the marker's token */
    const char *after = table[index].turns[KVR_CHAT_ASSISTANT].after;
    const kvri_str text = kvri_vocab_text(&model->vocab, id);
    return text.n > 0 && text.n <= strlen(after) && memcmp(text.at, after, (size_t)text.n) == 0;
}

const char *kvr_chat_end_text(uint32_t index) {
    return index < N_FAMILIES ? table[index].end_text : "";
}
