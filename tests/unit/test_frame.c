/* The wire: what is sealed opens again, and nothing else does. */
#include "fenced.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr_frame.h"

#include <string.h>

enum { PAYLOAD = 52, FRAME = (int)KVRI_FRAME_HEADER + PAYLOAD };

static uint64_t next_random(uint64_t *x) {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static kvri_frame some_frame(uint64_t seed, uint8_t bytes[FRAME]) {
    kvri_frame f;
    memset(&f, 0, sizeof f);
    for (uint32_t i = 0; i < 8; i++) next_random(&seed);
    f.kind = KVRI_FRAME_KV;
    f.session = next_random(&seed);
    f.epoch = (uint32_t)next_random(&seed);
    f.rank = (uint32_t)next_random(&seed) % 64;
    f.layer = (uint32_t)next_random(&seed) % 1024;
    f.first = (uint32_t)next_random(&seed) % 4096;
    f.count = (uint32_t)next_random(&seed) % 128 + 1;
    f.dtype = 1;
    f.payload_bytes = PAYLOAD;
    for (uint32_t i = 0; i < PAYLOAD; i++) bytes[KVRI_FRAME_HEADER + i] = (uint8_t)next_random(&seed);
    kvri_frame_seal(&f, bytes);
    return f;
}

static void a_sealed_frame_opens_with_the_same_fields(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        uint8_t bytes[FRAME];
        const kvri_frame in = some_frame(seed, bytes);
        kvri_frame out;
        assert_int_equal(kvri_frame_open(bytes, FRAME, &out), KVR_OK);
        assert_int_equal(out.version, KVRI_WIRE_VERSION);
        assert_int_equal(out.kind, in.kind);
        assert_int_equal(out.session, in.session);
        assert_int_equal(out.epoch, in.epoch);
        assert_int_equal(out.rank, in.rank);
        assert_int_equal(out.layer, in.layer);
        assert_int_equal(out.first, in.first);
        assert_int_equal(out.count, in.count);
        assert_int_equal(out.dtype, in.dtype);
        assert_int_equal(out.payload_bytes, PAYLOAD);
        assert_int_equal(out.payload_check, in.payload_check);
    }
}

static void the_header_lies_as_documented_whatever_the_machine(void **state) {
    (void)state;
    uint8_t bytes[KVRI_FRAME_HEADER];
    kvri_frame f = {0};
    f.kind = KVRI_FRAME_GO;
    f.session = 0x1122334455667788u;
    f.epoch = 0x01020304;
    f.rank = 5;
    kvri_frame_seal(&f, bytes);
    static const uint8_t start[24] = {'K',  'V',  'R',  'F',  5, 0, 3, 0, 0x88, 0x77, 0x66, 0x55,
                                      0x44, 0x33, 0x22, 0x11, 4, 3, 2, 1, 5,    0,    0,    0};
    assert_memory_equal(bytes, start, sizeof start);
}

static void every_shorter_or_longer_frame_is_refused(void **state) {
    (void)state;
    uint8_t bytes[FRAME + 8] = {0};
    kvri_frame out;
    some_frame(3, bytes);
    for (size_t n = 0; n < FRAME; n++) {
        fenced f = fenced_copy(bytes, n); /* reading past the end crashes */
        assert_int_equal(kvri_frame_open(f.at, n, &out), KVR_ERR_FRAME);
        fenced_free(&f);
    }
    for (size_t n = FRAME + 1; n <= FRAME + 8; n++) assert_int_equal(kvri_frame_open(bytes, n, &out), KVR_ERR_FRAME);
}

