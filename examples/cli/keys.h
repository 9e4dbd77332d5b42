/*
 * keys.h - who this board is and whom it knows: the files behind --key and --allowed.
 *
 * A secret file holds one line "kvr-secret HEX" and can be read by its owner only. A list of allowed keys has one line
 * "HEX name" for each board; FILE.pub of 'kvr keygen' is such a line. # starts a comment in both.
 */
#ifndef KVR_CLI_KEYS_H
#define KVR_CLI_KEYS_H

#include "kvr/kvr_link.h"
#include "options.h"

#define KEYS_MAX_ALLOWED 256u
#define KEYS_NAME_CAP 64u /* bytes of a name with its terminator */
#define KEYS_BYTES 32u    /* of a key: KVR_ZMQ_KEY_BYTES */

typedef struct key_ring {
    int has_key, has_list;
    uint8_t secret[KEYS_BYTES], own[KEYS_BYTES];
    uint32_t n_allowed;
    uint8_t allowed[KEYS_MAX_ALLOWED][KEYS_BYTES];
    char names[KEYS_MAX_ALLOWED][KEYS_NAME_CAP]; /* "" = none */
} key_ring;

/* Reads what --key and --allowed name; without --key there is nothing. An exit code, with a sentence. */
int keys_load(key_ring *k, const options *opt);
/* An address as typed -> with its key: tcp://HOST:PORT, or followed by @NAME or @HEX. Without @ the key is the one that
 * is named like the host, or this board's own when there is no list. An exit code, with a sentence. */
int keys_resolve(const key_ring *k, const char *typed, char out[KVR_ADDRESS_CAP]);
/* EXIT_OK when an address, as typed, is one and may be used: on this machine, with a key, or because of --insecure. */
int keys_check_address(const key_ring *k, const options *opt, const char *address, int to_listen);
/* 1: an address, with or without a key, on this machine. */
int keys_is_loopback(const char *address);
/* Makes a pair: the secret into path, "HEX name" into path.pub and on stdout. */
int keys_make(const char *path, const char *name);

#endif
