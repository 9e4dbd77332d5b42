#define _GNU_SOURCE /* pipe2, prctl */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"
#include "signals.h"

int child_send(int fd, const void *result, size_t bytes) {
    const char *at = result;
    while (bytes > 0) {
        ssize_t n = write(fd, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return EXIT_FAILED; /* the parent is gone */
        at += n;
        bytes -= (size_t)n;
    }
    return EXIT_OK;
}

/* 1: a whole result; 0: no more. Passes a signal on, so that the child ends its helpers. */
static int read_result(int fd, pid_t child, void *result, size_t bytes) {
    size_t have = 0;
    while (have < bytes) {
        ssize_t n = read(fd, (char *)result + have, bytes - have);
        if (n < 0 && errno == EINTR) {
            if (signals_caught()) kill(child, SIGTERM);
            continue;
        }
        if (n <= 0) return 0;
        have += (size_t)n;
    }
    return 1;
}

int child_run(child_work work, void *arg, void *result, size_t bytes, child_take take, void *user) {
    int fds[2];
    signals_catch();
    int code = say_finish_output(EXIT_OK); /* the child must not print it a second time */
    if (code != EXIT_OK) return code;
    if (pipe2(fds, O_CLOEXEC) != 0) return say_error("cannot make a pipe: %s; close other programs", strerror(errno));
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) _exit(EXIT_FAILED);
        close(fds[0]);
        _exit(work(arg, fds[1]));
    }
    int why = errno;
    close(fds[1]);
    if (child < 0) {
        close(fds[0]);
        return say_error("cannot start a process: %s; close other programs", strerror(why));
    }
    while (code == EXIT_OK && read_result(fds[0], child, result, bytes))
        if (take != NULL) code = take(user, result);
    if (code != EXIT_OK) kill(child, SIGTERM);
    close(fds[0]);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        if (signals_caught()) kill(child, SIGTERM);
    if (signals_caught()) return EXIT_SIGNAL_BASE + signals_caught();
    if (code != EXIT_OK) return code;
    if (WIFSIGNALED(status))
        return say_error("the measuring process was killed by signal %d; run again, with less at once",
                         WTERMSIG(status));
    return WEXITSTATUS(status);
}
