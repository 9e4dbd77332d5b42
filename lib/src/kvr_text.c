#include "kvr/kvr_text.h"

#include "kvr_bpe.h"
#include "kvr_error.h"
#include "kvr_special.h"
#include "kvr_spm.h"
#include "kvr_utf8.h"

#include <string.h>

/* Positions are kept in 32 bits, and a byte of text takes up to 6 of scratch text. */
#define MAX_TEXT_BYTES (1u << 28)

/* --- encoding ------------------------------------------------------------------------------------------------- */

/* One encoding under way. */
typedef struct encoder {
    const kvri_vocab *vocab;
    const kvri_pretok *pretok; /* BPE */
    kvri_spm_work spm;
    kvri_bpe_work bpe;
    kvri_ids ids;
    kvr_error *error;
} encoder;

static void place(encoder *e, kvri_carve *carve, size_t text_bytes) {
    if (e->vocab->kind == KVR_VOCAB_SPM) kvri_spm_place(&e->spm, carve, text_bytes);
    if (e->vocab->kind == KVR_VOCAB_BPE) kvri_bpe_place(&e->bpe, carve, text_bytes);
}

size_t kvr_text_work_bytes(const kvr_model *model, size_t text_bytes) {
    if (text_bytes > MAX_TEXT_BYTES) return SIZE_MAX;
    encoder e = {0};
    kvri_carve carve = {0};
    e.vocab = kvri_model_vocab(model);
    place(&e, &carve, text_bytes);
    return carve.overflow ? SIZE_MAX : (size_t)carve.used;
}

static uint8_t lower(char c) { return (uint8_t)(c >= 'A' && c <= 'Z' ? c + 32 : c); }

static int contains(const char *text, const char *word) {
    for (; *text != 0; text++) {
        size_t n = 0;
        while (word[n] != 0 && lower(text[n]) == (uint8_t)word[n]) n++;
        if (word[n] == 0) return 1;
    }
    return 0;
}

/* Phi-3 was trained without the white space behind its markers. GGUF has no key for that: like llama.cpp, go by the
 * model's name. */
static int drops_space_behind(const kvr_model *model, const kvri_vocab *vocab, int32_t id) {
    const char *name = kvr_model_get_info(model)->name;
    if (!contains(name, "phi-3") && !contains(name, "phi3") && !contains(name, "phi 3")) return 0;
    const kvri_str text = kvri_vocab_text(vocab, id);
    return !kvri_str_eq(text, "<unk>") && !kvri_str_eq(text, "<s>") && !kvri_str_eq(text, "<|endoftext|>");
}

static int is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static kvr_status encode_plain(encoder *e, const uint8_t *text, size_t n) {
    if (n == 0) return KVR_OK;
    if (e->vocab->kind == KVR_VOCAB_BPE) {
        kvri_bpe_encode(e->vocab, e->pretok, &e->bpe, text, n, &e->ids);
        return KVR_OK;
    }
    /* the space goes in front of every stretch of plain text: it is the text's start or follows a special token */
    return kvri_spm_encode(e->vocab, &e->spm, text, n, e->vocab->add_space_prefix != 0, &e->ids, e->error);
}

/* Takes out the special tokens of a stretch, leftmost and longest first, and tokenizes what lies between them. Plain
 * text before the stretch begins at *start and may go on behind it. */
static kvr_status encode_part(encoder *e, const kvr_model *model, const uint8_t *text, size_t n, size_t at, size_t end,
                              int with_control, size_t *start) {
    while (at < end) {
        uint32_t bytes = 0;
        const int32_t id = kvri_special_match(e->vocab, text + at, end - at, with_control, &bytes);
        if (id < 0) {
            at++;
            continue;
        }
        KVRI_TRY(encode_plain(e, text + *start, at - *start));
        const int is_bos_again = at == 0 && e->ids.n == 1 && id == e->vocab->bos_id;
        if (!is_bos_again) kvri_ids_put(&e->ids, id);
        at += bytes;
        if (drops_space_behind(model, e->vocab, id)) {
            while (at < n && is_space(text[at])) at++;
        }
        *start = at;
    }
    return KVR_OK;
}

