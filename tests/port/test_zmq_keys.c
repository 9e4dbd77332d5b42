/*
 * port/zmq with keys: who may connect, and what becomes of those who may not. Real sockets on loopback; nothing sleeps,
 * waiting is link.wait in bounded steps.
 */
#define _POSIX_C_SOURCE 200809L
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_zmq.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

enum { PEERS = 3, FRAME_BYTES = 4096, STEPS = 500, WAIT_US = 10000, BOARDS = 3, LISTED = 2 };

typedef struct board {
    uint64_t mem[1024];
    kvr_zmq *zmq;
    kvr_link link;
    uint8_t secret[KVR_ZMQ_KEY_BYTES];
    char endpoint[KVR_ADDRESS_CAP];
} board;

/* Boards 0 and 1 are in the list, board 2 is not. */
typedef struct rig {
    board boards[BOARDS];
    uint8_t allowed[LISTED * KVR_ZMQ_KEY_BYTES];
} rig;

static kvr_status raise_board(board *b, const uint8_t *allowed, uint32_t n_allowed, kvr_error *error) {
    const kvr_zmq_config config = {.struct_bytes = sizeof config,
                                   .max_peers = PEERS,
                                   .listen = "tcp://127.0.0.1:*",
                                   .frame_bytes = FRAME_BYTES,
                                   .secret_key = b->secret,
                                   .allowed_keys = allowed,
                                   .n_allowed = n_allowed};
    assert_true(kvr_zmq_bytes(PEERS) <= sizeof b->mem);
    const kvr_status status = kvr_zmq_open(b->mem, sizeof b->mem, &config, &b->zmq, error);
    if (status != KVR_OK) return status;
    snprintf(b->endpoint, sizeof b->endpoint, "%s", kvr_zmq_endpoint(b->zmq));
    return kvr_zmq_link(b->zmq, &b->link);
}

static int set_up(void **state) {
    static rig r;
    uint8_t public_key[KVR_ZMQ_KEY_BYTES];
    memset(&r, 0, sizeof r);
    *state = &r;
    for (uint32_t i = 0; i < BOARDS; i++) {
        if (kvr_zmq_key_make(r.boards[i].secret, public_key) != KVR_OK) return 1;
        if (i < LISTED) memcpy(r.allowed + i * KVR_ZMQ_KEY_BYTES, public_key, sizeof public_key);
    }
    for (uint32_t i = 0; i < BOARDS; i++)
        if (raise_board(&r.boards[i], r.allowed, LISTED, NULL) != KVR_OK) return 1;
    return 0;
}

static int tear_down(void **state) {
    rig *const r = *state;
    for (uint32_t i = 0; i < BOARDS; i++) kvr_zmq_close(r->boards[i].zmq);
    return 0;
}

static kvr_status point(board *from, uint32_t peer, const board *to) {
    return from->link.connect(from->link.user, peer, to->endpoint);
}

static kvr_status take(board *at, char *buf, size_t cap, size_t *out_bytes) {
    kvr_status status = KVR_AGAIN;
    for (int step = 0; step < STEPS && status == KVR_AGAIN; step++) {
        status = at->link.recv(at->link.user, buf, cap, out_bytes);
        if (status == KVR_AGAIN) at->link.wait(at->link.user, WAIT_US);
    }
    return status;
}

static kvr_zmq_stats stats_of(board *b) {
    kvr_zmq_stats s = {.struct_bytes = sizeof s};
    kvr_zmq_get_stats(b->zmq, &s);
    return s;
}

static void expect_text(board *from, uint32_t peer, board *to, const char *text) {
    char got[FRAME_BYTES];
    size_t n = 0;
    assert_int_equal(from->link.send(from->link.user, peer, text, strlen(text)), KVR_OK);
    assert_int_equal(take(to, got, sizeof got, &n), KVR_OK);
    assert_int_equal(n, strlen(text));
    assert_memory_equal(got, text, n);
}

/* Boards that know each other go on as if nothing had happened. */
static void expect_undisturbed(rig *r) {
    assert_int_equal(point(&r->boards[0], 0, &r->boards[1]), KVR_OK);
    expect_text(&r->boards[0], 0, &r->boards[1], "still here");
}

