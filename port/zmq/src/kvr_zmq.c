#define _POSIX_C_SOURCE 200809L
#include "kvr/kvr_zmq.h"
#include "kvr_zmq_address.h"
#include "kvr_zmq_guard.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <zmq.h>

#if ZMQ_VERSION < ZMQ_MAKE_VERSION(4, 3, 3)
#error kvr_zmq needs libzmq 4.3.3 or newer: older ones have known overflows in their decoders
#endif

#define CONNECT_TIMEOUT_MS 3000 /* a board that was off is tried again soon, not after minutes */
#define RECONNECT_MS 100
#define HANDSHAKE_TIMEOUT_MS 5000 /* a connection that never speaks ZMTP is closed */
#define GUARD_EVERY 16u /* empty polls: strangers must not cost what a layer costs */
#define ZAP_DOMAIN "kvr"

typedef struct slot {
    void *push;   /* NULL: not connected */
    void *events; /* its failed handshakes */
    int full;     /* the last send said AGAIN */
    int refused;  /* the handshake failed, for keys or for another reason: libzmq does not try again by itself */
    int told;     /* it was for keys, and counted */
    char address[KVR_ADDRESS_CAP];
} slot;

struct kvr_zmq {
    void *context;
    void *inbox;
    kvr_zmq_config config; /* with defaults in force; listen and secret_key are NULL */
    kvri_zmq_guard guard;
    uint32_t empty_polls;
    uint32_t monitors; /* numbers them: their names may not repeat */
    uint64_t refused_frames, refused_us;
    int has_key;
    uint8_t secret[KVR_ZMQ_KEY_BYTES], public_key[KVR_ZMQ_KEY_BYTES];
    int native;
    char endpoint[KVR_ADDRESS_CAP];
    slot slots[]; /* [config.max_peers] */
};

static kvr_status fail(kvr_error *error, kvr_status status, const char *text, int native, const char *detail) {
    if (error == NULL || error->status != KVR_OK) return status;
    memset(error, 0, sizeof *error);
    error->status = status;
    error->module = "zmq";
    error->text = text;
    error->native = native;
    for (size_t i = 0; detail != NULL && detail[i] != 0 && i + 1 < sizeof error->detail; i++) {
        error->detail[i] = (detail[i] >= 0x20 && detail[i] <= 0x7e) ? detail[i] : '?';
    }
    return status;
}

static kvr_status link_failed(kvr_zmq *z) {
    z->native = zmq_errno();
    return KVR_ERR_LINK;
}

/* --- configuration ------------------------------------------------------------------------------------------- */

/* Value in force of a field: its default for 0; 0 when out of range. */
static uint32_t in_range(uint32_t value, uint32_t fallback, uint32_t most) {
    if (value == 0) return fallback;
    return value <= most ? value : 0;
}

/* Copies the fields the caller's version of the struct has and applies defaults. */
static kvr_status read_config(const kvr_zmq_config *from, kvr_zmq_config *out) {
    const size_t n = from->struct_bytes == 0 ? sizeof *out : from->struct_bytes;
    if (n > sizeof *out) return KVR_ERR_ARG;
    memset(out, 0, sizeof *out);
    memcpy(out, from, n);
    out->struct_bytes = sizeof *out;
    out->hwm_frames = in_range(out->hwm_frames, 4, 64);
    out->linger_ms = in_range(out->linger_ms, 1000, 60000);
    out->dead_after_ms =
        out->dead_after_ms != 0 && out->dead_after_ms < 4000 ? 0 : in_range(out->dead_after_ms, 30000, 600000);
    const int valid = out->max_peers >= 1 && out->max_peers <= KVR_ZMQ_MAX_PEERS && out->frame_bytes >= 1 &&
                      out->frame_bytes <= INT64_MAX && out->hwm_frames != 0 && out->linger_ms != 0 &&
                      out->dead_after_ms != 0 &&
                      (out->allowed_keys != NULL) == (out->n_allowed != 0) &&
                      (out->secret_key != NULL || out->allowed_keys == NULL);
    return valid ? KVR_OK : KVR_ERR_ARG;
}

