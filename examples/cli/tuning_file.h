/*
 * tuning_file.h - what `kvr tune` found for a device, kept beside the compiled programs (cache_dir.h).
 */
#ifndef KVR_CLI_TUNING_FILE_H
#define KVR_CLI_TUNING_FILE_H

#include "kvr/kvr_opencl.h"

/* Where the tuning of this device is kept. 0: there is no such folder. */
int tuning_file_path(const kvr_opencl_info *device, char *out, size_t cap);
/* 1: *out holds this device's tuning; 0: there is none, or a damaged one, which a note names. */
int tuning_file_load(const kvr_opencl_info *device, kvr_opencl_tuning *out);
/* An exit code, with a sentence when it is no EXIT_OK. */
int tuning_file_save(const char *path, const kvr_opencl_tuning *tuning);

#endif
