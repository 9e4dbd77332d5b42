/*
 * balance.h - the cut of a prompt over a chain by the profiles of its boards (--profile), and which boards to leave
 * out.
 */
#ifndef KVR_CLI_BALANCE_H
#define KVR_CLI_BALANCE_H

#include "chain.h"

/*
 * After chain_fill_prompt, with --profile: predicts the prompt (c->expected_us). When the chain is to
 * share it and --partition is not given, searches the partition, puts the boards worth using first in the chain and
 * sets prompt->n_boards and prompt->partition (which points to out_sizes). An exit code, with a sentence.
 */
int balance_prompt(chain *c, const options *opt, kvr_prompt *prompt, uint32_t out_sizes[KVR_MAX_BOARDS]);

#endif
