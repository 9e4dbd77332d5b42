/* The reader of GGUF headers, against files that were made to hurt. */
#include "fenced.h"

#include "gguf_maker.h"
#include "test_files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Reads every byte that the reader hands out; a place outside the file is a crash in fenced memory. */
static void touch(const void *bytes, uint64_t n) {
    const volatile uint8_t *p = (const volatile uint8_t *)bytes;
    for (uint64_t i = 0; i < n; i++) (void)p[i];
}

static kvr_status walk(const void *file, uint64_t bytes) {
    kvr_error error = {0};
    kvri_gguf g;
    const kvr_status status = kvri_gguf_open(file, bytes, &g, &error);
    assert_true(status <= 0 && error.status == status);
    if (status != KVR_OK) return status;
    uint64_t n = 0;
    kvri_str key;
    kvri_gguf_value value;
    kvri_gguf_cursor c = kvri_gguf_first_kv(&g);
    kvr_status step;
    while ((step = kvri_gguf_next_kv(&g, &c, &key, &value)) == KVR_OK) {
        touch(key.at, key.n);
        touch(value.data, value.bytes);
        n++;
    }
    assert_int_equal(step, KVR_END);
    assert_int_equal(n, g.n_kv);
    kvri_gguf_tensor t;
    uint64_t last_end = g.data_at;
    n = 0;
    c = kvri_gguf_first_tensor(&g);
    while ((step = kvri_gguf_next_tensor(&g, &c, &t)) == KVR_OK) {
        assert_true(t.offset >= last_end && t.offset <= bytes && t.bytes <= bytes - t.offset);
        touch(t.name.at, t.name.n);
        touch((const uint8_t *)file + t.offset, t.bytes);
        last_end = t.offset + t.bytes;
        n++;
    }
    assert_int_equal(step, KVR_END);
    assert_int_equal(n, g.n_tensors);
    return KVR_OK;
}