static kvr_status encode_all(encoder *e, const kvr_model *model, const uint8_t *text, size_t n,
                             const kvr_text_part *parts, size_t n_parts) {
    size_t start = 0, at = 0;
    for (size_t i = 0; i < n_parts; i++) {
        const size_t end = at + parts[i].bytes;
        if (start > at) at = start; /* white space dropped behind a marker goes on into this stretch */
        KVRI_TRY(encode_part(e, model, text, n, at, end, (parts[i].flags & KVR_TEXT_SPECIAL) != 0, &start));
        at = end;
    }
    return start < n ? encode_plain(e, text + start, n - start) : KVR_OK;
}

kvr_status kvr_text_encode(const kvr_model *model, const char *text, size_t text_bytes, uint32_t flags, void *work,
                           size_t work_bytes, int32_t *ids, size_t cap, size_t *out_n, kvr_error *error) {
    const kvr_text_part whole = {text_bytes, flags & KVR_TEXT_SPECIAL};
    return kvr_text_encode_parts(model, text, text_bytes, &whole, 1, flags & KVR_TEXT_BOS, work, work_bytes, ids, cap,
                                 out_n, error);
}

kvr_status kvr_text_encode_parts(const kvr_model *model, const char *text, size_t text_bytes,
                                 const kvr_text_part *parts, size_t n_parts, uint32_t flags, void *work,
                                 size_t work_bytes, int32_t *ids, size_t cap, size_t *out_n, kvr_error *error) {
    encoder e = {0};
    size_t left = text_bytes;
    e.vocab = kvri_model_vocab(model);
    e.error = error;
    e.ids.at = ids;
    e.ids.cap = cap;
    if (e.vocab->kind == KVR_VOCAB_NONE) {
        return kvri_fail(
            error, KVR_ERR_VOCAB, "text",
            "the file has no vocabulary of a supported kind (llama, gpt2): give token ids instead of text");
    }
    if (e.vocab->kind == KVR_VOCAB_BPE) {
        e.pretok = kvri_pretok_find(e.vocab->pre);
        if (e.pretok == NULL) e.pretok = kvri_pretok_find("default"); /* kvr_model_info.unknown_pre tells */
    }
    if (text_bytes > MAX_TEXT_BYTES) {
        return kvri_fail_n(error, KVR_ERR_TEXT, "text", "the text is too long: give fewer bytes", MAX_TEXT_BYTES,
                           text_bytes);
    }
    size_t part = 0;
    while (part < n_parts && parts[part].bytes <= left) left -= parts[part++].bytes;
    if (part < n_parts || left != 0)
        return kvri_fail(error, KVR_ERR_ARG, "text", "the stretches of a text do not sum up to its bytes");
    const size_t wanted = kvr_text_work_bytes(model, text_bytes);
    if (wanted > work_bytes) {
        return kvri_fail_n(error, KVR_ERR_NOMEM, "text", "scratch: give as many bytes as kvr_text_work_bytes says",
                           wanted, work_bytes);
    }
    kvri_carve carve = {0};
    carve.base = work;
    place(&e, &carve, text_bytes);

    if ((flags & KVR_TEXT_BOS) && e.vocab->add_bos && e.vocab->bos_id >= 0) kvri_ids_put(&e.ids, e.vocab->bos_id);
    KVRI_TRY(encode_all(&e, model, (const uint8_t *)text, text_bytes, parts, n_parts));
    *out_n = e.ids.n;
    if (e.ids.n > cap) {
        return kvri_fail_n(error, KVR_ERR_CTX_FULL, "text", "more tokens than there is room for: shorten the text",
                           e.ids.n, cap);
    }
    return KVR_OK;
}

/* --- decoding ------------------------------------------------------------------------------------------------- */

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */
#define REPLACEMENT_BYTES 3u

/* The bytes that a token stands for, one after the other. */
typedef struct piece {
    kvri_str text;
    uint64_t at;
    enum { PIECE_RAW, PIECE_BYTE, PIECE_SPM, PIECE_BPE } kind;
} piece;

