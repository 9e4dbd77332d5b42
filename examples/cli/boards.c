#define _GNU_SOURCE /* pipe2, prctl */
#include "boards.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "affinity.h"
#include "emulate.h"
#include "say.h"
#include "signals.h"

enum { CHILD_CANNOT_START = 127 };

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

static uint32_t n_helpers(const boards *set) {
    return set->n_boards > 1 ? set->n_boards - 1 : 0;
}

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* --- start ---------------------------------------------------------------------------------------------------- */

/* The helper's side of fork: only calls that are safe there, then exec. Never returns. */
static void become_helper(char *const *argv, int announce, int errors, pid_t lead, uint32_t rank, uint32_t n_cores,
                          int own_group) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != lead) _exit(CHILD_CANNOT_START); /* the lead died before the line above took effect */
    if (own_group) setpgid(0, 0);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    int nothing = open("/dev/null", O_RDONLY);
    if (nothing >= 0) dup2(nothing, STDIN_FILENO);
    dup2(errors, STDOUT_FILENO); /* some drivers report on stdout, which belongs to the lead's answer */
    dup2(errors, STDERR_FILENO);
    fcntl(announce, F_SETFD, 0);
    affinity_hold(rank, n_cores);
    execv("/proc/self/exe", argv);
    static const char why[] = "cannot start the helper: /proc/self/exe is not there; mount /proc\n";
    if (write(STDERR_FILENO, why, sizeof why - 1) < 0) _exit(CHILD_CANNOT_START);
    _exit(CHILD_CANNOT_START);
}

static int start_helper(board_process *helper, const boards_config *config, uint32_t rank) {
    int announce[2] = {-1, -1}, errors[2] = {-1, -1};
    if (pipe2(announce, O_CLOEXEC) != 0 || pipe2(errors, O_CLOEXEC) != 0) {
        int why = errno;
        close_fd(&announce[0]);
        close_fd(&announce[1]);
        return say_error("cannot make a pipe to board %u: %s; use fewer boards", rank, strerror(why));
    }
    char profile[1024] = "";
    size_t profile_bytes = 0;
    const char *file = config->emulate ? emulate_file(config->emulate, rank, config->n_boards, &profile_bytes) : NULL;
    /* the lead's own check tells */
    if (file != NULL && profile_bytes < sizeof profile) memcpy(profile, file, profile_bytes);
    char fd[16], ctx[16], batch[16], window[16], chunk[16], cores[16], chain[16], timeout[32];
    snprintf(fd, sizeof fd, "%d", announce[1]);
    snprintf(ctx, sizeof ctx, "%u", config->ctx_tokens);
    snprintf(window, sizeof window, "%u", config->kv_window);
    snprintf(chunk, sizeof chunk, "%u", config->chunk);
    snprintf(batch, sizeof batch, "%u", config->batch_tokens);
    snprintf(cores, sizeof cores, "%u", config->cores_per_board);
    snprintf(chain, sizeof chain, "%u", config->n_boards);
    snprintf(timeout, sizeof timeout, "%.3f", config->board_timeout_s);
    const char *argv[40];
    size_t n = 0;
    argv[n++] = "kvr";
    argv[n++] = "board";
    argv[n++] = "--model";
    argv[n++] = config->model;
    argv[n++] = "--listen";
    argv[n++] = "tcp://127.0.0.1:*";
    argv[n++] = "--announce-fd";
    argv[n++] = fd;
    argv[n++] = "--ctx";
    argv[n++] = ctx;
    argv[n++] = "--threads";
    argv[n++] = cores;
    argv[n++] = "--max-boards";
    argv[n++] = chain;
    argv[n++] = "--board-timeout";
    argv[n++] = timeout;
    argv[n++] = "--gemm";
    argv[n++] = config->gemm;
    argv[n++] = "--precision";
    argv[n++] = config->precision;
    argv[n++] = "--kv";
    argv[n++] = config->kv_dtype == KVR_KV_F32 ? "f32" : "f16";
    if (config->wire_kv == KVR_DTYPE_Q8_0) {
        argv[n++] = "--wire-kv";
        argv[n++] = "q8_0";
    }
    if (config->kv_window != 0) {
        argv[n++] = "--kv-window";
        argv[n++] = window;
    }
    if (config->chunk != 0) {
        argv[n++] = "--chunk";
        argv[n++] = chunk;
    }
    if (config->batch_tokens != 0) {
        argv[n++] = "--batch";
        argv[n++] = batch;
    }
    if (config->device != NULL) {
        argv[n++] = "--device";
        argv[n++] = config->device;
    }
    if (config->even) argv[n++] = "--even";
    if (profile[0] != '\0') {
        argv[n++] = "--emulate";
        argv[n++] = profile;
    }
    argv[n] = NULL;

    pid_t lead = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become_helper((char *const *)argv, announce[1], errors[1], lead, rank, config->cores_per_board,
                      config->own_group);
    int why = errno;
    close_fd(&announce[1]);
    close_fd(&errors[1]);
    if (pid < 0) {
        close_fd(&announce[0]);
        close_fd(&errors[0]);
        return say_error("cannot start board %u: %s; use fewer boards", rank, strerror(why));
    }
    fcntl(announce[0], F_SETFL, O_NONBLOCK);
    fcntl(errors[0], F_SETFL, O_NONBLOCK);
    helper->pid = pid;
    helper->announce_fd = announce[0];
    helper->error_fd = errors[0];
    return EXIT_OK;
}

