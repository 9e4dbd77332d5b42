#include "stops.h"

#include <stdlib.h>
#include <string.h>

void stops_add(stops *s, const char *text) {
    if (text != NULL && text[0] != '\0' && s->n < STOPS_CAP) s->texts[s->n++] = text;
}

void stops_begin(stops *s) {
    s->bytes = s->shown = 0;
    s->ended = 0;
}

/* Looks at what is not shown yet: nothing that ends an answer begins before. */
static void look(stops *s) {
    for (size_t at = s->shown; at < s->bytes; at++)
        for (size_t i = 0; i < s->n; i++) {
            const size_t whole = strlen(s->texts[i]), here = s->bytes - at;
            if (memcmp(s->text + at, s->texts[i], here < whole ? here : whole) != 0) continue;
            s->shown = at;
            if (here < whole) return; /* may become one */
            s->bytes = at;
            s->ended = 1;
            return;
        }
    s->shown = s->bytes;
}

int stops_feed(stops *s, const char *text, size_t bytes, size_t *out_from) {
    *out_from = s->shown;
    if (s->ended) return 1;
    if (bytes > s->cap - s->bytes) {
        const size_t cap = (s->cap + bytes) * 2;
        char *more = realloc(s->text, cap);
        if (more == NULL) return 0;
        s->text = more;
        s->cap = cap;
    }
    if (bytes > 0) memcpy(s->text + s->bytes, text, bytes);
    s->bytes += bytes;
    look(s);
    return 1;
}

void stops_finish(stops *s, size_t *out_from) {
    *out_from = s->shown;
    s->shown = s->bytes;
}

void stops_free(stops *s) {
    free(s->text);
    memset(s, 0, sizeof *s);
}
