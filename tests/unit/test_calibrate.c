/* A profile found again from times that the model itself gave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "cost_rig.h"

#include <math.h>

static const kvr_cost_sample PLAN[] = {{64, 256, 0},  {128, 256, 0},  {256, 256, 0},
                                       {512, 256, 0}, {1024, 256, 0}, {512, 64, 0}};
enum { N = sizeof PLAN / sizeof PLAN[0] };

static void take_samples(cost_rig *rig, kvr_cost_sample *out, double noise) {
    memcpy(out, PLAN, sizeof PLAN);
    for (int i = 0; i < N; i++) {
        rig->job.n_tokens = out[i].n_tokens;
        rig->job.batch_tokens = out[i].batch_tokens;
        out[i].ttft_us = rig_run(rig, KVR_COST_SINGLE, NULL, NULL).ttft_us * (1 + (i % 2 ? noise : -noise));
    }
}

static int near(double had, double wanted, double relative) {
    return fabs(had - wanted) <= relative * fabs(wanted);
}

static void a_profile_is_found_again_from_its_own_times(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_sample samples[N];
    kvr_board_profile p;
    rig_edge(&rig, 1, 64);
    take_samples(&rig, samples, 0);
    memset(&p, 0, sizeof p);
    p.memory_gbs = rig.board[0].memory_gbs;
    p.attention_tile = rig.board[0].attention_tile;
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_OK);
    assert_true(near(p.dense_gmacs, rig.board[0].dense_gmacs, 0.01));
    assert_true(near(p.attention_gmacs, rig.board[0].attention_gmacs, 0.02));
    assert_true(near(p.call_us, rig.board[0].call_us, 0.05));
    rig_end(&rig);
}

static void times_come_back_within_the_noise(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_sample samples[N];
    kvr_board_profile p;
    rig_edge(&rig, 1, 64);
    take_samples(&rig, samples, 0.03);
    p = rig.board[0];
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_OK);
    assert_true(p.call_us >= 0 && p.prompt_us >= 0);
    rig.board[0] = p;
    for (int i = 0; i < N; i++) {
        rig.job.n_tokens = samples[i].n_tokens;
        rig.job.batch_tokens = samples[i].batch_tokens;
        assert_true(near(rig_run(&rig, KVR_COST_SINGLE, NULL, NULL).ttft_us, samples[i].ttft_us, 0.06));
    }
    rig_end(&rig);
}

/* A machine with other things to do: a profile, however coarse, rather than none. */
static void wild_noise_still_gives_a_profile(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_sample samples[N];
    rig_edge(&rig, 1, 64);
    for (uint32_t pattern = 0; pattern < 1u << N; pattern++) {
        kvr_board_profile p = rig.board[0];
        take_samples(&rig, samples, 0);
        for (int i = 0; i < N; i++)
            if (pattern & 1u << i) samples[i].ttft_us *= 3;
        assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_OK);
        assert_true(p.dense_gmacs > 0 && p.attention_gmacs > 0 && p.call_us >= 0 && p.prompt_us >= 0);
    }
    rig_end(&rig);
}

static void what_takes_no_time_does_not_become_negative(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_sample samples[N];
    kvr_board_profile p;
    rig_edge(&rig, 1, 64);
    rig.board[0].call_us = rig.board[0].prompt_us = 0;
    rig.board[0].attention_gmacs = 1e6;
    take_samples(&rig, samples, 0.01);
    p = rig.board[0];
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_OK);
    assert_true(p.call_us >= 0 && p.prompt_us >= 0 && p.attention_gmacs > 0 && p.attention_gmacs <= 1e6);
    rig_end(&rig);
}

static void too_few_or_impossible_samples_are_refused(void **state) {
    (void)state;
    cost_rig rig;
    kvr_cost_sample samples[N];
    rig_edge(&rig, 1, 64);
    take_samples(&rig, samples, 0);
    kvr_board_profile p = rig.board[0];
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, 0, &p), KVR_ERR_ARG);
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, 1, &p), KVR_ERR_ARG);
    samples[2].ttft_us = 0;
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_ERR_ARG);
    samples[2].ttft_us = NAN;
    assert_int_equal(kvr_board_profile_fit(&rig.geometry, samples, N, &p), KVR_ERR_ARG);
    assert_memory_equal(&p, &rig.board[0], sizeof p);
    rig_end(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_profile_is_found_again_from_its_own_times),
        cmocka_unit_test(times_come_back_within_the_noise),
        cmocka_unit_test(wild_noise_still_gives_a_profile),
        cmocka_unit_test(what_takes_no_time_does_not_become_negative),
        cmocka_unit_test(too_few_or_impossible_samples_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
