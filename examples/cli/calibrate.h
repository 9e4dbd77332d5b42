/*
 * calibrate.h - `kvr plan --measure`: the profile of this board on this model, from timed prompts.
 */
#ifndef KVR_CLI_CALIBRATE_H
#define KVR_CLI_CALIBRATE_H

#include "options.h"

/* Measures, and writes the profile to opt->table_out (NULL: stdout). An exit code. */
int calibrate(const options *opt);

#endif
