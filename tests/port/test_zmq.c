/*
 * port/zmq with real sockets on loopback and free ports. Nothing sleeps: every wait is link.wait on an inbox, at most
 * STEPS times WAIT_US, so a broken build fails instead of hanging. Hostile peers are raw sockets.
 */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_zmq.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

enum { PEERS = 3, FRAME_BYTES = 1 << 16, STEPS = 1000, WAIT_US = 10000 };

typedef struct side {
    uint64_t mem[1024]; /* kvr_zmq_bytes(PEERS) fits, checked in raise_side */
    kvr_zmq *zmq;
    kvr_link link;
} side;

typedef struct rig {
    side a, b, c;
    uint8_t frame[FRAME_BYTES + 1];
    uint8_t got[FRAME_BYTES];
} rig;

static kvr_zmq_config base_config(const char *listen) {
    const kvr_zmq_config config = {.struct_bytes = sizeof config,
                                   .max_peers = PEERS,
                                   .listen = listen,
                                   .frame_bytes = FRAME_BYTES,
                                   .hwm_frames = 2};
    return config;
}

static kvr_status raise_side(side *s, const char *listen, kvr_error *error) {
    const kvr_zmq_config config = base_config(listen);
    s->zmq = NULL;
    if (kvr_zmq_bytes(PEERS) > sizeof s->mem) return KVR_ERR_NOMEM;
    const kvr_status status = kvr_zmq_open(s->mem, kvr_zmq_bytes(PEERS), &config, &s->zmq, error);
    return status == KVR_OK ? kvr_zmq_link(s->zmq, &s->link) : status;
}

static void drop_side(side *s) {
    kvr_zmq_close(s->zmq);
    s->zmq = NULL;
}

static int set_up(void **state) {
    static rig r;
    memset(&r, 0, sizeof r);
    *state = &r;
    return raise_side(&r.a, "tcp://127.0.0.1:*", NULL) != KVR_OK ||
           raise_side(&r.b, "tcp://127.0.0.1:*", NULL) != KVR_OK;
}

static int tear_down(void **state) {
    rig *const r = *state;
    drop_side(&r->a);
    drop_side(&r->b);
    drop_side(&r->c);
    return 0;
}

/* Every byte of frame `number` depends on number and place. */
static void fill(uint8_t *frame, size_t bytes, size_t number) {
    for (size_t i = 0; i < bytes; i++) frame[i] = (uint8_t)(number * 31 + i * 7 + (i >> 8));
}

static kvr_status point(side *from, uint32_t peer, const side *to) {
    return from->link.connect(from->link.user, peer, kvr_zmq_endpoint(to->zmq));
}

/* Sends once there is room, waiting for it in bounded steps. */
static kvr_status put(rig *r, side *from, uint32_t peer, size_t number, size_t bytes) {
    fill(r->frame, bytes, number);
    kvr_status status = KVR_AGAIN;
    for (int step = 0; step < STEPS && status == KVR_AGAIN; step++) {
        status = from->link.send(from->link.user, peer, r->frame, bytes);
        if (status == KVR_AGAIN) from->link.wait(from->link.user, WAIT_US);
    }
    return status;
}

static kvr_status take_raw(side *at, void *buf, size_t cap, size_t *out_bytes) {
    kvr_status status = KVR_AGAIN;
    for (int step = 0; step < STEPS && status == KVR_AGAIN; step++) {
        status = at->link.recv(at->link.user, buf, cap, out_bytes);
        if (status == KVR_AGAIN) at->link.wait(at->link.user, WAIT_US);
    }
    return status;
}

static void expect_frame(rig *r, side *at, size_t number, size_t bytes) {
    size_t n = 0;
    assert_int_equal(take_raw(at, r->got, sizeof r->got, &n), KVR_OK);
    assert_int_equal(n, bytes);
    fill(r->frame, bytes, number);
    assert_memory_equal(r->got, r->frame, bytes);
}

/* --- a raw ZeroMQ peer ----------------------------------------------------------------------------------------- */

typedef struct raw_peer {
    void *context, *push;
} raw_peer;

