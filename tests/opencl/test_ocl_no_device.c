/*
 * A board without any OpenCL driver (ctest points the loader at a folder that has none) gets a clean error.
 */
#include "rig.h"

#include <string.h>

static void no_driver_at_all_is_a_sentence(void **state) {
    (void)state;
    uint32_t n = 7;
    kvr_error error = {0};
    if (kvr_opencl_list(NULL, 0, &n, &error) == KVR_OK) {
        print_message("skipped: this ICD loader finds drivers all the same (run through ctest)\n");
        skip();
    }
    assert_int_equal(error.status, KVR_ERR_NO_DEVICE);
    assert_int_equal(n, 0);
    assert_non_null(strstr(error.text, "install a driver"));
    void *mem = rig_alloc(kvr_opencl_bytes());
    kvr_opencl *opencl = NULL;
    memset(&error, 0, sizeof error);
    assert_int_equal(kvr_opencl_open(mem, kvr_opencl_bytes(), NULL, NULL, &opencl, &error), KVR_ERR_NO_DEVICE);
    assert_null(opencl);
    assert_non_null(strstr(error.text, "reference backend"));
    free(mem);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(no_driver_at_all_is_a_sentence)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
