/*
 * kvr_zmq.h - the link between boards over ZeroMQ (libzmq >= 4.3.3): one PULL socket as the inbox, one PUSH socket per
 * peer slot, one message per frame. Every socket setting is part of the protocol; port/README.md gives the reasons.
 *
 * Outside the static promise of kvr: libzmq allocates for itself and runs one I/O thread (kvr_zmq_library_bytes
 * estimates how much), and it aborts the process when its own allocation fails.
 *
 * Frames travel in plain text and unauthenticated in this version: use it on a network where everyone is trusted.
 * Without allow_plain_remote only loopback addresses are used.
 */
#ifndef KVR_ZMQ_H
#define KVR_ZMQ_H

#include "kvr/kvr_link.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_ZMQ_MAX_PEERS 64u

typedef struct kvr_zmq kvr_zmq;

/* Zero is the default of every field but max_peers, listen and frame_bytes, which are required. */
typedef struct kvr_zmq_config {
    uint32_t struct_bytes; /* sizeof; 0 = sizeof */
    uint32_t max_peers;    /* slots of connect(), 1..KVR_ZMQ_MAX_PEERS */
    const char *listen;    /* the inbox: "tcp://0.0.0.0:7000" (every IPv4 interface; * is short for 0.0.0.0),
                            * "tcp://[::]:7000" (IPv6 and IPv4), "tcp://127.0.0.1:*" (any free port: see
                            * kvr_zmq_endpoint). Needed only during the call */
    uint64_t frame_bytes;  /* largest legal frame (kvr_plan.frame_bytes); required. A peer that sends a longer one
                            * is disconnected before any memory is taken for it */
    uint32_t hwm_frames;   /* frames queued per connection and side, 1..64; 0 = 4. Costs, for each, frame_bytes */
    uint32_t linger_ms;    /* how long close waits for frames not sent yet, 1..60000; 0 = 1000 */
    uint32_t heartbeat_ms; /* between heartbeats, 1..timeout/4; 0 = 2000, or timeout/4 when that is less */
    uint32_t heartbeat_timeout_ms; /* silence after which a connection is given up, 4..600000; 0 = 30000. A board that
                                    * does not poll cannot answer once its inbox is full: keep this at least as long as
                                    * kvr_config.peer_timeout_ms */
    uint32_t allow_plain_remote;   /* 1: addresses beyond loopback too, unencrypted; 0 = loopback only */
} kvr_zmq_config;

/* Memory for an object with so many slots; 0 when max_peers is out of range. */
size_t kvr_zmq_bytes(uint32_t max_peers);

/* Estimate of what libzmq takes with `peers` connections out and as many in, all queues full; UINT64_MAX: overflow. */
uint64_t kvr_zmq_library_bytes(const kvr_zmq_config *config, uint32_t peers);

/*
 * Opens the inbox. mem: 8-byte aligned, at least kvr_zmq_bytes(config->max_peers). On failure nothing stays open.
 * Errors: ARG, NOMEM, ADDRESS (malformed, in use, not on this machine, not loopback; native = errno), LINK (libzmq
 * refused; native = zmq errno), UNSUPPORTED (libzmq too old).
 */
kvr_status kvr_zmq_open(void *mem, size_t mem_bytes, const kvr_zmq_config *config, kvr_zmq **out, kvr_error *error);

/* Closes all sockets; blocks at most linger_ms. NULL is harmless. */
void kvr_zmq_close(kvr_zmq *zmq);

/*
 * The link table, valid until close; use it from one thread. connect() takes tcp://HOST:PORT only and never blocks:
 * names are looked up and connections made by the I/O thread. send() queues up to hwm_frames, also while the connection
 * is being made or is lost, then returns KVR_AGAIN; so a board that was restarted may get frames meant for the one
 * before it. A frame on its way when a connection breaks is lost. send() fails with ARG (too long, empty, no such slot)
 * or STATE (slot not connected). recv() drops multi-part messages with KVR_ERR_FRAME. wait() returns early also when a
 * slot that said AGAIN has room.
 */
kvr_status kvr_zmq_link(kvr_zmq *zmq, kvr_link *out);

/* Where the inbox listens, with the port resolved: "tcp://127.0.0.1:41233", "tcp://0.0.0.0:7000". Never NULL. */
const char *kvr_zmq_endpoint(const kvr_zmq *zmq);

/* zmq errno of the last KVR_ERR_LINK; 0 = none. */
int kvr_zmq_native(const kvr_zmq *zmq);

/*
 * The address at which a helper reaches the inbox own_endpoint (from kvr_zmq_endpoint): for a helper on loopback
 * tcp://127.0.0.1:PORT, else this machine's address on the route to the helper. out: KVR_ADDRESS_CAP bytes suffice.
 * Sends nothing, but looks up the helper's name (may block on DNS). Errors: ADDRESS (malformed, unknown name, no route,
 * or the inbox listens on loopback and the helper is elsewhere), NOMEM (cap).
 */
kvr_status kvr_zmq_own_address(const char *helper_address, const char *own_endpoint, char *out, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
