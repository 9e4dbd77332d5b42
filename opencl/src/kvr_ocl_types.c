/*
 * kvr_ocl_types.c - how tensor types lie on the device: which kernels' type a tensor becomes, and its bytes.
 */
#include "kvr_ocl.h"

#include "kvr_checked.h"

#define BLOCK 32u /* columns */

static const kvri_ocl_type types[KVRI_OCL_DTYPES] = {
#define KVRI_OCL_ROW(id, name, low, high, offset, parts, least, small) {#name, low, high, parts, least, small},
    KVRI_OCL_TYPE_LIST(KVRI_OCL_ROW)
#undef KVRI_OCL_ROW
};

uint32_t kvri_ocl_type_of(uint32_t dtype) {
    static const uint32_t dtypes[KVRI_OCL_DTYPES] = {
#define KVRI_OCL_ROW(id, name, low, high, offset, parts, least, small) KVR_DTYPE_##id,
        KVRI_OCL_TYPE_LIST(KVRI_OCL_ROW)
#undef KVRI_OCL_ROW
    };
    uint32_t type = 0;
    if (dtype == KVR_DTYPE_IQ4_NL) return KVRI_OCL_Q8_0; /* its 16 values are whole numbers of 8 bits: no bit changes */
    while (type < KVRI_OCL_DTYPES && dtypes[type] != dtype) type++;
    return type;
}

const kvri_ocl_type *kvri_ocl_type_at(uint32_t type) { return &types[type]; }

int kvri_ocl_type_has_codes(uint32_t type) { return type < KVRI_OCL_DTYPES && types[type].parts != 0; }

int kvri_ocl_type_has_pairs(uint32_t type) { return type == KVRI_OCL_F16 || type == KVRI_OCL_BF16; }

uint32_t kvri_ocl_type_group(uint32_t type) { return types[type].has_small ? 8u * BLOCK : BLOCK; }

/* The halves, and a byte for each part of each block. */
uint32_t kvri_ocl_type_head_bytes(uint32_t type) {
    const kvri_ocl_type *t = &types[type];
    return kvri_ocl_type_has_codes(type) ? (1u + t->has_least) * (2u + (t->has_small ? 8u * t->parts : 0u)) : 0;
}

uint64_t kvri_ocl_type_row_bytes(uint32_t type, uint32_t cols) {
    const kvri_ocl_type *t = &types[type];
    if (!kvri_ocl_type_has_codes(type)) return (uint64_t)cols * (t->low / 8u);
    const uint64_t groups = kvri_ceil_div(cols, kvri_ocl_type_group(type));
    return groups * (kvri_ocl_type_head_bytes(type) + kvri_ocl_type_group(type) / 8u * (t->low + t->high));
}

uint64_t kvri_ocl_type_bytes(uint32_t type, uint32_t rows, uint32_t cols, uint32_t *out_scale_at) {
    const uint64_t strips = kvri_ceil_div(rows, 16);
    const uint64_t value_bytes = kvri_ceil_div(cols, BLOCK) * BLOCK * 16u / 8u * (types[type].low + types[type].high);
    const uint64_t head_bytes = 16u * kvri_ceil_div(cols, kvri_ocl_type_group(type)) * kvri_ocl_type_head_bytes(type);
    uint64_t values = 0;
    uint64_t all = 0;
    if (!kvri_mul(strips, value_bytes, &values) || !kvri_mul(strips, value_bytes + head_bytes, &all)) return UINT64_MAX;
    *out_scale_at = (uint32_t)values; /* of use only where kvri_ocl_memory_layout takes the tensor */
    return all;
}
