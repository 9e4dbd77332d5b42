/* The peaks of the device: measured, beside an open backend and without one, and nothing is left behind. */
#include "rig.h"

#include <string.h>

static void peaks_are_measured_and_a_second_time_too(void **state) {
    (void)state;
    if (rig_no_device()) skip();
    kvr_error error;
    kvr_opencl *cl = NULL;
    kvr_opencl_config config = {0};
    memset(&error, 0, sizeof error);
    config.device = rig_device();
    void *memory = rig_alloc(kvr_opencl_bytes());
    assert_int_equal(kvr_opencl_open(memory, kvr_opencl_bytes(), &config, NULL, &cl, &error), KVR_OK);
    for (int again = 0; again < 2; again++) {
        kvr_opencl_peaks peaks = {0};
        assert_int_equal(kvr_opencl_measure_peaks(cl, &peaks, &error), KVR_OK);
        assert_int_equal(peaks.struct_bytes, sizeof peaks);
        assert_true(peaks.fma_gflops > 0);
        assert_true(peaks.read_gbytes > 0);
    }
    kvr_opencl_close(cl);
    free(memory);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(peaks_are_measured_and_a_second_time_too)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
