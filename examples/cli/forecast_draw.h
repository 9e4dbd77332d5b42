/*
 * forecast_draw.h - a predicted prompt as a timeline.
 */
#ifndef KVR_CLI_FORECAST_DRAW_H
#define KVR_CLI_FORECAST_DRAW_H

#include "forecast.h"

/* Runs the job (at most KVR_MAX_BOARDS, a chain) and writes what --trace and --timeline ask for. An exit code. */
int forecast_draw(const kvr_cost_job *job, forecast_memory *memory, const options *opt);

#endif
