/*
 * child.h - work in a process of its own that sends its results back one by one: so that every measurement meets
 * libraries and drivers as fresh as a user's.
 */
#ifndef KVR_CLI_CHILD_H
#define KVR_CLI_CHILD_H

#include <stddef.h>

/* In the child: returns its exit code; results leave through child_send(fd, ...). */
typedef int (*child_work)(void *arg, int fd);
/* In the parent, for each result; NULL: there is one, which stays where it was read. Not EXIT_OK: enough, the child is
 * ended. */
typedef int (*child_take)(void *user, const void *result);

/* Results are of `bytes` bytes; `result` has room for one. Returns what take did if it ended the child, else the
 * child's exit code, else an exit code with a sentence. A signal that this process gets is passed on. */
int child_run(child_work work, void *arg, void *result, size_t bytes, child_take take, void *user);
int child_send(int fd, const void *result, size_t bytes);

#endif
