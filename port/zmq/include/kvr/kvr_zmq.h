/*
 * kvr_zmq.h - the link between boards over ZeroMQ (libzmq >= 4.3.3): one PULL socket as the inbox, one PUSH socket per
 * peer slot, one message per frame. Every socket setting is part of the protocol; port/README.md gives the reasons.
 *
 * Outside the static promise of kvr: libzmq allocates for itself and runs one I/O thread (kvr_zmq_library_bytes
 * estimates how much), and it aborts the process when its own allocation fails.
 *
 * With a secret key frames are encrypted and both ends know each other by their public keys (CURVE); without one only
 * loopback addresses are used, unless allow_plain_remote says otherwise.
 */
#ifndef KVR_ZMQ_H
#define KVR_ZMQ_H

#include "kvr/kvr_link.h"
#include "kvr/kvr_zmq_key.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_ZMQ_MAX_PEERS 64u
#define KVR_ZMQ_PLACE_CAP 48u /* bytes of an IP address with its terminator */

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
    uint32_t dead_after_ms; /* a connection is given up when the other machine's system has acknowledged nothing for so
                             * long, 4000..600000; 0 = 30000. Also when a board there does not read for so long: longer
                             * than any operator takes */
    uint32_t allow_plain_remote; /* without a key, 1: addresses beyond loopback too, unencrypted and open to everybody;
                                  * 0 = loopback only */
    const uint8_t *secret_key;   /* this board's, KVR_ZMQ_KEY_BYTES (kvr_zmq_key_make); copied, erased by close.
                                  * NULL = plain text. All boards of a chain have one, or none has */
    const uint8_t *allowed_keys; /* public keys of the boards that may connect, and to which this one connects:
                                  * [n_allowed][KVR_ZMQ_KEY_BYTES], must outlive the link. NULL = only boards that hold
                                  * this board's own secret key */
    uint32_t n_allowed;
} kvr_zmq_config;

/* Who was turned away since open. */
typedef struct kvr_zmq_stats {
    uint32_t struct_bytes;
    uint64_t unknown_keys;   /* connections with a key that is not allowed */
    uint64_t no_handshake;   /* without a key, of another protocol, or closed before they said who they are */
    uint64_t refused_frames; /* in several parts, or longer than recv's buffer */
    uint64_t refused_us;     /* boards that turned this one away: its key is not in their list */
    char last_unknown[KVR_ZMQ_PLACE_CAP]; /* where the last unknown key came from; "" = none */
    uint64_t refusing;       /* bit per peer (below 64): its board turned this one away when it was last connected to */
} kvr_zmq_stats;

/* Memory for an object with so many slots; 0 when max_peers is out of range. */
size_t kvr_zmq_bytes(uint32_t max_peers);

/* Estimate of what libzmq takes with `peers` connections out and as many in, all queues full; UINT64_MAX: overflow, or
 * a field of config is out of range. */
uint64_t kvr_zmq_library_bytes(const kvr_zmq_config *config, uint32_t peers);

/*
 * Opens the inbox. mem: 8-byte aligned, at least kvr_zmq_bytes(config->max_peers). On failure nothing stays open.
 * Errors: ARG, NOMEM, ADDRESS (malformed, in use, not on this machine, not loopback; native = errno), LINK (libzmq
 * refused; native = zmq errno), UNSUPPORTED (libzmq too old, or a key and no CURVE).
 */
kvr_status kvr_zmq_open(void *mem, size_t mem_bytes, const kvr_zmq_config *config, kvr_zmq **out, kvr_error *error);

/* Closes all sockets; blocks at most linger_ms. NULL is harmless. */
void kvr_zmq_close(kvr_zmq *zmq);

/*
 * The link table, valid until close; use it from one thread. connect() takes tcp://HOST:PORT and never blocks: names
 * are looked up and connections made by the I/O thread. With a key the address must end with @ and the allowed public
 * key of the board there, without one it must not; a board that turned us away is tried again at the next connect().
 * recv() and wait() also decide who may connect: poll at least every few seconds. send() queues up to hwm_frames, also
 * while the connection is being made or is lost, then returns KVR_AGAIN; so a board that was restarted may get frames
 * meant for the one before it. A frame on its way when a connection breaks is lost. send() fails with ARG (too long,
 * empty, no such slot) or STATE (slot not connected). recv() drops multi-part messages with KVR_ERR_FRAME. wait()
 * returns early also when a slot that said AGAIN has room.
 */
kvr_status kvr_zmq_link(kvr_zmq *zmq, kvr_link *out);

/* Where the inbox listens, with the port resolved: "tcp://127.0.0.1:41233", "tcp://0.0.0.0:7000"; with keys followed by
 * @ and this board's public key. Never NULL. */
const char *kvr_zmq_endpoint(const kvr_zmq *zmq);

/* struct_bytes 0 = sizeof. Decides about connections that wait, as recv() does. */
void kvr_zmq_get_stats(kvr_zmq *zmq, kvr_zmq_stats *out);

/* zmq errno of the last KVR_ERR_LINK; 0 = none. */
int kvr_zmq_native(const kvr_zmq *zmq);

/*
 * The address at which a helper reaches the inbox own_endpoint (from kvr_zmq_endpoint): for a helper on loopback
 * tcp://127.0.0.1:PORT, else this machine's address on the route to the helper; followed by the inbox's key, if any.
 * out: KVR_ADDRESS_CAP bytes suffice. Sends nothing, but looks up the helper's name (may block on DNS). Errors: ADDRESS
 * (malformed, unknown name, no route, or the inbox listens on loopback and the helper is elsewhere), NOMEM (cap).
 */
kvr_status kvr_zmq_own_address(const char *helper_address, const char *own_endpoint, char *out, size_t cap);

/* 1: tcp://HOST:PORT, well formed; to_listen: HOST and PORT may be *. With or without a key. Looks nothing up. */
int kvr_zmq_is_address(const char *address, int to_listen);

/* 1: an address to listen at or to connect to that cannot leave this machine (127.x.x.x, [::1]; to connect to,
 * localhost). */
int kvr_zmq_is_loopback(const char *address);

#ifdef __cplusplus
}
#endif
#endif