static raw_peer raw_open(const side *to) {
    raw_peer raw = {.context = zmq_ctx_new()};
    raw.push = zmq_socket(raw.context, ZMQ_PUSH);
    const int linger = 0, timeout = 10000;
    zmq_setsockopt(raw.push, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(raw.push, ZMQ_SNDTIMEO, &timeout, sizeof timeout);
    assert_int_equal(zmq_connect(raw.push, kvr_zmq_endpoint(to->zmq)), 0);
    return raw;
}

static void raw_close(raw_peer *raw) {
    zmq_close(raw->push);
    zmq_ctx_term(raw->context);
}

/* --- frames ---------------------------------------------------------------------------------------------------- */

static void frames_arrive_whole_and_in_order(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, 1, &r->b), KVR_OK);
    for (size_t i = 0; i < 300; i++) {
        const size_t bytes = i % 7 == 0 ? FRAME_BYTES : 1 + i * 97 % 9000;
        assert_int_equal(put(r, &r->a, 1, i, bytes), KVR_OK);
        expect_frame(r, &r->b, i, bytes);
    }
    size_t n = 7;
    assert_int_equal(r->b.link.recv(r->b.link.user, r->got, sizeof r->got, &n), KVR_AGAIN);
    assert_int_equal(n, 7);
}

static void frames_of_several_boards_share_an_inbox_each_in_its_order(void **state) {
    rig *const r = *state;
    assert_int_equal(raise_side(&r->c, "tcp://127.0.0.1:*", NULL), KVR_OK);
    assert_int_equal(point(&r->a, 0, &r->c), KVR_OK);
    assert_int_equal(point(&r->b, 0, &r->c), KVR_OK);
    size_t next[2] = {0, 0};
    for (size_t i = 0; i < 40; i++) {
        r->frame[0] = 0;
        assert_int_equal(put(r, &r->a, 0, 2 * i, 1), KVR_OK); /* first byte: 62 * i */
        assert_int_equal(put(r, &r->b, 0, 2 * i, 2), KVR_OK);
        for (int k = 0; k < 2; k++) {
            size_t n = 0;
            assert_int_equal(take_raw(&r->c, r->got, sizeof r->got, &n), KVR_OK);
            assert_true(n == 1 || n == 2);
            assert_int_equal(r->got[0], (uint8_t)(62 * next[n - 1]));
            next[n - 1]++;
        }
    }
    assert_int_equal(next[0], 40);
    assert_int_equal(next[1], 40);
}

/* How many fit is the kernel's business (socket buffers); that it ends and loses nothing is ours. */
static void a_board_that_does_not_read_gives_again_and_loses_nothing(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 0, FRAME_BYTES), KVR_OK);
    size_t sent = 1;
    int refused = 0; /* in a row, with a wait between: really full, not only on its way to the I/O thread */
    while (refused < 5 && sent < 4096) {
        fill(r->frame, FRAME_BYTES, sent);
        const kvr_status status = r->a.link.send(r->a.link.user, 0, r->frame, FRAME_BYTES);
        assert_true(status == KVR_OK || status == KVR_AGAIN);
        if (status == KVR_OK) sent++;
        refused = status == KVR_OK ? 0 : refused + 1;
        if (status == KVR_AGAIN) r->a.link.wait(r->a.link.user, WAIT_US);
    }
    assert_true(sent < 4096);
    for (size_t i = 0; i < sent; i++) expect_frame(r, &r->b, i, FRAME_BYTES);
    assert_int_equal(put(r, &r->a, 0, sent, 5), KVR_OK);
    expect_frame(r, &r->b, sent, 5);
}

/* With heartbeats on, libzmq 4.3.4 may end the process after this: their timer writes to a connection whose end was
 * seen but, with the queue full, not yet told. */
static void senders_that_go_away_while_the_inbox_is_full_do_no_harm(void **state) {
    rig *const r = *state;
    for (int turn = 0; turn < 3; turn++) {
        raw_peer raw = raw_open(&r->b);
        const int full = 1;
        zmq_setsockopt(raw.push, ZMQ_SNDHWM, &full, sizeof full);
        size_t sent = 0;
        while (sent < 200 && zmq_send(raw.push, r->frame, FRAME_BYTES, ZMQ_DONTWAIT) >= 0) sent++;
        for (int step = 0; step < 20; step++) r->a.link.wait(r->a.link.user, WAIT_US);
        raw_close(&raw);
        for (int step = 0; step < 20; step++) r->a.link.wait(r->a.link.user, WAIT_US);
    }
    size_t n = 0;
    while (r->b.link.recv(r->b.link.user, r->got, sizeof r->got, &n) == KVR_OK) {}
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, 77), KVR_OK);
    do assert_int_equal(take_raw(&r->b, r->got, sizeof r->got, &n), KVR_OK);
    while (n != 77);
}

