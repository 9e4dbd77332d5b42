#include "kvr_carve.h"

#include "kvr_checked.h"

void *kvri_carve_take(kvri_carve *carve, uint64_t count, uint64_t bytes_each) {
    uint64_t bytes = 0;
    uint64_t end = 0;
    if (carve->overflow || !kvri_mul(count, bytes_each, &bytes) || !kvri_align_up(bytes, KVRI_CARVE_ALIGN, &bytes) ||
        !kvri_add(carve->used, bytes, &end) || end > SIZE_MAX) {
        carve->overflow = 1;
        return NULL;
    }
    void *place = (carve->base != NULL && bytes != 0) ? carve->base + carve->used : NULL;
    carve->used = end;
    return place;
}
