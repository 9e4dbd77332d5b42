#include "kvr_bpe.h"

#include "kvr_utf8.h"

/* A byte that is not UTF-8 becomes U+FFFD, whose 3 bytes are mapped to 2 each. */
#define WORST_SYMBOLS 3u
#define MAPPED_BYTES 2u

/* Printable Latin-1 bytes stand for themselves, the other 68 are numbered from U+0100. */
static uint32_t map_code(uint8_t byte) {
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0) return 0x121u + (byte - 0x7Fu);
    return byte == 0xAD ? 0x143u : byte;
}

uint32_t kvri_bpe_map(uint8_t byte, uint8_t out[2]) {
    uint8_t utf8[4];
    const uint32_t n = kvri_utf8_put(map_code(byte), utf8);
    out[0] = utf8[0];
    out[1] = n == 2 ? utf8[1] : 0;
    return n;
}

int kvri_bpe_unmap(uint32_t code) {
    if (code >= 0x100 && code <= 0x120) return (int)(code - 0x100);
    if (code >= 0x121 && code <= 0x142) return (int)(code - 0x121 + 0x7F);
    if (code == 0x143) return 0xAD;
    return code < 0x100 && map_code((uint8_t)code) == code ? (int)code : -1;
}

void kvri_bpe_place(kvri_bpe_work *work, kvri_carve *carve, uint64_t text_bytes) {
    work->text = kvri_carve_take(carve, text_bytes, WORST_SYMBOLS * MAPPED_BYTES);
    kvri_merge_place(&work->merge, carve, text_bytes * WORST_SYMBOLS);
}

static int rank(const void *user, const uint8_t *left, uint32_t n_left, uint32_t n_right, uint32_t *out_rank) {
    return kvri_vocab_find_merge(user, left, n_left, n_right, out_rank);
}

/* Maps a word; every byte of it is a symbol. */
static void map_word(kvri_bpe_work *work, const uint8_t *word, size_t n) {
    kvri_merge *merge = &work->merge;
    uint32_t bytes = 0;
    merge->text = work->text;
    merge->n = 0;
    for (size_t at = 0; at < n;) {
        uint8_t utf8[4];
        const uint32_t n_utf8 = kvri_utf8_put(kvri_utf8_next(word, n, &at), utf8);
        for (uint32_t i = 0; i < n_utf8; i++) {
            merge->at[merge->n++] = bytes;
            bytes += kvri_bpe_map(utf8[i], work->text + bytes);
        }
    }
    merge->at[merge->n] = bytes;
}

/* The bytes of a piece that merges have made but the vocabulary lacks. A byte without a token is dropped, as the
 * reference does: some vocabularies have none for rare control characters, and an unknown token may end a text. */
static void put_bytes(const kvri_vocab *vocab, const uint8_t *piece, uint32_t n, kvri_ids *ids) {
    for (size_t at = 0; at < n;) {
        const int byte = kvri_bpe_unmap(kvri_utf8_next(piece, n, &at));
        if (byte >= 0 && vocab->byte_id[byte] >= 0) kvri_ids_put(ids, vocab->byte_id[byte]);
    }
}

static void encode_word(const kvri_vocab *vocab, const kvri_pretok *pretok, kvri_bpe_work *work,
                        const uint8_t *word, size_t n, kvri_ids *ids) {
    map_word(work, word, n);
    kvri_merge *merge = &work->merge;
    const int32_t whole = pretok->ignore_merges ? kvri_vocab_find_plain(vocab, work->text, merge->at[merge->n]) : -1;
    if (whole >= 0) {
        kvri_ids_put(ids, whole);
        return;
    }
    kvri_merge_run(merge, rank, vocab);
    for (uint32_t i = 0; i != KVRI_MERGE_NONE; i = merge->next[i]) {
        const uint8_t *piece = work->text + merge->at[i];
        const uint32_t bytes = kvri_merge_bytes(merge, i);
        const int32_t id = kvri_vocab_find_plain(vocab, piece, bytes);
        if (id >= 0) {
            kvri_ids_put(ids, id);
        } else {
            put_bytes(vocab, piece, bytes, ids);
        }
    }
}

void kvri_bpe_encode(const kvri_vocab *vocab, const kvri_pretok *pretok, kvri_bpe_work *work, const uint8_t *text,
                     size_t n, kvri_ids *ids) {
    kvri_pretok_cut cut = kvri_pretok_start(pretok, text, n);
    size_t word_bytes = 0;
    for (const uint8_t *word = text; (word_bytes = kvri_pretok_next(&cut)) != 0; word += word_bytes) {
        encode_word(vocab, pretok, work, word, word_bytes, ids);
    }
}
