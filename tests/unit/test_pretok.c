#include "kvr_charset.h"
#include "kvr_pretok.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cuts text and joins the words with '|'; the text lies at the end of its memory. */
static const char *cut(const char *pre, const char *text) {
    static char joined[512];
    const kvri_pretok *pretok = kvri_pretok_find(pre);
    assert_non_null(pretok);
    const size_t n = strlen(text);
    uint8_t *exact = malloc(n > 0 ? n : 1);
    assert_non_null(exact);
    memcpy(exact, text, n);
    kvri_pretok_cut words = kvri_pretok_start(pretok, exact, n);
    size_t at = 0;
    size_t used = 0;
    for (size_t bytes = 0; (bytes = kvri_pretok_next(&words)) != 0; at += bytes) {
        assert_true(at + bytes <= n && used + bytes + 1 < sizeof joined);
        if (at > 0) joined[used++] = '|';
        memcpy(joined + used, exact + at, bytes);
        used += bytes;
    }
    assert_int_equal(at, n);
    joined[used] = 0;
    free(exact);
    return joined;
}

static void each_kind_cuts_as_its_regular_expressions_say(void **state) {
    (void)state;
    static const struct {
        const char *pre, *text, *words;
    } cases[] = {
        {"gpt-2", "Hello  world's 123abc!?\n\n x ", "Hello| | world|'s| 123|abc|!?|\n\n| x| "},
        {"gpt-2", "I'LL we'll", "I|'|LL| we|'ll"},
        {"gpt-2", "a\xC2\xA0" "b \xE3\x80\x80", "a|\xC2\xA0|b| \xE3\x80\x80"},
        {"", "x==1234 y", "x|==|123|4| y"},
        {"default", "a`b", "a|`|b"},
        {"falcon", "a $5.00`12345", "a| |$|5|.|00|`|123|45"},
        {"starcoder", " 12 a1", " |1|2| a|1"},
        {"smollm", "v10", "v|1|0"},
        {"llama-bpe", "I'LL (foo) 12345!\n\n  bar\n x", "I|'LL| (|foo|)| |123|45|!\n\n| | bar|\n| x"},
        {"qwen2", "'s 123", "'s| |1|2|3"},
        {"seed-coder", "a!\nb", "a|!|\n|b"},
        {"tekken", "camelCase HTTPServer \xC3\x89tat a/\n/b", "camel|Case| HTTPServer| \xC3\x89tat| a|/\n/|b"},
        {"tekken", "AB\xC3\x89" "CD", "AB\xC3\x89|CD"},
        {"gpt-4o", "Don't 1234", "Don't| |123|4"},
        {"deepseek-llm", "Hi, \xE4\xB8\xAD\xE6\x96\x87 42\r\n ", "Hi|,| |\xE4\xB8\xAD\xE6\x96\x87| |42|\r|\n| "},
        {"deepseek-coder", "f(x) 42", "f|(|x|)| |4|2"},
        {"deepseek-v3", "a.b \xE3\x81\x82 1234\x01\x02!", "a|.b| |\xE3\x81\x82| |123|4|\x01\x02|!"},
        {"bloom", "a, b (c)", "a|,| b| (|c|)"},
        {"viking", "a 12", "a| |1|2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *words = cut(cases[i].pre, cases[i].text);
        if (strcmp(words, cases[i].words) != 0) {
            fail_msg("%s: '%s' became '%s', not '%s'", cases[i].pre, cases[i].text, words, cases[i].words);
        }
    }
}

static void every_kind_uses_up_every_text(void **state) {
    (void)state;
    static const char *const kinds[] = {"default", "gpt-2",  "starcoder",    "falcon",         "llama3",
                                        "dbrx",    "qwen2",  "seed-coder",   "tekken",         "gpt-4o",
                                        "bloom",   "viking", "deepseek-llm", "deepseek-coder", "deepseek-v3"};
    static const char alphabet[][5] = {"a",        "Z",        "7",        " ",        "\n",           "\r",
                                       "'",        "s",        ".",        "$",        "/",            "\t",
                                       "\x01",     "\xFF",     "\xE2",     "\xC3\xA9", "\xC2\xA0",     "\xCC\x81",
                                       "\xE4\xB8\xAD", "\xE3\x80\x80", "\xEF\xBC\x81", "\xF0\x9F\xA6\x99"};
    uint32_t seed = 7;
    for (int round = 0; round < 2000; round++) {
        char text[128] = "";
        for (uint32_t n = (round % 24); n > 0; n--) {
            seed = seed * 1664525u + 1013904223u;
            strcat(text, alphabet[(seed >> 16) % (sizeof alphabet / sizeof alphabet[0])]);
        }
        for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) (void)cut(kinds[i], text);
    }
}

static void only_whole_known_names_are_found(void **state) {
    (void)state;
    assert_ptr_equal(kvri_pretok_find(""), kvri_pretok_find("default"));
    assert_ptr_equal(kvri_pretok_find("llama-bpe"), kvri_pretok_find("llama3"));
    assert_int_equal(kvri_pretok_find("llama3")->ignore_merges, 1);
    assert_int_equal(kvri_pretok_find("dbrx")->ignore_merges, 0);
    assert_null(kvri_pretok_find("gpt"));
    assert_null(kvri_pretok_find("gpt-2 phi-2"));
    assert_null(kvri_pretok_find(" "));
    assert_null(kvri_pretok_find("no-such-thing"));
}

static void white_space_is_what_unicode_calls_so(void **state) {
    (void)state;
    static const char *const spaces[] = {" ",        "\t",           "\v",           "\r",          "\xC2\x85",
                                         "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\xA8", "\xE3\x80\x80"};
    static const char *const others[] = {"\x1C", "\xE2\x80\x8B", "\xE2\x81\xA0", "\xEF\xBB\xBF", "\xC2\xAD"};
    for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++) {
        assert_int_equal(kvri_glyph_at((const uint8_t *)spaces[i], 0, strlen(spaces[i])).kind, KVRI_KIND_SPACE);
    }
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_int_equal(kvri_glyph_at((const uint8_t *)others[i], 0, strlen(others[i])).kind, KVRI_KIND_OTHER);
    }
    assert_int_equal(kvri_glyph_at((const uint8_t *)"a", 1, 1).kind, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_cuts_as_its_regular_expressions_say),
        cmocka_unit_test(every_kind_uses_up_every_text),
        cmocka_unit_test(only_whole_known_names_are_found),
        cmocka_unit_test(white_space_is_what_unicode_calls_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