/* All settings of a socket; the table in port/README.md has the reasons. 0 on failure. */
static int apply_settings(void *socket, const kvr_zmq_config *c, int is_v6) {
    const int probe_s = (int)(c->dead_after_ms / 4000u);
    const struct {
        int option, value;
    } settings[] = {
        {ZMQ_SNDHWM, (int)c->hwm_frames},
        {ZMQ_RCVHWM, (int)c->hwm_frames},
        {ZMQ_LINGER, (int)c->linger_ms},
        {ZMQ_IMMEDIATE, 0},
        {ZMQ_IPV6, is_v6},
        {ZMQ_TCP_KEEPALIVE, 1},
        {ZMQ_TCP_KEEPALIVE_IDLE, probe_s},
        {ZMQ_TCP_KEEPALIVE_INTVL, probe_s},
        {ZMQ_TCP_KEEPALIVE_CNT, 3},
        {ZMQ_TCP_MAXRT, (int)c->dead_after_ms},
        {ZMQ_HANDSHAKE_IVL, HANDSHAKE_TIMEOUT_MS},
        {ZMQ_CONNECT_TIMEOUT, CONNECT_TIMEOUT_MS},
        {ZMQ_RECONNECT_IVL, RECONNECT_MS},
    };
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (zmq_setsockopt(socket, settings[i].option, &settings[i].value, sizeof(int)) != 0) return 0;
    }
    const int64_t most = (int64_t)c->frame_bytes;
    return zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &most, sizeof most) == 0;
}

/* Keys of a socket. server_key: of the board to connect to; NULL: this is the inbox. 0 on failure. */
static int apply_keys(void *socket, const kvr_zmq *z, const uint8_t *server_key) {
    const int on = 1;
    if (!z->has_key) return 1;
    if (zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, z->secret, sizeof z->secret) != 0) return 0;
    if (server_key == NULL)
        return zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &on, sizeof on) == 0 &&
               zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, sizeof ZAP_DOMAIN - 1) == 0;
    return zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, z->public_key, sizeof z->public_key) == 0 &&
           zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, server_key, KVR_ZMQ_KEY_BYTES) == 0;
}

size_t kvr_zmq_bytes(uint32_t max_peers) {
    if (max_peers < 1 || max_peers > KVR_ZMQ_MAX_PEERS) return 0;
    return sizeof(kvr_zmq) + max_peers * sizeof(slot);
}

uint64_t kvr_zmq_library_bytes(const kvr_zmq_config *config, uint32_t peers) {
    /* Measured on libzmq 4.3.4, x86-64: 1.4 MiB resident for the first object, most of it the library's code; 67 KiB of
     * heap for each end of a connection, 50 for what tells of failed handshakes of one that goes out. Each queue has
     * one frame more on its way through the codec. */
    const uint64_t fixed = 3u << 19;
    const uint64_t each = 98u << 10;
    kvr_zmq_config c;
    if (read_config(config, &c) != KVR_OK) return UINT64_MAX;
    const uint64_t connections = 2u * (uint64_t)peers;
    const uint64_t frames = connections * (c.hwm_frames + 1u);
    const uint64_t rest = fixed + connections * each;
    if (frames != 0 && c.frame_bytes > (UINT64_MAX - rest) / frames) return UINT64_MAX;
    return rest + frames * c.frame_bytes;
}

/* --- link ---------------------------------------------------------------------------------------------------- */

static void close_slot(slot *s) {
    if (s->push == NULL) return;
    kvri_zmq_monitor_close(s->events, s->push);
    zmq_close(s->push); /* frames still queued have linger_ms to leave */
    s->push = s->events = NULL;
}

/* A board that turns us away says so once; libzmq then gives the connection up for good. */
static void look_for_refusal(kvr_zmq *z, slot *s) {
    for (int event; s->events != NULL && (event = kvri_zmq_monitor_next(s->events)) != 0;) {
        if (!s->told && event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
            z->refused_us++;
            s->told = 1;
        }
        s->refused = 1;
    }
}

static kvr_status open_slot(kvr_zmq *z, slot *s, const kvri_zmq_address *a) {
    void *const push = zmq_socket(z->context, ZMQ_PUSH);
    if (push == NULL) return link_failed(z);
    void *events = NULL;
    int done = apply_settings(push, &z->config, a->is_v6) && apply_keys(push, z, a->key);
    if (done) {
        char name[] = "inproc://kvr.slot.00000000";
        for (uint32_t i = 0, n = z->monitors++; i < 8; i++, n >>= 4) name[18 + i] = (char)('a' + (n & 15u));
        events = kvri_zmq_monitor_open(z->context, push, name,
                                       ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL);
        done = events != NULL;
    }
    if (!done || zmq_connect(push, a->plain) != 0) {
        link_failed(z);
        kvri_zmq_monitor_close(events, push);
        zmq_close(push);
        return KVR_ERR_LINK;
    }
    close_slot(s);
    s->push = push;
    s->events = events;
    s->full = s->refused = s->told = 0;
    return KVR_OK;
}

