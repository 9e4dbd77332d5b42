/*
 * kvr_vocab.h - internal: the vocabulary of a model file as indexed tables. Token texts stay in the file; the tables
 * (where each text is, text -> id, merge -> rank) lie in the model's state memory.
 */
#ifndef KVR_VOCAB_H
#define KVR_VOCAB_H

#include "kvr/kvr_model.h"
#include "kvr_carve.h"
#include "kvr_gguf.h"

/* Token types of tokenizer.ggml.token_type. */
enum {
    KVRI_TOKEN_NORMAL = 1,
    KVRI_TOKEN_UNKNOWN = 2,
    KVRI_TOKEN_CONTROL = 3,
    KVRI_TOKEN_USER = 4,
    KVRI_TOKEN_UNUSED = 5,
    KVRI_TOKEN_BYTE = 6
};

/* What kvr_model.c found in the file; count == 0 where absent. Element types and counts are already checked:
 * tokens strings [n_vocab]; scores F32 [n_vocab] or absent; types I32 (or U32) [n_vocab] or absent; merges strings. */
typedef struct kvri_vocab_source {
    kvri_gguf_value tokens, scores, types, merges;
} kvri_vocab_source;

typedef struct kvri_vocab {
    /* set by kvr_model.c before place */
    kvri_vocab_source source;
    uint32_t kind; /* kvr_vocab_kind */
    uint32_t n_vocab, n_merges;
    const char *pre; /* tokenizer.ggml.pre, "" when absent */
    int32_t bos_id, eos_id, unk_id;
    uint32_t add_bos, add_eos, add_space_prefix;
    /* placed by kvri_vocab_place, filled by kvri_vocab_build; the rest is the tokenizer's own business */
    uint32_t *token_at;    /* [n_vocab] offset of each string from source.tokens.data */
    uint32_t *token_slots; /* open-addressing hash, id+1, 0 = empty */
    uint32_t n_token_slots;
    uint32_t *merge_slots; /* open-addressing hash, offset from source.merges.data + 1, 0 = empty */
    uint32_t n_merge_slots;
    int32_t byte_id[256]; /* id of the token for a byte, -1 = none */
    uint32_t max_token_bytes;
    uint32_t *specials; /* ids of user-defined, control and unknown tokens, sorted by text; see kvr_special.h */
    uint32_t n_specials, cap_specials;
} kvri_vocab;

/* Token and merge texts longer than this are decoded but never matched against text, so that a hostile file cannot make
 * one look-up cost more than a constant. The longest in real vocabularies are runs of spaces of 256 to 512 bytes. */
#define KVRI_VOCAB_MATCH_BYTES 1024u

/* Measures (carve->base == NULL) or places the tables of a vocabulary whose source is set. */
void kvri_vocab_place(kvri_vocab *vocab, kvri_carve *carve);
/* Fills the placed tables. VOCAB, CORRUPT. */
kvr_status kvri_vocab_build(kvri_vocab *vocab, kvr_error *error);

kvri_str kvri_vocab_text(const kvri_vocab *vocab, int32_t id);
float kvri_vocab_score(const kvri_vocab *vocab, int32_t id);  /* 0 when the file has none */
/* NORMAL when the file has none. End-of-turn texts ("<|im_end|>") are CONTROL whatever the file says: some converters
 * forget it, and untrusted text must not end a turn. */
uint32_t kvri_vocab_type(const kvri_vocab *vocab, int32_t id);
/* 1: the text ends a turn or a document in one of the models in use. */
int kvri_vocab_ends_turn(const kvri_vocab *vocab, int32_t id);
/* The first id of a text; -1 = no such token. */
int32_t kvri_vocab_find(const kvri_vocab *vocab, const uint8_t *text, uint64_t n);
/* The same, for text that may be untrusted: -1 also for control, unknown and (SPM) byte tokens. */
int32_t kvri_vocab_find_plain(const kvri_vocab *vocab, const uint8_t *text, uint64_t n);
/* Order of the merge of two neighbours, right directly behind left; lower merges first. 0 = there is none, else 1. */
int kvri_vocab_find_merge(const kvri_vocab *vocab, const uint8_t *left, uint32_t n_left, uint32_t n_right,
                          uint32_t *out_rank);

/* In kvr_model.c. */
const kvri_vocab *kvri_model_vocab(const kvr_model *model);

#endif