/* A file with a value of every type, arrays and two tensors. */
static gguf_maker all_kinds(void) {
    static const uint8_t data[68] = {1, 2, 3};
    static const uint64_t dims[2] = {4, 3}, quant_dims[1] = {32};
    static const uint8_t widths[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    gguf_maker m = gguf_start();
    gguf_bytes list = {NULL, 0, 0};
    for (uint32_t type = 0; type < 13; type++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", (unsigned)type);
        if (widths[type] == 0) continue;
        gguf_key(&m, key, type);
        gguf_put_le(&m.kv, 0x0102030405060708u + type, widths[type]);
    }
    gguf_key_text(&m, "text", "hello");
    gguf_key_text(&m, "empty", "");
    for (int i = 0; i < 3; i++) gguf_put_string(&list, "abc", (size_t)i);
    gguf_key_array(&m, "texts", KVRI_GGUF_STRING, 3, &list);
    gguf_key_array(&m, "bytes", KVRI_GGUF_U8, list.n, &list);
    gguf_key_array(&m, "none", KVRI_GGUF_F64, 0, &(gguf_bytes){NULL, 0, 0});
    free(list.at);
    gguf_tensor(&m, "a", KVR_DTYPE_F32, 2, dims, data, 48);
    gguf_tensor(&m, "b", KVR_DTYPE_Q8_0, 1, quant_dims, data, 34);
    return m;
}

static kvr_status walk_made(gguf_maker *m) {
    size_t bytes;
    uint8_t *file = gguf_finish(m, &bytes);
    fenced f = fenced_copy(file, bytes);
    const kvr_status status = walk(f.at, f.bytes);
    fenced_free(&f);
    free(file);
    return status;
}

static void keys_and_tensors_are_read_as_they_were_written(void **state) {
    (void)state;
    gguf_maker m = all_kinds();
    size_t bytes;
    uint8_t *file = gguf_finish(&m, &bytes);
    kvri_gguf g;
    assert_int_equal(kvri_gguf_open(file, bytes, &g, NULL), KVR_OK);
    assert_int_equal(g.version, 3);
    assert_int_equal(g.alignment, 32);
    assert_int_equal(g.n_tensors, 2);
    kvri_str key;
    kvri_gguf_value v;
    kvri_gguf_cursor c = kvri_gguf_first_kv(&g);
    uint32_t met = 0;
    while (kvri_gguf_next_kv(&g, &c, &key, &v) == KVR_OK) {
        if (kvri_str_eq(key, "k4")) {
            assert_true(v.type == KVRI_GGUF_U32 && !v.is_array && v.count == 1 && v.bytes == 4);
            assert_int_equal(kvri_le32(v.data), 0x0506070cu);
            met++;
        } else if (kvri_str_eq(key, "text")) {
            assert_true(kvri_str_eq(kvri_gguf_string(v.data), "hello") && v.bytes == 13);
            met++;
        } else if (kvri_str_eq(key, "texts")) {
            assert_true(v.is_array && v.type == KVRI_GGUF_STRING && v.count == 3 && v.bytes == 27);
            assert_true(kvri_str_eq(kvri_gguf_string(v.data + 17), "ab"));
            met++;
        } else if (kvri_str_eq(key, "none")) {
            assert_true(v.is_array && v.count == 0 && v.bytes == 0);
            met++;
        }
    }
    assert_int_equal(met, 4);
    kvri_gguf_tensor t;
    c = kvri_gguf_first_tensor(&g);
    assert_int_equal(kvri_gguf_next_tensor(&g, &c, &t), KVR_OK);
    assert_true(kvri_str_eq(t.name, "a") && t.n_dims == 2 && t.dims[0] == 4 && t.dims[1] == 3 && t.dims[2] == 1);
    assert_true(t.bytes == 48 && t.offset % 32 == 0 && file[t.offset] == 1);
    assert_int_equal(kvri_gguf_next_tensor(&g, &c, &t), KVR_OK);
    assert_true(t.bytes == 34 && t.offset + 34 == bytes);
    assert_int_equal(kvri_gguf_next_tensor(&g, &c, &t), KVR_END);
    free(file);
}

static void version_2_is_read_and_others_are_refused(void **state) {
    (void)state;
    static const uint32_t versions[] = {0, 1, 2, 3, 4, 0x03000000u, UINT32_MAX};
    for (size_t i = 0; i < sizeof versions / sizeof versions[0]; i++) {
        gguf_maker m = all_kinds();
        m.version = versions[i];
        assert_int_equal(walk_made(&m), versions[i] == 2 || versions[i] == 3 ? KVR_OK : KVR_ERR_VERSION);
    }
}

static void every_length_short_of_the_whole_is_refused(void **state) {
    (void)state;
    gguf_maker m = all_kinds();
    size_t bytes;
    uint8_t *file = gguf_finish(&m, &bytes);
    fenced f = fenced_alloc(bytes);
    for (size_t n = 0; n < bytes; n++) {
        uint8_t *at = fenced_tail(&f, n);
        if (n > 0) memcpy(at, file, n);
        assert_int_equal(walk(at, n), n < 4 ? KVR_ERR_MAGIC : KVR_ERR_TRUNCATED);
    }
    memcpy(f.at, file, bytes);
    assert_int_equal(walk(f.at, bytes), KVR_OK);
    fenced_free(&f);
    free(file);
}

static void no_single_flipped_bit_leads_outside_the_file(void **state) {
    (void)state;
    gguf_maker m = all_kinds();
    size_t bytes;
    uint8_t *file = gguf_finish(&m, &bytes);
    fenced f = fenced_copy(file, bytes);
    size_t refused = 0;
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        f.at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        refused += walk(f.at, bytes) != KVR_OK;
        f.at[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    assert_true(refused > 1000); /* the sweep does reach the counts and lengths */
    fenced_free(&f);
    free(file);
}

static void numbers_near_the_ends_of_their_range_lead_nowhere(void **state) {
    (void)state;
    static const uint64_t wide[] = {UINT64_MAX, UINT64_MAX - 7, UINT64_MAX - 31, UINT64_MAX / 2 + 1, UINT64_MAX / 4 + 1,
                                    UINT64_C(1) << 32, UINT64_C(1) << 40, UINT64_MAX / 8 + 1, UINT64_MAX / 34};
    gguf_maker m = all_kinds();
    size_t bytes;
    uint8_t *file = gguf_finish(&m, &bytes);
    fenced f = fenced_copy(file, bytes);
    for (size_t at = 8; at + 8 <= bytes; at++) { /* as counts, lengths, dimensions, offsets, and across them */
        for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
            for (size_t k = 0; k < 8; k++) f.at[at + k] = (uint8_t)(wide[i] >> (8 * k));
            walk(f.at, bytes);
        }
        memcpy(f.at + at, file + at, 8);
    }
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) { /* numbers of tensors and keys */
        for (size_t at = 8; at <= 16; at += 8) {
            for (size_t k = 0; k < 8; k++) f.at[at + k] = (uint8_t)(wide[i] >> (8 * k));
            assert_true(walk(f.at, bytes) < 0);
            memcpy(f.at + at, file + at, 8);
        }
    }
    fenced_free(&f);
    free(file);
}

