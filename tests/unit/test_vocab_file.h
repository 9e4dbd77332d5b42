/*
 * test_vocab_file.h - vocabularies for tests: a GGUF file without tensors is made in memory and opened as a model.
 *
 *     vocab_file f = vocab_file_start("llama", NULL);
 *     vocab_file_token(&f, "a", 1, KVRI_TOKEN_NORMAL, 0.0f);
 *     assert_int_equal(vocab_file_open(&f, &error), KVR_OK);      then f.model
 *     vocab_file_close(&f);
 */
#ifndef TEST_VOCAB_FILE_H
#define TEST_VOCAB_FILE_H

#include "kvr/kvr_model.h"
#include "kvr_vocab.h"

#include <stdlib.h>
#include <string.h>

typedef struct byte_list {
    uint8_t *at;
    size_t n, cap;
} byte_list;

typedef struct vocab_file {
    byte_list keys, tokens, scores, types, merges;
    uint64_t n_keys, n_tokens, n_merges;
    uint8_t *file; /* exactly as long as its contents */
    size_t file_bytes;
    void *mem; /* what malloc gave */
    kvr_model_info info;
    kvr_model *model;
} vocab_file;

static inline void list_add(byte_list *list, const void *bytes, size_t n) {
    if (n == 0) return;
    if (n > list->cap - list->n) {
        list->cap = (list->cap + n) * 2;
        list->at = (uint8_t *)realloc(list->at, list->cap);
        if (list->at == NULL) abort();
    }
    memcpy(list->at + list->n, bytes, n);
    list->n += n;
}

static inline void list_number(byte_list *list, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) {
        const uint8_t byte = (uint8_t)(value >> (8 * i));
        list_add(list, &byte, 1);
    }
}

static inline void list_string(byte_list *list, const void *text, size_t n) {
    list_number(list, n, 8);
    list_add(list, text, n);
}

static inline void vocab_file_key(vocab_file *f, const char *key, uint32_t type) {
    list_string(&f->keys, key, strlen(key));
    list_number(&f->keys, type, 4);
    f->n_keys++;
}

static inline void vocab_file_text(vocab_file *f, const char *key, const char *text) {
    vocab_file_key(f, key, KVRI_GGUF_STRING);
    list_string(&f->keys, text, strlen(text));
}

static inline void vocab_file_bool(vocab_file *f, const char *key, uint32_t value) {
    vocab_file_key(f, key, KVRI_GGUF_BOOL);
    list_number(&f->keys, value, 1);
}

static inline void vocab_file_u32(vocab_file *f, const char *key, uint32_t value) {
    vocab_file_key(f, key, KVRI_GGUF_U32);
    list_number(&f->keys, value, 4);
}

/* model: "llama" or "gpt2"; pre may be NULL. */
static inline vocab_file vocab_file_start(const char *model, const char *pre) {
    vocab_file f;
    memset(&f, 0, sizeof f);
    vocab_file_text(&f, "general.architecture", "llama");
    vocab_file_text(&f, "tokenizer.ggml.model", model);
    if (pre != NULL) vocab_file_text(&f, "tokenizer.ggml.pre", pre);
    return f;
}

static inline void vocab_file_token(vocab_file *f, const void *text, size_t n, uint32_t type, float score) {
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    list_string(&f->tokens, text, n);
    list_number(&f->types, type, 4);
    list_number(&f->scores, bits, 4);
    f->n_tokens++;
}

static inline void vocab_file_word(vocab_file *f, const char *text, float score) {
    vocab_file_token(f, text, strlen(text), KVRI_TOKEN_NORMAL, score);
}

static inline void vocab_file_merge(vocab_file *f, const char *text) {
    list_string(&f->merges, text, strlen(text));
    f->n_merges++;
}

static inline void vocab_file_array(byte_list *out, const char *key, uint32_t type, uint64_t count,
                                    const byte_list *data) {
    list_string(out, key, strlen(key));
    list_number(out, KVRI_GGUF_ARRAY, 4);
    list_number(out, type, 4);
    list_number(out, count, 8);
    list_add(out, data->at, data->n);
}

static inline void vocab_file_write(vocab_file *f) {
    byte_list out = {NULL, 0, 0};
    list_add(&out, "GGUF", 4);
    list_number(&out, 3, 4);
    list_number(&out, 0, 8);
    list_number(&out, f->n_keys + 4, 8);
    list_add(&out, f->keys.at, f->keys.n);
    vocab_file_array(&out, "tokenizer.ggml.tokens", KVRI_GGUF_STRING, f->n_tokens, &f->tokens);
    vocab_file_array(&out, "tokenizer.ggml.scores", KVRI_GGUF_F32, f->n_tokens, &f->scores);
    vocab_file_array(&out, "tokenizer.ggml.token_type", KVRI_GGUF_I32, f->n_tokens, &f->types);
    vocab_file_array(&out, "tokenizer.ggml.merges", KVRI_GGUF_STRING, f->n_merges, &f->merges);
    f->file = (uint8_t *)malloc(out.n);
    if (f->file == NULL) abort();
    memcpy(f->file, out.at, out.n);
    f->file_bytes = out.n;
    free(out.at);
}

/* Opens f->file, which may also be a file that was read. */
static inline kvr_status vocab_file_open_bytes(vocab_file *f, kvr_error *error) {
    f->info.struct_bytes = sizeof f->info;
    const kvr_status status = kvr_model_probe(f->file, f->file_bytes, &f->info, error);
    if (status != KVR_OK) return status;
    f->mem = malloc((size_t)f->info.state_bytes + 63);
    if (f->mem == NULL) abort();
    uint8_t *aligned = (uint8_t *)f->mem + (64 - (uintptr_t)f->mem % 64) % 64;
    return kvr_model_open(aligned, (size_t)f->info.state_bytes, f->file, f->file_bytes, &f->model, error);
}

static inline kvr_status vocab_file_open(vocab_file *f, kvr_error *error) {
    vocab_file_write(f);
    return vocab_file_open_bytes(f, error);
}

static inline void vocab_file_close(vocab_file *f) {
    free(f->keys.at);
    free(f->tokens.at);
    free(f->scores.at);
    free(f->types.at);
    free(f->merges.at);
    free(f->file);
    free(f->mem);
    memset(f, 0, sizeof *f);
}

#endif
