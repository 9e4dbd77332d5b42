/*
 * own_profile.h - what this board can do: from the cache folder, or measured once and kept there.
 */
#ifndef KVR_CLI_OWN_PROFILE_H
#define KVR_CLI_OWN_PROFILE_H

#include "engine.h"

/*
 * Gives the session this board's profile. The file in the cache folder (cache_dir.h) is found again by device, driver,
 * model, threads and all settings that change the arithmetic; where there is none, or a damaged one, the board measures
 * itself, which takes less than a second of work. An emulated board has the profile it emulates. Needs the session,
 * before it serves. An exit code; a board that cannot be measured is no failure.
 */
int own_profile_take(engine *e, const options *opt);

#endif
