/*
 * kvr.h - everything an application needs: map a file, plan, open, prompt, poll.
 *
 *   kvr_model_probe -> kvr_model_open -> kvr_plan_make -> kvr_session_open -> kvr_session_prompt -> kvr_session_poll
 *
 * The caller owns all memory. The library never allocates, prints, aborts or exits.
 * Hostile: model file, frames, prompt text. Trusted: config and the three tables (backend, link, port).
 */
#ifndef KVR_H
#define KVR_H

#include "kvr/kvr_chat.h"
#include "kvr/kvr_cpu.h"
#include "kvr/kvr_loop.h"
#include "kvr/kvr_session.h"
#include "kvr/kvr_text.h"
#include "kvr/kvr_trace.h"
#include "kvr/kvr_version.h"

#endif
