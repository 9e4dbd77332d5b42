#include "kvr_vocab.h"

#include "kvr_bpe.h"
#include "kvr_checked.h"
#include "kvr_error.h"
#include "kvr_special.h"

#include <string.h>

/* A text may stand at most this far from its place in a hash table. With slots filled to 2/3 the longest distance among
 * 300k honest texts is below 200; a file made to collide is refused instead of taking quadratic time. */
#define PROBES 512u

/* Texts that end a turn, of the models in use; the same list as llama.cpp's. */
static const char *const end_texts[] = {"<|eot_id|>",    "<|im_end|>", "<|end|>", "<end_of_turn>",
                                        "<|endoftext|>", "<|eom_id|>", "<EOT>",   "<|end_of_text|>"};
#define N_END_TEXTS (sizeof end_texts / sizeof end_texts[0])

/* FNV-1a, finished by MurmurHash3's mixer so that the high bits, which choose the slot, depend on every byte. */
static uint32_t hash_more(uint32_t hash, const uint8_t *text, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) hash = (hash ^ text[i]) * 16777619u;
    return hash;
}

static uint32_t hash_slot(uint32_t hash, uint32_t n_slots) {
    hash = (hash ^ (hash >> 16)) * 0x85EBCA6Bu;
    hash = (hash ^ (hash >> 13)) * 0xC2B2AE35u;
    hash ^= hash >> 16;
    return (uint32_t)(((uint64_t)hash * n_slots) >> 32);
}

#define HASH_START 2166136261u

static uint32_t slots_for(uint64_t n) { return (uint32_t)(n + n / 2 + 1); }

static uint32_t raw_type(const kvri_vocab *vocab, uint32_t id) {
    return vocab->source.types.count > id ? kvri_le32(vocab->source.types.data + (uint64_t)id * 4) : KVRI_TOKEN_NORMAL;
}

void kvri_vocab_place(kvri_vocab *vocab, kvri_carve *carve) {
    if (vocab->n_vocab > INT32_MAX || vocab->n_merges > INT32_MAX) {
        carve->overflow = 1;
        return;
    }
    vocab->cap_specials = N_END_TEXTS;
    for (uint32_t id = 0; id < vocab->n_vocab && id < vocab->source.types.count; id++) {
        const uint32_t type = raw_type(vocab, id);
        if (type == KVRI_TOKEN_UNKNOWN || type == KVRI_TOKEN_CONTROL || type == KVRI_TOKEN_USER) vocab->cap_specials++;
    }
    vocab->n_token_slots = slots_for(vocab->n_vocab);
    vocab->n_merge_slots = slots_for(vocab->n_merges);
    vocab->token_at = kvri_carve_take(carve, vocab->n_vocab, sizeof *vocab->token_at);
    vocab->token_slots = kvri_carve_take(carve, vocab->n_token_slots, sizeof *vocab->token_slots);
    vocab->merge_slots = kvri_carve_take(carve, vocab->n_merge_slots, sizeof *vocab->merge_slots);
    vocab->specials = kvri_carve_take(carve, vocab->cap_specials, sizeof *vocab->specials);
}

kvri_str kvri_vocab_text(const kvri_vocab *vocab, int32_t id) {
    return kvri_gguf_string(vocab->source.tokens.data + vocab->token_at[id]);
}

float kvri_vocab_score(const kvri_vocab *vocab, int32_t id) {
    return vocab->source.scores.count > (uint32_t)id ? kvri_lef32(vocab->source.scores.data + (uint64_t)id * 4) : 0.0f;
}

static int ends_turn(kvri_str text) {
    if (text.n == 0 || text.at[0] != '<') return 0;
    for (size_t i = 0; i < N_END_TEXTS; i++) {
        if (kvri_str_eq(text, end_texts[i])) return 1;
    }
    return 0;
}

int kvri_vocab_ends_turn(const kvri_vocab *vocab, int32_t id) {
    return ends_turn(kvri_vocab_text(vocab, id));
}

uint32_t kvri_vocab_type(const kvri_vocab *vocab, int32_t id) {
    const uint32_t type = raw_type(vocab, (uint32_t)id);
    const int could_be = type == KVRI_TOKEN_NORMAL || type == KVRI_TOKEN_USER;
    return could_be && ends_turn(kvri_vocab_text(vocab, id)) ? KVRI_TOKEN_CONTROL : type;
}

