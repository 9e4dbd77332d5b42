#define _DEFAULT_SOURCE /* sysinfo, prctl */
#include "limits.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <unistd.h>

#include "say.h"
#include "signals.h"

/* What the program has beside its plan: stacks, tables of tokens, stdio. Measured: 2 MiB with the reference backend. */
#define OWN_BYTES (4u << 20)
/* Merely to be listed, PoCL 3.1 with its LLVM takes 26 MiB (tests/README.md). */
#define DRIVER_LEAST_BYTES (48u << 20)
#define MIB 1048576.0

/* --- address space --------------------------------------------------------------------------------------------- */

static uint64_t space_bytes = UINT64_MAX;
static pid_t worker;

/* A signal from another process is for the worker, which may have got it as well; one from the terminal it has. */
static void pass_on(int number, siginfo_t *info, void *context) {
    (void)context;
    if (info->si_code <= 0) kill(worker, number);
}

static void on_signal(int number, void (*action)(int, siginfo_t *, void *)) {
    struct sigaction how;
    memset(&how, 0, sizeof how);
    if (action != NULL) how.sa_sigaction = action;
    else how.sa_handler = SIG_DFL;
    how.sa_flags = action != NULL ? (int)SA_SIGINFO : 0;
    sigaction(number, &how, NULL);
}

static int end_as(int status) {
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    const int number = WTERMSIG(status);
    if (number == SIGABRT || number == SIGSEGV || number == SIGBUS || number == SIGILL)
        return say_error(
            "ended by signal %d, most likely because a library (the OpenCL driver, ZeroMQ) found no "
            "memory: this process may take %.0f MiB of addresses: raise the limit (ulimit -v), or use -d reference",
            number, (double)space_bytes / MIB);
    on_signal(number, NULL);
    raise(number);
    return EXIT_SIGNAL_BASE + number;
}

int limits_begin(void) {
    static const int resources[] = {RLIMIT_AS, RLIMIT_DATA};
    for (size_t i = 0; i < sizeof resources / sizeof resources[0]; i++) {
        struct rlimit limit;
        if (getrlimit(resources[i], &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < space_bytes)
            space_bytes = limit.rlim_cur;
    }
    if (space_bytes == UINT64_MAX) return LIMITS_GO_ON;
    sigset_t both, before;
    sigemptyset(&both);
    sigaddset(&both, SIGINT);
    sigaddset(&both, SIGTERM);
    sigprocmask(SIG_BLOCK, &both, &before); /* until worker is known */
    const pid_t parent = getpid();
    worker = fork();
    if (worker <= 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (worker == 0 && (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0 || getppid() != parent)) _exit(EXIT_FAILED);
        if (worker == 0) signals_are_repeated();
        return LIMITS_GO_ON; /* also without a child: then without the sentence */
    }
    on_signal(SIGINT, pass_on);
    on_signal(SIGTERM, pass_on);
    sigprocmask(SIG_SETMASK, &before, NULL);
    int status = 0;
    while (waitpid(worker, &status, 0) < 0)
        if (errno != EINTR) return say_error("lost its worker: %s; run again", strerror(errno));
    return end_as(status);
}

const char *limits_space(void) {
    static char text[128];
    if (space_bytes == UINT64_MAX) return NULL;
    snprintf(text, sizeof text, "within %.0f MiB of addresses, ulimit -v: a driver that does not fit is not seen",
             (double)space_bytes / MIB);
    return text;
}

/* --- memory ---------------------------------------------------------------------------------------------------- */

/* Of a file that holds one number; the most when there is none ("max"). */
static uint64_t read_limit(const char *path) {
    char text[32] = "", *end = text;
    FILE *file = fopen(path, "r");
    if (file == NULL) return UINT64_MAX;
    char *line = fgets(text, sizeof text, file);
    fclose(file);
    if (line == NULL || text[0] < '0' || text[0] > '9') return UINT64_MAX;
    const unsigned long long value = strtoull(text, &end, 10); /* the most there is when it is more than that */
    return *end == '\n' || *end == '\0' ? value : UINT64_MAX;
}

/* The least limit of a group and those it lies in. group: "/a/b", is used up. */
static uint64_t least_of(const char *root, char *group, const char *file) {
    uint64_t least = UINT64_MAX;
    for (;;) {
        char path[4352];
        char *slash = strrchr(group, '/');
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        uint64_t limit = read_limit(path);
        if (limit < least) least = limit;
        if (slash == NULL) return least;
        *slash = '\0';
    }
}

/* Lines "4:memory:/group" (version 1), "0::/group" (version 2); see cgroups(7). */
static uint64_t group_bytes(void) {
    uint64_t least = UINT64_MAX, limit = UINT64_MAX;
    char line[4096];
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (file == NULL) return least;
    while (fgets(line, sizeof line, file) != NULL) {
        char *kinds = strchr(line, ':'), *group = kinds != NULL ? strchr(kinds + 1, ':') : NULL;
        if (group == NULL) continue;
        *group++ = '\0';
        group[strcspn(group, "\n")] = '\0';
        if (kinds[1] == '\0') limit = least_of("/sys/fs/cgroup", group, "memory.max");
        else if (strcmp(kinds + 1, "memory") == 0)
            limit = least_of("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes");
        if (limit < least) least = limit;
    }
    fclose(file);
    return least;
}

static uint64_t machine_bytes(void) {
    struct sysinfo info;
    if (sysinfo(&info) != 0) return UINT64_MAX;
    return ((uint64_t)info.totalram + info.totalswap) * info.mem_unit;
}

static int fits(uint64_t has, uint64_t plan_bytes, uint64_t others_bytes) {
    return plan_bytes <= has && has - plan_bytes >= OWN_BYTES && others_bytes <= has - plan_bytes - OWN_BYTES;
}

static const char GROUP[] = "its control group (a container, a service)", MACHINE[] = "this machine";

/* A machine that is a little too small for the estimate may still do, and nothing is lost by trying. */
int limits_check(uint64_t plan_bytes, uint64_t others_bytes) {
    const uint64_t group = group_bytes(), machine = machine_bytes();
    const int in_group = fits(group, plan_bytes, others_bytes);
    if (in_group && fits(machine, plan_bytes, 0)) return EXIT_OK;
    return say_error(
        "this wants %.1f MiB of memory (%.1f by its plan, about %.1f for drivers, libraries and itself), %s "
        "has %.1f: lower -c or --batch, use -d reference, or raise the limit",
        ((double)plan_bytes + (double)others_bytes + OWN_BYTES) / MIB, (double)plan_bytes / MIB,
        ((double)others_bytes + OWN_BYTES) / MIB, in_group ? MACHINE : GROUP,
        (double)(in_group ? machine : group) / MIB);
}

const char *limits_no_driver(void) {
    static char text[128];
    const uint64_t group = group_bytes(), machine = machine_bytes(), has = group < machine ? group : machine;
    if (has >= DRIVER_LEAST_BYTES) return NULL;
    snprintf(text, sizeof text, "%s has %.1f MiB of memory, an OpenCL driver takes more than %.0f",
             group < machine ? GROUP : MACHINE, (double)has / MIB, (double)DRIVER_LEAST_BYTES / MIB);
    return text;
}
