/* The in-memory link. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_loop.h"

#include <stdlib.h>
#include <string.h>

enum { BOARDS = 3, CAP_FRAMES = 2, FRAME_BYTES = 100, GUARD = 64 };

typedef struct rig {
    uint8_t *raw;
    uint8_t *mem; /* 64-byte aligned, GUARD bytes of 0xa5 behind it */
    size_t bytes;
    kvr_loop *loop;
    kvr_link links[BOARDS];
} rig;

static int set_up(void **state) {
    static rig r;
    r.bytes = kvr_loop_bytes(BOARDS, CAP_FRAMES, FRAME_BYTES);
    r.raw = malloc(r.bytes + GUARD + 64);
    if (r.raw == NULL) return -1;
    r.mem = (uint8_t *)(((uintptr_t)r.raw + 63) & ~(uintptr_t)63);
    memset(r.mem, 0xa5, r.bytes + GUARD);
    if (kvr_loop_open(r.mem, r.bytes, BOARDS, CAP_FRAMES, FRAME_BYTES, &r.loop) != KVR_OK) return -1;
    for (uint32_t i = 0; i < BOARDS; i++) {
        if (kvr_loop_link(r.loop, i, &r.links[i]) != KVR_OK) return -1;
    }
    *state = &r;
    return 0;
}

static int tear_down(void **state) {
    rig *const r = *state;
    for (size_t i = 0; i < GUARD; i++) {
        if (r->mem[r->bytes + i] != 0xa5) return -1; /* written beyond the planned bytes */
    }
    free(r->raw);
    return 0;
}

static kvr_status point(rig *r, uint32_t from, uint32_t peer, const char *address) {
    return r->links[from].connect(r->links[from].user, peer, address);
}

/* A frame of `bytes` bytes, all equal to mark. */
static kvr_status put(rig *r, uint32_t from, uint32_t peer, int mark, size_t bytes) {
    uint8_t frame[FRAME_BYTES + 1];
    memset(frame, mark, sizeof frame);
    return r->links[from].send(r->links[from].user, peer, frame, bytes);
}

static void expect_frame(rig *r, uint32_t at, int mark, size_t bytes) {
    uint8_t buf[FRAME_BYTES];
    size_t n = 0;
    assert_int_equal(r->links[at].recv(r->links[at].user, buf, sizeof buf, &n), KVR_OK);
    assert_int_equal(n, bytes);
    for (size_t i = 0; i < n; i++) assert_int_equal(buf[i], mark);
}

static void expect_nothing(rig *r, uint32_t at) {
    uint8_t buf[FRAME_BYTES];
    size_t n = 7;
    assert_int_equal(r->links[at].recv(r->links[at].user, buf, sizeof buf, &n), KVR_AGAIN);
    assert_int_equal(n, 7);
}

static void frames_arrive_whole_and_in_order(void **state) {
    rig *const r = *state;
    assert_int_equal(point(r, 0, 5, "loop:1"), KVR_OK);
    for (int round = 0; round < 7; round++) { /* odd against the ring of 2: every position wraps */
        assert_int_equal(put(r, 0, 5, 2 * round, FRAME_BYTES), KVR_OK);
        if (round > 0) expect_frame(r, 1, 2 * round - 1, (size_t)round);
        expect_frame(r, 1, 2 * round, FRAME_BYTES);
        assert_int_equal(put(r, 0, 5, 2 * round + 1, (size_t)round + 1), KVR_OK);
    }
    expect_frame(r, 1, 13, 7);
    expect_nothing(r, 0);
    expect_nothing(r, 1);
    expect_nothing(r, 2);
}

static void a_full_inbox_says_again_and_keeps_what_it_has(void **state) {
    rig *const r = *state;
    assert_int_equal(point(r, 0, 0, "loop:2"), KVR_OK);
    assert_int_equal(point(r, 1, 0, "loop:2"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 1, 10), KVR_OK);
    assert_int_equal(put(r, 1, 0, 2, 11), KVR_OK);
    assert_int_equal(put(r, 0, 0, 3, 12), KVR_AGAIN);
    assert_int_equal(put(r, 1, 0, 4, 12), KVR_AGAIN);
    expect_frame(r, 2, 1, 10);
    assert_int_equal(put(r, 0, 0, 3, 12), KVR_OK);
    expect_frame(r, 2, 2, 11);
    expect_frame(r, 2, 3, 12);
    expect_nothing(r, 2);
}

static void a_frame_longer_than_the_buffer_is_dropped_and_the_next_one_arrives(void **state) {
    rig *const r = *state;
    assert_int_equal(point(r, 0, 0, "loop:1"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 1, 50), KVR_OK);
    assert_int_equal(put(r, 0, 0, 2, 49), KVR_OK);
    uint8_t buf[49];
    size_t n = 0;
    assert_int_equal(r->links[1].recv(r->links[1].user, buf, sizeof buf, &n), KVR_ERR_FRAME);
    assert_int_equal(r->links[1].recv(r->links[1].user, buf, sizeof buf, &n), KVR_OK);
    assert_int_equal(n, 49);
    assert_int_equal(buf[48], 2);
}

