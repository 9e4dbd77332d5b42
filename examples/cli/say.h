/*
 * say.h - what the program tells people: errors and notes on stderr, and the exit codes.
 */
#ifndef KVR_CLI_SAY_H
#define KVR_CLI_SAY_H

#include "kvr/kvr_status.h"

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_SIGNAL_BASE = 128 };

#if defined(__GNUC__)
#define SAY_FORMAT(a, b) __attribute__((format(printf, a, b)))
#else
#define SAY_FORMAT(a, b)
#endif

/* "kvr: <sentence>" on stderr. Returns EXIT_FAILED, so that `return say_error(...)` reads well. */
int say_error(const char *format, ...) SAY_FORMAT(1, 2);
/* The same for wrong usage: adds "see 'kvr <command> --help'" and returns EXIT_USAGE. command NULL: the program's. */
int say_usage(const char *command, const char *format, ...) SAY_FORMAT(2, 3);
/* "kvr: note: <sentence>": worth knowing, no failure. Silent after say_be_quiet (helpers of a local chain). */
void say_note(const char *format, ...) SAY_FORMAT(1, 2);
void say_be_quiet(void);
/* "kvr: <what>: <the library's error>". */
int say_kvr_error(const char *what, const kvr_error *error);
/* Flushes stdout; 0, or the errno of the first write that failed. */
int say_flush_output(void);
/* At the end: flushes stdout; a reader that went away ends the program quietly, a full disk gets a sentence. */
int say_finish_output(int exit_code);

#endif
