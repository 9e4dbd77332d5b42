#define _POSIX_C_SOURCE 200809L
#include "cache_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* mkdir -p: what exists already is no failure; the check at the end decides. */
static int make_path(char *path) {
    struct stat is;
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    mkdir(path, 0700);
    return stat(path, &is) == 0 && S_ISDIR(is.st_mode) && access(path, W_OK | X_OK) == 0;
}

static int set(const char *base, const char *tail, char *out, size_t cap) {
    if (base == NULL || base[0] == '\0') return 0;
    int n = snprintf(out, cap, "%s%s", base, tail);
    return n > 0 && (size_t)n < cap;
}

int cache_dir_find(char *out, size_t cap) {
    if (set(getenv("KVR_CACHE_DIR"), "", out, cap)) return make_path(out);
    if (set(getenv("XDG_CACHE_HOME"), "/kvr", out, cap)) return make_path(out);
    if (set(getenv("HOME"), "/.cache/kvr", out, cap)) return make_path(out);
    return 0;
}
