#ifdef KVR_HAVE_OPENCL
#include "tuning_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cache_dir.h"
#include "kvr/kvr_session.h"
#include "say.h"

int tuning_file_path(const kvr_opencl_info *device, char *out, size_t cap) {
    char dir[1024], name[32];
    if (!cache_dir_find(dir, sizeof dir)) return 0;
    kvr_opencl_tuning_name(device, name);
    const int n = snprintf(out, cap, "%s/%s", dir, name);
    return n > 0 && (size_t)n < cap;
}

int tuning_file_load(const kvr_opencl_info *device, kvr_opencl_tuning *out) {
    char path[1100], text[KVR_OPENCL_TUNING_MAX_BYTES + 1];
    kvr_error error = {0};
    if (!tuning_file_path(device, path, sizeof path)) return 0;
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    const size_t n = fread(text, 1, sizeof text, file);
    fclose(file);
    if (kvr_opencl_tuning_read(text, n, out, &error) == KVR_OK) return 1;
    char why[300];
    kvr_error_format(&error, why, sizeof why);
    say_note("%s is damaged and not used (%s): run kvr tune again", path, why);
    return 0;
}

int tuning_file_save(const char *path, const kvr_opencl_tuning *tuning) {
    char text[KVR_OPENCL_TUNING_MAX_BYTES], temporary[1100];
    const size_t n = kvr_opencl_tuning_write(tuning, text, sizeof text);
    snprintf(temporary, sizeof temporary, "%.1080s.new", path);
    FILE *file = n == 0 ? NULL : fopen(temporary, "wb");
    if (file == NULL) return say_error("cannot write %s: %s; set KVR_CACHE_DIR to a folder that can be written", path,
                                       strerror(errno));
    const int written = fwrite(text, 1, n, file) == n;
    if (fclose(file) != 0 || !written || rename(temporary, path) != 0) {
        remove(temporary);
        return say_error("cannot write %s: %s; make room there", path, strerror(errno));
    }
    return EXIT_OK;
}
#else
typedef int tuning_file_needs_opencl; /* an empty file is no C */
#endif