int boards_start(boards *set, const boards_config *config) {
    memset(set, 0, sizeof *set);
    for (uint32_t i = 0; i < BOARDS_CAP_HELPERS; i++) set->helpers[i].announce_fd = set->helpers[i].error_fd = -1;
    uint64_t wanted = (uint64_t)config->n_boards * config->cores_per_board;
    if (config->n_boards > 1 && wanted > affinity_cores() && config->emulate == NULL)
        say_note("%u boards (cores each: %u) share %u cores: do not expect them to be faster", config->n_boards,
                 config->cores_per_board, affinity_cores());
    set->n_boards = config->n_boards;
    fflush(stdout); /* a helper that cannot exec must not print it a second time */
    for (uint32_t rank = 0; rank < n_helpers(set); rank++) {
        if (start_helper(&set->helpers[rank], config, rank) != EXIT_OK) {
            boards_end(set);
            return EXIT_FAILED;
        }
        if (config->verbose) say_note("starting board %u (pid %ld)", rank, (long)set->helpers[rank].pid);
    }
    int why = affinity_hold(config->n_boards - 1, config->cores_per_board);
    if (why != 0) say_note("cannot hold this board to its cores: %s", strerror(why));
    return EXIT_OK;
}

/* --- watch ---------------------------------------------------------------------------------------------------- */

static void say_line(board_process *helper, uint32_t rank) {
    const char *line = helper->line;
    uint32_t n = helper->line_bytes;
    helper->line_bytes = 0;
    if (n >= 5 && memcmp(line, "kvr: ", 5) == 0) {
        line += 5;
        n -= 5;
    }
    if (n > 0) say_error("board %u: %.*s", rank, (int)n, line);
}

static void pass_on_errors(board_process *helper, uint32_t rank) {
    char got[512];
    while (helper->error_fd >= 0) {
        ssize_t n = read(helper->error_fd, got, sizeof got);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            close_fd(&helper->error_fd);
            say_line(helper, rank);
            return;
        }
        for (ssize_t i = 0; i < n; i++) {
            if (got[i] == '\n' || helper->line_bytes == sizeof helper->line) say_line(helper, rank);
            if (got[i] != '\n') helper->line[helper->line_bytes++] = got[i];
        }
    }
}

/* The helper is gone: what it still had to say, then why it ended. */
static int say_ended(boards *set, uint32_t rank, int status, const char *when) {
    board_process *helper = &set->helpers[rank];
    pid_t pid = helper->pid;
    pass_on_errors(helper, rank);
    close_fd(&helper->error_fd);
    close_fd(&helper->announce_fd);
    helper->pid = 0;
    if (WIFSIGNALED(status))
        return say_error("board %u (pid %ld) was killed by signal %d %s; %s", rank, (long)pid, WTERMSIG(status), when,
                         set->go_on ? "going on without it" : "run again, or use fewer boards");
    return say_error("board %u (pid %ld) ended with exit code %d %s; its own message, if any, stands above", rank,
                     (long)pid, WEXITSTATUS(status), when);
}

