/*
 * own_profile.h - what this board can do: from the cache folder, or measured once and kept there.
 */
#ifndef KVR_CLI_OWN_PROFILE_H
#define KVR_CLI_OWN_PROFILE_H

#include "engine.h"

#define OWN_PROFILE_CTX 2304u /* tokens: what a longer context adds to a measurement is nothing */

/*
 * This board measures itself for about budget_us; needs the session, and leaves it with the profile. An exit code;
 * out->name is empty where that gave no profile: a model of one layer, times that fit none.
 */
int own_profile_measure(engine *e, uint32_t budget_us, kvr_board_profile *out);

/*
 * Gives the session this board's profile. The file in the cache folder (cache_dir.h) is found again by device, driver,
 * model, threads and all settings that change the arithmetic; where there is none, or a damaged one, the board measures
 * itself, which takes less than a second of work, two where other work disturbs it. It does so again when the last time
 * is an hour ago, and keeps the numbers that promise the shorter prompt: a profile from a busy moment does not stay. An
 * emulated board has the profile it emulates. Needs the session, before it serves. An exit code; a board that cannot be
 * measured is no failure.
 */
int own_profile_take(engine *e, const options *opt);

#endif
