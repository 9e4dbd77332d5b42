/*
 * output.h - tables for people (markdown) and for programs (csv, json) from one description of a row.
 */
#ifndef KVR_CLI_OUTPUT_H
#define KVR_CLI_OUTPUT_H

#include <stddef.h>
#include <stdio.h>
#include <stdint.h>

#include "options.h"

typedef enum cell_kind {
    CELL_TEXT,   /* quoted in csv and json */
    CELL_NUMBER, /* as it is; empty becomes null in json */
    CELL_SAMPLES /* a json array; left out of csv */
} cell_kind;

/* One value. title: its md column, NULL = not in md; key: its csv and json name, NULL = md only. */
typedef struct cell {
    const char *key, *title, *text;
    cell_kind kind;
    int width; /* of the md column; negative = left-aligned */
} cell;

/* On stdout. */
typedef struct output {
    output_format format;
    size_t n_rows;
} output;

void output_begin(output *out, output_format format);
/* All rows of an output have the same cells in the same order. Not EXIT_OK: nobody gets them any more (the disk is
 * full, which was said, or the reader went away), so stop. */
int output_row(output *out, const cell *cells, size_t n);
void output_end(output *out);

/* text as a json string, quotes included. */
void output_json_text(FILE *file, const char *text);
/* "606.53 MiB", "1.10 B", "260.03 K": as llama-bench writes sizes and counts. Return out. */
const char *output_size(uint64_t bytes, char *out, size_t cap);
const char *output_count(uint64_t n, char *out, size_t cap);

#endif
