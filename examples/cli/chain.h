/*
 * chain.h - one board, or the lead of a chain, ready for prompts; and the loop that drives one prompt to its end.
 */
#ifndef KVR_CLI_CHAIN_H
#define KVR_CLI_CHAIN_H

#include "engine.h"

typedef struct chain {
    engine e;
    boards local;      /* helpers that this process started */
    uint32_t n_boards; /* with this one */
    int plans; /* prompts are cut by what the boards measured */
    double expected_us; /* by --profile: predicted time to the first token of the last prompt; 0 = not predicted */
    uint32_t n_cores;  /* held to so many cores; 0 = not held */
    int helpers_ignore_keys; /* set before chain_open: Ctrl-C reaches only this process */
    char *remote;      /* copy of --boards, cut into addresses */
    const char *addresses[BOARDS_CAP_HELPERS];
    uint32_t place[BOARDS_CAP_HELPERS]; /* of each helper in --boards or --profile, from 1; 0 = where it stands */
} chain;

/* Exit codes with sentences, as in engine.h. chain_close is harmless at any stage of a zeroed chain. */

/* Refuses options that do nothing without another one; part of chain_check_options. */
int chain_check_needs(const options *opt, const char *command);
/* Looks at --local-boards, --boards and --partition; takes nothing. command is for the hint of a usage error. */
int chain_check_options(const options *opt, const char *command, uint32_t *out_n_boards);
/* Opens everything; c->e holds a model already. Starts --local-boards helpers. */
int chain_open(chain *c, const options *opt, uint32_t n_boards, uint32_t ctx_tokens);
void chain_close(chain *c);

/* "chain", "single", ...: as --strategy, but a board alone is always "single". */
const char *chain_strategy_name(uint32_t n_boards, uint32_t strategy);
/* How many boards take part, and by which strategy. */
void chain_fill_strategy(uint32_t n_boards, const options *opt, kvr_prompt *prompt);
/* Fills the chain's part of a prompt: how many boards take part, and the partition when one was given. */
void chain_fill_prompt(const chain *c, const options *opt, kvr_prompt *prompt);

/* Answers one prompt; callback (may be NULL) sees every event, non-zero ends the prompt early (EXIT_OK). Shows progress
 * on a terminal. EXIT_SIGNAL_BASE + n after a signal. */
int chain_answer(chain *c, const kvr_prompt *prompt, kvr_event_fn callback, void *user);
/* After an answer that was ended early: waits until the session can take the next prompt. */
void chain_settle(chain *c);

#endif
