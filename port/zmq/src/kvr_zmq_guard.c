#include "kvr_zmq_guard.h"

#include <string.h>
#include <zmq.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01" /* fixed by RFC 27 */
#define MOST_PER_TURN 64 /* so that a flood of strangers cannot hold up the board's own work */

int kvri_zmq_guard_allows(const kvri_zmq_guard *g, const uint8_t key[KVR_ZMQ_KEY_BYTES]) {
    for (uint32_t i = 0; i < g->n_allowed; i++)
        if (memcmp(g->allowed + (size_t)i * KVR_ZMQ_KEY_BYTES, key, KVR_ZMQ_KEY_BYTES) == 0) return 1;
    return 0;
}

/* --- ZAP ------------------------------------------------------------------------------------------------------- */

/* A request: version, id, domain, address, routing id, mechanism, then the mechanism's credentials (for CURVE the
 * public key of who connects). */
enum { ZAP_VERSION, ZAP_ID, ZAP_DOMAIN, ZAP_ADDRESS, ZAP_ROUTING_ID, ZAP_MECHANISM, ZAP_KEY, ZAP_PARTS };
enum { ZAP_PART_CAP = 256 };

typedef struct zap_request {
    uint8_t bytes[ZAP_PARTS][ZAP_PART_CAP];
    size_t n[ZAP_PARTS];
    int parts;
} zap_request;

/* 0: none is waiting. */
static int read_request(void *zap, zap_request *out) {
    int more = 1;
    memset(out, 0, sizeof *out);
    for (; more; out->parts++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, zap, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return 0; /* all parts come together: this is before the first */
        }
        const size_t n = zmq_msg_size(&part);
        if (out->parts < ZAP_PARTS && n <= ZAP_PART_CAP) {
            out->n[out->parts] = n;
            if (n > 0) memcpy(out->bytes[out->parts], zmq_msg_data(&part), n);
        }
        more = zmq_msg_more(&part);
        zmq_msg_close(&part);
    }
    return 1;
}

static int part_is(const zap_request *r, int part, const char *text) {
    return r->n[part] == strlen(text) && memcmp(r->bytes[part], text, r->n[part]) == 0;
}

static void answer(void *zap, const zap_request *r, int allowed) {
    const char *const code = allowed ? "200" : "400";
    const char *const text = allowed ? "OK" : "unknown key";
    zmq_send(zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(zap, r->bytes[ZAP_ID], r->n[ZAP_ID], ZMQ_SNDMORE);
    zmq_send(zap, code, 3, ZMQ_SNDMORE);
    zmq_send(zap, text, strlen(text), ZMQ_SNDMORE);
    zmq_send(zap, "", 0, ZMQ_SNDMORE); /* user id */
    zmq_send(zap, "", 0, 0);           /* metadata */
}

static int answer_one(kvri_zmq_guard *g) {
    zap_request r;
    if (!read_request(g->zap, &r)) return 0;
    const int valid = r.parts == ZAP_PARTS && part_is(&r, ZAP_VERSION, "1.0") && part_is(&r, ZAP_MECHANISM, "CURVE") &&
                      r.n[ZAP_KEY] == KVR_ZMQ_KEY_BYTES;
    const int allowed = valid && kvri_zmq_guard_allows(g, r.bytes[ZAP_KEY]);
    answer(g->zap, &r, allowed);
    if (allowed) return 1;
    g->unknown_keys++;
    const size_t n = r.n[ZAP_ADDRESS] < sizeof g->last_unknown ? r.n[ZAP_ADDRESS] : sizeof g->last_unknown - 1;
    memcpy(g->last_unknown, r.bytes[ZAP_ADDRESS], n);
    g->last_unknown[n] = 0;
    return 1;
}

/* --- events ---------------------------------------------------------------------------------------------------- */

void *kvri_zmq_monitor_open(void *context, void *socket, const char *name, int events) {
    const int no_linger = 0;
    if (zmq_socket_monitor(socket, name, events) != 0) return NULL;
    void *const pair = zmq_socket(context, ZMQ_PAIR);
    if (pair != NULL && zmq_setsockopt(pair, ZMQ_LINGER, &no_linger, sizeof no_linger) == 0 &&
        zmq_connect(pair, name) == 0)
        return pair;
    zmq_socket_monitor(socket, NULL, 0);
    if (pair != NULL) zmq_close(pair);
    return NULL;
}

/* First part: event u16, value u32 in the machine's order; second part: an address. */
int kvri_zmq_monitor_next(void *pair) {
    uint8_t head[6], address[KVR_ADDRESS_CAP];
    uint16_t event = 0;
    if (zmq_recv(pair, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head) return 0;
    zmq_recv(pair, address, sizeof address, ZMQ_DONTWAIT);
    memcpy(&event, head, sizeof event);
    return event;
}

void kvri_zmq_monitor_close(void *pair, void *socket) {
    if (pair == NULL) return;
    /* libzmq's I/O thread waits for room to tell an event, holding the lock that the next call takes: make room. */
    while (kvri_zmq_monitor_next(pair) != 0) {}
    zmq_socket_monitor(socket, NULL, 0);
    zmq_close(pair);
}

/* --- the guard ------------------------------------------------------------------------------------------------- */

int kvri_zmq_guard_open(kvri_zmq_guard *g, void *context, const uint8_t *allowed, uint32_t n_allowed) {
    const int no_linger = 0;
    g->allowed = allowed;
    g->n_allowed = n_allowed;
    g->zap = zmq_socket(context, ZMQ_REP);
    return g->zap != NULL && zmq_setsockopt(g->zap, ZMQ_LINGER, &no_linger, sizeof no_linger) == 0 &&
           zmq_bind(g->zap, ZAP_ENDPOINT) == 0;
}

int kvri_zmq_guard_watch(kvri_zmq_guard *g, void *context, void *inbox) {
    /* Not the events of failed handshakes: libzmq has none for a connection that does not speak ZeroMQ at all. */
    g->events = kvri_zmq_monitor_open(context, inbox, "inproc://kvr.inbox",
                                      ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED);
    return g->events != NULL;
}

/* Events do not tell to which connection they belong. One that ended without a welcome is known by the sums; a
 * handshake that is under way at that moment is taken for it, and then makes up for the next one. */
static int count_one(kvri_zmq_guard *g) {
    switch (kvri_zmq_monitor_next(g->events)) {
    case 0: return 0;
    case ZMQ_EVENT_ACCEPTED: g->accepted++; break;
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED: g->welcomed++; break;
    default:
        if (g->accepted > g->welcomed + g->unknown_keys + g->no_handshake) g->no_handshake++;
        break;
    }
    return 1;
}

void kvri_zmq_guard_turn(kvri_zmq_guard *g) {
    for (int i = 0; i < MOST_PER_TURN && g->zap != NULL; i++)
        if (!answer_one(g)) break;
    for (int i = 0; i < MOST_PER_TURN; i++)
        if (!count_one(g)) break;
}

void kvri_zmq_guard_unwatch(kvri_zmq_guard *g, void *inbox) {
    kvri_zmq_monitor_close(g->events, inbox);
    g->events = NULL;
}

void kvri_zmq_guard_close(kvri_zmq_guard *g) {
    if (g->zap != NULL) zmq_close(g->zap);
    g->zap = NULL;
}
