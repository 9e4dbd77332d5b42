/*
 * stops.h - the text of an answer as it comes, up to one of some texts that end it. What may turn out to be the
 * beginning of such a text is held back.
 */
#ifndef KVR_CLI_STOPS_H
#define KVR_CLI_STOPS_H

#include <stddef.h>

#define STOPS_CAP 8u

typedef struct stops {
    const char *texts[STOPS_CAP]; /* not empty */
    size_t n;
    char *text; /* of the answer so far, malloc'ed; without the text that ended it */
    size_t bytes, cap;
    size_t shown; /* how much of it may be shown already */
    int ended;
} stops;

/* Empty texts and NULL are left out, and what does not fit. */
void stops_add(stops *s, const char *text);
/* Begins a new answer. */
void stops_begin(stops *s);
/* More text; what may be shown now is s->text + *out_from .. s->shown. 0 when memory is short. Does nothing once ended.
 */
int stops_feed(stops *s, const char *text, size_t bytes, size_t *out_from);
/* No more text comes: the rest may be shown. */
void stops_finish(stops *s, size_t *out_from);
void stops_free(stops *s);

#endif