static void a_frame_longer_than_planned_or_empty_is_refused(void **state) {
    rig *const r = *state;
    assert_int_equal(point(r, 0, 0, "loop:1"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 1, FRAME_BYTES + 1), KVR_ERR_ARG);
    assert_int_equal(put(r, 0, 0, 1, 0), KVR_ERR_ARG);
    expect_nothing(r, 1);
}

static void bad_addresses_are_refused_and_change_nothing(void **state) {
    rig *const r = *state;
    static const char *const bad[] = {"",        "loop",    "loop:",   "loop:3",    "loop:-1",
                                      "loop:+1", "loop: 1", "loop:1 ", "loop:01",   "loop:1x",
                                      "Loop:1",  "loop:a",  "xloop:1", "tcp://x:1", "loop:18446744073709551617"};
    assert_int_equal(point(r, 0, 0, "loop:1"), KVR_OK);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(point(r, 0, 0, bad[i]), KVR_ERR_ADDRESS);
    }
    assert_int_equal(point(r, 0, 0, NULL), KVR_ERR_ADDRESS);
    assert_int_equal(put(r, 0, 0, 9, 1), KVR_OK);
    expect_frame(r, 1, 9, 1);
}

static void a_slot_goes_where_it_was_pointed_last(void **state) {
    rig *const r = *state;
    assert_int_equal(put(r, 0, 0, 1, 1), KVR_ERR_STATE);
    assert_int_equal(point(r, 0, 0, "loop:1"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 1, 1), KVR_OK);
    assert_int_equal(point(r, 0, 0, "loop:1"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 2, 1), KVR_OK);
    assert_int_equal(point(r, 0, 0, "loop:2"), KVR_OK);
    assert_int_equal(put(r, 0, 0, 3, 1), KVR_OK);
    expect_frame(r, 1, 1, 1);
    expect_frame(r, 1, 2, 1);
    expect_nothing(r, 1);
    expect_frame(r, 2, 3, 1);
}

static void a_slot_or_board_out_of_range_is_refused(void **state) {
    rig *const r = *state;
    kvr_link link;
    assert_int_equal(point(r, 0, 63, "loop:1"), KVR_OK);
    assert_int_equal(point(r, 0, 64, "loop:1"), KVR_ERR_ARG);
    assert_int_equal(put(r, 0, 64, 1, 1), KVR_ERR_ARG);
    assert_int_equal(put(r, 0, UINT32_MAX, 1, 1), KVR_ERR_ARG);
    assert_int_equal(kvr_loop_link(r->loop, BOARDS, &link), KVR_ERR_ARG);
    assert_int_equal(kvr_loop_link(NULL, 0, &link), KVR_ERR_ARG);
    size_t n = 0;
    assert_int_equal(r->links[0].recv(r->links[0].user, NULL, 1, &n), KVR_ERR_ARG);
}

static void one_byte_less_fails_and_touches_nothing(void **state) {
    rig *const r = *state;
    kvr_loop *loop = NULL;
    memset(r->mem, 0x5a, r->bytes);
    assert_int_equal(kvr_loop_open(r->mem, r->bytes - 1, BOARDS, CAP_FRAMES, FRAME_BYTES, &loop), KVR_ERR_NOMEM);
    assert_null(loop);
    for (size_t i = 0; i < r->bytes; i++) assert_int_equal(r->mem[i], 0x5a);
    assert_int_equal(kvr_loop_open(r->mem + 8, r->bytes, BOARDS, CAP_FRAMES, FRAME_BYTES, &loop), KVR_ERR_ARG);
    assert_int_equal(kvr_loop_open(NULL, r->bytes, BOARDS, CAP_FRAMES, FRAME_BYTES, &loop), KVR_ERR_ARG);
}

static void sizes_that_do_not_fit_measure_zero(void **state) {
    (void)state;
    assert_int_equal(kvr_loop_bytes(0, 1, 1), 0);
    assert_int_equal(kvr_loop_bytes(1, 0, 1), 0);
    assert_int_equal(kvr_loop_bytes(1, 1, 0), 0);
    assert_int_equal(kvr_loop_bytes(1, 1, SIZE_MAX), 0);
    assert_int_equal(kvr_loop_bytes(1000, UINT32_MAX, SIZE_MAX / 2), 0);
    assert_true(kvr_loop_bytes(1, 1, 1) > 0);
}

int main(void) {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(frames_arrive_whole_and_in_order),
        T(a_full_inbox_says_again_and_keeps_what_it_has),
        T(a_frame_longer_than_the_buffer_is_dropped_and_the_next_one_arrives),
        T(a_frame_longer_than_planned_or_empty_is_refused),
        T(bad_addresses_are_refused_and_change_nothing),
        T(a_slot_goes_where_it_was_pointed_last),
        T(a_slot_or_board_out_of_range_is_refused),
        T(one_byte_less_fails_and_touches_nothing),
        T(sizes_that_do_not_fit_measure_zero),
    };
#undef T
    return cmocka_run_group_tests(tests, NULL, NULL);
}
