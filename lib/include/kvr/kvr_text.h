/*
 * kvr_text.h - text to token ids and back, with the vocabulary of a model file.
 */
#ifndef KVR_TEXT_H
#define KVR_TEXT_H

#include "kvr/kvr_model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum kvr_text_flag {
    KVR_TEXT_BOS = 1,    /* put BOS in front when the file asks for it (add_bos) */
    KVR_TEXT_SPECIAL = 2 /* the texts of control tokens ("<s>", "<|eot|>") become their ids; off for untrusted text */
} kvr_text_flag;

/* Scratch that kvr_text_encode wants for a text of this length, in bytes; linear in text_bytes. */
size_t kvr_text_work_bytes(const kvr_model *model, size_t text_bytes);

/*
 * Tokenizes text (UTF-8; bytes that are not UTF-8 are encoded byte by byte or as U+FFFD, as the reference tokenizer
 * of the kind does). work: 8-byte aligned, kvr_text_work_bytes long. Writes at most cap ids; *out_n is the full count
 * (also on KVR_ERR_CTX_FULL: more than cap). Cost O(n log n).
 * Errors: VOCAB (none of a supported kind), TEXT (longer than 2^28 bytes, or a byte without a token), NOMEM (work too
 * small), CTX_FULL.
 * Sources: SentencePiece BPE merge order by score (Kudo 2018), byte-level BPE (Radford 2019).
 */
kvr_status kvr_text_encode(const kvr_model *model, const char *text, size_t text_bytes, uint32_t flags, void *work,
                           size_t work_bytes, int32_t *ids, size_t cap, size_t *out_n, kvr_error *error);

/* A stretch of a text and how far it is trusted: KVR_TEXT_SPECIAL or 0. */
typedef struct kvr_text_part {
    size_t bytes;
    uint32_t flags;
} kvr_text_part;

/*
 * As kvr_text_encode for a text of which only some stretches may contain control tokens, such as a conversation: its
 * markers are trusted, what people wrote is not. Stretches are tokenized together, so words may cross their borders.
 * parts: n_parts stretches, in order, that are text_bytes in all (else ARG). flags: KVR_TEXT_BOS; a BOS that the text
 * itself begins with is not doubled.
 */
kvr_status kvr_text_encode_parts(const kvr_model *model, const char *text, size_t text_bytes,
                                 const kvr_text_part *parts, size_t n_parts, uint32_t flags, void *work,
                                 size_t work_bytes, int32_t *ids, size_t cap, size_t *out_n, kvr_error *error);

/* State of a streaming decoder; zero it before the first token of a text. */
typedef struct kvr_text_stream {
    uint8_t held[4]; /* bytes of a character that is not complete yet */
    uint8_t n_held;
    uint8_t started; /* the space that SPM puts before the first word was dropped */
} kvr_text_stream;

/* Longest text one id can add, in bytes, for buffers of kvr_text_decode. */
size_t kvr_text_piece_cap(const kvr_model *model);

/*
 * The text that id adds, as complete UTF-8 characters: a character whose bytes are spread over tokens is held back
 * until complete; bytes that can never become one are replaced by U+FFFD. Control tokens add nothing.
 * Writes at most cap bytes, no terminator. VOCAB: none of a supported kind; ARG: id outside the vocabulary; NOMEM: cap
 * too small, nothing consumed.
 */
kvr_status kvr_text_decode(const kvr_model *model, kvr_text_stream *stream, int32_t id, char *out, size_t cap,
                           size_t *out_bytes);

/* What is still held at the end of a text: U+FFFD when bytes are held, else nothing. cap >= 3. */
kvr_status kvr_text_finish(kvr_text_stream *stream, char *out, size_t cap, size_t *out_bytes);

#ifdef __cplusplus
}
#endif
#endif