static void a_frame_longer_than_the_buffer_is_dropped_and_the_next_one_arrives(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, 101), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 2, 100), KVR_OK);
    size_t n = 0;
    assert_int_equal(take_raw(&r->b, r->got, 100, &n), KVR_ERR_FRAME);
    assert_int_equal(take_raw(&r->b, r->got, 100, &n), KVR_OK);
    assert_int_equal(n, 100);
    fill(r->frame, 100, 2);
    assert_memory_equal(r->got, r->frame, 100);
}

static void a_frame_longer_than_legal_or_empty_is_not_sent(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, FRAME_BYTES + 1), KVR_ERR_ARG);
    assert_int_equal(put(r, &r->a, 0, 1, 0), KVR_ERR_ARG);
    assert_int_equal(r->a.link.send(r->a.link.user, 0, NULL, 1), KVR_ERR_ARG);
}

/* --- hostile peers --------------------------------------------------------------------------------------------- */

static void a_multi_part_message_is_refused_whole_and_the_next_frame_arrives(void **state) {
    rig *const r = *state;
    raw_peer raw = raw_open(&r->b);
    assert_int_equal(zmq_send(raw.push, "one", 3, ZMQ_SNDMORE), 3);
    assert_int_equal(zmq_send(raw.push, "two", 3, ZMQ_SNDMORE), 3);
    assert_int_equal(zmq_send(raw.push, "three", 5, 0), 5);
    assert_int_equal(zmq_send(raw.push, "whole", 5, 0), 5);
    size_t n = 0;
    assert_int_equal(take_raw(&r->b, r->got, sizeof r->got, &n), KVR_ERR_FRAME);
    assert_int_equal(take_raw(&r->b, r->got, sizeof r->got, &n), KVR_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(r->got, "whole", 5);
    raw_close(&raw);
}

static void a_message_longer_than_legal_never_arrives_and_other_boards_still_do(void **state) {
    rig *const r = *state;
    raw_peer raw = raw_open(&r->b);
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(zmq_send(raw.push, r->frame, FRAME_BYTES + 1, 0), FRAME_BYTES + 1);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(put(r, &r->a, 0, i, 1000), KVR_OK);
        expect_frame(r, &r->b, i, 1000);
    }
    /* The liar's connection was closed; it may come back and behave. */
    kvr_status status = KVR_AGAIN;
    size_t n = 0;
    for (int step = 0; step < STEPS && status == KVR_AGAIN; step++) {
        zmq_send(raw.push, "sorry", 5, ZMQ_DONTWAIT); /* lost while the connection is down */
        r->b.link.wait(r->b.link.user, WAIT_US);
        status = r->b.link.recv(r->b.link.user, r->got, sizeof r->got, &n);
    }
    assert_int_equal(status, KVR_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(r->got, "sorry", 5);
    raw_close(&raw);
}

static void an_empty_message_arrives_as_zero_bytes(void **state) {
    rig *const r = *state;
    raw_peer raw = raw_open(&r->b);
    assert_int_equal(zmq_send(raw.push, "", 0, 0), 0);
    size_t n = 7;
    assert_int_equal(take_raw(&r->b, r->got, sizeof r->got, &n), KVR_OK);
    assert_int_equal(n, 0);
    raw_close(&raw);
}

static void bytes_that_are_not_zeromq_disturb_nobody(void **state) {
    rig *const r = *state;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)strtoul(strrchr(kvr_zmq_endpoint(r->b.zmq), ':') + 1, NULL, 10));
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    static const char junk[] = "GET / HTTP/1.1\r\nHost: board\r\n\r\n\377\377\377\377\377\377\377\377\377\177\003";
    assert_true(send(fd, junk, sizeof junk, MSG_NOSIGNAL) > 0);
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 3, 50), KVR_OK);
    expect_frame(r, &r->b, 3, 50);
    close(fd);
}

/* --- slots ----------------------------------------------------------------------------------------------------- */

