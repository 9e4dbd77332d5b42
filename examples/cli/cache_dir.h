/*
 * cache_dir.h - where compiled device programs are kept between runs.
 */
#ifndef KVR_CLI_CACHE_DIR_H
#define KVR_CLI_CACHE_DIR_H

#include <stddef.h>

/* $KVR_CACHE_DIR, else $XDG_CACHE_HOME/kvr, else ~/.cache/kvr; made when missing. 1: out holds it; 0: there is none. */
int cache_dir_find(char *out, size_t cap);

#endif
