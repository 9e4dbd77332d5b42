/*
 * kvr_zmq_address.h - internal: tcp://HOST:PORT[@KEY], checked before libzmq sees it, because it may come from the
 * network. KEY: the public key of whoever listens there, 64 hexadecimal digits in lower case.
 */
#ifndef KVR_ZMQ_ADDRESS_H
#define KVR_ZMQ_ADDRESS_H

#include "kvr/kvr_link.h"
#include "kvr/kvr_zmq_key.h"

typedef enum kvri_zmq_use {
    KVRI_ZMQ_CONNECT = 0, /* a place: no wildcards */
    KVRI_ZMQ_LISTEN = 1   /* host may be * or all zero, port may be * */
} kvri_zmq_use;

typedef struct kvri_zmq_address {
    char host[KVR_ADDRESS_CAP]; /* without brackets */
    char port[6];               /* "1".."65535" or "*" */
    char plain[KVR_ADDRESS_CAP]; /* without the key: what libzmq takes */
    uint8_t key[KVR_ZMQ_KEY_BYTES];
    int has_key;
    int is_v6;                  /* was in brackets */
    int is_any;                 /* *, 0.0.0.0 or [::] */
    int is_loopback;            /* 127.x.x.x, [::1] or localhost */
} kvri_zmq_address;

/* KVR_OK or KVR_ERR_ADDRESS; reads at most KVR_ADDRESS_CAP bytes of text. */
kvr_status kvri_zmq_address_parse(const char *text, kvri_zmq_use use, kvri_zmq_address *out);

#endif
