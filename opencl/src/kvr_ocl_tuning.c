/*
 * kvr_ocl_tuning.c - what measuring a device found best, as text; whom it belongs to.
 */
#include "kvr_ocl.h"

#include <stddef.h>
#include <string.h>

#include "kvr_fields.h"

#define TEXT(name)                                                                                                     \
    {#name, KVRI_FIELD_TEXT, offsetof(kvr_opencl_tuning, name), sizeof(((kvr_opencl_tuning *)0)->name), 0, 0, 0}
#define WHOLE(name, low, high) {#name, KVRI_FIELD_U32, offsetof(kvr_opencl_tuning, name), 0, low, high, 1}

static const kvri_field fields[] = {
    TEXT(device),
    TEXT(platform),
    TEXT(driver),
    WHOLE(tile_rows, 0, 16),
    WHOLE(tile_vecs, 0, 2),
    WHOLE(dot_rows, 0, 16),
    WHOLE(panel_k, 0, 512),
    WHOLE(clblast_set, 0, 8),
    WHOLE(narrow_float, 0, KVR_OPENCL_GEMM_OWN),
    WHOLE(narrow_int, 0, KVR_OPENCL_GEMM_OWN),
    WHOLE(wide_float, 0, KVR_OPENCL_GEMM_OWN),
    WHOLE(wide_int, 0, KVR_OPENCL_GEMM_OWN),
};
#define N_FIELDS (sizeof fields / sizeof fields[0])

kvr_status kvr_opencl_tuning_read(const char *text, size_t bytes, kvr_opencl_tuning *out, kvr_error *error) {
    kvri_lines lines;
    kvr_opencl_tuning tuning;
    memset(&tuning, 0, sizeof tuning);
    KVRI_TRY(kvri_lines_begin(&lines, text, bytes, KVR_OPENCL_TUNING_MAX_BYTES, "kvr-tuning", error));
    KVRI_TRY(kvri_fields_read(&lines, fields, N_FIELDS, &tuning, "tuning", error));
    if (tuning.panel_k % 32u != 0)
        return kvri_fail_n(error, KVR_ERR_KEY, "tuning", "panel_k is a multiple of 32: run kvr tune again", 128,
                           tuning.panel_k);
    tuning.struct_bytes = sizeof tuning;
    *out = tuning;
    return KVR_OK;
}

size_t kvr_opencl_tuning_write(const kvr_opencl_tuning *tuning, char *out, size_t cap) {
    kvri_writer w = {out, cap, 0, 0};
    kvri_write_text(&w, "kvr-tuning 1\n# products of prompts: 0 = by class of device, 1 = CLBlast, 2 = own kernels\n");
    kvri_fields_write(&w, fields, N_FIELDS, tuning);
    return w.full ? 0 : w.n;
}

void kvr_opencl_tuning_name(const kvr_opencl_info *device, char out[32]) {
    static const char digits[] = "0123456789abcdef";
    const char *const texts[] = {device->platform_name, device->name, device->driver_version};
    uint64_t hash = KVRI_OCL_HASH_START;
    char name[] = "tuning-0123456789abcdef.txt";
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        hash = kvri_ocl_cache_hash(hash, texts[i], strlen(texts[i]) + 1);
    for (size_t i = 0; i < 16; i++) name[7 + i] = digits[hash >> (60 - 4 * i) & 15u];
    memcpy(out, name, sizeof name);
}

void kvri_ocl_tuning_check(kvr_opencl *cl) {
    kvr_opencl_tuning *tuning = &cl->tuning;
    if (tuning->struct_bytes == 0) return;
    if (strcmp(tuning->device, cl->info.name) == 0 && strcmp(tuning->platform, cl->info.platform_name) == 0 &&
        strcmp(tuning->driver, cl->info.driver_version) == 0)
        return;
    kvri_ocl_log(cl, KVR_LOG_WARN, "the tuning is of another device or driver and is passed over: run kvr tune");
    memset(tuning, 0, sizeof *tuning);
}