/* Waits until a counter of the board is no longer 0. */
static void wait_for(board *b, size_t counter) {
    for (int step = 0; step < STEPS; step++) {
        const kvr_zmq_stats s = stats_of(b);
        uint64_t value = 0;
        memcpy(&value, (const char *)&s + counter, sizeof value);
        if (value != 0) return;
        b->link.wait(b->link.user, WAIT_US);
    }
    fail_msg("nothing was counted");
}

static void boards_that_know_each_other_talk_both_ways(void **state) {
    rig *const r = *state;
    assert_int_equal(point(&r->boards[0], 0, &r->boards[1]), KVR_OK);
    assert_int_equal(point(&r->boards[1], 2, &r->boards[0]), KVR_OK);
    expect_text(&r->boards[0], 0, &r->boards[1], "to the helper");
    expect_text(&r->boards[1], 2, &r->boards[0], "to the lead");
    const kvr_zmq_stats s = stats_of(&r->boards[1]);
    assert_int_equal(s.unknown_keys + s.no_handshake + s.refused_frames + s.refused_us, 0);
}

static void the_endpoint_tells_the_key_and_the_own_address_keeps_it(void **state) {
    rig *const r = *state;
    char own[KVR_ADDRESS_CAP];
    const char *at = strchr(r->boards[0].endpoint, '@');
    uint8_t key[KVR_ZMQ_KEY_BYTES];
    assert_non_null(at);
    assert_int_equal(kvr_zmq_key_parse(at + 1, key), KVR_OK);
    assert_memory_equal(key, r->allowed, sizeof key);
    assert_int_equal(kvr_zmq_own_address(r->boards[1].endpoint, r->boards[0].endpoint, own, sizeof own), KVR_OK);
    assert_string_equal(own, r->boards[0].endpoint);
    char inbox[KVR_ADDRESS_CAP];
    snprintf(inbox, sizeof inbox, "tcp://0.0.0.0:7000%s", at);
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:1", inbox, own, sizeof own), KVR_OK);
    assert_memory_equal(own, "tcp://127.0.0.1:7000@", 21);
}

static void a_key_that_is_not_in_the_list_is_turned_away_and_both_know(void **state) {
    rig *const r = *state;
    board *const stranger = &r->boards[2];
    assert_int_equal(point(stranger, 0, &r->boards[1]), KVR_OK);
    assert_int_equal(stranger->link.send(stranger->link.user, 0, "let me in", 9), KVR_OK);
    wait_for(&r->boards[1], offsetof(kvr_zmq_stats, unknown_keys));
    assert_string_equal(stats_of(&r->boards[1]).last_unknown, "127.0.0.1");
    wait_for(stranger, offsetof(kvr_zmq_stats, refused_us));
    char got[FRAME_BYTES];
    size_t n = 0;
    assert_int_equal(r->boards[1].link.recv(r->boards[1].link.user, got, sizeof got, &n), KVR_AGAIN);
    expect_undisturbed(r);
}

/* Somebody added its key and started the board again; the stranger only connects once more. */
static void a_board_that_was_turned_away_gets_in_once_it_is_in_the_list(void **state) {
    rig *const r = *state;
    board *const late = &r->boards[2];
    uint8_t all[BOARDS * KVR_ZMQ_KEY_BYTES];
    assert_int_equal(point(late, 0, &r->boards[1]), KVR_OK);
    wait_for(&r->boards[1], offsetof(kvr_zmq_stats, unknown_keys));
    wait_for(late, offsetof(kvr_zmq_stats, refused_us));
    memcpy(all, r->allowed, sizeof r->allowed);
    assert_int_equal(kvr_zmq_key_public(late->secret, all + sizeof r->allowed), KVR_OK);
    char listen[KVR_ADDRESS_CAP];
    snprintf(listen, sizeof listen, "%s", r->boards[1].endpoint);
    *strchr(listen, '@') = 0;
    kvr_zmq_close(r->boards[1].zmq);
    const kvr_zmq_config config = {.struct_bytes = sizeof config,
                                   .max_peers = PEERS,
                                   .listen = listen,
                                   .frame_bytes = FRAME_BYTES,
                                   .secret_key = r->boards[1].secret,
                                   .allowed_keys = all,
                                   .n_allowed = BOARDS};
    assert_int_equal(kvr_zmq_open(r->boards[1].mem, sizeof r->boards[1].mem, &config, &r->boards[1].zmq, NULL), KVR_OK);
    assert_int_equal(kvr_zmq_link(r->boards[1].zmq, &r->boards[1].link), KVR_OK);
    assert_int_equal(point(late, 0, &r->boards[1]), KVR_OK);
    expect_text(late, 0, &r->boards[1], "now I am known");
}