static void an_array_longer_than_the_file_is_refused(void **state) {
    (void)state;
    static const uint32_t types[] = {KVRI_GGUF_U8, KVRI_GGUF_U16, KVRI_GGUF_F32, KVRI_GGUF_F64, KVRI_GGUF_STRING};
    static const uint64_t counts[] = {9, UINT64_MAX, UINT64_MAX / 8 + 1, UINT64_MAX / 4 + 1, UINT64_MAX / 2 + 1};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            gguf_maker m = gguf_start();
            gguf_bytes eight = {NULL, 0, 0};
            gguf_put_le(&eight, 0, 8);
            gguf_key_array(&m, "list", types[t], counts[i], &eight);
            assert_int_equal(walk_made(&m), KVR_ERR_TRUNCATED);
            free(eight.at);
        }
    }
}

static void an_array_of_arrays_is_refused_at_any_depth(void **state) {
    (void)state;
    gguf_maker m = gguf_start();
    gguf_bytes nested = {NULL, 0, 0};
    for (int depth = 0; depth < 100000; depth++) {
        gguf_put_le(&nested, KVRI_GGUF_ARRAY, 4);
        gguf_put_le(&nested, 1, 8);
    }
    gguf_key_array(&m, "deep", KVRI_GGUF_ARRAY, 1, &nested);
    assert_int_equal(walk_made(&m), KVR_ERR_CORRUPT);
    free(nested.at);
}

static void an_unknown_value_type_is_refused(void **state) {
    (void)state;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        gguf_maker m = gguf_start();
        gguf_key(&m, "odd", types[i]);
        gguf_put_le(&m.kv, 0, 8);
        assert_int_equal(walk_made(&m), KVR_ERR_CORRUPT);
        gguf_bytes eight = {NULL, 0, 0};
        gguf_put_le(&eight, 0, 8);
        gguf_key_array(&m, "odd", types[i], 1, &eight);
        assert_int_equal(walk_made(&m), KVR_ERR_CORRUPT);
        free(eight.at);
    }
}

static void names_must_have_a_length(void **state) {
    (void)state;
    char wide[1026];
    memset(wide, 'n', sizeof wide - 1);
    wide[sizeof wide - 1] = 0;
    for (int tensor = 0; tensor < 2; tensor++) {
        for (int n = 0; n < 3; n++) {
            static const uint64_t dims[1] = {1};
            static const uint8_t data[4] = {0};
            const char *name = n == 0 ? "" : n == 1 ? wide : wide + 1; /* 0, 1025, 1024 bytes */
            gguf_maker m = gguf_start();
            if (tensor) gguf_tensor(&m, name, KVR_DTYPE_F32, 1, dims, data, 4);
            else gguf_key_u32(&m, name, 1);
            assert_int_equal(walk_made(&m), n == 2 ? KVR_OK : KVR_ERR_CORRUPT);
        }
    }
}

