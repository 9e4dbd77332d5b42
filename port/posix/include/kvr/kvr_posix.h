/*
 * kvr_posix.h - the port for POSIX systems: monotonic clock, sleep, mapped files; a log function on request.
 */
#ifndef KVR_POSIX_H
#define KVR_POSIX_H

#include "kvr/kvr_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills out: now_us, idle, map, unmap, large_pages; log stays NULL (set it to kvr_posix_log_stderr or a function of
 * your own). Stateless: user is NULL, one table serves any number of sessions and threads.
 *
 * map: KVR_ERR_IO (native = errno, detail = end of the path), KVR_ERR_TRUNCATED (empty file), KVR_ERR_ARG. The file
 * must not be shortened while mapped: the kernel then kills the reader (SIGBUS).
 */
void kvr_posix_port(kvr_port *out);

/*
 * The pages of a mapped file need not stay in memory: what is touched again is read again. For after kvr_session_open
 * with a backend that has copied the weights to its device. data: as map gave it. A hint; harmless on systems without
 * it.
 */
void kvr_posix_release_pages(const void *data, size_t bytes);

/* A log function for kvr_port.log: one line "kvr: warning: module: text" to standard error, in one write(). */
void kvr_posix_log_stderr(void *user, kvr_log_level level, const char *module, const char *text);

#ifdef __cplusplus
}
#endif
#endif
