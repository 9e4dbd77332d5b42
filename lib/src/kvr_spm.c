#include "kvr_spm.h"

#include "kvr_error.h"

#include <string.h>

#define ESCAPED_SPACE "\xE2\x96\x81" /* U+2581 */
#define ESCAPED_BYTES 3u

void kvri_spm_place(kvri_spm_work *work, kvri_carve *carve, uint64_t text_bytes) {
    /* All spaces, and one in front. A byte that promises more of a character than follows takes the first of the bytes
     * that stand for the space behind it, and leaves two that are symbols each: three symbols for two bytes at most. */
    work->text = kvri_carve_take(carve, text_bytes + 1, ESCAPED_BYTES);
    kvri_merge_place(&work->merge, carve, text_bytes + text_bytes / 2 + 1);
}

/* Scores as ranks: the higher the score, the lower the rank; not-a-number comes last. */
static uint32_t rank_of_score(float score) {
    if (score == 0.0f) score = 0.0f; /* -0 equals 0 */
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return score != score ? UINT32_MAX : ~ascending;
}

static int rank(const void *user, const uint8_t *left, uint32_t n_left, uint32_t n_right, uint32_t *out_rank) {
    const kvri_vocab *vocab = user;
    const int32_t id = kvri_vocab_find_plain(vocab, left, n_left + (uint64_t)n_right);
    if (id < 0) return 0;
    *out_rank = rank_of_score(kvri_vocab_score(vocab, id));
    return 1;
}

/* Length of a character by its first byte alone, as the reference does: wrong bytes stay together until they are
 * written byte by byte. */
static uint32_t char_bytes(uint8_t lead) { return lead < 0xC0 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4; }

static void split(kvri_spm_work *work, const uint8_t *text, size_t n, int prefix) {
    uint32_t bytes = 0;
    for (size_t i = 0; i < n + (prefix != 0); i++) {
        const uint8_t byte = prefix ? (i == 0 ? ' ' : text[i - 1]) : text[i];
        if (byte == ' ') {
            memcpy(work->text + bytes, ESCAPED_SPACE, ESCAPED_BYTES);
            bytes += ESCAPED_BYTES;
        } else {
            work->text[bytes++] = byte;
        }
    }
    kvri_merge *merge = &work->merge;
    merge->text = work->text;
    merge->n = 0;
    for (uint32_t at = 0; at < bytes;) {
        merge->at[merge->n++] = at;
        const uint32_t wanted = char_bytes(work->text[at]);
        at += wanted < bytes - at ? wanted : bytes - at;
    }
    merge->at[merge->n] = bytes;
}

static kvr_status put_bytes(const kvri_vocab *vocab, const uint8_t *piece, uint32_t n, int *was_unknown,
                            kvri_ids *ids, kvr_error *error) {
    for (uint32_t i = 0; i < n; i++) {
        const int32_t id = vocab->byte_id[piece[i]];
        if (id >= 0) {
            kvri_ids_put(ids, id);
            *was_unknown = 0;
            continue;
        }
        if (vocab->unk_id < 0) {
            return kvri_fail_s(error, KVR_ERR_TEXT, "spm",
                               "the vocabulary has neither this character, nor byte tokens, nor an unknown token",
                               piece, n);
        }
        /* as SentencePiece does: one unknown token for a run of unknown characters */
        if (!*was_unknown) kvri_ids_put(ids, vocab->unk_id);
        *was_unknown = 1;
    }
    return KVR_OK;
}

kvr_status kvri_spm_encode(const kvri_vocab *vocab, kvri_spm_work *work, const uint8_t *text, size_t n, int prefix,
                           kvri_ids *ids, kvr_error *error) {
    split(work, text, n, prefix);
    kvri_merge *merge = &work->merge;
    if (merge->n == 0) return KVR_OK;
    kvri_merge_run(merge, rank, vocab);
    int was_unknown = 0;
    for (uint32_t i = 0; i != KVRI_MERGE_NONE; i = merge->next[i]) {
        const uint8_t *piece = work->text + merge->at[i];
        const uint32_t bytes = kvri_merge_bytes(merge, i);
        const int32_t id = kvri_vocab_find_plain(vocab, piece, bytes);
        if (id >= 0) {
            kvri_ids_put(ids, id);
            was_unknown = 0;
        } else {
            KVRI_TRY(put_bytes(vocab, piece, bytes, &was_unknown, ids, error));
        }
    }
    return KVR_OK;
}
