#include "kvr/kvr_posix.h"
#include "kvr_posix_os.h"

#include <string.h>

void kvr_posix_port(kvr_port *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->now_us = kvri_posix_now_us;
    out->idle = kvri_posix_idle;
    out->map = kvri_posix_map;
    out->unmap = kvri_posix_unmap;
    out->large_pages = kvri_posix_large_pages;
}