int boards_check(boards *set, const char *when) {
    int code = EXIT_OK;
    for (uint32_t rank = 0; rank < n_helpers(set); rank++) {
        board_process *helper = &set->helpers[rank];
        int status = 0;
        if (helper->pid == 0) continue;
        pass_on_errors(helper, rank);
        if (waitpid(helper->pid, &status, WNOHANG) == helper->pid && signals_caught() == 0)
            code = say_ended(set, rank, status, when);
    }
    return code;
}

/* Reads the announcement as far as it is there. 1: complete, 0: not yet, -1: the helper closed it too early. */
static int read_address(board_process *helper) {
    size_t have = strlen(helper->address);
    for (;;) {
        char byte = 0;
        ssize_t n = read(helper->announce_fd, &byte, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return 0;
        if (n <= 0) return -1;
        if (byte == '\n') {
            close_fd(&helper->announce_fd);
            return have > 0 ? 1 : -1;
        }
        if (have + 1 < sizeof helper->address) helper->address[have++] = byte;
    }
}

static int wait_for_end(board_process *helper, int *status, uint64_t until_ms) {
    static const struct timespec pause = {0, 5000000};
    for (;;) {
        pid_t got = waitpid(helper->pid, status, WNOHANG);
        if (got == helper->pid || (got < 0 && errno != EINTR)) return 1;
        if (now_ms() >= until_ms) return 0;
        nanosleep(&pause, NULL);
    }
}

static int wait_one_ready(boards *set, uint32_t rank, uint64_t until_ms, double timeout_s) {
    board_process *helper = &set->helpers[rank];
    for (;;) {
        if (signals_caught()) return EXIT_SIGNAL_BASE + signals_caught();
        uint64_t now = now_ms();
        if (now >= until_ms)
            return say_error("board %u (pid %ld) did not come up within %g s; give it longer with --start-timeout, "
                             "or use fewer boards",
                             rank, (long)helper->pid, timeout_s);
        int state = read_address(helper);
        if (state > 0) return EXIT_OK;
        if (state < 0) {
            int status = 0;
            if (wait_for_end(helper, &status, now_ms() + 5000))
                return say_ended(set, rank, status, "before it was ready");
            return say_error("board %u (pid %ld) gave no address; run again", rank, (long)helper->pid);
        }
        struct pollfd ready[2] = {{helper->announce_fd, POLLIN, 0}, {helper->error_fd, POLLIN, 0}};
        poll(ready, helper->error_fd >= 0 ? 2 : 1, until_ms - now > 1000 ? 1000 : (int)(until_ms - now));
        if (boards_check(set, "before all boards were ready") != EXIT_OK) return EXIT_FAILED;
    }
}

int boards_wait_ready(boards *set, double timeout_s) {
    uint64_t until_ms = now_ms() + (uint64_t)(timeout_s * 1000.0);
    for (uint32_t rank = 0; rank < n_helpers(set); rank++) {
        int code = wait_one_ready(set, rank, until_ms, timeout_s);
        if (code != EXIT_OK) return code;
    }
    return EXIT_OK;
}

/* --- end ------------------------------------------------------------------------------------------------------ */

void boards_end(boards *set) {
    for (uint32_t rank = 0; rank < n_helpers(set); rank++)
        if (set->helpers[rank].pid != 0) kill(set->helpers[rank].pid, SIGTERM);
    uint64_t until_ms = now_ms() + 2000;
    for (uint32_t rank = 0; rank < n_helpers(set); rank++) {
        board_process *helper = &set->helpers[rank];
        int status = 0;
        if (helper->pid != 0 && !wait_for_end(helper, &status, until_ms)) {
            kill(helper->pid, SIGKILL);
            while (waitpid(helper->pid, &status, 0) < 0 && errno == EINTR) continue;
        }
        helper->pid = 0;
        pass_on_errors(helper, rank);
        close_fd(&helper->announce_fd);
        close_fd(&helper->error_fd);
    }
    set->n_boards = 0;
}
