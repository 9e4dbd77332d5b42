/* From logits to the next token, each filter against a computation by hand. */
#include "kvr_sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#define CAP 64u

typedef struct sampler {
    kvr_sampling with;
    float logits[CAP];
    uint32_t n;
    const int32_t *recent;
    uint32_t n_recent;
    uint64_t rng;
} sampler;

static sampler sampler_of(const float *logits, uint32_t n) {
    sampler s;
    memset(&s, 0, sizeof s);
    memcpy(s.logits, logits, n * sizeof *logits);
    s.n = n;
    return s;
}

static kvr_status next(sampler *s, int32_t *out) {
    kvri_candidate scratch[CAP];
    *out = -1;
    return kvri_sample(&s->with, s->logits, s->n, s->recent, s->n_recent, &s->rng, scratch, out);
}

static int32_t next_ok(sampler *s) {
    int32_t id;
    assert_int_equal(next(s, &id), KVR_OK);
    assert_in_range(id, 0, s->n - 1);
    return id;
}

/* Which ids come up in many draws: bit i for id i. */
static uint64_t reachable(sampler *s) {
    uint64_t seen = 0;
    for (int i = 0; i < 3000; i++) seen |= UINT64_C(1) << next_ok(s);
    return seen;
}

static void greedy_takes_the_largest(void **state) {
    (void)state;
    const float logits[] = {-3.0f, 1.0f, 7.5f, 7.25f, -INFINITY};
    sampler s = sampler_of(logits, 5);
    assert_int_equal(next_ok(&s), 2);
    assert_int_equal(s.rng, 0); /* no draw was made */
    s = sampler_of(logits, 1);
    assert_int_equal(next_ok(&s), 0);
    const float negative[] = {-5.0f, -4.0f, -4.5f};
    s = sampler_of(negative, 3);
    assert_int_equal(next_ok(&s), 1);
}

static void greedy_takes_the_lowest_id_among_equals(void **state) {
    (void)state;
    const float logits[] = {1.0f, 2.0f, 2.0f, 2.0f, 0.0f, 2.0f};
    sampler s = sampler_of(logits, 6);
    assert_int_equal(next_ok(&s), 1);
    const float zeros[] = {-0.0f, 0.0f, -0.0f};
    s = sampler_of(zeros, 3);
    assert_int_equal(next_ok(&s), 0);
}

static void what_is_not_a_number_is_reported(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY};
    for (uint32_t at = 0; at < 3; at++) {
        for (int k = 0; k < 4; k++) {
            const float logits[] = {1.0f, 2.0f, 3.0f};
            sampler s = sampler_of(logits, 3);
            s.logits[at] = bad[k % 2];
            s.with.temperature = k < 2 ? 0.0f : 1.0f;
            int32_t id;
            assert_int_equal(next(&s, &id), KVR_ERR_NUMERIC);
        }
    }
    const float none[] = {-INFINITY, -INFINITY};
    sampler s = sampler_of(none, 2);
    int32_t id;
    assert_int_equal(next(&s, &id), KVR_ERR_NUMERIC);
}

static void impossible_tokens_are_never_drawn(void **state) {
    (void)state;
    const float logits[] = {-INFINITY, 0.0f, -INFINITY, 0.5f, -INFINITY};
    sampler s = sampler_of(logits, 5);
    s.with.temperature = 1.0f;
    assert_int_equal(reachable(&s), 1u << 1 | 1u << 3);
    s.with.top_p = 1.0f;
    assert_int_equal(reachable(&s), 1u << 1 | 1u << 3);
    s.with.top_k = 4;
    assert_int_equal(reachable(&s), 1u << 1 | 1u << 3);
}

static void top_k_keeps_the_k_likeliest(void **state) {
    (void)state;
    const float logits[] = {0.1f, 0.5f, 0.3f, 0.4f, 0.2f, 0.0f};
    static const uint64_t kept[] = {0x3f, 0x02, 0x0a, 0x0e, 0x1e, 0x1f, 0x3f, 0x3f};
    for (uint32_t k = 0; k < 8; k++) { /* 0, and more than there are: all */
        sampler s = sampler_of(logits, 6);
        s.with.temperature = 1.0f;
        s.with.top_k = k;
        assert_int_equal(reachable(&s), kept[k]);
    }
}