static void every_flipped_bit_is_refused(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint8_t bytes[FRAME];
        kvri_frame out;
        some_frame(seed, bytes);
        for (uint32_t bit = 0; bit < 8 * FRAME; bit++) {
            const int version = bit / 8 == 4 || bit / 8 == 5;
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            assert_int_equal(kvri_frame_open(bytes, FRAME, &out), version ? KVR_ERR_PEER_WIRE : KVR_ERR_FRAME);
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

static void exchanged_words_are_refused(void **state) {
    (void)state;
    uint8_t bytes[FRAME], swapped[FRAME];
    kvri_frame out;
    some_frame(9, bytes);
    for (uint32_t a = 0; a < FRAME / 4; a++)
        for (uint32_t b = a + 1; b < FRAME / 4; b++) {
            memcpy(swapped, bytes, FRAME);
            memcpy(swapped + 4 * a, bytes + 4 * b, 4);
            memcpy(swapped + 4 * b, bytes + 4 * a, 4);
            if (memcmp(swapped, bytes, FRAME) != 0) assert_true(kvri_frame_open(swapped, FRAME, &out) < 0);
        }
}

static void a_frame_of_another_version_is_refused(void **state) {
    (void)state;
    uint8_t bytes[FRAME];
    kvri_frame out;
    some_frame(1, bytes);
    for (uint32_t version = 0; version < 400; version++) {
        if (version == KVRI_WIRE_VERSION) continue;
        bytes[4] = (uint8_t)version;
        bytes[5] = (uint8_t)(version >> 8);
        assert_int_equal(kvri_frame_open(bytes, FRAME, &out), KVR_ERR_PEER_WIRE);
        assert_int_equal(out.version, version);
        assert_int_equal(out.kind, KVRI_FRAME_KV);
        assert_int_equal(kvri_frame_open(bytes, 8, &out), KVR_ERR_PEER_WIRE); /* its header may be of another length */
    }
}

static void a_relay_restamps_the_header_and_leaves_the_payload(void **state) {
    (void)state;
    uint8_t bytes[FRAME], payload[PAYLOAD];
    kvri_frame f, out;
    some_frame(5, bytes);
    memcpy(payload, bytes + KVRI_FRAME_HEADER, PAYLOAD);
    assert_int_equal(kvri_frame_open(bytes, FRAME, &f), KVR_OK);
    f.rank++;
    kvri_frame_restamp(&f, bytes);
    assert_int_equal(kvri_frame_open(bytes, FRAME, &out), KVR_OK);
    assert_int_equal(out.rank, f.rank);
    assert_memory_equal(bytes + KVRI_FRAME_HEADER, payload, PAYLOAD);
}

static void runs_of_zeros_of_different_length_check_differently(void **state) {
    (void)state;
    static const uint8_t zeros[40] = {0};
    for (uint32_t n = 0; n < 40; n += 4) /* keys and values come in whole words */
        for (uint32_t m = n + 4; m <= 40; m += 4) assert_true(kvri_frame_check(zeros, n) != kvri_frame_check(zeros, m));
}

/* --- payloads ------------------------------------------------------------------------------------------------ */

static void a_hello_is_read_as_written(void **state) {
    (void)state;
    uint8_t payload[KVRI_HELLO_BYTES];
    kvri_hello in, out;
    memset(&in, 0, sizeof in);
    in.fingerprint = 0xfedcba9876543210u;
    in.kv_dtype = 1;
    in.wire_kv = 8;
    in.kv_window = 3;
    in.frame_tokens = 128;
    in.ctx_tokens = 4096;
    in.chunk_tokens = 512;
    in.max_boards = 7;
    strcpy(in.address, "tcp://10.0.0.2:7000");
    assert_int_equal(kvri_hello_put(&in, payload), KVRI_HELLO_BYTES);
    assert_int_equal(kvri_hello_get(payload, KVRI_HELLO_BYTES, &out), KVR_OK);
    assert_int_equal(out.fingerprint, in.fingerprint);
    assert_int_equal(out.kv_dtype, in.kv_dtype);
    assert_int_equal(out.wire_kv, in.wire_kv);
    assert_int_equal(out.kv_window, in.kv_window);
    assert_int_equal(out.frame_tokens, in.frame_tokens);
    assert_int_equal(out.ctx_tokens, in.ctx_tokens);
    assert_int_equal(out.chunk_tokens, in.chunk_tokens);
    assert_int_equal(out.max_boards, in.max_boards);
    assert_string_equal(out.address, in.address);
}

static void a_speed_travels_with_a_hello_unless_it_is_nonsense(void **state) {
    (void)state;
    uint8_t payload[KVRI_HELLO_MOST];
    uint64_t seed = 3;
    kvri_hello in, out;
    memset(&in, 0, sizeof in);
    const kvri_speed speed = {1, 16, 150.5f, 60.25f, 6.5f, 0.5f, 36, 3.75f, 900};
    in.speed = speed;
    assert_int_equal(kvri_hello_put(&in, payload), KVRI_HELLO_MOST);
    assert_int_equal(kvri_hello_get(payload, KVRI_HELLO_MOST, &out), KVR_OK);
    assert_true(kvri_speed_equal(&in.speed, &out.speed));
    assert_int_equal(kvri_hello_get(payload, KVRI_HELLO_BYTES, &out), KVR_OK);
    assert_false(out.speed.known);
    for (uint32_t round = 0; round < 20000; round++) { /* whatever comes, what is taken is in range */
        uint8_t bytes[KVRI_HELLO_MOST];
        memcpy(bytes, payload, sizeof bytes);
        const uint32_t changes = (uint32_t)(next_random(&seed) % 8) + 1;
        for (uint32_t i = 0; i < changes; i++)
            bytes[KVRI_HELLO_BYTES + next_random(&seed) % KVRI_SPEED_BYTES] = (uint8_t)next_random(&seed);
        assert_int_equal(kvri_hello_get(bytes, KVRI_HELLO_MOST, &out), KVR_OK);
        if (!out.speed.known) continue;
        const kvr_board_profile p = kvri_speed_profile(&out.speed, 1);
        assert_true(kvr_board_profile_valid(&p));
    }
    /* NaN, inf, -1 */
    static const uint8_t not_numbers[3][4] = {{0, 0, 0xc0, 0x7f}, {0, 0, 0x80, 0x7f}, {0, 0, 0x80, 0xbf}};
    for (uint32_t field = 1; field < 8; field++)
        for (uint32_t i = 0; i < 3; i++) {
            uint8_t bytes[KVRI_HELLO_MOST];
            memcpy(bytes, payload, sizeof bytes);
            memcpy(bytes + KVRI_HELLO_BYTES + 4 * field, not_numbers[i], 4);
            assert_int_equal(kvri_hello_get(bytes, KVRI_HELLO_MOST, &out), KVR_OK);
            assert_false(out.speed.known);
        }
}

static void a_probe_is_read_as_written(void **state) {
    (void)state;
    uint8_t payload[KVRI_PROBE_BYTES];
    const kvri_probe in = {32768};
    kvri_probe out;
    assert_int_equal(kvri_probe_put(&in, payload), KVRI_PROBE_BYTES);
    assert_int_equal(kvri_probe_get(payload, KVRI_PROBE_BYTES, &out), KVR_OK);
    assert_int_equal(out.answer_bytes, 32768);
    assert_int_equal(kvri_probe_get(payload, KVRI_PROBE_BYTES - 1, &out), KVR_ERR_FRAME);
}

static void a_report_is_read_as_written_but_printable(void **state) {
    (void)state;
    uint8_t payload[KVRI_REPORT_BYTES];
    kvri_report in, out;
    memset(&in, 0, sizeof in);
    in.stage = KVRI_STAGE_FAILED;
    in.status = KVR_ERR_DEVICE;
    in.progress = 99;
    in.echo_us = 0x123456789abcull;
    in.compute_us = 123456789012u;
    in.heard_us = 77;
    strcpy(in.text, "a\nb\x1b[2J\xff");
    assert_int_equal(kvri_report_put(&in, payload), KVRI_REPORT_BYTES);
    assert_int_equal(kvri_report_get(payload, KVRI_REPORT_BYTES, &out), KVR_OK);
    assert_int_equal(out.stage, KVRI_STAGE_FAILED);
    assert_int_equal(out.status, KVR_ERR_DEVICE);
    assert_int_equal(out.progress, 99);
    assert_int_equal(out.echo_us, in.echo_us);
    assert_int_equal(out.heard_us, 77);
    assert_int_equal(out.compute_us, 123456789012u);
    assert_string_equal(out.text, "a?b?[2J?");
}

static void a_text_without_an_end_is_refused(void **state) {
    (void)state;
    uint8_t hello[KVRI_HELLO_BYTES], report[KVRI_REPORT_BYTES], job[KVRI_JOB_FIXED + 12];
    kvri_hello h = {0};
    kvri_report r = {0};
    kvri_job j;
    static const uint32_t cuts[3] = {0, 1, 2};
    kvri_hello_put(&h, hello);
    kvri_report_put(&r, report);
    kvri_job_put(0, 2, 0, 0, "loop:1", cuts, NULL, 0, job);
    memset(hello + 8 + 4 * KVRI_HELLO_WORDS, 'x', KVR_ADDRESS_CAP);
    memset(report + 12, 'x', KVRI_REPORT_TEXT);
    memset(job + 16, 'x', KVR_ADDRESS_CAP);
    assert_int_equal(kvri_hello_get(hello, sizeof hello, &h), KVR_ERR_FRAME);
    assert_int_equal(kvri_report_get(report, sizeof report, &r), KVR_ERR_FRAME);
    assert_int_equal(kvri_job_get(job, sizeof job, &j), KVR_ERR_FRAME);
}

static void a_job_is_read_as_written(void **state) {
    (void)state;
    static const uint32_t cuts[4] = {0, 3, 5, 9};
    static const int32_t ids[2] = {70000, 12};
    uint8_t payload[KVRI_JOB_FIXED + 16 + 8];
    kvri_job job;
    const uint32_t n = kvri_job_put(1, 3, KVRI_JOB_TRACED, 5, "tcp://[::1]:7001", cuts, ids, 2, payload);
    assert_int_equal(n, sizeof payload);
    assert_int_equal(kvri_job_get(payload, n, &job), KVR_OK);
    assert_int_equal(job.rank, 1);
    assert_int_equal(job.n_boards, 3);
    assert_int_equal(job.flags, KVRI_JOB_TRACED);
    assert_int_equal(job.next_window, 5);
    assert_string_equal(job.next, "tcp://[::1]:7001");
    assert_int_equal(job.n_ids, 2);
    assert_ptr_equal(job.cuts, payload + KVRI_JOB_FIXED);
    assert_ptr_equal(job.ids, payload + KVRI_JOB_FIXED + 16);
}

static void spans_are_read_as_written(void **state) {
    (void)state;
    const kvr_span in[2] = {{.from_us = 5, .to_us = UINT64_MAX, .bytes = 9, .layer = 31, .kind = KVR_SPAN_TRANSFER},
                            {.from_us = 1, .to_us = 2, .layer = 3, .kind = KVR_SPAN_WAIT_SEND, .rank = 7}};
    const kvri_spans head = {40, 3};
    kvri_spans out;
    kvr_span span;
    uint8_t payload[KVRI_SPANS_FIXED + 2 * KVRI_SPAN_BYTES];
    assert_int_equal(kvri_spans_put(&head, in, 2, payload), sizeof payload);
    assert_int_equal(kvri_spans_get(payload, sizeof payload, 2, &out), KVR_OK);
    assert_int_equal(out.total, 40);
    assert_int_equal(out.lost, 3);
    assert_int_equal(kvri_span_get(payload, 0, &span), KVR_OK);
    assert_int_equal(span.from_us, 5);
    assert_true(span.to_us == UINT64_MAX);
    assert_int_equal(span.bytes, 9);
    assert_int_equal(span.layer, 31);
    assert_int_equal(span.kind, KVR_SPAN_TRANSFER);
    assert_int_equal(kvri_span_get(payload, 1, &span), KVR_OK);
    assert_int_equal(span.to_us, 2);
    assert_int_equal(span.rank, 0); /* the frame's header says whose they are */
}

static void spans_of_a_wrong_length_count_or_kind_are_refused(void **state) {
    (void)state;
    const kvr_span in[2] = {{.kind = KVR_SPAN_KINDS}, {.kind = 0}};
    kvri_spans head = {2, 0};
    kvr_span span;
    uint8_t payload[KVRI_SPANS_FIXED + 2 * KVRI_SPAN_BYTES];
    const uint32_t bytes = kvri_spans_put(&head, in, 2, payload);
    for (uint32_t n = 0; n <= bytes; n++) {
        fenced f = fenced_copy(payload, n);
        const int whole = n >= KVRI_SPANS_FIXED && (n - KVRI_SPANS_FIXED) % KVRI_SPAN_BYTES == 0;
        const uint32_t count = whole ? (n - KVRI_SPANS_FIXED) / KVRI_SPAN_BYTES : 1;
        assert_int_equal(kvri_spans_get(f.at, n, count, &head), whole ? KVR_OK : KVR_ERR_FRAME);
        assert_int_equal(kvri_spans_get(f.at, n, count + 1, &head), KVR_ERR_FRAME);
        fenced_free(&f);
    }
    assert_int_equal(kvri_span_get(payload, 0, &span), KVR_ERR_FRAME);
    head.total = KVRI_MAX_SPANS + 1;
    kvri_spans_put(&head, in, 2, payload);
    assert_int_equal(kvri_spans_get(payload, bytes, 2, &head), KVR_ERR_FRAME);
}

static void payloads_of_a_wrong_length_are_refused(void **state) {
    (void)state;
    static const uint32_t cuts[4] = {0, 3, 5, 9};
    static const int32_t ids[2] = {1, 2};
    uint8_t bytes[400] = {0};
    kvri_hello h;
    kvri_report r;
    kvri_job j;
    const uint32_t job_bytes = kvri_job_put(1, 3, 0, 0, "loop:2", cuts, ids, 2, bytes);
    for (uint32_t n = 0; n < 300; n++) {
        fenced f = fenced_copy(bytes, n);
        if (n != KVRI_HELLO_BYTES && n != KVRI_HELLO_MOST) assert_int_equal(kvri_hello_get(f.at, n, &h), KVR_ERR_FRAME);
        if (n != KVRI_REPORT_BYTES) assert_int_equal(kvri_report_get(f.at, n, &r), KVR_ERR_FRAME);
        const kvr_status status = kvri_job_get(f.at, n, &j);
        const int whole_words = n >= KVRI_JOB_FIXED + 16 && (n - KVRI_JOB_FIXED) % 4 == 0;
        assert_int_equal(status, whole_words ? KVR_OK : KVR_ERR_FRAME);
        if (n == job_bytes) assert_int_equal(j.n_ids, 2);
        fenced_free(&f);
    }
}

static void a_job_with_an_impossible_rank_or_board_count_is_refused(void **state) {
    (void)state;
    static const uint32_t wrong[][2] = {{0, 0},
                                        {0, 1},
                                        {1, 2},
                                        {2, 3},
                                        {3, 3},
                                        {0, 65},
                                        {UINT32_MAX, 2},
                                        {0, UINT32_MAX},
                                        {UINT32_MAX, UINT32_MAX},
                                        {0x80000000u, 0x40000001u}};
    uint8_t payload[600] = {0};
    kvri_job job;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        for (uint32_t b = 0; b < 4; b++) {
            payload[b] = (uint8_t)(wrong[i][0] >> (8 * b));
            payload[4 + b] = (uint8_t)(wrong[i][1] >> (8 * b));
        }
        assert_int_equal(kvri_job_get(payload, sizeof payload, &job), KVR_ERR_FRAME);
    }
}

static void random_payloads_never_lead_outside_their_bytes(void **state) {
    (void)state;
    uint64_t seed = 88172645463325252u;
    for (uint32_t round = 0; round < 20000; round++) {
        uint8_t bytes[512];
        kvri_hello h;
        kvri_report r;
        kvri_job j;
        const uint32_t n = (uint32_t)(next_random(&seed) % sizeof bytes);
        for (uint32_t i = 0; i < n; i++) bytes[i] = (uint8_t)next_random(&seed);
        if (n >= 8) { /* small numbers are more dangerous than random ones */
            memset(bytes, 0, 8);
            bytes[0] = (uint8_t)(next_random(&seed) % 70);
            bytes[4] = (uint8_t)(next_random(&seed) % 70);
        }
        if (kvri_hello_get(bytes, n, &h) == KVR_OK) assert_non_null(memchr(h.address, 0, sizeof h.address));
        if (kvri_report_get(bytes, n, &r) == KVR_OK) assert_non_null(memchr(r.text, 0, sizeof r.text));
        if (kvri_job_get(bytes, n, &j) == KVR_OK) {
            assert_in_range(j.n_boards, 2, KVR_MAX_BOARDS);
            assert_true(j.rank < j.n_boards - 1);
            assert_true(j.cuts + 4 * (j.n_boards + 1) == j.ids);
            assert_true(j.ids + 4 * (size_t)j.n_ids == bytes + n);
        }
    }
}

static void the_largest_frame_holds_keys_values_jobs_and_hellos(void **state) {
    (void)state;
    assert_int_equal(kvri_frame_cap(1024, 128, 512, 4), KVRI_FRAME_HEADER + 2 * 128 * 1024);
    assert_int_equal(kvri_frame_cap(2, 1, 100000, 64), KVRI_FRAME_HEADER + KVRI_JOB_FIXED + 4 * 65 + 4 * 100000);
    assert_true(kvri_frame_cap(2, 1, 1, 2) >= KVRI_FRAME_HEADER + KVRI_HELLO_MOST);
    assert_true(kvri_frame_cap(2, 1, 1, 2) >= KVRI_FRAME_HEADER + KVRI_REPORT_BYTES);
    assert_int_equal(kvri_frame_cap(UINT64_MAX / 2, 4096, 1, 2), 0);
    assert_int_equal(kvri_frame_cap(1u << 20, 4096, 1, 2), 0); /* 8 GiB do not fit 32 bits */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sealed_frame_opens_with_the_same_fields),
        cmocka_unit_test(the_header_lies_as_documented_whatever_the_machine),
        cmocka_unit_test(every_shorter_or_longer_frame_is_refused),
        cmocka_unit_test(every_flipped_bit_is_refused),
        cmocka_unit_test(exchanged_words_are_refused),
        cmocka_unit_test(a_frame_of_another_version_is_refused),
        cmocka_unit_test(a_relay_restamps_the_header_and_leaves_the_payload),
        cmocka_unit_test(runs_of_zeros_of_different_length_check_differently),
        cmocka_unit_test(a_hello_is_read_as_written),
        cmocka_unit_test(a_speed_travels_with_a_hello_unless_it_is_nonsense),
        cmocka_unit_test(a_probe_is_read_as_written),
        cmocka_unit_test(a_report_is_read_as_written_but_printable),
        cmocka_unit_test(a_text_without_an_end_is_refused),
        cmocka_unit_test(a_job_is_read_as_written),
        cmocka_unit_test(spans_are_read_as_written),
        cmocka_unit_test(spans_of_a_wrong_length_count_or_kind_are_refused),
        cmocka_unit_test(payloads_of_a_wrong_length_are_refused),
        cmocka_unit_test(a_job_with_an_impossible_rank_or_board_count_is_refused),
        cmocka_unit_test(random_payloads_never_lead_outside_their_bytes),
        cmocka_unit_test(the_largest_frame_holds_keys_values_jobs_and_hellos),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
