/*
 * profiles.h - boards, links and model shapes by name: text files in a folder, or files of your own.
 */
#ifndef KVR_CLI_PROFILES_H
#define KVR_CLI_PROFILES_H

#include <stdint.h>

#include "kvr/kvr_cost.h"

enum { PROFILES_CAP = 64 };

/* What has been read so far; the same name gives the same address. Zero it, then profiles_begin. */
typedef struct profiles {
    char dir[1024];
    uint32_t n_boards, n_links;
    char board_names[PROFILES_CAP][256], link_names[PROFILES_CAP][256];
    kvr_board_profile boards[PROFILES_CAP];
    kvr_link_profile links[PROFILES_CAP];
} profiles;

/* All of these return an exit code, with a sentence on stderr when it is no EXIT_OK. */

/* dir: --profiles, or NULL for the folder that comes with the program. */
int profiles_begin(profiles *p, const char *dir);
/* name: "rpi5" for the folder's boards/rpi5.txt; anything with a '/' or a '.' is a path. */
int profiles_board(profiles *p, const char *name, const kvr_board_profile **out);
int profiles_link(profiles *p, const char *name, const kvr_link_profile **out);
/* As well a path to a .gguf. */
int profiles_geometry(profiles *p, const char *name, kvr_geometry *out);

/* A chain: "rpi5,rk3588" or "4xrpi5,rk3588", the lead last. Links: one name for all, or one for each board. Fills
 * out_boards and out_links [KVR_MAX_BOARDS]. */
int profiles_chain(profiles *p, const char *board_list, const char *link_list, const kvr_board_profile **out_boards,
                   const kvr_link_profile **out_links, uint32_t *out_n);

/* Takes the next of names with commas between off the list; 0 at its end. */
int profiles_next_name(const char **list, char *out, size_t cap);

/* A file of at most cap bytes; EXIT_FAILED with a sentence otherwise. */
int profiles_read_file(const char *path, char *out, size_t cap, size_t *out_bytes);

#endif