static kvr_status raise_plain(board *b, const char *listen) {
    const kvr_zmq_config config = {
        .struct_bytes = sizeof config, .max_peers = PEERS, .listen = listen, .frame_bytes = FRAME_BYTES};
    const kvr_status status = kvr_zmq_open(b->mem, sizeof b->mem, &config, &b->zmq, NULL);
    return status == KVR_OK ? kvr_zmq_link(b->zmq, &b->link) : status;
}

/* libzmq gives a connection up for good when one end wants keys and the other has none. */
static void a_board_that_first_ran_with_a_key_is_found_once_it_has_none(void **state) {
    rig *const r = *state;
    board *const lead = &r->boards[0], *const helper = &r->boards[1];
    char place[KVR_ADDRESS_CAP], got[FRAME_BYTES];
    size_t n = 0;
    snprintf(place, sizeof place, "%s", helper->endpoint);
    *strchr(place, '@') = 0;
    kvr_zmq_close(lead->zmq);
    assert_int_equal(raise_plain(lead, "tcp://127.0.0.1:*"), KVR_OK);
    assert_int_equal(lead->link.connect(lead->link.user, 0, place), KVR_OK);
    wait_for(helper, offsetof(kvr_zmq_stats, no_handshake));
    kvr_zmq_close(helper->zmq);
    assert_int_equal(raise_plain(helper, place), KVR_OK);
    kvr_status status = KVR_AGAIN;
    for (int step = 0; step < STEPS && status == KVR_AGAIN; step++) { /* as a lead does with every question */
        assert_int_equal(lead->link.connect(lead->link.user, 0, place), KVR_OK);
        assert_true(lead->link.send(lead->link.user, 0, "hello", 5) >= 0);
        helper->link.wait(helper->link.user, WAIT_US);
        status = helper->link.recv(helper->link.user, got, sizeof got, &n);
    }
    assert_int_equal(status, KVR_OK);
    assert_true(n == 5 && stats_of(lead).refused_us == 0); /* that would be a sentence about keys */
}

/* A stranger that sends as soon as it can, over raw sockets. key: what it takes for the board's public key, or NULL. */
static void knock(const board *at, const uint8_t *server_key, const uint8_t *secret) {
    char plain[KVR_ADDRESS_CAP];
    const int no_linger = 0;
    void *const context = zmq_ctx_new();
    void *const push = zmq_socket(context, ZMQ_PUSH);
    snprintf(plain, sizeof plain, "%s", at->endpoint);
    *strchr(plain, '@') = 0;
    zmq_setsockopt(push, ZMQ_LINGER, &no_linger, sizeof no_linger);
    if (server_key != NULL) {
        uint8_t public_key[KVR_ZMQ_KEY_BYTES];
        assert_int_equal(kvr_zmq_key_public(secret, public_key), KVR_OK);
        assert_int_equal(zmq_setsockopt(push, ZMQ_CURVE_SECRETKEY, secret, KVR_ZMQ_KEY_BYTES), 0);
        assert_int_equal(zmq_setsockopt(push, ZMQ_CURVE_PUBLICKEY, public_key, KVR_ZMQ_KEY_BYTES), 0);
        assert_int_equal(zmq_setsockopt(push, ZMQ_CURVE_SERVERKEY, server_key, KVR_ZMQ_KEY_BYTES), 0);
    }
    assert_int_equal(zmq_connect(push, plain), 0);
    zmq_send(push, "junk", 4, ZMQ_DONTWAIT);
    board *const b = (board *)(uintptr_t)at;
    wait_for(b, offsetof(kvr_zmq_stats, no_handshake));
    char got[FRAME_BYTES];
    size_t n = 0;
    assert_int_equal(b->link.recv(b->link.user, got, sizeof got, &n), KVR_AGAIN);
    zmq_close(push);
    zmq_ctx_term(context);
}

