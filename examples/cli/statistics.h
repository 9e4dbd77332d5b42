/*
 * statistics.h - where the time of a prompt went, for people and as JSON.
 */
#ifndef KVR_CLI_STATISTICS_H
#define KVR_CLI_STATISTICS_H

#include "chain.h"

/* A few lines on stderr. */
void statistics_print(const chain *c, const kvr_prompt *prompt);
/* One JSON object in a file; an exit code. */
int statistics_write_json(const chain *c, const kvr_prompt *prompt, const char *path);

/* Predicted time to the first token, 0 = not predicted. */
double statistics_expected_us(const chain *c, const kvr_stats *stats);
/* "256,256": the partition in force at the end. */
void statistics_partition(const chain *c, char *out, size_t cap);

/* Tokens per second after the first one; 0 when there were fewer than two. */
double statistics_decode_rate(const kvr_stats *stats);

#endif
