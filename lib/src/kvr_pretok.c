#include "kvr_pretok.h"

#include "kvr_charset.h"

#include <string.h>

/* --- building blocks ------------------------------------------------------------------------------------------ */

static kvri_glyph look(const uint8_t *text, size_t at, size_t end) { return kvri_glyph_at(text, at, end); }

/* Behind the run of characters of these kinds. */
static size_t skip_kinds(const uint8_t *text, size_t at, size_t end, uint32_t kinds) {
    kvri_glyph glyph = look(text, at, end);
    while (glyph.kind & kinds) {
        at = glyph.next;
        glyph = look(text, at, end);
    }
    return at;
}

/* Behind the run of characters of a set, at most `most` of them (0 = any number). */
static size_t skip_set(const uint8_t *text, size_t at, size_t end, kvri_charset set, uint32_t most) {
    kvri_glyph glyph = look(text, at, end);
    for (uint32_t n = 0; kvri_charset_has(set, glyph) && (most == 0 || n < most); n++) {
        at = glyph.next;
        glyph = look(text, at, end);
    }
    return at;
}

static int is_line_end(uint32_t code) { return code == '\r' || code == '\n'; }

/* Bytes of 's 't 'm 'd 're 've 'll at `at`; 0 = none. */
static size_t contraction(const uint8_t *text, size_t at, size_t end, int any_case) {
    if (end - at < 2 || text[at] != '\'') return 0;
    const uint8_t fold = any_case ? 0x20 : 0;
    const uint8_t a = text[at + 1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    if (end - at < 3) return 0;
    const uint8_t b = text[at + 2] | fold;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* \s+(?!\S)|\s+ : white space, leaving the last one to the word behind it. `at` is white space. */
static size_t cut_spaces(const uint8_t *text, size_t at, size_t end) {
    size_t last = at;
    size_t behind = at;
    for (kvri_glyph glyph = look(text, at, end); glyph.kind & KVRI_KIND_SPACE; glyph = look(text, behind, end)) {
        last = behind;
        behind = glyph.next;
    }
    return behind < end && last > at ? last : behind;
}

/* \s*[\r\n]+ : behind the last line end of the white space at `at`; `at` itself when it has none. */
static size_t behind_line_ends(const uint8_t *text, size_t at, size_t end) {
    size_t found = at;
    for (kvri_glyph glyph = look(text, at, end); glyph.kind & KVRI_KIND_SPACE; glyph = look(text, glyph.next, end)) {
        if (is_line_end(glyph.code)) found = glyph.next;
    }
    return found;
}

/* --- cutters -------------------------------------------------------------------------------------------------- */

/* arg: set | most << 8. Runs of a set, at most `most` characters each, and what lies between them. */
static size_t cut_set(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    const kvri_charset set = (kvri_charset)(arg & 0xFFu);
    kvri_glyph glyph = look(text, at, end);
    if (kvri_charset_has(set, glyph)) return skip_set(text, at, end, set, arg >> 8);
    while (glyph.kind != 0 && !kvri_charset_has(set, glyph)) {
        at = glyph.next;
        glyph = look(text, at, end);
    }
    return at;
}

#define ONLY_BLANK 0x100u

/* arg: set | ONLY_BLANK. \s?[set]+ (ONLY_BLANK: " ?[set]+") and what lies between them. */
static size_t cut_led_set(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    const kvri_charset set = (kvri_charset)(arg & 0xFFu);
    kvri_glyph glyph = look(text, at, end);
    size_t pos = at;
    while (glyph.kind != 0) {
        const kvri_glyph next = look(text, glyph.next, end);
        const int leads = arg & ONLY_BLANK ? glyph.code == ' ' : glyph.kind == KVRI_KIND_SPACE;
        if (kvri_charset_has(set, glyph) || (leads && kvri_charset_has(set, next))) {
            return pos > at ? pos : skip_set(text, glyph.next, end, set, 0);
        }
        pos = glyph.next;
        glyph = next;
    }
    return pos;
}

/* \s+$ : the white space at the end, and what lies before it. */
static size_t cut_tail(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    (void)arg;
    size_t tail = at;
    for (kvri_glyph glyph = look(text, at, end); glyph.kind != 0; glyph = look(text, glyph.next, end)) {
        if (glyph.kind != KVRI_KIND_SPACE) tail = glyph.next;
    }
    return tail > at ? tail : end;
}

static int three_digits(const uint8_t *text, size_t at, size_t end) {
    if (end - at < 3) return 0;
    for (size_t i = 0; i < 3; i++) {
        if (text[at + i] < '0' || text[at + i] > '9') return 0;
    }
    return 1;
}

/* [0-9][0-9][0-9] and what lies between them. */
static size_t cut_three_digits(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    (void)arg;
    if (three_digits(text, at, end)) return at + 3;
    while (at < end && !three_digits(text, at, end)) at++;
    return at;
}

/* GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t cut_gpt2(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    (void)arg;
    const size_t short_form = contraction(text, at, end, 0);
    if (short_form != 0) return at + short_form;
    kvri_glyph body = look(text, at, end);
    size_t body_at = at;
    if (body.code == ' ') {
        body_at = body.next;
        body = look(text, body_at, end);
    }
    if (body.kind & KVRI_KIND_LETTER) return skip_kinds(text, body_at, end, KVRI_KIND_LETTER);
    if (body.kind & KVRI_KIND_NUMBER) return skip_kinds(text, body_at, end, KVRI_KIND_NUMBER);
    if (body.kind & KVRI_KIND_REST) return skip_kinds(text, body_at, end, KVRI_KIND_REST);
    return cut_spaces(text, at, end);
}

#define DIGITS(n) (n)         /* most numbers in a word, 0 = any */
#define SHORT_FIRST 0x100u    /* contractions are words of their own */
#define SHORT_LAST 0x200u     /* contractions end the word before them */
#define BY_CASE 0x400u        /* a word is upper-case letters, then lower-case ones */
#define SLASH 0x800u          /* '/' counts as a line end behind punctuation */
#define LINES_APART 0x1000u   /* line ends are not part of punctuation */

/* Where letters that start at `at` (which is one) end: the run; BY_CASE: U*L+|U+L*, U = a letter but a-z, L = but A-Z,
 * so letters outside ASCII are both. */
static size_t skip_letters(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    if ((arg & BY_CASE) == 0) return skip_kinds(text, at, end, KVRI_KIND_LETTER);
    size_t behind_both = 0; /* where the last letter that is U and L ends; 0 = none */
    kvri_glyph glyph = look(text, at, end);
    while (glyph.kind == KVRI_KIND_LETTER && !(glyph.code >= 'a' && glyph.code <= 'z')) {
        if (glyph.code > 'Z') behind_both = glyph.next;
        at = glyph.next;
        glyph = look(text, at, end);
    }
    if (glyph.kind != KVRI_KIND_LETTER) return behind_both != 0 ? behind_both : at;
    while (glyph.kind == KVRI_KIND_LETTER && !(glyph.code >= 'A' && glyph.code <= 'Z')) {
        at = glyph.next;
        glyph = look(text, at, end);
    }
    return at;
}

/* Llama 3 and its relatives; arg: the flags above. The alternatives in order:
 * (?i:'s|'t|'re|'ve|'m|'ll|'d)   [^\r\n\p{L}\p{N}]?\p{L}+   \p{N}{1,3}    ?[^\s\p{L}\p{N}]+[\r\n]*   \s*[\r\n]+
 * \s+(?!\S)   \s+ */
static size_t cut_llama3(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    const size_t short_form = arg & SHORT_FIRST ? contraction(text, at, end, 1) : 0;
    if (short_form != 0) return at + short_form;

    const kvri_glyph first = look(text, at, end);
    const kvri_glyph second = look(text, first.next, end);
    const int leads = !is_line_end(first.code) && !(first.kind & (KVRI_KIND_LETTER | KVRI_KIND_NUMBER));
    if (first.kind == KVRI_KIND_LETTER || (leads && second.kind == KVRI_KIND_LETTER)) {
        const size_t behind = skip_letters(text, leads ? first.next : at, end, arg);
        return behind + (arg & SHORT_LAST ? contraction(text, behind, end, 1) : 0);
    }
    if (first.kind == KVRI_KIND_NUMBER) return skip_set(text, at, end, KVRI_SET_NUMBER, arg & 0xFFu);

    const size_t body_at = first.code == ' ' ? first.next : at;
    if (look(text, body_at, end).kind & KVRI_KIND_REST) {
        size_t behind = skip_kinds(text, body_at, end, KVRI_KIND_REST);
        while (!(arg & LINES_APART) && behind < end &&
               (is_line_end(text[behind]) || ((arg & SLASH) && text[behind] == '/'))) {
            behind++;
        }
        return behind;
    }
    const size_t lines = behind_line_ends(text, at, end);
    return lines > at ? lines : cut_spaces(text, at, end);
}

static int is_ascii_letter(uint32_t code) { return (code | 0x20) >= 'a' && (code | 0x20) <= 'z'; }

/* One match of cut_deepseek3; `at` itself = none. */
static size_t match_deepseek3(const uint8_t *text, size_t at, size_t end) {
    const uint32_t word = KVRI_KIND_LETTER | KVRI_KIND_MARK;
    const uint32_t sign = KVRI_KIND_PUNCT | KVRI_KIND_SYMBOL;
    const kvri_glyph first = look(text, at, end);
    const kvri_glyph second = look(text, first.next, end);
    if (first.code < 0x80 && (first.kind & sign) && is_ascii_letter(second.code)) {
        at = second.next;
        while (at < end && is_ascii_letter(text[at])) at++;
        return at;
    }
    const int leads = !is_line_end(first.code) && !(first.kind & (KVRI_KIND_LETTER | sign));
    if ((leads && (second.kind & word)) || (first.kind & word)) return skip_kinds(text, first.next, end, word);
    const size_t body_at = first.code == ' ' ? first.next : at;
    if (look(text, body_at, end).kind & sign) {
        return skip_set(text, skip_kinds(text, body_at, end, sign), end, KVRI_SET_LINE_END, 0);
    }
    if (first.kind != KVRI_KIND_SPACE) return at;
    const size_t lines = behind_line_ends(text, at, end);
    return lines > at ? lines : cut_spaces(text, at, end);
}

/* DeepSeek V3: [ASCII punctuation][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|
 * \s+(?!\S)|\s+ and what lies between them. */
static size_t cut_deepseek3(const uint8_t *text, size_t at, size_t end, uint32_t arg) {
    (void)arg;
    for (size_t pos = at; pos < end;) {
        const size_t behind = match_deepseek3(text, pos, end);
        if (behind > pos) return pos > at ? pos : behind;
        pos = look(text, pos, end).next;
    }
    return end;
}

/* --- the table ------------------------------------------------------------------------------------------------ */

#define SET(set, most) {cut_set, (uint32_t)(set) | ((uint32_t)(most) << 8)}
#define LED(set) {cut_led_set, (uint32_t)(set)}

/* Names as converters write them. Sources: the pre_tokenizer of each model's tokenizer.json; llama.cpp's list of names,
 * and its rules where they differ from the model's own. */
static const kvri_pretok table[] = {
    {" default ", 0,
     {SET(KVRI_SET_PUNCT_MATH, 0), {cut_gpt2, 0}, SET(KVRI_SET_NUMBER, 0), {cut_three_digits, 0}}},
    {" gpt-2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de jina-v2-code roberta-bpe gigachat a.x-4.0 mellum"
     " modern-bert mpt olmo jais trillion granite-docling exaone4 ",
     0, {{cut_gpt2, 0}}},
    {" starcoder refact command-r smollm codeshell exaone minerva-7b mellum2 ", 0,
     {SET(KVRI_SET_NUMBER, 1), {cut_gpt2, 0}}},
    {" falcon ", 0, {SET(KVRI_SET_PUNCT_TICK, 0), {cut_gpt2, 0}, {cut_three_digits, 0}}},
    {" llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 ", 1, {{cut_llama3, DIGITS(3) | SHORT_FIRST}}},
    {" dbrx smaug-bpe chatglm-bpe glm4 ", 0, {{cut_llama3, DIGITS(3) | SHORT_FIRST}}},
    {" qwen2 stablelm2 hunyuan megrez deepseek-r1-qwen grok-2 solar-open bailingmoe bailingmoe2 llada-moe ", 0,
     {{cut_llama3, DIGITS(1) | SHORT_FIRST}}},
    {" seed-coder ", 0, {{cut_llama3, DIGITS(1) | SHORT_FIRST | LINES_APART}}},
    {" tekken ", 1, {{cut_llama3, DIGITS(1) | BY_CASE | SLASH}}},
    {" gpt-4o llama4 ", 0, {{cut_llama3, DIGITS(3) | BY_CASE | SHORT_LAST | SLASH}}},
    {" deepseek-llm ", 0,
     {SET(KVRI_SET_LINE_END, 1), LED(KVRI_SET_CASED), LED(KVRI_SET_PUNCT_WIDE), {cut_tail, 0}, SET(KVRI_SET_EAST, 0),
      SET(KVRI_SET_NUMBER, 0)}},
    {" deepseek-coder ", 0,
     {SET(KVRI_SET_LINE_END, 1), LED(KVRI_SET_LETTER), LED(KVRI_SET_PUNCT), SET(KVRI_SET_EAST, 0),
      SET(KVRI_SET_NUMBER, 1)}},
    {" deepseek-v3 hunyuan-dense ", 0, {SET(KVRI_SET_NUMBER, 3), SET(KVRI_SET_HAN_KANA, 0), {cut_deepseek3, 0}}},
    {" bloom poro-chat gpt3-finnish ", 0, {{cut_led_set, (uint32_t)KVRI_SET_NO_STOP | ONLY_BLANK}}},
    {" viking ", 0, {{cut_led_set, (uint32_t)KVRI_SET_NO_STOP | ONLY_BLANK}, SET(KVRI_SET_NUMBER, 1)}},
};

static int has_name(const char *names, const char *name) {
    const size_t n = strlen(name);
    if (n == 0 || strchr(name, ' ') != NULL) return 0;
    for (const char *at = strstr(names, name); at != NULL; at = strstr(at + 1, name)) {
        if (at[-1] == ' ' && at[n] == ' ') return 1;
    }
    return 0;
}

const kvri_pretok *kvri_pretok_find(const char *name) {
    if (name[0] == 0) name = "default";
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (has_name(table[i].names, name)) return &table[i];
    }
    return NULL;
}

/* --- cutting -------------------------------------------------------------------------------------------------- */

kvri_pretok_cut kvri_pretok_start(const kvri_pretok *pretok, const uint8_t *text, size_t n) {
    kvri_pretok_cut cut = {pretok, text, 0, {0}};
    cut.ends[0] = n;
    return cut;
}

size_t kvri_pretok_next(kvri_pretok_cut *cut) {
    const size_t start = cut->at;
    if (start >= cut->ends[0]) return 0;
    uint32_t step = 0;
    for (; step < KVRI_PRETOK_STEPS && cut->pretok->steps[step].cut != NULL; step++) {
        if (cut->ends[step + 1] > start) continue; /* still inside this step's piece */
        cut->ends[step + 1] =
            cut->pretok->steps[step].cut(cut->text, start, cut->ends[step], cut->pretok->steps[step].arg);
    }
    cut->at = cut->ends[step];
    return cut->at - start;
}