static int hex_digit(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "<0x0A>" */
static int is_byte_name(kvri_str text) {
    return text.n == 6 && memcmp(text.at, "<0x", 3) == 0 && hex_digit(text.at[3]) >= 0 && hex_digit(text.at[4]) >= 0 &&
           text.at[5] == '>';
}

static piece piece_of(const kvri_vocab *vocab, int32_t id) {
    piece p = {kvri_vocab_text(vocab, id), 0, PIECE_RAW};
    switch (kvri_vocab_type(vocab, id)) {
    case KVRI_TOKEN_NORMAL: p.kind = vocab->kind == KVR_VOCAB_BPE ? PIECE_BPE : PIECE_SPM; break;
    case KVRI_TOKEN_BYTE: p.kind = is_byte_name(p.text) ? PIECE_BYTE : PIECE_RAW; break;
    case KVRI_TOKEN_USER: break;
    default: p.text.n = 0; break; /* control, unknown, unused: no text */
    }
    return p;
}

static int next_byte(piece *p, uint8_t *out) {
    if (p->at >= p->text.n) return 0;
    const uint8_t *at = p->text.at + p->at;
    const uint64_t left = p->text.n - p->at;
    uint64_t used = 1;
    *out = *at; /* as it is; also what a byte-level token should not contain */
    if (p->kind == PIECE_BYTE) {
        *out = (uint8_t)(hex_digit(at[3]) * 16 + hex_digit(at[4]));
        used = left;
    } else if (p->kind == PIECE_SPM && left >= 3 && memcmp(at, "\xE2\x96\x81", 3) == 0) {
        *out = ' ';
        used = 3;
    } else if (p->kind == PIECE_BPE) {
        size_t bytes = 0;
        const int byte = kvri_bpe_unmap(kvri_utf8_next(at, left < 4 ? (size_t)left : 4, &bytes));
        if (byte >= 0) {
            *out = (uint8_t)byte;
            used = bytes;
        }
    }
    p->at += used;
    return 1;
}

/* Counts what does not fit. */
typedef struct sink {
    char *out;
    size_t cap, n;
} sink;

static void put(sink *to, const void *bytes, size_t n) {
    if (to->n <= to->cap && n <= to->cap - to->n) memcpy(to->out + to->n, bytes, n);
    to->n += n;
}

/* A beginning that cannot go on with this byte is replaced as one, and the byte is looked at anew (Unicode's "maximal
 * subpart" practice). */
static void feed(kvr_text_stream *stream, uint8_t byte, sink *to) {
    for (;;) {
        stream->held[stream->n_held] = byte;
        const int whole = kvri_utf8_check(stream->held, stream->n_held + 1u);
        if (whole == 0) {
            stream->n_held++;
            return;
        }
        const int had = stream->n_held;
        stream->n_held = 0;
        if (whole > 0) {
            put(to, stream->held, (size_t)whole);
            return;
        }
        put(to, REPLACEMENT, REPLACEMENT_BYTES);
        if (had == 0) return;
    }
}

size_t kvr_text_piece_cap(const kvr_model *model) {
    /* every byte may turn out impossible, and so may those held before */
    const uint64_t bytes = ((uint64_t)kvri_model_vocab(model)->max_token_bytes + 1) * REPLACEMENT_BYTES;
    return bytes > SIZE_MAX ? SIZE_MAX : (size_t)bytes;
}

kvr_status kvr_text_decode(const kvr_model *model, kvr_text_stream *stream, int32_t id, char *out, size_t cap,
                           size_t *out_bytes) {
    const kvri_vocab *vocab = kvri_model_vocab(model);
    if (vocab->kind == KVR_VOCAB_NONE) return KVR_ERR_VOCAB;
    if (id < 0 || (uint32_t)id >= vocab->n_vocab || stream->n_held >= sizeof stream->held) return KVR_ERR_ARG;
    kvr_text_stream after = *stream;
    sink to = {out, cap, 0};
    piece p = piece_of(vocab, id);
    for (uint8_t byte = 0; next_byte(&p, &byte);) {
        const int artificial = !after.started && p.kind == PIECE_SPM && vocab->add_space_prefix && byte == ' ';
        after.started = 1;
        if (!artificial) feed(&after, byte, &to);
    }
    if (to.n > cap) return KVR_ERR_NOMEM;
    *stream = after;
    *out_bytes = to.n;
    return KVR_OK;
}

kvr_status kvr_text_finish(kvr_text_stream *stream, char *out, size_t cap, size_t *out_bytes) {
    sink to = {out, cap, 0};
    if (stream->n_held > 0) put(&to, REPLACEMENT, REPLACEMENT_BYTES);
    if (to.n > cap) return KVR_ERR_NOMEM;
    stream->n_held = 0;
    *out_bytes = to.n;
    return KVR_OK;
}
