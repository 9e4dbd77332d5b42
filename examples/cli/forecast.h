/*
 * forecast.h - `kvr plan` for boards by profile: the partition, what it will take, and what limits it.
 */
#ifndef KVR_CLI_FORECAST_H
#define KVR_CLI_FORECAST_H

#include "options.h"
#include "profiles.h"

/* Whether --boards names profiles and is not just a number. */
int forecast_wanted(const options *opt);
/* Prints (or, with --search, writes a table); an exit code. */
int forecast(const options *opt);

/* Working memory for jobs of one kind, grown as needed. Zero it; forecast_memory_free at the end. */
typedef struct forecast_memory {
    void *work;
    size_t bytes;
} forecast_memory;
/* EXIT_OK, or a sentence: the job is out of range or the memory is not there. */
int forecast_memory_for(forecast_memory *memory, const kvr_cost_job *job);
void forecast_memory_free(forecast_memory *memory);

#endif