static void a_stranger_without_a_key_is_turned_away(void **state) {
    rig *const r = *state;
    knock(&r->boards[1], NULL, NULL);
    expect_undisturbed(r);
}

static void who_takes_the_board_for_another_is_turned_away(void **state) {
    rig *const r = *state;
    knock(&r->boards[1], r->allowed /* board 0's */, r->boards[0].secret);
    expect_undisturbed(r);
}

/* An impostor listens at a board's address with a key of its own. */
static void a_board_with_another_key_than_expected_gets_no_frame(void **state) {
    rig *const r = *state;
    char address[KVR_ADDRESS_CAP], got[FRAME_BYTES];
    size_t n = 0;
    snprintf(address, sizeof address, "%s", r->boards[2].endpoint);
    kvr_zmq_key_format(r->allowed + KVR_ZMQ_KEY_BYTES, strchr(address, '@') + 1); /* board 1 is expected there */
    assert_int_equal(r->boards[0].link.connect(r->boards[0].link.user, 0, address), KVR_OK);
    assert_int_equal(r->boards[0].link.send(r->boards[0].link.user, 0, "a secret", 8), KVR_OK);
    wait_for(&r->boards[2], offsetof(kvr_zmq_stats, no_handshake));
    assert_int_equal(r->boards[2].link.recv(r->boards[2].link.user, got, sizeof got, &n), KVR_AGAIN);
}

static void bytes_that_are_not_zeromq_are_counted(void **state) {
    rig *const r = *state;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)strtoul(strrchr(r->boards[1].endpoint, ':') + 1, NULL, 10));
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    static const char junk[] = "GET / HTTP/1.1\r\nHost: board\r\n\r\n\377\377\377\377\377\377\377\377\377\177\003";
    assert_true(send(fd, junk, sizeof junk, MSG_NOSIGNAL) > 0);
    close(fd);
    wait_for(&r->boards[1], offsetof(kvr_zmq_stats, no_handshake));
    expect_undisturbed(r);
}

/* More events than libzmq queues for us, unread: closing must not wait for ever for its I/O thread. */
static void closing_under_a_flood_of_strangers_ends(void **state) {
    rig *const r = *state;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    to.sin_port = htons((uint16_t)strtoul(strrchr(r->boards[1].endpoint, ':') + 1, NULL, 10));
    for (int i = 0; i < 3000; i++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0); /* the kernel's queue of newcomers fills up, too */
        if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0) send(fd, "x", 1, MSG_NOSIGNAL);
        close(fd);
    }
    kvr_zmq_close(r->boards[1].zmq);
    r->boards[1].zmq = NULL;
}

static void addresses_and_keys_must_fit(void **state) {
    rig *const r = *state;
    const kvr_link *link = &r->boards[0].link;
    char address[KVR_ADDRESS_CAP];
    snprintf(address, sizeof address, "%s", r->boards[1].endpoint);
    assert_int_equal(link->connect(link->user, 0, r->boards[2].endpoint), KVR_ERR_ADDRESS); /* a key not in the list */
    address[strlen(address) - 1] = 0;
    assert_int_equal(link->connect(link->user, 0, address), KVR_ERR_ADDRESS); /* a digit short */
    *strchr(address, '@') = 0;
    assert_int_equal(link->connect(link->user, 0, address), KVR_ERR_ADDRESS); /* none */
    snprintf(address, sizeof address, "%s", r->boards[1].endpoint);
    strchr(address, '@')[1] = 'G';
    assert_int_equal(link->connect(link->user, 0, address), KVR_ERR_ADDRESS);
    snprintf(address, sizeof address, "%s", r->boards[1].endpoint);
    assert_int_equal(link->connect(link->user, 0, address), KVR_OK);

    uint64_t mem[1024];
    kvr_zmq *plain = NULL;
    kvr_link plain_link;
    kvr_zmq_config config = {
        .struct_bytes = sizeof config, .max_peers = 1, .listen = "tcp://127.0.0.1:*", .frame_bytes = 64};
    assert_int_equal(kvr_zmq_open(mem, sizeof mem, &config, &plain, NULL), KVR_OK);
    assert_int_equal(kvr_zmq_link(plain, &plain_link), KVR_OK);
    /* it has no key */
    assert_int_equal(plain_link.connect(plain_link.user, 0, r->boards[1].endpoint), KVR_ERR_ADDRESS);
    kvr_zmq_close(plain);
    config.allowed_keys = r->allowed; /* a list without a key of one's own, and the other way round */
    config.n_allowed = LISTED;
    assert_int_equal(kvr_zmq_open(mem, sizeof mem, &config, &plain, NULL), KVR_ERR_ARG);
    config.secret_key = r->boards[0].secret;
    config.allowed_keys = NULL;
    assert_int_equal(kvr_zmq_open(mem, sizeof mem, &config, &plain, NULL), KVR_ERR_ARG);
}

