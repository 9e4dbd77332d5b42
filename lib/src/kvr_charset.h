/*
 * kvr_charset.h - internal: what kind a character is, and the character sets that pre-tokenizers cut at.
 */
#ifndef KVR_CHARSET_H
#define KVR_CHARSET_H

#include <stddef.h>
#include <stdint.h>

/* Exactly one bit per character: white space first (Unicode White_Space), else the major general category. */
enum {
    KVRI_KIND_SPACE = 1,
    KVRI_KIND_LETTER = 2,
    KVRI_KIND_NUMBER = 4,
    KVRI_KIND_MARK = 8,
    KVRI_KIND_PUNCT = 16,
    KVRI_KIND_SYMBOL = 32,
    KVRI_KIND_OTHER = 64, /* control, format, unassigned, private */
    /* [^\s\p{L}\p{N}] */
    KVRI_KIND_REST = KVRI_KIND_MARK | KVRI_KIND_PUNCT | KVRI_KIND_SYMBOL | KVRI_KIND_OTHER
};

/* A character of a text, decoded. */
typedef struct kvri_glyph {
    uint32_t code;
    uint32_t kind; /* 0 behind the end */
    size_t next;   /* where the following one starts */
} kvri_glyph;

/* The character at `at`; one of kind 0 when at == end. Bytes that are not UTF-8 are U+FFFD. */
kvri_glyph kvri_glyph_at(const uint8_t *text, size_t at, size_t end);

typedef enum kvri_charset {
    KVRI_SET_LETTER,
    KVRI_SET_NUMBER,
    KVRI_SET_PUNCT,
    KVRI_SET_LINE_END,      /* \r \n */
    KVRI_SET_PUNCT_MATH,    /* \p{P} $ + < = > ^ ~ | */
    KVRI_SET_PUNCT_TICK,    /* the same and ` */
    KVRI_SET_CASED,         /* letters with case, as DeepSeek LLM lists them */
    KVRI_SET_PUNCT_WIDE,    /* ASCII and full-width punctuation, as DeepSeek LLM lists it */
    KVRI_SET_EAST,          /* scripts from U+0800, CJK, Hangul, as DeepSeek LLM lists them */
    KVRI_SET_HAN_KANA,      /* CJK, Hiragana, Katakana, as DeepSeek V3 lists them */
    KVRI_SET_NO_STOP        /* anything but white space, brackets, bars and sentence punctuation (BLOOM) */
} kvri_charset;

int kvri_charset_has(kvri_charset set, kvri_glyph glyph);

#endif