static void a_slot_goes_where_it_was_pointed_last(void **state) {
    rig *const r = *state;
    assert_int_equal(raise_side(&r->c, "tcp://127.0.0.1:*", NULL), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, 10), KVR_ERR_STATE);
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, 10), KVR_OK);
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK); /* the same address: the same connection */
    assert_int_equal(put(r, &r->a, 0, 2, 10), KVR_OK);
    assert_int_equal(point(&r->a, 0, &r->c), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 3, 10), KVR_OK);
    expect_frame(r, &r->b, 1, 10);
    expect_frame(r, &r->b, 2, 10);
    expect_frame(r, &r->c, 3, 10);
}

static void a_slot_out_of_range_is_refused(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, PEERS, &r->b), KVR_ERR_ARG);
    assert_int_equal(point(&r->a, UINT32_MAX, &r->b), KVR_ERR_ARG);
    assert_int_equal(r->a.link.send(r->a.link.user, PEERS, "x", 1), KVR_ERR_ARG);
    assert_int_equal(point(&r->a, PEERS - 1, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, PEERS - 1, 4, 9), KVR_OK);
    expect_frame(r, &r->b, 4, 9);
}

static void frames_for_a_board_that_is_not_there_yet_wait_for_it_within_a_bound(void **state) {
    rig *const r = *state;
    char endpoint[KVR_ADDRESS_CAP];
    snprintf(endpoint, sizeof endpoint, "%s", kvr_zmq_endpoint(r->b.zmq));
    drop_side(&r->b);
    assert_int_equal(r->a.link.connect(r->a.link.user, 0, endpoint), KVR_OK);
    for (size_t i = 0; i < 2; i++) { /* hwm_frames */
        fill(r->frame, 20, i);
        assert_int_equal(r->a.link.send(r->a.link.user, 0, r->frame, 20), KVR_OK);
    }
    assert_int_equal(r->a.link.send(r->a.link.user, 0, "x", 1), KVR_AGAIN);
    r->a.link.wait(r->a.link.user, WAIT_US);
    assert_int_equal(r->a.link.send(r->a.link.user, 0, "x", 1), KVR_AGAIN);
    assert_int_equal(raise_side(&r->b, endpoint, NULL), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 2, 20), KVR_OK);
    for (size_t i = 0; i < 3; i++) expect_frame(r, &r->b, i, 20);
}

/* It may get a few frames meant for the one before it (sessions tell them apart), then the new one, whole. */
static void a_restarted_board_is_found_again(void **state) {
    rig *const r = *state;
    char endpoint[KVR_ADDRESS_CAP];
    snprintf(endpoint, sizeof endpoint, "%s", kvr_zmq_endpoint(r->b.zmq));
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 1, 20), KVR_OK);
    expect_frame(r, &r->b, 1, 20);
    drop_side(&r->b);
    kvr_status status = KVR_OK; /* sends succeed until the loss is noticed and the queue is full */
    for (int step = 0; step < STEPS && status == KVR_OK; step++) {
        status = r->a.link.send(r->a.link.user, 0, "old", 3);
        r->a.link.wait(r->a.link.user, 1000);
    }
    assert_int_equal(status, KVR_AGAIN);
    assert_int_equal(raise_side(&r->b, endpoint, NULL), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 2, 20), KVR_OK);
    size_t n = 3;
    for (int old = 0; old <= 2 && n == 3; old++) { /* at most hwm_frames old ones */
        assert_int_equal(take_raw(&r->b, r->got, sizeof r->got, &n), KVR_OK);
    }
    assert_int_equal(n, 20);
    fill(r->frame, 20, 2);
    assert_memory_equal(r->got, r->frame, 20);
}

static void closing_delivers_what_was_sent(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    for (size_t i = 0; i < 3; i++) assert_int_equal(put(r, &r->a, 0, i, FRAME_BYTES), KVR_OK);
    drop_side(&r->a);
    for (size_t i = 0; i < 3; i++) expect_frame(r, &r->b, i, FRAME_BYTES);
    kvr_zmq_close(NULL);
}

/* --- addresses and configuration ------------------------------------------------------------------------------- */