static void the_alignment_is_a_power_of_two_in_range(void **state) {
    (void)state;
    static const struct { uint32_t alignment; kvr_status status; } rows[] = {
        {8, KVR_OK}, {16, KVR_OK}, {32, KVR_OK}, {4096, KVR_OK}, {0, KVR_ERR_CORRUPT}, {1, KVR_ERR_CORRUPT},
        {24, KVR_ERR_CORRUPT}, {33, KVR_ERR_CORRUPT}, {1u << 21, KVR_ERR_CORRUPT}, {1u << 31, KVR_ERR_CORRUPT},
        {UINT32_MAX, KVR_ERR_CORRUPT}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        static const uint64_t dims[1] = {1};
        static const uint8_t data[4] = {0};
        gguf_maker m = gguf_start();
        if (rows[i].alignment > 0 && rows[i].alignment <= 4096) m.alignment = rows[i].alignment;
        gguf_key_u32(&m, "general.alignment", rows[i].alignment);
        gguf_tensor(&m, "a", KVR_DTYPE_F32, 1, dims, data, 4);
        gguf_tensor(&m, "b", KVR_DTYPE_F32, 1, dims, data, 4);
        assert_int_equal(walk_made(&m), rows[i].status);
    }
    gguf_maker m = gguf_start();
    gguf_key_text(&m, "general.alignment", "32");
    assert_int_equal(walk_made(&m), KVR_ERR_CORRUPT);
}

/* One or two F32 tensors of 8 elements in 96 bytes of data, at these offsets. */
static kvr_status at_offsets(uint64_t first, uint64_t second) {
    static const uint64_t dims[1] = {8};
    static const uint8_t data[96] = {0};
    gguf_maker m = gguf_start();
    gguf_tensor_info(&m, "a", KVR_DTYPE_F32, 1, dims, first);
    gguf_tensor_info(&m, "b", KVR_DTYPE_F32, 1, dims, second);
    gguf_put(&m.data, data, sizeof data);
    return walk_made(&m);
}

static void tensors_lie_in_order_apart_and_inside(void **state) {
    (void)state;
    assert_int_equal(at_offsets(0, 32), KVR_OK);
    assert_int_equal(at_offsets(0, 64), KVR_OK); /* a gap is fine */
    assert_int_equal(at_offsets(0, 0), KVR_ERR_CORRUPT);
    assert_int_equal(at_offsets(32, 0), KVR_ERR_CORRUPT); /* not in order */
    assert_int_equal(at_offsets(0, 33), KVR_ERR_CORRUPT); /* not aligned */
    assert_int_equal(at_offsets(16, 64), KVR_ERR_CORRUPT);
    assert_int_equal(at_offsets(0, 96), KVR_ERR_TRUNCATED);
    assert_int_equal(at_offsets(0, UINT64_MAX - 31), KVR_ERR_TRUNCATED);
    assert_int_equal(at_offsets(UINT64_MAX / 32 * 32, 0), KVR_ERR_TRUNCATED);
    assert_int_equal(at_offsets(UINT64_C(1) << 63, 0), KVR_ERR_TRUNCATED);
}

static kvr_status of_dims(uint32_t type, uint32_t n_dims, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    const uint64_t dims[5] = {a, b, c, d, 1};
    static const uint8_t data[64] = {0};
    gguf_maker m = gguf_start();
    gguf_tensor_info(&m, "a", type, n_dims, dims, 0);
    gguf_put(&m.data, data, sizeof data);
    return walk_made(&m);
}

