/* port/none and the skeleton in port/template. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_none.h"
#include "kvr_template.h"

static uint32_t read_tick(void *user) {
    return *(const uint32_t *)user;
}

static void a_tick_counter_becomes_a_clock_in_microseconds(void **state) {
    (void)state;
    uint32_t tick = 500;
    kvr_none none;
    kvr_port port;
    assert_int_equal(kvr_none_port(&none, read_tick, &tick, 1000, &port), KVR_OK);
    assert_int_equal(port.now_us(port.user), 0);
    tick += 7;
    assert_int_equal(port.now_us(port.user), 7000);
    assert_null(port.map);
    assert_null(port.idle);
    assert_null(port.log);
}

static void the_clock_goes_on_when_the_counter_wraps(void **state) {
    (void)state;
    uint32_t tick = UINT32_MAX - 1;
    kvr_none none;
    kvr_port port;
    assert_int_equal(kvr_none_port(&none, read_tick, &tick, 1000, &port), KVR_OK);
    tick += 12; /* past 2^32 */
    assert_int_equal(port.now_us(port.user), 12000);
    uint64_t before = port.now_us(port.user);
    for (int wraps = 0; wraps < 1000; wraps++) {
        tick += UINT32_C(0xf0000000);
        const uint64_t now = port.now_us(port.user);
        assert_true(now > before);
        before = now;
    }
    /* 1000 * 0xf0000000 ms + 12 ms, in microseconds */
    assert_true(before == UINT64_C(0xf0000000) * 1000u * 1000u + 12000u);
}

static void a_counter_of_one_gigahertz_keeps_its_fractions(void **state) {
    (void)state;
    uint32_t tick = 0;
    kvr_none none;
    kvr_port port;
    assert_int_equal(kvr_none_port(&none, read_tick, &tick, 1000000000u, &port), KVR_OK);
    for (int i = 0; i < 3000; i++) {
        tick += 500; /* half a microsecond a time */
        port.now_us(port.user);
    }
    assert_int_equal(port.now_us(port.user), 1500);
}

static void a_clock_without_a_rate_is_refused(void **state) {
    (void)state;
    uint32_t tick = 0;
    kvr_none none;
    kvr_port port;
    assert_int_equal(kvr_none_port(&none, read_tick, &tick, 0, &port), KVR_ERR_ARG);
    assert_int_equal(kvr_none_port(&none, NULL, &tick, 1000, &port), KVR_ERR_ARG);
    assert_int_equal(kvr_none_port(NULL, read_tick, &tick, 1000, &port), KVR_ERR_ARG);
    assert_int_equal(kvr_none_port(&none, read_tick, &tick, 1000, NULL), KVR_ERR_ARG);
}

static uint64_t fixed_clock(void) {
    return 42;
}

static void the_skeleton_fills_both_tables_and_says_what_it_lacks(void **state) {
    (void)state;
    kvr_template self = {fixed_clock};
    kvr_port port;
    kvr_template_port(&self, &port);
    assert_int_equal(port.struct_bytes, sizeof port);
    assert_int_equal(port.now_us(port.user), 42);
    const void *data = NULL;
    size_t bytes = 0;
    kvr_error error = {0};
    assert_int_equal(port.map(port.user, "m.gguf", &data, &bytes, &error), KVR_ERR_UNSUPPORTED);
    assert_string_equal(error.module, "template");

    kvr_link link;
    kvr_template_link(&self, &link);
    assert_int_equal(link.struct_bytes, sizeof link);
    assert_int_equal(link.connect(link.user, 0, "spi:0"), KVR_ERR_UNSUPPORTED);
    assert_int_equal(link.send(link.user, 0, "x", 1), KVR_ERR_UNSUPPORTED);
    char buf[4];
    assert_int_equal(link.recv(link.user, buf, sizeof buf, &bytes), KVR_ERR_UNSUPPORTED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tick_counter_becomes_a_clock_in_microseconds),
        cmocka_unit_test(the_clock_goes_on_when_the_counter_wraps),
        cmocka_unit_test(a_counter_of_one_gigahertz_keeps_its_fractions),
        cmocka_unit_test(a_clock_without_a_rate_is_refused),
        cmocka_unit_test(the_skeleton_fills_both_tables_and_says_what_it_lacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