static void malformed_addresses_are_refused_and_change_nothing(void **state) {
    rig *const r = *state;
    static const char *const bad[] = {"",
                                      "tcp",
                                      "tcp://",
                                      "tcp://:7000",
                                      "tcp://host",
                                      "tcp://host:",
                                      "tcp://host:0",
                                      "tcp://host:65536",
                                      "tcp://host:07000",
                                      "tcp://host:123456",
                                      "tcp://host:-1",
                                      "tcp://host:+1",
                                      "tcp://host:7000 ",
                                      "tcp://host:70 00",
                                      "tcp:// host:7000",
                                      "tcp://ho st:7000",
                                      "tcp://host:7000/x",
                                      "tcp://host:7000;127.0.0.1:1",
                                      "tcp://a;b:7000",
                                      "tcp://eth0;127.0.0.1:7000",
                                      "tcp://user@host:7000",
                                      "tcp://h_st:7000",
                                      "tcp://-host:7000",
                                      "tcp://.host:7000",
                                      "tcp://*:7000",
                                      "tcp://127.0.0.1:*",
                                      "tcp://0.0.0.0:7000",
                                      "tcp://[::]:7000",
                                      "tcp://[::1:7000",
                                      "tcp://::1:7000",
                                      "tcp://[]:7000",
                                      "tcp://[::1]7000",
                                      "tcp://[::g]:7000",
                                      "tcp://[fe80::1%eth0]:7000",
                                      "tcp://127.1:7000",
                                      "tcp://127.0.0.256:7000",
                                      "tcp://1.2.3.4.5:7000",
                                      "tcp://127.0.0.1.:7000",
                                      "TCP://127.0.0.1:7000",
                                      "udp://127.0.0.1:7000",
                                      "ipc:///tmp/x",
                                      "inproc://x",
                                      "pgm://127.0.0.1:7000",
                                      "ws://127.0.0.1:7000",
                                      "tcp://127.0.0.1\n:7000",
                                      "tcp://h\303\266st:7000"};
    assert_int_equal(point(&r->a, 0, &r->b), KVR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (r->a.link.connect(r->a.link.user, 0, bad[i]) != KVR_ERR_ADDRESS) fail_msg("accepted: %s", bad[i]);
    }
    assert_int_equal(r->a.link.connect(r->a.link.user, 0, NULL), KVR_ERR_ADDRESS);
    char endless[KVR_ADDRESS_CAP]; /* no terminator within the cap */
    memset(endless, 'a', sizeof endless);
    memcpy(endless, "tcp://", 6);
    assert_int_equal(r->a.link.connect(r->a.link.user, 0, endless), KVR_ERR_ADDRESS);
    assert_int_equal(put(r, &r->a, 0, 9, 30), KVR_OK);
    expect_frame(r, &r->b, 9, 30);
}

static void good_addresses_are_taken(void **state) {
    rig *const r = *state;
    static const char *const good[] = {"tcp://127.0.0.1:1", "tcp://127.255.0.1:65535", "tcp://localhost:7000",
                                       "tcp://[::1]:7000"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_int_equal(r->a.link.connect(r->a.link.user, 0, good[i]), KVR_OK);
    }
    assert_int_equal(kvr_zmq_native(r->a.zmq), 0);
}

static void without_consent_only_loopback_is_used(void **state) {
    rig *const r = *state;
    static const char *const remote[] = {"tcp://10.0.0.2:7000", "tcp://board-2.local:7000",
                                         "tcp://127.evil.example:7000", "tcp://localhost.example:7000",
                                         "tcp://[fd00::1]:7000"};
    for (size_t i = 0; i < sizeof remote / sizeof remote[0]; i++) {
        if (r->a.link.connect(r->a.link.user, 0, remote[i]) != KVR_ERR_ADDRESS) fail_msg("accepted: %s", remote[i]);
    }
    kvr_error error = {0};
    assert_int_equal(raise_side(&r->c, "tcp://*:*", &error), KVR_ERR_ADDRESS);
    assert_non_null(strstr(error.text, "allow_plain_remote"));

    kvr_zmq_config config = base_config("tcp://*:*");
    config.allow_plain_remote = 1;
    assert_int_equal(kvr_zmq_open(r->c.mem, sizeof r->c.mem, &config, &r->c.zmq, NULL), KVR_OK);
    assert_int_equal(kvr_zmq_link(r->c.zmq, &r->c.link), KVR_OK);
    assert_memory_equal(kvr_zmq_endpoint(r->c.zmq), "tcp://0.0.0.0:", 14);
    /* The address of a wildcard inbox, for a peer on this machine. */
    char own[KVR_ADDRESS_CAP];
    assert_int_equal(kvr_zmq_own_address(kvr_zmq_endpoint(r->a.zmq), kvr_zmq_endpoint(r->c.zmq), own, sizeof own),
                     KVR_OK);
    assert_int_equal(r->a.link.connect(r->a.link.user, 0, own), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 6, 60), KVR_OK);
    expect_frame(r, &r->c, 6, 60);
}

