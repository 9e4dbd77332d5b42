/*
 * kvr_fields.h - internal: small text files of "name value" lines, as hostile input. No locale, no heap.
 */
#ifndef KVR_FIELDS_H
#define KVR_FIELDS_H

#include "kvr_error.h"

#include <stddef.h>
#include <stdint.h>

/* A piece of the text; not terminated. */
typedef struct kvri_word {
    const char *at;
    size_t n;
} kvri_word;

typedef struct kvri_lines {
    const char *at, *end;
} kvri_lines;

/* Checks the first line, "<kind> 1". MAGIC, VERSION, or TRUNCATED when the text is longer than max_bytes. */
kvr_status kvri_lines_begin(kvri_lines *lines, const char *text, size_t bytes, size_t max_bytes, const char *kind,
                            kvr_error *error);
/* Next line that says something: its first word and the rest, both without blanks around. 0 at the end. */
int kvri_lines_next(kvri_lines *lines, kvri_word *out_key, kvri_word *out_rest);
/* Cuts the next word off the front; 0 when there is none. */
int kvri_word_next(kvri_word *rest, kvri_word *out);
int kvri_word_is(kvri_word word, const char *text);
/* Whole words only: "12", "1.5", "2e3". Return 0 for anything else; *out is then unchanged. */
int kvri_word_u32(kvri_word word, uint32_t *out);
int kvri_word_real(kvri_word word, double *out);

/* One field of a struct that such a text fills. */
typedef enum kvri_field_kind { KVRI_FIELD_TEXT, KVRI_FIELD_U32, KVRI_FIELD_REAL } kvri_field_kind;
typedef struct kvri_field {
    const char *name;
    kvri_field_kind kind;
    size_t offset;
    size_t cap;       /* TEXT: bytes in the struct */
    double low, high; /* numbers, inclusive */
    int optional;
} kvri_field;

/* Fills `into` (which the caller has zeroed) from the lines that are left. At most 32 fields. KEY names what is wrong.
 */
kvr_status kvri_fields_read(kvri_lines *lines, const kvri_field *fields, size_t n_fields, void *into,
                            const char *module, kvr_error *error);

/* Text that is being written. full: something did not fit. */
typedef struct kvri_writer {
    char *out;
    size_t cap, n;
    int full;
} kvri_writer;
void kvri_write_text(kvri_writer *w, const char *text);
void kvri_write_u64(kvri_writer *w, uint64_t value);
/* At most 6 significant digits, no exponent; value in 0 .. 1e15. */
void kvri_write_real(kvri_writer *w, double value);
/* Every field as a line, in the table's order. */
void kvri_fields_write(kvri_writer *w, const kvri_field *fields, size_t n_fields, const void *from);

#endif
