/*
 * limits.h - what this process may take: an answer that does not fit is refused with a sentence before anything is
 * taken, rather than ended by the system in the middle. Control groups, the machine's memory, ulimit -v.
 */
#ifndef KVR_CLI_LIMITS_H
#define KVR_CLI_LIMITS_H

#include <stdint.h>

/* With a limit of address space (ulimit -v, -d), where libraries abort or crash for want of memory (drivers of OpenCL,
 * libzmq): goes on in a child and turns such an end into a sentence. Returns LIMITS_GO_ON to who is to do the work, the
 * exit code to who is to end with it. Call it first. A handler of SIGABRT would not do: LLVM, in PoCL, sets its own. */
enum { LIMITS_GO_ON = -1 };
int limits_begin(void);

/* What a failure of OpenCL may come from when address space is limited; NULL when it is not. Text in static memory. */
const char *limits_space(void);

/* Whether a session fits: plan_bytes exactly, others_bytes by estimate for drivers and libraries. An exit code, with a
 * sentence. */
int limits_check(uint64_t plan_bytes, uint64_t others_bytes);

/* NULL: there is enough for an OpenCL driver to be looked for at all; else why not. Text in static memory. */
const char *limits_no_driver(void);

#endif
