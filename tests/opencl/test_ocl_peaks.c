/* The peaks of the device: measured, beside an open backend and without one, and nothing is left behind. */
#define _POSIX_C_SOURCE 200112L
#include "rig.h"

#include <string.h>
#include <time.h>

static uint64_t now_us(void *user) {
    struct timespec t;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static void peaks_are_measured_and_a_second_time_too(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_error error;
    kvr_opencl *cl = NULL;
    kvr_opencl_config config = {0};
    kvr_port port = {0};
    port.now_us = now_us;
    memset(&error, 0, sizeof error);
    config.device = rig_device();
    void *memory = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(memory, kvr_opencl_bytes(), &config, &port, &cl, &error), KVR_OK);
    for (int again = 0; again < 2; again++) {
        kvr_opencl_peaks peaks = {0};
        assert_int_equal(kvr_opencl_measure_peaks(cl, &peaks, &error), KVR_OK);
        assert_int_equal(peaks.struct_bytes, sizeof peaks);
        assert_true(peaks.fma_gflops > 0);
        assert_true(peaks.int8_gmacs > 0);
        assert_true(peaks.pair_gmacs > 0);
        assert_true(peaks.read_gbytes > 0);
        print_message("%.1f GFLOP/s, %.1f Gmac/s, bf16 %.1f Gmac/s, %.1f GB/s\n", peaks.fma_gflops, peaks.int8_gmacs,
                      peaks.pair_gmacs, peaks.read_gbytes);
    }
    kvr_opencl_close(cl);
    free(memory);
}

static void without_a_clock_there_are_no_peaks(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_error error;
    kvr_opencl *cl = NULL;
    kvr_opencl_config config = {0};
    kvr_opencl_peaks peaks = {0};
    memset(&error, 0, sizeof error);
    config.device = rig_device();
    void *memory = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(memory, kvr_opencl_bytes(), &config, NULL, &cl, &error), KVR_OK);
    assert_int_equal(kvr_opencl_measure_peaks(cl, &peaks, &error), KVR_ERR_ARG);
    assert_non_null(strstr(error.text, "clock"));
    assert_int_equal(peaks.struct_bytes, 0);
    kvr_opencl_close(cl);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(peaks_are_measured_and_a_second_time_too),
        cmocka_unit_test(without_a_clock_there_are_no_peaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
