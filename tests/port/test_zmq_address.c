/* port/zmq: the address at which a helper reaches this board. Address syntax itself is tested in test_zmq.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "kvr/kvr_zmq.h"

#include <string.h>

static void a_helper_on_loopback_reaches_us_on_loopback(void **state) {
    (void)state;
    static const char *const helpers[] = {"tcp://127.0.0.1:7000", "tcp://127.9.8.7:1", "tcp://localhost:7000",
                                          "tcp://[::1]:7000"};
    static const char *const inboxes[] = {"tcp://0.0.0.0:7123", "tcp://*:7123", "tcp://[::]:7123",
                                          "tcp://127.0.0.1:7123"};
    char out[KVR_ADDRESS_CAP];
    for (size_t h = 0; h < 4; h++) {
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(kvr_zmq_own_address(helpers[h], inboxes[i], out, sizeof out), KVR_OK);
            assert_string_equal(out, "tcp://127.0.0.1:7123");
        }
    }
}

static void an_inbox_on_one_interface_is_its_own_address(void **state) {
    (void)state;
    char out[KVR_ADDRESS_CAP];
    assert_int_equal(kvr_zmq_own_address("tcp://10.0.0.2:7000", "tcp://10.0.0.1:7123", out, sizeof out), KVR_OK);
    assert_string_equal(out, "tcp://10.0.0.1:7123");
    assert_int_equal(kvr_zmq_own_address("tcp://[fd00::2]:7000", "tcp://[fd00::1]:7123", out, sizeof out), KVR_OK);
    assert_string_equal(out, "tcp://[fd00::1]:7123");
}

static void an_inbox_on_loopback_is_out_of_reach_for_other_machines(void **state) {
    (void)state;
    char out[KVR_ADDRESS_CAP];
    assert_int_equal(kvr_zmq_own_address("tcp://10.0.0.2:7000", "tcp://127.0.0.1:7123", out, sizeof out),
                     KVR_ERR_ADDRESS);
    assert_string_equal(out, "");
}

/* The route depends on the machine: with one the answer is an IPv4 address of ours, without one a clear refusal. */
static void a_helper_elsewhere_gets_the_address_on_the_route_to_it(void **state) {
    (void)state;
    char out[KVR_ADDRESS_CAP];
    const kvr_status status = kvr_zmq_own_address("tcp://192.0.2.1:7000", "tcp://0.0.0.0:7123", out, sizeof out);
    if (status == KVR_OK) {
        assert_memory_equal(out, "tcp://", 6);
        assert_null(strstr(out, "//0.0.0.0:"));
        assert_null(strstr(out, "//127."));
        assert_string_equal(strrchr(out, ':'), ":7123");
    } else {
        assert_int_equal(status, KVR_ERR_ADDRESS);
        assert_string_equal(out, "");
    }
    /* An inbox on IPv4 only is out of reach for an address of IPv6. */
    assert_int_equal(kvr_zmq_own_address("tcp://[2001:db8::1]:7000", "tcp://0.0.0.0:7123", out, sizeof out),
                     KVR_ERR_ADDRESS);
}

static void malformed_addresses_and_short_buffers_are_refused(void **state) {
    (void)state;
    char out[KVR_ADDRESS_CAP];
    assert_int_equal(kvr_zmq_own_address("tcp://*:7000", "tcp://0.0.0.0:1", out, sizeof out), KVR_ERR_ADDRESS);
    assert_int_equal(kvr_zmq_own_address("10.0.0.2", "tcp://0.0.0.0:1", out, sizeof out), KVR_ERR_ADDRESS);
    assert_int_equal(kvr_zmq_own_address(NULL, "tcp://0.0.0.0:1", out, sizeof out), KVR_ERR_ADDRESS);
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:7000", "tcp://0.0.0.0:*", out, sizeof out), KVR_ERR_ADDRESS);
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:7000", NULL, out, sizeof out), KVR_ERR_ADDRESS);
    /* "tcp://127.0.0.1:7123" is 20 characters and a terminator */
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:7000", "tcp://*:7123", out, 20), KVR_ERR_NOMEM);
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:7000", "tcp://*:7123", out, 21), KVR_OK);
    assert_int_equal(kvr_zmq_own_address("tcp://127.0.0.1:7000", "tcp://*:7123", NULL, 21), KVR_ERR_ARG);
}

static void wildcards_are_addresses_to_listen_at_only(void **state) {
    (void)state;
    static const char *const both[] = {"tcp://127.0.0.1:7000", "tcp://board:1", "tcp://[::1]:65535"};
    static const char *const listen[] = {"tcp://*:7000", "tcp://0.0.0.0:7000", "tcp://127.0.0.1:*"};
    static const char *const none[] = {"", "10.0.0.2:7000", "tcp://10.0.0.2", "tcp://10.0.0.2:65536", NULL};
    for (size_t i = 0; i < 3; i++) {
        assert_true(kvr_zmq_is_address(both[i], 0) && kvr_zmq_is_address(both[i], 1));
        assert_true(!kvr_zmq_is_address(listen[i], 0) && kvr_zmq_is_address(listen[i], 1));
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_true(!kvr_zmq_is_address(none[i], 0) && !kvr_zmq_is_address(none[i], 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_helper_on_loopback_reaches_us_on_loopback),
        cmocka_unit_test(an_inbox_on_one_interface_is_its_own_address),
        cmocka_unit_test(an_inbox_on_loopback_is_out_of_reach_for_other_machines),
        cmocka_unit_test(a_helper_elsewhere_gets_the_address_on_the_route_to_it),
        cmocka_unit_test(wildcards_are_addresses_to_listen_at_only),
        cmocka_unit_test(malformed_addresses_and_short_buffers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