static void an_inbox_on_ipv6_takes_both_kinds_of_peers(void **state) {
    rig *const r = *state;
    const int fd = socket(AF_INET6, SOCK_STREAM, 0);
    struct sockaddr_in6 loopback = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const int has_v6 = fd >= 0 && bind(fd, (const struct sockaddr *)&loopback, sizeof loopback) == 0;
    if (fd >= 0) close(fd);
    if (!has_v6) {
        print_message("skipped: this machine has no IPv6 loopback\n");
        skip();
    }
    kvr_zmq_config config = base_config("tcp://[::]:*");
    config.allow_plain_remote = 1;
    assert_int_equal(kvr_zmq_open(r->c.mem, sizeof r->c.mem, &config, &r->c.zmq, NULL), KVR_OK);
    assert_int_equal(kvr_zmq_link(r->c.zmq, &r->c.link), KVR_OK);
    const char *const port = strrchr(kvr_zmq_endpoint(r->c.zmq), ':') + 1;
    char address[KVR_ADDRESS_CAP];
    snprintf(address, sizeof address, "tcp://[::1]:%s", port);
    assert_int_equal(r->a.link.connect(r->a.link.user, 0, address), KVR_OK);
    assert_int_equal(put(r, &r->a, 0, 6, 60), KVR_OK);
    expect_frame(r, &r->c, 6, 60);
    snprintf(address, sizeof address, "tcp://127.0.0.1:%s", port);
    assert_int_equal(r->b.link.connect(r->b.link.user, 0, address), KVR_OK);
    assert_int_equal(put(r, &r->b, 0, 7, 70), KVR_OK);
    expect_frame(r, &r->c, 7, 70);
}

static void an_address_in_use_is_named(void **state) {
    rig *const r = *state;
    kvr_error error = {0};
    char endpoint[KVR_ADDRESS_CAP];
    snprintf(endpoint, sizeof endpoint, "%s", kvr_zmq_endpoint(r->a.zmq));
    assert_int_equal(raise_side(&r->c, endpoint, &error), KVR_ERR_ADDRESS);
    assert_null(r->c.zmq);
    assert_int_equal(error.status, KVR_ERR_ADDRESS);
    assert_int_equal(error.native, EADDRINUSE);
    assert_string_equal(error.module, "zmq");
    assert_string_equal(error.detail, endpoint);
    assert_non_null(strstr(error.text, "choose another port"));
    drop_side(&r->a); /* and it is free again afterwards */
    assert_int_equal(raise_side(&r->c, endpoint, NULL), KVR_OK);
}

static void addresses_nobody_can_listen_on_are_refused_with_a_sentence(void **state) {
    rig *const r = *state;
    static const char *const bad[] = {
        "", "tcp://127.0.0.1", "7000", "127.0.0.1:7000", "tcp://127.0.0.1:0", "ipc:///tmp/x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kvr_error error = {0};
        assert_int_equal(raise_side(&r->c, bad[i], &error), KVR_ERR_ADDRESS);
        assert_non_null(strstr(error.text, "not an address"));
        assert_string_equal(error.detail, bad[i]);
    }
    assert_int_equal(raise_side(&r->c, NULL, NULL), KVR_ERR_ADDRESS);
    kvr_zmq_config config = base_config("tcp://192.0.2.1:7000"); /* a documentation address: never ours */
    config.allow_plain_remote = 1;
    kvr_error error = {0};
    assert_int_equal(kvr_zmq_open(r->c.mem, sizeof r->c.mem, &config, &r->c.zmq, &error), KVR_ERR_ADDRESS);
    assert_non_null(strstr(error.text, "no such network address"));
    assert_null(r->c.zmq);
}