/* The slot where a token text is or would go; PROBES steps away at most, else n_token_slots. */
static uint32_t token_slot(const kvri_vocab *vocab, const uint8_t *text, uint64_t n) {
    uint32_t slot = hash_slot(hash_more(HASH_START, text, n), vocab->n_token_slots);
    for (uint32_t probe = 0; probe < PROBES; probe++) {
        const uint32_t entry = vocab->token_slots[slot];
        if (entry == 0) return slot;
        const kvri_str other = kvri_vocab_text(vocab, (int32_t)(entry - 1));
        if (other.n == n && memcmp(other.at, text, (size_t)n) == 0) return slot;
        if (++slot == vocab->n_token_slots) slot = 0;
    }
    return vocab->n_token_slots;
}

int32_t kvri_vocab_find(const kvri_vocab *vocab, const uint8_t *text, uint64_t n) {
    if (n == 0 || n > vocab->max_token_bytes || n > KVRI_VOCAB_MATCH_BYTES) return -1;
    const uint32_t slot = token_slot(vocab, text, n);
    return slot < vocab->n_token_slots ? (int32_t)vocab->token_slots[slot] - 1 : -1;
}

int32_t kvri_vocab_find_plain(const kvri_vocab *vocab, const uint8_t *text, uint64_t n) {
    const int32_t id = kvri_vocab_find(vocab, text, n);
    if (id < 0) return -1;
    const uint32_t type = kvri_vocab_type(vocab, id);
    if (type == KVRI_TOKEN_CONTROL || type == KVRI_TOKEN_UNKNOWN) return -1;
    return type == KVRI_TOKEN_BYTE && vocab->kind == KVR_VOCAB_SPM ? -1 : id;
}

static int merge_is(kvri_str merge, const uint8_t *left, uint64_t n_left, uint64_t n_right) {
    return merge.n == n_left + 1 + n_right && merge.at[n_left] == ' ' && memcmp(merge.at, left, (size_t)n_left) == 0 &&
           memcmp(merge.at + n_left + 1, left + n_left, (size_t)n_right) == 0;
}

int kvri_vocab_find_merge(const kvri_vocab *vocab, const uint8_t *left, uint32_t n_left, uint32_t n_right,
                          uint32_t *out_rank) {
    if (vocab->n_merges == 0 || n_left + (uint64_t)n_right > KVRI_VOCAB_MATCH_BYTES) return 0;
    const uint8_t space = ' ';
    const uint32_t hash = hash_more(hash_more(HASH_START, left, n_left), &space, 1);
    uint32_t slot = hash_slot(hash_more(hash, left + n_left, n_right), vocab->n_merge_slots);
    for (uint32_t probe = 0; probe < PROBES; probe++) {
        const uint32_t entry = vocab->merge_slots[slot];
        if (entry == 0) return 0;
        if (merge_is(kvri_gguf_string(vocab->source.merges.data + (entry - 1)), left, n_left, n_right)) {
            /* merges are stored in order of rank, so a merge's offset orders as its rank does */
            *out_rank = entry;
            return 1;
        }
        if (++slot == vocab->n_merge_slots) slot = 0;
    }
    return 0;
}

static kvr_status check_types(const kvri_vocab *vocab, kvr_error *error) {
    for (uint32_t id = 0; id < vocab->n_vocab; id++)
        if (raw_type(vocab, id) > KVRI_TOKEN_BYTE)
            return kvri_fail_n(error, KVR_ERR_VOCAB, "vocab", "tokenizer.ggml.token_type has a type that is none",
                               KVRI_TOKEN_BYTE, raw_type(vocab, id));
    return KVR_OK;
}

static kvr_status build_tokens(kvri_vocab *vocab, kvr_error *error) {
    memset(vocab->token_slots, 0, (size_t)vocab->n_token_slots * sizeof *vocab->token_slots);
    vocab->max_token_bytes = 0;
    uint64_t at = 0;
    for (uint32_t id = 0; id < vocab->n_vocab; id++) {
        vocab->token_at[id] = (uint32_t)at;
        kvri_str text;
        if (!kvri_gguf_next_string(&vocab->source.tokens, &at, &text)) {
            return kvri_fail_n(error, KVR_ERR_CORRUPT, "vocab", "the token list ends early: get the file again",
                               vocab->n_vocab, id);
        }
        if (text.n > vocab->max_token_bytes) vocab->max_token_bytes = (uint32_t)text.n;
        if (text.n == 0 || text.n > KVRI_VOCAB_MATCH_BYTES) continue;
        const uint32_t slot = token_slot(vocab, text.at, text.n);
        if (slot == vocab->n_token_slots) {
            return kvri_fail_s(error, KVR_ERR_CORRUPT, "vocab",
                               "token texts are made to collide: do not use this file; one of them is", text.at,
                               text.n);
        }
        if (vocab->token_slots[slot] == 0) vocab->token_slots[slot] = id + 1;
    }
    return KVR_OK;
}

