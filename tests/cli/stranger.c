/*
 * A stranger on a board's network, for links.sh. It stands between lead and board, passes on what it hears until the
 * lead says goodbye, and then sends the board everything again: as it was, in another order, cut short, too long, with
 * bits flipped, of an older epoch, of another session, in several parts, and bytes that were never a frame; then raw
 * TCP.
 *
 *     stranger BOARD_ADDRESS SEED      prints its own address, at the end "sent N messages"
 */
#define _POSIX_C_SOURCE 200809L
#include "kvr_frame.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

enum { MOST = 512, CAP = 1 << 20, ROUNDS = 6, LIMIT_MS = 60000, CONNECTIONS = 40 };

typedef struct heard {
    uint8_t *bytes;
    size_t n;
} heard;

static heard frames[MOST];
static uint32_t n_frames, n_sent;
static uint64_t rng;
static uint8_t scratch[CAP + 64];

static uint64_t next_random(void) {
    rng = rng * 6364136223846793005ull + 1442695040888963407ull;
    return rng >> 33;
}

static int fail(const char *what) {
    fprintf(stderr, "stranger: %s: %s\n", what, zmq_strerror(zmq_errno()));
    return 1;
}

static void push(void *to, const void *bytes, size_t n, int flags) {
    if (zmq_send(to, bytes, n, flags) >= 0) n_sent++;
}

/* Until BYE. */
static int pass_on(void *from, void *to) {
    for (;;) {
        const int got = zmq_recv(from, scratch, sizeof scratch, 0);
        if (got < 0) return fail("the lead said no goodbye");
        kvri_frame f;
        if (n_frames < MOST) {
            frames[n_frames].bytes = malloc((size_t)got + 1);
            if (frames[n_frames].bytes == NULL) return fail("memory");
            memcpy(frames[n_frames].bytes, scratch, (size_t)got);
            frames[n_frames++].n = (size_t)got;
        }
        if (zmq_send(to, scratch, (size_t)got, 0) < 0) return fail("the board does not read");
        if (kvri_frame_open(scratch, (uint64_t)got, &f) == KVR_OK && f.kind == KVRI_FRAME_BYE) return 0;
    }
}

static void send_changed(void *to, const heard *h, uint32_t how) {
    kvri_frame f;
    memcpy(scratch, h->bytes, h->n);
    size_t n = h->n;
    if (kvri_frame_open(scratch, n, &f) != KVR_OK) return;
    switch (how) {
    case 0: break;
    case 1: n = (size_t)(next_random() % n); break;
    case 2: n += 1 + (size_t)(next_random() % 60); break;
    case 3: scratch[next_random() % n] ^= (uint8_t)(1u << next_random() % 8); break;
    case 4:
        f.epoch = f.epoch > 0 ? f.epoch - 1 : 0;
        kvri_frame_restamp(&f, scratch);
        break;
    case 5:
        f.session ^= 1;
        if (f.kind == KVRI_FRAME_HELLO) return; /* that would be another lead: not a stranger's frame */
        kvri_frame_restamp(&f, scratch);
        break;
    case 6:
        push(to, scratch, n, ZMQ_SNDMORE);
        push(to, scratch, n, 0);
        return;
    case 7:
        for (size_t i = 0; i < n; i++) scratch[i] = (uint8_t)next_random();
        break;
    default: break;
    }
    push(to, scratch, n, 0);
}

static void connect_raw(const char *address) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)strtoul(strrchr(address, ':') + 1, NULL, 10));
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&to, sizeof to) != 0) return;
    const size_t n = (size_t)(next_random() % 300);
    for (size_t i = 0; i < n; i++) scratch[i] = (uint8_t)next_random();
    if (next_random() % 2) memcpy(scratch, "\377\0\0\0\0\0\0\0\1\177\3\0NULL", 16); /* a greeting, and then nonsense */
    if (send(fd, scratch, n, MSG_NOSIGNAL) > 0) n_sent++;
    close(fd);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    rng = strtoull(argv[2], NULL, 10);
    const int limit = LIMIT_MS, no_linger = 0, linger = 2000;
    void *context = zmq_ctx_new();
    void *from = zmq_socket(context, ZMQ_PULL), *to = zmq_socket(context, ZMQ_PUSH);
    zmq_setsockopt(from, ZMQ_RCVTIMEO, &limit, sizeof limit);
    zmq_setsockopt(from, ZMQ_LINGER, &no_linger, sizeof no_linger);
    zmq_setsockopt(to, ZMQ_SNDTIMEO, &limit, sizeof limit);
    zmq_setsockopt(to, ZMQ_LINGER, &linger, sizeof linger);
    char own[KVR_ADDRESS_CAP];
    size_t own_bytes = sizeof own;
    if (zmq_bind(from, "tcp://127.0.0.1:*") != 0 || zmq_getsockopt(from, ZMQ_LAST_ENDPOINT, own, &own_bytes) != 0 ||
        zmq_connect(to, argv[1]) != 0)
        return fail("sockets");
    printf("%s\n", own);
    fflush(stdout);
    if (pass_on(from, to) != 0) return 1;
    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < n_frames; i++) {
            const uint32_t which = round % 2 == 0 ? i : (uint32_t)(next_random() % n_frames);
            for (uint32_t how = 0; how < 8; how++) send_changed(to, &frames[which], how);
        }
    for (int i = 0; i < CONNECTIONS; i++) connect_raw(argv[1]);
    memset(scratch, 'x', sizeof scratch);
    push(to, scratch, sizeof scratch, 0); /* longer than legal: the board hangs up */
    printf("sent %u messages, heard %u\n", n_sent, n_frames);
    zmq_close(from);
    zmq_close(to);
    zmq_ctx_term(context);
    return 0;
}