static void with_a_key_addresses_beyond_loopback_need_no_consent(void **state) {
    rig *const r = *state;
    uint64_t mem[1024];
    kvr_zmq *open_to_all = NULL;
    const kvr_zmq_config config = {.struct_bytes = sizeof config,
                                   .max_peers = 1,
                                   .listen = "tcp://*:*",
                                   .frame_bytes = 64,
                                   .secret_key = r->boards[0].secret};
    assert_int_equal(kvr_zmq_open(mem, sizeof mem, &config, &open_to_all, NULL), KVR_OK);
    kvr_zmq_close(open_to_all);
    /* and no secret is left in the memory that was given */
    for (size_t i = 0; i + KVR_ZMQ_KEY_BYTES <= sizeof mem; i++)
        if (memcmp((const char *)mem + i, r->boards[0].secret, KVR_ZMQ_KEY_BYTES) == 0)
            fail_msg("the key is still there");
}

static void without_a_list_the_holders_of_one_key_talk(void **state) {
    rig *const r = *state;
    uint8_t *const shared = r->boards[0].secret;
    for (int i = 0; i < 2; i++) {
        kvr_zmq_close(r->boards[i].zmq);
        memmove(r->boards[i].secret, shared, KVR_ZMQ_KEY_BYTES);
        assert_int_equal(raise_board(&r->boards[i], NULL, 0, NULL), KVR_OK);
    }
    assert_int_equal(point(&r->boards[0], 0, &r->boards[1]), KVR_OK);
    expect_text(&r->boards[0], 0, &r->boards[1], "one key");
    knock(&r->boards[1], NULL, NULL);
}

static void keys_have_one_text(void **state) {
    rig *const r = *state;
    char text[KVR_ZMQ_KEY_TEXT];
    uint8_t back[KVR_ZMQ_KEY_BYTES];
    kvr_zmq_key_format(r->allowed, text);
    assert_int_equal(strlen(text), 64);
    assert_int_equal(kvr_zmq_key_parse(text, back), KVR_OK);
    assert_memory_equal(back, r->allowed, sizeof back);
    for (size_t i = 0; i < 64; i++) {
        const char was = text[i];
        text[i] = i % 2 == 0 ? 'A' : 0;
        assert_int_equal(kvr_zmq_key_parse(text, back), KVR_ERR_ARG);
        text[i] = was;
    }
    assert_int_equal(kvr_zmq_key_parse("", back), KVR_ERR_ARG);
}

int main(void) {
    if (!zmq_has("curve")) {
        print_message("skipped: this libzmq was built without CURVE\n");
        return 77;
    }
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(boards_that_know_each_other_talk_both_ways),
        T(the_endpoint_tells_the_key_and_the_own_address_keeps_it),
        T(a_key_that_is_not_in_the_list_is_turned_away_and_both_know),
        T(a_board_that_was_turned_away_gets_in_once_it_is_in_the_list),
        T(a_board_that_first_ran_with_a_key_is_found_once_it_has_none),
        T(a_stranger_without_a_key_is_turned_away),
        T(who_takes_the_board_for_another_is_turned_away),
        T(a_board_with_another_key_than_expected_gets_no_frame),
        T(bytes_that_are_not_zeromq_are_counted),
        T(closing_under_a_flood_of_strangers_ends),
        T(addresses_and_keys_must_fit),
        T(with_a_key_addresses_beyond_loopback_need_no_consent),
        T(without_a_list_the_holders_of_one_key_talk),
        T(keys_have_one_text),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
