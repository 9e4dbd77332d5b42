/*
 * kvr_zmq_guard.h - internal: who may connect (ZAP, ZeroMQ RFC 27), and how many were turned away. No thread of its
 * own: a handshake waits inside libzmq until the guard's next turn, at most HANDSHAKE_IVL.
 */
#ifndef KVR_ZMQ_GUARD_H
#define KVR_ZMQ_GUARD_H

#include "kvr/kvr_zmq.h"

typedef struct kvri_zmq_guard {
    void *zap;    /* REP at inproc://zeromq.zap.01; NULL: no keys, everybody may */
    void *events; /* PAIR: who came to the inbox, and who went */
    uint64_t accepted, welcomed; /* connections; those whose handshake succeeded */
    const uint8_t *allowed; /* [n_allowed][KVR_ZMQ_KEY_BYTES] */
    uint32_t n_allowed;
    uint64_t unknown_keys, no_handshake;
    char last_unknown[KVR_ZMQ_PLACE_CAP];
} kvri_zmq_guard;

int kvri_zmq_guard_allows(const kvri_zmq_guard *g, const uint8_t key[KVR_ZMQ_KEY_BYTES]);
/* Opens the ZAP socket; before the inbox is bound, or libzmq finds nobody to ask. 0 on failure (zmq errno). */
int kvri_zmq_guard_open(kvri_zmq_guard *g, void *context, const uint8_t *allowed, uint32_t n_allowed);
/* Counts who comes to the inbox and gets no further. 0 on failure. */
int kvri_zmq_guard_watch(kvri_zmq_guard *g, void *context, void *inbox);
/* Answers who asks, counts what happened. Never blocks. */
void kvri_zmq_guard_turn(kvri_zmq_guard *g);
/* Before the inbox is closed. */
void kvri_zmq_guard_unwatch(kvri_zmq_guard *g, void *inbox);
/* After the inbox is closed. */
void kvri_zmq_guard_close(kvri_zmq_guard *g);

/* Events of a socket: a PAIR that receives them, NULL on failure. name: "inproc://...", once per context. */
void *kvri_zmq_monitor_open(void *context, void *socket, const char *name, int events);
/* The next event; 0 = none. */
int kvri_zmq_monitor_next(void *pair);
void kvri_zmq_monitor_close(void *pair, void *socket);

#endif
