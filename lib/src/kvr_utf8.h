/*
 * kvr_utf8.h - internal: strict UTF-8 (no overlong forms, no surrogates, at most U+10FFFF). Source: Unicode 15, table
 * 3-7.
 */
#ifndef KVR_UTF8_H
#define KVR_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define KVRI_UTF8_REPLACEMENT 0xFFFDu

/* What the first n >= 1 bytes begin with: 1..4 = a character of that many bytes, 0 = the beginning of a character,
 * -1 = bytes that can never become one. */
int kvri_utf8_check(const uint8_t *bytes, size_t n);

/* The character at *at < n, and moves *at behind it. A byte that begins no character is U+FFFD, one byte long. */
uint32_t kvri_utf8_next(const uint8_t *text, size_t n, size_t *at);

/* Writes code <= U+10FFFF, returns its bytes, 1..4. */
uint32_t kvri_utf8_put(uint32_t code, uint8_t out[4]);

#endif
