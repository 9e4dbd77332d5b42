#include "kvr_fields.h"

#include "kvr_checked.h"

#include <math.h>
#include <string.h>

#define MOST_DIGITS 17

static int is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

static kvri_word trim(const char *from, const char *to) {
    while (from < to && is_blank(*from)) from++;
    while (to > from && is_blank(to[-1])) to--;
    const kvri_word word = {from, (size_t)(to - from)};
    return word;
}

int kvri_word_is(kvri_word word, const char *text) {
    return word.n == strlen(text) && memcmp(word.at, text, word.n) == 0;
}

int kvri_word_next(kvri_word *rest, kvri_word *out) {
    const char *end = rest->at + rest->n, *stop = rest->at;
    if (rest->n == 0) return 0;
    while (stop < end && !is_blank(*stop)) stop++;
    out->at = rest->at;
    out->n = (size_t)(stop - rest->at);
    *rest = trim(stop, end);
    return 1;
}

int kvri_lines_next(kvri_lines *lines, kvri_word *out_key, kvri_word *out_rest) {
    while (lines->at < lines->end) {
        const char *stop = memchr(lines->at, '\n', (size_t)(lines->end - lines->at));
        if (stop == NULL) stop = lines->end;
        *out_rest = trim(lines->at, stop);
        lines->at = stop < lines->end ? stop + 1 : stop;
        if (out_rest->n != 0 && *out_rest->at != '#') return kvri_word_next(out_rest, out_key);
    }
    return 0;
}

kvr_status kvri_lines_begin(kvri_lines *lines, const char *text, size_t bytes, size_t max_bytes, const char *kind,
                            kvr_error *error) {
    kvri_word key, rest;
    if (text == NULL) return kvri_fail(error, KVR_ERR_ARG, kind, "text must not be NULL");
    if (bytes > max_bytes)
        return kvri_fail_n(error, KVR_ERR_ARG, kind, "the text is too long to be one of these files", max_bytes,
                           bytes);
    lines->at = text;
    lines->end = text + bytes;
    if (!kvri_lines_next(lines, &key, &rest) || !kvri_word_is(key, kind))
        return kvri_fail_s(error, KVR_ERR_MAGIC, kind, "another kind of file: the first line must begin with", kind,
                           strlen(kind));
    if (!kvri_word_is(rest, "1"))
        return kvri_fail_s(error, KVR_ERR_VERSION, kind, "this program reads version 1 of this file, not", rest.at,
                           rest.n);
    return KVR_OK;
}

int kvri_word_u32(kvri_word word, uint32_t *out) {
    uint64_t value = 0;
    if (word.n == 0 || word.n > 10) return 0;
    for (size_t i = 0; i < word.n; i++) {
        if (word.at[i] < '0' || word.at[i] > '9') return 0;
        value = value * 10u + (uint64_t)(word.at[i] - '0');
    }
    if (value > UINT32_MAX) return 0;
    *out = (uint32_t)value;
    return 1;
}

/* Digits from *at on; those beyond what a double holds are counted by *out_dropped. Returns how many there were. */
static int take_digits(kvri_word word, size_t *at, uint64_t *value, int *n_kept, int *out_dropped) {
    int n = 0;
    for (*out_dropped = 0; *at < word.n && word.at[*at] >= '0' && word.at[*at] <= '9'; (*at)++, n++) {
        if (*n_kept == MOST_DIGITS) {
            (*out_dropped)++;
            continue;
        }
        *value = *value * 10u + (uint64_t)(word.at[*at] - '0');
        if (*value != 0) (*n_kept)++;
    }
    return n;
}

int kvri_word_real(kvri_word word, double *out) {
    uint64_t value = 0;
    size_t at = 0;
    int kept = 0, dropped = 0, exponent = 0, n;
    if (word.n > 64) return 0;
    n = take_digits(word, &at, &value, &kept, &dropped);
    exponent = dropped;
    if (at < word.n && word.at[at] == '.') {
        at++;
        const int decimals = take_digits(word, &at, &value, &kept, &dropped);
        exponent -= decimals - dropped;
        n += decimals;
    }
    if (n == 0) return 0;
    if (at < word.n && (word.at[at] == 'e' || word.at[at] == 'E')) {
        at++;
        const int minus = at < word.n && word.at[at] == '-';
        if (at < word.n && (minus || word.at[at] == '+')) at++;
        const kvri_word digits = {word.at + at, word.n - at};
        uint32_t power;
        if (!kvri_word_u32(digits, &power) || power > 300) return 0;
        exponent += minus ? -(int)power : (int)power;
        at = word.n;
    }
    if (at != word.n) return 0;
    *out = exponent < 0 ? (double)value / pow(10, -exponent) : (double)value * pow(10, exponent);
    return 1;
}