static void dimensions_whose_product_overflows_are_refused(void **state) {
    (void)state;
    const uint64_t big = UINT64_C(1) << 32, most = UINT64_C(1) << 40;
    assert_int_equal(of_dims(KVR_DTYPE_F32, 2, 4, 4, 1, 1), KVR_OK);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 2, 4, 5, 1, 1), KVR_ERR_TRUNCATED);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 2, big, big, 1, 1), KVR_ERR_TRUNCATED);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 4, 1, big, big, 1), KVR_ERR_TRUNCATED);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 4, most, most, most, most), KVR_ERR_TRUNCATED);
    assert_int_equal(of_dims(KVR_DTYPE_F16, 2, UINT64_C(1) << 31, big, 1, 1), KVR_ERR_TRUNCATED); /* 2^64 bytes */
    assert_int_equal(of_dims(4, 4, most, most, most, most), KVR_ERR_TRUNCATED); /* also of a type without a size */
    assert_int_equal(of_dims(KVR_DTYPE_F32, 1, most + 1, 1, 1, 1), KVR_ERR_CORRUPT);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 2, 1, UINT64_MAX, 1, 1), KVR_ERR_CORRUPT);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 2, 0, 1, 1, 1), KVR_ERR_CORRUPT);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 4, 1, 1, 1, 0), KVR_ERR_CORRUPT);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 0, 1, 1, 1, 1), KVR_ERR_CORRUPT);
    assert_int_equal(of_dims(KVR_DTYPE_F32, 5, 1, 1, 1, 1), KVR_ERR_CORRUPT);
}

static void a_file_that_is_not_gguf_is_named_by_its_first_bytes(void **state) {
    (void)state;
    kvr_error error = {0};
    kvri_gguf g;
    assert_int_equal(kvri_gguf_open("PK\3\4zipfile", 11, &g, &error), KVR_ERR_MAGIC);
    assert_string_equal(error.detail, "PK??");
    assert_int_equal(kvri_gguf_open("", 0, &g, NULL), KVR_ERR_MAGIC);
}

static void genuine_files_of_other_versions(void **state) {
    (void)state;
    static const struct { const char *path; kvr_status status; } rows[] = {
        {"hostile/magic-FUGG.gguf", KVR_ERR_MAGIC},
        {"hostile/version1-llama.gguf", KVR_ERR_VERSION},
        {"hostile/version2-falcon.gguf", KVR_OK}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t bytes = 0;
        void *file = read_conformance(rows[i].path, &bytes);
        if (file == NULL) skip();
        assert_int_equal(walk(file, bytes), rows[i].status);
        kvri_gguf g;
        if (rows[i].status == KVR_OK) {
            assert_int_equal(kvri_gguf_open(file, bytes, &g, NULL), KVR_OK);
            assert_int_equal(g.version, 2);
            assert_true(g.n_kv > 5);
        }
        free(file);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_and_tensors_are_read_as_they_were_written),
        cmocka_unit_test(version_2_is_read_and_others_are_refused),
        cmocka_unit_test(every_length_short_of_the_whole_is_refused),
        cmocka_unit_test(no_single_flipped_bit_leads_outside_the_file),
        cmocka_unit_test(numbers_near_the_ends_of_their_range_lead_nowhere),
        cmocka_unit_test(an_array_longer_than_the_file_is_refused),
        cmocka_unit_test(an_array_of_arrays_is_refused_at_any_depth),
        cmocka_unit_test(an_unknown_value_type_is_refused),
        cmocka_unit_test(names_must_have_a_length),
        cmocka_unit_test(the_alignment_is_a_power_of_two_in_range),
        cmocka_unit_test(tensors_lie_in_order_apart_and_inside),
        cmocka_unit_test(dimensions_whose_product_overflows_are_refused),
        cmocka_unit_test(a_file_that_is_not_gguf_is_named_by_its_first_bytes),
        cmocka_unit_test(genuine_files_of_other_versions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
