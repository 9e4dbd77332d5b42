#define _POSIX_C_SOURCE 200809L
#include "profiles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"
#include "say.h"

/* bin/kvr -> share/kvr/profiles, in a build folder as after an install. */
static int find_folder(char *out, size_t cap) {
    const ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0) return 0;
    out[n] = '\0';
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(out, '/');
        if (slash == NULL) return 0;
        *slash = '\0';
    }
    static const char tail[] = "/share/kvr/profiles";
    if (strlen(out) + sizeof tail > cap) return 0;
    memcpy(out + strlen(out), tail, sizeof tail);
    return 1;
}

int profiles_begin(profiles *p, const char *dir) {
    if (dir == NULL) {
        if (find_folder(p->dir, sizeof p->dir)) return EXIT_OK;
        return say_error("cannot find the folder of profiles: give --profiles DIR (examples/profiles of the sources)");
    }
    if (strlen(dir) >= sizeof p->dir) return say_error("--profiles: the path is too long");
    memcpy(p->dir, dir, strlen(dir) + 1);
    return EXIT_OK;
}

int profiles_read_file(const char *path, char *out, size_t cap, size_t *out_bytes) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return say_error("cannot read %s: %s; check the name", path, strerror(errno));
    errno = 0;
    *out_bytes = fread(out, 1, cap, file);
    const int more = *out_bytes == cap && fgetc(file) != EOF, why = !ferror(file) ? 0 : errno != 0 ? errno : EIO;
    fclose(file);
    if (why != 0) return say_error("cannot read %s: %s; check the name", path, strerror(why));
    if (more) return say_error("%s: longer than %zu bytes, so it is no such file", path, cap);
    return EXIT_OK;
}

/* The text of a profile. kind: "boards", "links", "models". */
static int read_profile(const profiles *p, const char *kind, const char *name, char *text, size_t cap, char *path,
                        size_t path_cap, size_t *out_bytes) {
    const int is_path = strchr(name, '/') != NULL || strstr(name, ".txt") != NULL;
    if (is_path) snprintf(path, path_cap, "%s", name);
    else snprintf(path, path_cap, "%s/%s/%s.txt", p->dir, kind, name);
    if (!is_path && access(path, R_OK) != 0)
        return say_error(
            "no profile '%s' in %s/%s: give one of its names, a path to a file of your own, or --profiles DIR", name,
            p->dir, kind);
    return profiles_read_file(path, text, cap, out_bytes);
}

static int find_name(char (*names)[256], uint32_t n, const char *name) {
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return (int)i;
    return -1;
}

static int check_room(uint32_t n, const char *name) {
    if (strlen(name) >= 256) return say_error("the name of a profile is longer than 255 characters");
    if (n == PROFILES_CAP) return say_error("more than %d different profiles in one call", PROFILES_CAP);
    return EXIT_OK;
}

int profiles_board(profiles *p, const char *name, const kvr_board_profile **out) {
    static char text[KVR_PROFILE_MAX_BYTES];
    char path[1400];
    size_t bytes = 0;
    kvr_error error = {0};
    const int known = find_name(p->board_names, p->n_boards, name);
    if (known >= 0) {
        *out = &p->boards[known];
        return EXIT_OK;
    }
    int code = check_room(p->n_boards, name);
    if (code == EXIT_OK) code = read_profile(p, "boards", name, text, sizeof text, path, sizeof path, &bytes);
    if (code != EXIT_OK) return code;
    if (kvr_board_profile_read(text, bytes, &p->boards[p->n_boards], &error) != KVR_OK)
        return say_kvr_error(path, &error);
    memcpy(p->board_names[p->n_boards], name, strlen(name) + 1);
    *out = &p->boards[p->n_boards++];
    return EXIT_OK;
}

