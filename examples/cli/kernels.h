/*
 * kernels.h - every operator of a model's prompt and answer by itself, timed through the backend's table.
 */
#ifndef KVR_CLI_KERNELS_H
#define KVR_CLI_KERNELS_H

#include "options.h"

/* Prints one row per operator and shape; an exit code. */
int kernels_run(const options *opt);

#endif