static kvr_status zmq_link_connect(void *user, uint32_t peer, const char *address) {
    kvr_zmq *const z = user;
    if (peer >= z->config.max_peers) return KVR_ERR_ARG;
    kvri_zmq_address a;
    if (kvri_zmq_address_parse(address, KVRI_ZMQ_CONNECT, &a) != KVR_OK) return KVR_ERR_ADDRESS;
    if (z->has_key != a.has_key || (a.has_key && !kvri_zmq_guard_allows(&z->guard, a.key))) return KVR_ERR_ADDRESS;
    if (!z->has_key && !a.is_loopback && !z->config.allow_plain_remote) return KVR_ERR_ADDRESS;
    slot *const s = &z->slots[peer];
    look_for_refusal(z, s);
    if (s->push != NULL && !s->refused && strcmp(s->address, address) == 0) return KVR_OK;
    const kvr_status status = open_slot(z, s, &a);
    if (status == KVR_OK) strcpy(s->address, address); /* fits: the parser saw the terminator within KVR_ADDRESS_CAP */
    return status;
}

static kvr_status zmq_link_send(void *user, uint32_t peer, const void *frame, size_t bytes) {
    kvr_zmq *const z = user;
    if (peer >= z->config.max_peers || frame == NULL || bytes == 0 || bytes > z->config.frame_bytes) return KVR_ERR_ARG;
    slot *const s = &z->slots[peer];
    if (s->push == NULL) return KVR_ERR_STATE;
    s->full = 0;
    if (zmq_send(s->push, frame, bytes, ZMQ_DONTWAIT) >= 0) return KVR_OK;
    if (zmq_errno() != EAGAIN && zmq_errno() != EINTR) return link_failed(z);
    s->full = 1;
    return KVR_AGAIN;
}

/* The remaining parts of a message that is being refused; they are all here: libzmq shows complete messages only. */
static void drain_parts(void *inbox, zmq_msg_t *msg) {
    while (zmq_msg_more(msg)) {
        if (zmq_msg_recv(msg, inbox, ZMQ_DONTWAIT) < 0) return;
    }
}

static kvr_status zmq_link_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    kvr_zmq *const z = user;
    if (buf == NULL || out_bytes == NULL) return KVR_ERR_ARG;
    zmq_msg_t msg;
    zmq_msg_init(&msg);
    kvr_status status = KVR_OK;
    if (zmq_msg_recv(&msg, z->inbox, ZMQ_DONTWAIT) < 0) {
        status = (zmq_errno() == EAGAIN || zmq_errno() == EINTR) ? KVR_AGAIN : link_failed(z);
        if (++z->empty_polls % GUARD_EVERY == 0) kvri_zmq_guard_turn(&z->guard);
    } else if (zmq_msg_more(&msg)) {
        drain_parts(z->inbox, &msg);
        status = KVR_ERR_FRAME;
    } else if (zmq_msg_size(&msg) > cap) {
        status = KVR_ERR_FRAME;
    } else {
        *out_bytes = zmq_msg_size(&msg);
        if (*out_bytes > 0) memcpy(buf, zmq_msg_data(&msg), *out_bytes);
    }
    z->refused_frames += status == KVR_ERR_FRAME;
    zmq_msg_close(&msg);
    return status;
}

static void zmq_link_wait(void *user, uint64_t timeout_us) {
    kvr_zmq *const z = user;
    zmq_pollitem_t items[3 + KVR_ZMQ_MAX_PEERS];
    uint32_t slot_of[3 + KVR_ZMQ_MAX_PEERS];
    void *const heard[] = {z->inbox, z->guard.events, z->guard.zap};
    const int n_heard = z->guard.zap != NULL ? 3 : 2;
    memset(items, 0, sizeof items);
    for (int i = 0; i < n_heard; i++) {
        items[i].socket = heard[i];
        items[i].events = ZMQ_POLLIN;
    }
    kvri_zmq_guard_turn(&z->guard);
    int n = n_heard;
    for (uint32_t peer = 0; peer < z->config.max_peers; peer++) {
        if (!z->slots[peer].full) continue;
        items[n].socket = z->slots[peer].push;
        items[n].events = ZMQ_POLLOUT;
        slot_of[n] = peer;
        n++;
    }
    const uint64_t most_ms = 3600u * 1000u;
    const uint64_t ms = timeout_us / 1000u + (timeout_us % 1000u != 0);
    if (zmq_poll(items, n, (long)(ms < most_ms ? ms : most_ms)) <= 0) return;
    if (items[1].revents != 0 || items[n_heard - 1].revents != 0) kvri_zmq_guard_turn(&z->guard);
    for (int i = n_heard; i < n; i++) {
        /* Told once: a caller that gave the frame up must not be woken for it for ever. */
        if (items[i].revents & ZMQ_POLLOUT) z->slots[slot_of[i]].full = 0;
    }
}