int profiles_link(profiles *p, const char *name, const kvr_link_profile **out) {
    static char text[KVR_PROFILE_MAX_BYTES];
    char path[1400];
    size_t bytes = 0;
    kvr_error error = {0};
    const int known = find_name(p->link_names, p->n_links, name);
    if (known >= 0) {
        *out = &p->links[known];
        return EXIT_OK;
    }
    int code = check_room(p->n_links, name);
    if (code == EXIT_OK) code = read_profile(p, "links", name, text, sizeof text, path, sizeof path, &bytes);
    if (code != EXIT_OK) return code;
    if (kvr_link_profile_read(text, bytes, &p->links[p->n_links], &error) != KVR_OK) return say_kvr_error(path, &error);
    memcpy(p->link_names[p->n_links], name, strlen(name) + 1);
    *out = &p->links[p->n_links++];
    return EXIT_OK;
}

static int geometry_of_file(const char *path, kvr_geometry *out) {
    engine e = {0};
    int code = engine_open_model(&e, path);
    if (code == EXIT_OK && kvr_geometry_of(kvr_model_get_info(e.model), out) != KVR_OK)
        code = say_error("%s: holds a vocabulary but no weights: use a whole model here", path);
    engine_close(&e);
    return code;
}

int profiles_geometry(profiles *p, const char *name, kvr_geometry *out) {
    static char text[KVR_PROFILE_MAX_BYTES];
    char path[1400];
    size_t bytes = 0;
    kvr_error error = {0};
    const size_t n = strlen(name);
    if (n > 5 && strcmp(name + n - 5, ".gguf") == 0) return geometry_of_file(name, out);
    const int code = read_profile(p, "models", name, text, sizeof text, path, sizeof path, &bytes);
    if (code != EXIT_OK) return code;
    if (kvr_geometry_read(text, bytes, out, &error) != KVR_OK) return say_kvr_error(path, &error);
    return EXIT_OK;
}

/* "4xrpi5" -> 4, "rpi5". A name that only looks like it ("9x") is a name. */
static uint32_t take_count(const char **word) {
    char *end = NULL;
    if (**word < '1' || **word > '9') return 1;
    const unsigned long n = strtoul(*word, &end, 10);
    if (*end != 'x' || end[1] == '\0') return 1;
    *word = end + 1;
    return n > KVR_MAX_BOARDS ? KVR_MAX_BOARDS + 1 : (uint32_t)n;
}

int profiles_next_name(const char **list, char *out, size_t cap) {
    if (**list == '\0') return 0;
    const size_t n = strcspn(*list, ",");
    snprintf(out, cap, "%.*s", (int)n, *list);
    *list += n + ((*list)[n] == ',');
    return 1;
}

int profiles_chain(profiles *p, const char *board_list, const char *link_list, const kvr_board_profile **out_boards,
                   const kvr_link_profile **out_links, uint32_t *out_n) {
    char name[256];
    uint32_t n = 0, n_links = 0;
    for (const char *at = board_list; profiles_next_name(&at, name, sizeof name);) {
        const char *word = name;
        const kvr_board_profile *board = NULL;
        const uint32_t count = take_count(&word);
        if (count > KVR_MAX_BOARDS - n) return say_error("--boards names more than %u boards", KVR_MAX_BOARDS);
        const int code = profiles_board(p, word, &board);
        if (code != EXIT_OK) return code;
        for (uint32_t i = 0; i < count; i++) out_boards[n++] = board;
    }
    for (const char *at = link_list; profiles_next_name(&at, name, sizeof name);) {
        if (n_links == n) return say_error("--link names more links than there are boards");
        const int code = profiles_link(p, name, &out_links[n_links++]);
        if (code != EXIT_OK) return code;
    }
    if (n == 0 || n_links == 0) return say_error("--boards and --link want at least one name each");
    if (n_links != 1 && n_links != n && n_links + 1 != n)
        return say_error("--link names %u links for %u boards: give one for all, or one for each board", n_links, n);
    for (uint32_t i = n_links; i < n; i++) out_links[i] = out_links[n_links - 1]; /* the lead's own carries nothing */
    *out_n = n;
    return EXIT_OK;
}