static int set_field(const kvri_field *f, kvri_word value, void *into) {
    char *place = (char *)into + f->offset;
    double real = 0;
    uint32_t whole = 0;
    switch (f->kind) {
    case KVRI_FIELD_TEXT:
        kvri_copy_printable(place, f->cap, value.at, value.n);
        for (size_t n = strlen(place); n > 0 && place[n - 1] == ' '; n--) place[n - 1] = '\0'; /* where it was cut */
        return value.n != 0;
    case KVRI_FIELD_U32:
        if (!kvri_word_u32(value, &whole) || whole < f->low || whole > f->high) return 0;
        memcpy(place, &whole, sizeof whole);
        return 1;
    case KVRI_FIELD_REAL:
        if (!kvri_word_real(value, &real) || !(real >= f->low && real <= f->high)) return 0;
        memcpy(place, &real, sizeof real);
        return 1;
    }
    return 0;
}

kvr_status kvri_fields_read(kvri_lines *lines, const kvri_field *fields, size_t n_fields, void *into,
                            const char *module, kvr_error *error) {
    kvri_word key, rest;
    uint32_t seen = 0;
    while (kvri_lines_next(lines, &key, &rest)) {
        size_t i = 0;
        while (i < n_fields && !kvri_word_is(key, fields[i].name)) i++;
        if (i == n_fields)
            return kvri_fail_s(error, KVR_ERR_KEY, module, "no field of this file; remove or correct the line", key.at,
                               key.n);
        if (seen & 1u << i)
            return kvri_fail_s(error, KVR_ERR_KEY, module, "there twice; remove one of the lines", key.at, key.n);
        if (!set_field(&fields[i], rest, into))
            return kvri_fail_s(error, KVR_ERR_KEY, module,
                               "its value is no number, or outside its range (lib/include/kvr/kvr_profile.h)", key.at,
                               key.n);
        seen |= 1u << i;
    }
    for (size_t i = 0; i < n_fields; i++)
        if (!fields[i].optional && !(seen & 1u << i))
            return kvri_fail_s(error, KVR_ERR_KEY, module, "missing; add this line", fields[i].name,
                               strlen(fields[i].name));
    return KVR_OK;
}

void kvri_write_text(kvri_writer *w, const char *text) {
    const size_t n = strlen(text);
    if (w->full || n > w->cap - w->n) {
        w->full = 1;
        return;
    }
    memcpy(w->out + w->n, text, n);
    w->n += n;
}

void kvri_write_u64(kvri_writer *w, uint64_t value) {
    char digits[21];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do digits[--at] = (char)('0' + value % 10u);
    while ((value /= 10u) != 0);
    kvri_write_text(w, digits + at);
}

void kvri_write_real(kvri_writer *w, double value) {
    uint32_t decimals = 0;
    double scaled = value;
    while (scaled < 1e5 && decimals < 9 && scaled != floor(scaled)) {
        scaled *= 10;
        decimals++;
    }
    uint64_t all = (uint64_t)(scaled + 0.5), unit = 1;
    for (; decimals > 0 && all % 10u == 0; decimals--) all /= 10u;
    for (uint32_t i = 0; i < decimals; i++) unit *= 10u;
    kvri_write_u64(w, all / unit);
    if (decimals == 0) return;
    kvri_write_text(w, ".");
    for (uint64_t rest = all % unit; decimals-- > 0; rest %= unit) {
        unit /= 10u;
        const char digit[2] = {(char)('0' + rest / unit), '\0'};
        kvri_write_text(w, digit);
    }
}

void kvri_fields_write(kvri_writer *w, const kvri_field *fields, size_t n_fields, const void *from) {
    for (size_t i = 0; i < n_fields; i++) {
        const char *place = (const char *)from + fields[i].offset;
        char line[256]; /* a line end in a text would be another field */
        double real;
        uint32_t whole;
        kvri_write_text(w, fields[i].name);
        kvri_write_text(w, " ");
        switch (fields[i].kind) {
        case KVRI_FIELD_TEXT:
            kvri_copy_printable(line, (size_t)kvri_min(sizeof line, fields[i].cap), place, strlen(place));
            kvri_write_text(w, trim(line, line + strlen(line)).n != 0 ? line : "-");
            break;
        case KVRI_FIELD_U32:
            memcpy(&whole, place, sizeof whole);
            kvri_write_u64(w, whole);
            break;
        case KVRI_FIELD_REAL:
            memcpy(&real, place, sizeof real);
            kvri_write_real(w, real);
            break;
        }
        kvri_write_text(w, "\n");
    }
}