kvr_status kvr_zmq_link(kvr_zmq *z, kvr_link *out) {
    if (z == NULL || out == NULL) return KVR_ERR_ARG;
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = z;
    out->connect = zmq_link_connect;
    out->send = zmq_link_send;
    out->recv = zmq_link_recv;
    out->wait = zmq_link_wait;
    return KVR_OK;
}

/* --- open and close ------------------------------------------------------------------------------------------ */

static kvr_status bind_failed(kvr_error *error, int native, const char *listen) {
    switch (native) {
    case EADDRINUSE:
        return fail(error, KVR_ERR_ADDRESS, "another program listens on this address: choose another port", native,
                    listen);
    case EADDRNOTAVAIL:
    case ENODEV:
        return fail(error, KVR_ERR_ADDRESS, "this machine has no such network address: listen on tcp://*:PORT", native,
                    listen);
    case EACCES:
        return fail(error, KVR_ERR_ADDRESS, "no permission for this port: choose one above 1023", native, listen);
    default: return fail(error, KVR_ERR_ADDRESS, "cannot listen on this address", native, listen);
    }
}

static kvr_status open_inbox(kvr_zmq *z, const char *listen, int is_v6, kvr_error *error) {
    static const char refused[] = "libzmq refused a socket: check the limit of open files (ulimit -n)";
    z->context = zmq_ctx_new();
    if (z->context == NULL) return fail(error, KVR_ERR_LINK, refused, zmq_errno(), listen);
    z->inbox = zmq_socket(z->context, ZMQ_PULL);
    if (z->inbox == NULL) return fail(error, KVR_ERR_LINK, refused, zmq_errno(), listen);
    if (!kvri_zmq_guard_watch(&z->guard, z->context, z->inbox)) {
        return fail(error, KVR_ERR_LINK, refused, zmq_errno(), listen);
    }
    /* Somebody to ask must be there before anybody can connect. */
    if (z->has_key && !kvri_zmq_guard_open(&z->guard, z->context, z->config.allowed_keys, z->config.n_allowed)) {
        return fail(error, KVR_ERR_LINK, refused, zmq_errno(), listen);
    }
    if (!apply_settings(z->inbox, &z->config, is_v6) || !apply_keys(z->inbox, z, NULL)) {
        return fail(error, KVR_ERR_LINK, "libzmq refused a setting", zmq_errno(), listen);
    }
    if (zmq_bind(z->inbox, listen) != 0) return bind_failed(error, zmq_errno(), listen);
    size_t n = sizeof z->endpoint;
    if (zmq_getsockopt(z->inbox, ZMQ_LAST_ENDPOINT, z->endpoint, &n) != 0) {
        return fail(error, KVR_ERR_LINK, "libzmq does not tell where it listens", zmq_errno(), listen);
    }
    n = strlen(z->endpoint);
    if (z->has_key && n + 1 + KVR_ZMQ_KEY_TEXT > sizeof z->endpoint) {
        return fail(error, KVR_ERR_ADDRESS, "this name is too long to stand before a key: use a numeric address", 0,
                    listen);
    }
    if (z->has_key) {
        z->endpoint[n] = '@';
        kvr_zmq_key_format(z->public_key, z->endpoint + n + 1);
    }
    return KVR_OK;
}

