#include "output.h"

#include <string.h>

#include "say.h"

/* Columns are counted in characters, not bytes: "±" is one. */
static int text_columns(const char *text) {
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0u) != 0x80u;
    return n;
}

static void repeat(FILE *file, char c, int n) {
    for (; n > 0; n--) fputc(c, file);
}

static void md_cell(FILE *file, const char *text, int width) {
    int columns = width < 0 ? -width : width;
    int gap = columns - text_columns(text);
    fputs("| ", file);
    if (width > 0) repeat(file, ' ', gap);
    fputs(text, file);
    if (width < 0) repeat(file, ' ', gap);
    fputc(' ', file);
}

static void md_head(FILE *file, const cell *cells, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (cells[i].title != NULL) md_cell(file, cells[i].title, cells[i].width);
    fputs("|\n", file);
    for (size_t i = 0; i < n; i++) {
        if (cells[i].title == NULL) continue;
        int width = cells[i].width;
        fputs("| ", file);
        repeat(file, '-', width < 0 ? -width : width - 1);
        fputs(width < 0 ? " " : ": ", file);
    }
    fputs("|\n", file);
}

static void csv_text(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text; text++) {
        if (*text == '"') fputc('"', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static int in_csv(const cell *c) {
    return c->key != NULL && c->kind != CELL_SAMPLES;
}

static void csv_line(FILE *file, const cell *cells, size_t n, int head) {
    int first = 1;
    for (size_t i = 0; i < n; i++) {
        if (!in_csv(&cells[i])) continue;
        if (!first) fputc(',', file);
        first = 0;
        if (head) fputs(cells[i].key, file);
        else if (cells[i].kind == CELL_TEXT) csv_text(file, cells[i].text);
        else fputs(cells[i].text, file);
    }
    fputc('\n', file);
}

void output_json_text(FILE *file, const char *text) {
    fputc('"', file);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') fprintf(file, "\\%c", c);
        else if (c < 0x20) fprintf(file, "\\u%04x", c);
        else fputc(c, file);
    }
    fputc('"', file);
}

static void json_row(FILE *file, const cell *cells, size_t n) {
    int first = 1;
    fputs("  {", file);
    for (size_t i = 0; i < n; i++) {
        if (cells[i].key == NULL) continue;
        fprintf(file, "%s\n    \"%s\": ", first ? "" : ",", cells[i].key);
        first = 0;
        if (cells[i].kind == CELL_TEXT) output_json_text(file, cells[i].text);
        else fputs(cells[i].text[0] ? cells[i].text : "null", file);
    }
    fputs("\n  }", file);
}

void output_begin(output *out, output_format format) {
    out->format = format;
    out->n_rows = 0;
    if (format == OUTPUT_JSON) fputs("[\n", stdout);
}

int output_row(output *out, const cell *cells, size_t n) {
    switch (out->format) {
    case OUTPUT_MD:
        if (out->n_rows == 0) md_head(stdout, cells, n);
        for (size_t i = 0; i < n; i++)
            if (cells[i].title != NULL) md_cell(stdout, cells[i].text, cells[i].width);
        fputs("|\n", stdout);
        break;
    case OUTPUT_CSV:
        if (out->n_rows == 0) csv_line(stdout, cells, n, 1);
        csv_line(stdout, cells, n, 0);
        break;
    case OUTPUT_JSON:
        if (out->n_rows != 0) fputs(",\n", stdout);
        json_row(stdout, cells, n);
        break;
    }
    out->n_rows++;
    return say_finish_output(EXIT_OK); /* a measurement takes long: show what is known */
}

void output_end(output *out) {
    if (out->format == OUTPUT_JSON) fputs("\n]\n", stdout);
}

const char *output_size(uint64_t bytes, char *out, size_t cap) {
    if (bytes >= 1ull << 30) snprintf(out, cap, "%.2f GiB", (double)bytes / (double)(1ull << 30));
    else snprintf(out, cap, "%.2f MiB", (double)bytes / (double)(1u << 20));
    return out;
}

const char *output_count(uint64_t n, char *out, size_t cap) {
    if (n >= 1000000000u) snprintf(out, cap, "%.2f B", (double)n / 1e9);
    else if (n >= 1000000u) snprintf(out, cap, "%.2f M", (double)n / 1e6);
    else snprintf(out, cap, "%.2f K", (double)n / 1e3);
    return out;
}