static void top_k_takes_the_lower_ids_among_equals(void **state) {
    (void)state;
    const float logits[] = {1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
    sampler s = sampler_of(logits, 5);
    s.with.temperature = 1.0f;
    s.with.top_k = 3;
    assert_int_equal(reachable(&s), 0x07);
}

/* Probabilities 0.5 0.25 0.15 0.1, not in order. */
static sampler by_share(void) {
    const double share[] = {0.15, 0.5, 0.1, 0.25};
    float logits[4];
    for (int i = 0; i < 4; i++) logits[i] = (float)log(share[i]);
    sampler s = sampler_of(logits, 4);
    s.with.temperature = 1.0f;
    return s;
}

static void top_p_keeps_the_likeliest_until_their_sum_reaches_p(void **state) {
    (void)state;
    static const struct { float p; uint64_t kept; } rows[] = {
        {0.0f, 0xf}, {0.01f, 0x2}, {0.49f, 0x2}, {0.51f, 0xa}, {0.74f, 0xa}, {0.76f, 0xb}, {0.89f, 0xb}, {0.91f, 0xf},
        {1.0f, 0xf}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sampler s = by_share();
        s.with.top_p = rows[i].p;
        assert_int_equal(reachable(&s), rows[i].kept);
    }
}

static void min_p_keeps_what_is_near_the_likeliest(void **state) {
    (void)state;
    static const struct { float p; uint64_t kept; } rows[] = {
        {0.0f, 0xf}, {0.19f, 0xf}, {0.21f, 0xb}, {0.29f, 0xb}, {0.31f, 0xa}, {0.51f, 0x2}, {1.0f, 0x2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sampler s = by_share();
        s.with.min_p = rows[i].p;
        assert_int_equal(reachable(&s), rows[i].kept);
    }
}

static void filters_work_together_in_their_order(void **state) {
    (void)state;
    sampler s = by_share(); /* top_k 3 leaves 0.5 0.25 0.15 of 0.9: shares 0.556 0.278 0.167 */
    s.with.top_k = 3;
    s.with.top_p = 0.55f;
    assert_int_equal(reachable(&s), 0x2); /* 0.5 of all would not reach 0.55, 0.556 does */
    s.with.top_p = 0.82f;
    assert_int_equal(reachable(&s), 0xa);
    s.with.top_p = 0.85f;
    assert_int_equal(reachable(&s), 0xb);
    s.with.min_p = 0.4f;
    assert_int_equal(reachable(&s), 0xa);
    s.with.temperature = 10.0f; /* filters see the distribution before temperature flattens it */
    assert_int_equal(reachable(&s), 0xa);
}

static void a_repeated_token_becomes_less_likely_once(void **state) {
    (void)state;
    const float logits[] = {4.0f, 3.0f, -1.0f, -1.5f};
    static const int32_t recent[] = {0, 0, 0, 99, -1}; /* ids outside the vocabulary do no harm */
    sampler s = sampler_of(logits, 4);
    s.recent = recent;
    s.n_recent = 5;
    s.with.repeat_penalty = 1.3f; /* 4 / 1.3 = 3.08, three times over it would be 1.8 */
    assert_int_equal(next_ok(&s), 0);
    s.with.repeat_penalty = 1.4f; /* 2.86 */
    assert_int_equal(next_ok(&s), 1);
    s.with.repeat_penalty = 1.0f;
    assert_int_equal(next_ok(&s), 0);
    s.n_recent = 0;
    s.with.repeat_penalty = 1.4f;
    assert_int_equal(next_ok(&s), 0);

    static const int32_t others[] = {0, 1, 2}; /* a negative logit is multiplied: -1 * 2 < -1.5 */
    const float low[] = {-9.0f, -9.0f, -1.0f, -1.5f};
    s = sampler_of(low, 4);
    s.recent = others;
    s.n_recent = 3;
    s.with.repeat_penalty = 2.0f;
    assert_int_equal(next_ok(&s), 3);
}

static void the_same_seed_gives_the_same_ids(void **state) {
    (void)state;
    sampler a = by_share(), b = by_share(), other = by_share();
    a.rng = b.rng = 42;
    other.rng = 43;
    uint32_t differ = 0;
    for (int i = 0; i < 500; i++) {
        const int32_t id = next_ok(&a);
        assert_int_equal(id, next_ok(&b));
        differ += id != next_ok(&other);
    }
    assert_true(differ > 100);
}

/* The first numbers of splitmix64 from seed 1234567, as its authors' code gives them: what a seed means stays the same
 * from version to version. */
static void draws_come_from_splitmix64(void **state) {
    (void)state;
    static const uint64_t numbers[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                       UINT64_C(9817491932198370423), UINT64_C(4593380528125082431)};
    const float equal[CAP] = {0.0f};
    sampler s = sampler_of(equal, CAP);
    s.with.temperature = 1.0f;
    s.rng = 1234567;
    for (size_t i = 0; i < 4; i++) /* the last of the list comes first */
        assert_int_equal(next_ok(&s), (int32_t)(CAP - 1 - (uint32_t)(numbers[i] >> 58)));
}

/* 20000 draws of a sampler against expected shares, within five standard deviations. */
static void check_shares(sampler *s, const double *share) {
    enum { DRAWS = 20000 };
    uint32_t count[CAP] = {0};
    s->rng = 7;
    for (int i = 0; i < DRAWS; i++) count[next_ok(s)]++;
    for (uint32_t id = 0; id < s->n; id++) {
        const double room = 5.0 * sqrt(DRAWS * share[id] * (1.0 - share[id])) + 1e-9;
        if (fabs(count[id] - DRAWS * share[id]) > room) fail_msg("id %u: %u draws", (unsigned)id, (unsigned)count[id]);
    }
}

static void draws_follow_the_probabilities(void **state) {
    (void)state;
    const double plain[] = {0.15, 0.5, 0.1, 0.25};
    sampler s = by_share();
    check_shares(&s, plain);

    double hot[4], sum = 0.0; /* temperature 2: square roots */
    for (int i = 0; i < 4; i++) sum += hot[i] = sqrt(plain[i]);
    for (int i = 0; i < 4; i++) hot[i] /= sum;
    s.with.temperature = 2.0f;
    check_shares(&s, hot);

    const double kept[] = {0.15 / 0.9, 0.5 / 0.9, 0.0, 0.25 / 0.9};
    s = by_share();
    s.with.top_k = 3;
    check_shares(&s, kept);
    s.with.top_k = 0;
    s.with.top_p = 0.8f;
    check_shares(&s, kept);
    s.with.top_p = 0.0f;
    s.with.min_p = 0.25f;
    check_shares(&s, kept);
}

static void a_low_temperature_is_almost_greedy(void **state) {
    (void)state;
    sampler s = by_share();
    s.with.temperature = 0.01f;
    assert_int_equal(reachable(&s), 0x2);
}

static void large_logits_do_not_overflow(void **state) {
    (void)state;
    const float logits[] = {3e38f, 3e38f, -3e38f};
    sampler s = sampler_of(logits, 3);
    s.with.temperature = 0.01f;
    assert_int_equal(reachable(&s), 0x3);
    s.with.top_p = 0.9f;
    assert_int_equal(reachable(&s), 0x3);
}

static void fields_out_of_range_are_not_valid(void **state) {
    (void)state;
    kvr_sampling s;
    memset(&s, 0, sizeof s);
    assert_true(kvri_sampling_valid(&s));
    static const struct { float temperature, top_p, min_p, penalty; int valid; } rows[] = {
        {0.01f, 0, 0, 0, 1},  {10.0f, 1, 1, 10, 1}, {0.009f, 0, 0, 0, 0}, {10.1f, 0, 0, 0, 0}, {-1.0f, 0, 0, 0, 0},
        {0, -0.1f, 0, 0, 0},  {0, 1.1f, 0, 0, 0},   {0, 0, -0.1f, 0, 0},  {0, 0, 1.1f, 0, 0},  {0, 0, 0, -1.0f, 0},
        {0, 0, 0, 11.0f, 0},  {NAN, 0, 0, 0, 0},    {0, NAN, 0, 0, 0},    {0, 0, NAN, 0, 0},   {0, 0, 0, NAN, 0},
        {INFINITY, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        s.temperature = rows[i].temperature;
        s.top_p = rows[i].top_p;
        s.min_p = rows[i].min_p;
        s.repeat_penalty = rows[i].penalty;
        if (kvri_sampling_valid(&s) != rows[i].valid) fail_msg("row %u", (unsigned)i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_largest),
        cmocka_unit_test(greedy_takes_the_lowest_id_among_equals),
        cmocka_unit_test(what_is_not_a_number_is_reported),
        cmocka_unit_test(impossible_tokens_are_never_drawn),
        cmocka_unit_test(top_k_keeps_the_k_likeliest),
        cmocka_unit_test(top_k_takes_the_lower_ids_among_equals),
        cmocka_unit_test(top_p_keeps_the_likeliest_until_their_sum_reaches_p),
        cmocka_unit_test(min_p_keeps_what_is_near_the_likeliest),
        cmocka_unit_test(filters_work_together_in_their_order),
        cmocka_unit_test(a_repeated_token_becomes_less_likely_once),
        cmocka_unit_test(the_same_seed_gives_the_same_ids),
        cmocka_unit_test(draws_come_from_splitmix64),
        cmocka_unit_test(draws_follow_the_probabilities),
        cmocka_unit_test(a_low_temperature_is_almost_greedy),
        cmocka_unit_test(large_logits_do_not_overflow),
        cmocka_unit_test(fields_out_of_range_are_not_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
