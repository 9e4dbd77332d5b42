#include "kvr_utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

static void every_code_point_survives_writing_and_reading(void **state) {
    (void)state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        if (code == 0xD800) code = 0xE000; /* surrogates are not characters */
        uint8_t text[4] = {0};
        const uint32_t n = kvri_utf8_put(code, text);
        size_t at = 0;
        if (kvri_utf8_check(text, n) != (int)n || kvri_utf8_next(text, n, &at) != code || at != n) {
            fail_msg("code point %x", (unsigned)code);
        }
        for (uint32_t part = 1; part < n; part++) assert_int_equal(kvri_utf8_check(text, part), 0);
    }
}

static void bytes_that_can_never_become_a_character_are_told_at_once(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\x80", "\xBF", "\xC0", "\xC1", "\xF5", "\xFF",         /* never lead */
        "\xC3\x28", "\xE2\x28", "\xE2\x82\x28", "\xF0\x9F\x28", /* not continued */
        "\xE0\x80", "\xE0\x9F", "\xF0\x80", "\xF0\x8F",         /* overlong */
        "\xED\xA0", "\xED\xBF",                                 /* surrogates */
        "\xF4\x90",                                             /* above U+10FFFF */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(kvri_utf8_check((const uint8_t *)bad[i], strlen(bad[i])), -1);
    }
}

static void a_wrong_byte_is_one_replacement_character_long(void **state) {
    (void)state;
    static const char text[] = "a\xE2\x82z\xF0\x9F";
    static const uint32_t codes[] = {'a', 0xFFFD, 0xFFFD, 'z', 0xFFFD, 0xFFFD};
    const size_t n = sizeof text - 1;
    uint8_t *exact = malloc(n); /* so that reading behind the end is found */
    assert_non_null(exact);
    memcpy(exact, text, n);
    size_t at = 0;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_int_equal(kvri_utf8_next(exact, n, &at), codes[i]);
        assert_int_equal(at, i + 1);
    }
    free(exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_survives_writing_and_reading),
        cmocka_unit_test(bytes_that_can_never_become_a_character_are_told_at_once),
        cmocka_unit_test(a_wrong_byte_is_one_replacement_character_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