kvr_status kvr_zmq_open(void *mem, size_t mem_bytes, const kvr_zmq_config *config, kvr_zmq **out, kvr_error *error) {
    kvr_zmq_config c;
    if (mem == NULL || (uintptr_t)mem % sizeof(uint64_t) != 0 || config == NULL || out == NULL ||
        read_config(config, &c) != KVR_OK) {
        return fail(error, KVR_ERR_ARG, "a field of kvr_zmq_config is missing or out of range: see kvr_zmq.h", 0, NULL);
    }
    const size_t need = kvr_zmq_bytes(c.max_peers);
    if (mem_bytes < need) {
        const int is_first = error != NULL && error->status == KVR_OK;
        fail(error, KVR_ERR_NOMEM, "memory is smaller than kvr_zmq_bytes says", 0, NULL);
        if (is_first) {
            error->wanted = need;
            error->had = mem_bytes;
        }
        return KVR_ERR_NOMEM;
    }
    int major = 0, minor = 0, patch = 0;
    zmq_version(&major, &minor, &patch);
    if (ZMQ_MAKE_VERSION(major, minor, patch) < ZMQ_MAKE_VERSION(4, 3, 3)) {
        return fail(error, KVR_ERR_UNSUPPORTED, "libzmq is too old to be safe: install 4.3.3 or newer", 0, NULL);
    }
    kvri_zmq_address a;
    if (kvri_zmq_address_parse(c.listen, KVRI_ZMQ_LISTEN, &a) != KVR_OK || a.has_key) {
        return fail(error, KVR_ERR_ADDRESS, "not an address to listen on: write tcp://*:7000 or tcp://127.0.0.1:*", 0,
                    c.listen);
    }
    if (c.secret_key == NULL && !a.is_loopback && !c.allow_plain_remote) {
        return fail(error, KVR_ERR_ADDRESS,
                    "this address is open to the network and frames are not encrypted: set secret_key, or "
                    "allow_plain_remote if everyone on it is trusted",
                    0, c.listen);
    }
    if (c.secret_key != NULL && !zmq_has("curve")) {
        return fail(error, KVR_ERR_UNSUPPORTED, "this libzmq was built without CURVE: install one with libsodium", 0,
                    NULL);
    }
    kvr_zmq *const z = mem;
    memset(z, 0, need);
    z->config = c;
    z->config.listen = NULL;
    z->config.secret_key = NULL;
    kvr_status status = KVR_OK;
    if (c.secret_key != NULL) {
        z->has_key = 1;
        memcpy(z->secret, c.secret_key, sizeof z->secret);
        status = kvr_zmq_key_public(z->secret, z->public_key);
        if (status != KVR_OK) fail(error, status, "libzmq refused the secret key: make another one", 0, NULL);
        if (c.allowed_keys == NULL) {
            z->config.allowed_keys = z->public_key;
            z->config.n_allowed = 1;
        }
    }
    if (status == KVR_OK) status = open_inbox(z, c.listen, a.is_v6, error);
    if (status != KVR_OK) {
        kvr_zmq_close(z);
        return status;
    }
    *out = z;
    return KVR_OK;
}

void kvr_zmq_close(kvr_zmq *z) {
    if (z == NULL) return;
    for (uint32_t peer = 0; peer < z->config.max_peers; peer++) close_slot(&z->slots[peer]);
    if (z->inbox != NULL) {
        kvri_zmq_guard_unwatch(&z->guard, z->inbox);
        zmq_close(z->inbox);
    }
    z->inbox = NULL;
    kvri_zmq_guard_close(&z->guard);
    volatile uint8_t *secret = z->secret; /* volatile: the compiler may not leave it out */
    for (size_t i = 0; i < sizeof z->secret; i++) secret[i] = 0;
    if (z->context == NULL) return;
    while (zmq_ctx_term(z->context) != 0 && zmq_errno() == EINTR) {} /* a signal; linger bounds the wait */
    z->context = NULL;
}

void kvr_zmq_get_stats(kvr_zmq *z, kvr_zmq_stats *out) {
    kvr_zmq_stats s;
    for (uint32_t peer = 0; peer < z->config.max_peers; peer++) look_for_refusal(z, &z->slots[peer]);
    kvri_zmq_guard_turn(&z->guard);
    memset(&s, 0, sizeof s);
    s.struct_bytes = out->struct_bytes != 0 && out->struct_bytes < sizeof s ? out->struct_bytes : (uint32_t)sizeof s;
    s.unknown_keys = z->guard.unknown_keys;
    s.no_handshake = z->guard.no_handshake;
    s.refused_frames = z->refused_frames;
    s.refused_us = z->refused_us;
    for (uint32_t peer = 0; peer < z->config.max_peers && peer < 64; peer++)
        s.refusing |= (uint64_t)(z->slots[peer].told != 0) << peer;
    memcpy(s.last_unknown, z->guard.last_unknown, sizeof s.last_unknown);
    memcpy(out, &s, s.struct_bytes);
}

const char *kvr_zmq_endpoint(const kvr_zmq *z) {
    return z->endpoint;
}
int kvr_zmq_native(const kvr_zmq *z) {
    return z->native;
}
