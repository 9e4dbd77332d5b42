/*
 * kvr_pretok.h - internal: pre-tokenizers of byte-level BPE, by the name in tokenizer.ggml.pre. Each is a short list of
 * cutters; the first cuts the text into pieces, the next cuts each piece further. They do by hand what the regular
 * expressions in the models' tokenizer.json files say, in one pass without backtracking.
 */
#ifndef KVR_PRETOK_H
#define KVR_PRETOK_H

#include <stddef.h>
#include <stdint.h>

#define KVRI_PRETOK_STEPS 6u

/* Where the piece that starts at `at` ends (at < result <= end); arg means what the cutter says. */
typedef size_t (*kvri_pretok_cutter)(const uint8_t *text, size_t at, size_t end, uint32_t arg);

typedef struct kvri_pretok {
    const char *names;  /* separated and surrounded by spaces */
    int ignore_merges;  /* a word that is a token is taken as it is */
    struct {
        kvri_pretok_cutter cut;
        uint32_t arg;
    } steps[KVRI_PRETOK_STEPS]; /* up to the first without a cutter; at least one */
} kvri_pretok;

/* NULL = a name this version does not know. "" is "default". */
const kvri_pretok *kvri_pretok_find(const char *name);

/* Cutting under way. */
typedef struct kvri_pretok_cut {
    const kvri_pretok *pretok;
    const uint8_t *text;
    size_t at;
    size_t ends[KVRI_PRETOK_STEPS + 1]; /* of the text, and of the piece under way at each step */
} kvri_pretok_cut;

kvri_pretok_cut kvri_pretok_start(const kvri_pretok *pretok, const uint8_t *text, size_t n);
/* Bytes of the next word; 0 = the text is used up. */
size_t kvri_pretok_next(kvri_pretok_cut *cut);

#endif