/* "left right". A half that is no token stays without effect, or is written byte by byte (kvr_bpe.c). */
static int is_merge(kvri_str merge) { return merge.n > 2 && memchr(merge.at + 1, ' ', (size_t)merge.n - 2) != NULL; }

static kvr_status build_merges(kvri_vocab *vocab, kvr_error *error) {
    memset(vocab->merge_slots, 0, (size_t)vocab->n_merge_slots * sizeof *vocab->merge_slots);
    uint64_t at = 0;
    for (uint32_t i = 0; i < vocab->n_merges; i++) {
        const uint32_t start = (uint32_t)at;
        kvri_str merge;
        if (!kvri_gguf_next_string(&vocab->source.merges, &at, &merge)) {
            return kvri_fail_n(error, KVR_ERR_CORRUPT, "vocab", "the merge list ends early: get the file again",
                               vocab->n_merges, i);
        }
        if (!is_merge(merge))
            return kvri_fail_s(error, KVR_ERR_VOCAB, "vocab",
                               "a merge is not two texts with a space between:", merge.at, merge.n);
        if (merge.n > KVRI_VOCAB_MATCH_BYTES + 1) continue;
        uint32_t slot = hash_slot(hash_more(HASH_START, merge.at, merge.n), vocab->n_merge_slots);
        uint32_t probe = 0;
        for (; probe < PROBES && vocab->merge_slots[slot] != 0; probe++) {
            const kvri_str other = kvri_gguf_string(vocab->source.merges.data + (vocab->merge_slots[slot] - 1));
            if (other.n == merge.n && memcmp(other.at, merge.at, (size_t)merge.n) == 0) break;
            if (++slot == vocab->n_merge_slots) slot = 0;
        }
        if (probe == PROBES) {
            return kvri_fail_s(error, KVR_ERR_CORRUPT, "vocab",
                               "merges are made to collide: do not use this file; one of them is", merge.at, merge.n);
        }
        if (vocab->merge_slots[slot] == 0) vocab->merge_slots[slot] = start + 1;
    }
    return KVR_OK;
}

/* SPM: "<0x0A>", else the byte itself as a token. BPE: the character that stands for the byte. Never a control token:
 * bytes come from text that is not trusted. */
static int32_t find_byte(const kvri_vocab *vocab, uint8_t byte) {
    if (vocab->kind == KVR_VOCAB_BPE) {
        uint8_t mapped[2];
        return kvri_vocab_find_plain(vocab, mapped, kvri_bpe_map(byte, mapped));
    }
    static const char hex[] = "0123456789ABCDEF";
    const uint8_t name[6] = {'<', '0', 'x', (uint8_t)hex[byte >> 4], (uint8_t)hex[byte & 15], '>'};
    const int32_t id = kvri_vocab_find(vocab, name, sizeof name);
    const uint32_t type = id >= 0 ? kvri_vocab_type(vocab, id) : KVRI_TOKEN_CONTROL;
    return type != KVRI_TOKEN_CONTROL && type != KVRI_TOKEN_UNKNOWN ? id : kvri_vocab_find_plain(vocab, &byte, 1);
}

kvr_status kvri_vocab_build(kvri_vocab *vocab, kvr_error *error) {
    /* offsets are kept in 32 bits; +1 marks a used slot */
    if (vocab->source.tokens.bytes >= UINT32_MAX || vocab->source.merges.bytes >= UINT32_MAX) {
        return kvri_fail(error, KVR_ERR_VOCAB, "vocab", "token texts or merges of 4 GiB and more are not supported");
    }
    KVRI_TRY(check_types(vocab, error));
    KVRI_TRY(build_tokens(vocab, error));
    KVRI_TRY(build_merges(vocab, error));
    for (uint32_t byte = 0; byte < 256; byte++) vocab->byte_id[byte] = find_byte(vocab, (uint8_t)byte);
    kvri_special_build(vocab);
    return KVR_OK;
}
