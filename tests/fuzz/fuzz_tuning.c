/* Any bytes as what `kvr tune` wrote: an error, or values in their ranges that come back when they are written. */
#include "fuzz_target.h"

#include <string.h>

#include "kvr_ocl.h"

/* All that the reader of tunings wants from the rest of the backend. */
void kvri_ocl_log(const kvr_opencl *cl, kvr_log_level level, const char *text) {
    (void)cl;
    (void)level;
    (void)text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = alloc_exact(size > 0 ? size : 1), out[KVR_OPENCL_TUNING_MAX_BYTES];
    if (size > 0) memcpy(text, data, size);
    kvr_error error = {0};
    kvr_opencl_tuning t, again;
    memset(&t, 0x5A, sizeof t);
    const kvr_status status = kvr_opencl_tuning_read(text, size, &t, &error);
    FUZZ_CHECK((status == KVR_OK) == (error.status == KVR_OK));
    if (status == KVR_OK) {
        FUZZ_CHECK(t.tile_rows <= 16 && t.tile_vecs <= 2 && t.dot_rows <= 16 && t.panel_k <= 512 &&
                   t.panel_k % 32 == 0);
        FUZZ_CHECK(memchr(t.device, 0, sizeof t.device) != NULL && memchr(t.driver, 0, sizeof t.driver) != NULL);
        const size_t n = kvr_opencl_tuning_write(&t, out, sizeof out);
        FUZZ_CHECK(n > 0 && n <= sizeof out);
        FUZZ_CHECK(kvr_opencl_tuning_read(out, n, &again, NULL) == KVR_OK && memcmp(&t, &again, sizeof t) == 0);
    } else {
        FUZZ_CHECK(error.status == status && error.text != NULL);
    }
    free(text);
    return 0;
}
