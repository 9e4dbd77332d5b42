/*
 * text_input.h - a prompt from the command line, a file or stdin, and its token ids.
 */
#ifndef KVR_CLI_TEXT_INPUT_H
#define KVR_CLI_TEXT_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "kvr/kvr.h"
#include "options.h"

/* The whole of a file ("-": stdin), malloc'ed with a terminator. An exit code, with a sentence when it is no EXIT_OK.
 */
int text_input_read(const char *path, char **out_text, size_t *out_bytes);
/* Ids of a text, malloc'ed; flags as in kvr_text_encode. An exit code. */
int text_input_encode(const kvr_model *model, const char *text, size_t bytes, uint32_t flags, int32_t **out_ids,
                      size_t *out_n);
/* The prompt that -p, -f or --ids asks for, at least one id. An exit code. */
int text_input_prompt(const options *opt, const kvr_model *model, int32_t **out_ids, size_t *out_n);

#endif
