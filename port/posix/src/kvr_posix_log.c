#define _POSIX_C_SOURCE 200809L
#include "kvr/kvr_posix.h"

#include <string.h>
#include <unistd.h>

static size_t append(char *line, size_t cap, size_t at, const char *text) {
    for (size_t i = 0; text[i] != 0 && at < cap; i++) {
        /* Texts may carry names out of a model file: nothing may drive the terminal. */
        line[at++] = (text[i] >= 0x20 && text[i] <= 0x7e) ? text[i] : '?';
    }
    return at;
}

void kvr_posix_log_stderr(void *user, kvr_log_level level, const char *module, const char *text) {
    (void)user;
    const char *prefix = "kvr: ";
    switch (level) {
    case KVR_LOG_ERROR: prefix = "kvr: error: "; break;
    case KVR_LOG_WARN: prefix = "kvr: warning: "; break;
    case KVR_LOG_INFO: break;
    }
    char line[512];
    const size_t cap = sizeof line - 1;
    size_t n = append(line, cap, 0, prefix);
    if (module != NULL) {
        n = append(line, cap, n, module);
        n = append(line, cap, n, ": ");
    }
    if (text != NULL) n = append(line, cap, n, text);
    line[n++] = '\n';
    /* One write, so that lines of several boards on one terminal do not mix. Nobody to tell when it fails. */
    if (write(STDERR_FILENO, line, n) < 0) return;
}