static void one_byte_less_fails_and_touches_nothing(void **state) {
    rig *const r = *state;
    const kvr_zmq_config config = base_config("tcp://127.0.0.1:*");
    const size_t need = kvr_zmq_bytes(PEERS);
    memset(r->c.mem, 0xa5, sizeof r->c.mem);
    kvr_error error = {0};
    assert_int_equal(kvr_zmq_open(r->c.mem, need - 1, &config, &r->c.zmq, &error), KVR_ERR_NOMEM);
    assert_int_equal(error.wanted, need);
    assert_int_equal(error.had, need - 1);
    for (size_t i = 0; i < sizeof r->c.mem; i++) assert_int_equal(((const uint8_t *)r->c.mem)[i], 0xa5);
    /* The exact size works and stays inside. */
    assert_int_equal(kvr_zmq_open(r->c.mem, need, &config, &r->c.zmq, NULL), KVR_OK);
    for (size_t i = need; i < sizeof r->c.mem; i++) assert_int_equal(((const uint8_t *)r->c.mem)[i], 0xa5);
}

static void fields_out_of_range_are_refused(void **state) {
    rig *const r = *state;
    kvr_zmq_config config[11];
    for (size_t i = 0; i < 11; i++) config[i] = base_config("tcp://127.0.0.1:*");
    config[0].max_peers = 0;
    config[1].max_peers = KVR_ZMQ_MAX_PEERS + 1;
    config[2].frame_bytes = 0;
    config[3].frame_bytes = UINT64_MAX;
    config[4].hwm_frames = 65;
    config[5].linger_ms = 60001;
    config[6].dead_after_ms = 600001;
    config[7].dead_after_ms = UINT32_MAX;
    config[8].struct_bytes = sizeof config[0] + 8;
    config[9].struct_bytes = 8; /* an older version without the required fields */
    config[10].dead_after_ms = 3999;
    for (size_t i = 0; i < 11; i++) {
        kvr_error error = {0};
        assert_int_equal(kvr_zmq_open(r->c.mem, sizeof r->c.mem, &config[i], &r->c.zmq, &error), KVR_ERR_ARG);
        assert_int_equal(error.status, KVR_ERR_ARG);
        assert_true(kvr_zmq_library_bytes(&config[i], 1) == UINT64_MAX);
    }
    assert_int_equal(kvr_zmq_bytes(0), 0);
    assert_int_equal(kvr_zmq_bytes(KVR_ZMQ_MAX_PEERS + 1), 0);
    assert_int_equal(kvr_zmq_link(NULL, &r->c.link), KVR_ERR_ARG);
}

static void the_estimate_of_the_library_grows_with_frames_and_peers(void **state) {
    (void)state;
    kvr_zmq_config config = base_config("tcp://127.0.0.1:*");
    const uint64_t one = kvr_zmq_library_bytes(&config, 1);
    assert_true(one > 2 * 2 * (uint64_t)FRAME_BYTES);
    assert_true(kvr_zmq_library_bytes(&config, 2) > one);
    config.frame_bytes *= 2;
    assert_true(kvr_zmq_library_bytes(&config, 1) > one);
    config.frame_bytes = INT64_MAX;
    assert_true(kvr_zmq_library_bytes(&config, 64) == UINT64_MAX);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(frames_arrive_whole_and_in_order),
        T(frames_of_several_boards_share_an_inbox_each_in_its_order),
        T(a_board_that_does_not_read_gives_again_and_loses_nothing),
        T(senders_that_go_away_while_the_inbox_is_full_do_no_harm),
        T(a_frame_longer_than_the_buffer_is_dropped_and_the_next_one_arrives),
        T(a_frame_longer_than_legal_or_empty_is_not_sent),
        T(a_multi_part_message_is_refused_whole_and_the_next_frame_arrives),
        T(a_message_longer_than_legal_never_arrives_and_other_boards_still_do),
        T(an_empty_message_arrives_as_zero_bytes),
        T(bytes_that_are_not_zeromq_disturb_nobody),
        T(a_slot_goes_where_it_was_pointed_last),
        T(a_slot_out_of_range_is_refused),
        T(frames_for_a_board_that_is_not_there_yet_wait_for_it_within_a_bound),
        T(a_restarted_board_is_found_again),
        T(closing_delivers_what_was_sent),
        T(malformed_addresses_are_refused_and_change_nothing),
        T(good_addresses_are_taken),
        T(without_consent_only_loopback_is_used),
        T(an_inbox_on_ipv6_takes_both_kinds_of_peers),
        T(an_address_in_use_is_named),
        T(addresses_nobody_can_listen_on_are_refused_with_a_sentence),
        T(one_byte_less_fails_and_touches_nothing),
        T(fields_out_of_range_are_refused),
        T(the_estimate_of_the_library_grows_with_frames_and_peers),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
