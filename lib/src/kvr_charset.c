#include "kvr_charset.h"

#include "kvr_utf8.h"

#include <utf8proc.h>

typedef struct range {
    uint32_t first, last;
} range;

/* Sources: the "pre_tokenizer" of the tokenizer.json files of DeepSeek LLM and DeepSeek V3. */
static const range cased[] = {
    {0x0041, 0x005A}, {0x0061, 0x007A}, {0x00B5, 0x00B5}, {0x00C0, 0x00D6}, {0x00D8, 0x00F6}, {0x00F8, 0x01BA},
    {0x01BC, 0x01BF}, {0x01C4, 0x0293}, {0x0295, 0x02AF}, {0x0370, 0x0373}, {0x0376, 0x0376}, {0x0377, 0x0377},
    {0x037B, 0x037D}, {0x037F, 0x037F}, {0x0386, 0x0386}, {0x0388, 0x038A}, {0x038C, 0x038C}, {0x038E, 0x03A1},
    {0x03A3, 0x03F5}, {0x03F7, 0x0481}, {0x048A, 0x052F}, {0x0531, 0x0556}, {0x10A0, 0x10C5}, {0x13A0, 0x13F5},
    {0x13F8, 0x13FD}, {0x1C90, 0x1CBA}, {0x1CBD, 0x1CBF}, {0x1D00, 0x1D2B}, {0x1D6B, 0x1D77}, {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15}, {0x1F18, 0x1F1D}, {0x1F20, 0x1F45}, {0x1F48, 0x1F4D}, {0x1F50, 0x1F57}, {0x1F59, 0x1F59},
    {0x1F5B, 0x1F5B}, {0x1F5D, 0x1F5D}, {0x1F5F, 0x1F7D}, {0x1F80, 0x1FB4}, {0x1FB6, 0x1FBC}, {0x1FBE, 0x1FBE},
    {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FCC}, {0x1FD0, 0x1FD3}, {0x1FD6, 0x1FDB}, {0x1FE0, 0x1FEC}, {0x1FF2, 0x1FF4},
    {0x1FF6, 0x1FFC}, {0x2102, 0x2102}, {0x2107, 0x2107}, {0x210A, 0x2113}, {0x2115, 0x2115}, {0x2119, 0x211D},
    {0x2124, 0x2124}, {0x2126, 0x2126}, {0x2128, 0x2128}, {0x212A, 0x212D}, {0x212F, 0x2134}, {0x2139, 0x2139},
    {0x213C, 0x213F}, {0x2145, 0x2149}, {0x214E, 0x214E}, {0x2183, 0x2183}, {0x2184, 0x2184}, {0x2C00, 0x2C7B},
    {0x2C7E, 0x2CE4}, {0x2CEB, 0x2CEE}, {0x2CF2, 0x2CF2}, {0x2CF3, 0x2CF3}, {0xA640, 0xA66D}, {0xA680, 0xA69B},
    {0xA722, 0xA76F}, {0xA771, 0xA787}, {0xA78B, 0xA78E}, {0xAB70, 0xABBF}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17},
    {0xFF21, 0xFF3A}, {0xFF41, 0xFF5A}, {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB},
    {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2}, {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};
static const range punct_wide[] = {
    {0x0021, 0x002F}, {0x003A, 0x007E}, {0x2018, 0x201F}, {0x3000, 0x3002}, {0xFF01, 0xFF0F}, {0xFF1A, 0xFF5E},
};
static const range east[] = {{0x0800, 0x9FA5}, {0xAC00, 0xD7FF}};
static const range han_kana[] = {{0x3040, 0x30FF}, {0x4E00, 0x9FA5}};
static const range white_space[] = {
    {0x0009, 0x000D}, {0x0020, 0x0020}, {0x0085, 0x0085}, {0x00A0, 0x00A0}, {0x1680, 0x1680},
    {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
};

static int in_ranges(const range *ranges, size_t n, uint32_t code) {
    size_t low = 0;
    size_t high = n; /* the first range that ends at or behind code is in [low, high] */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (ranges[middle].last < code) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && ranges[low].first <= code;
}

#define IN(ranges, code) in_ranges(ranges, sizeof(ranges) / sizeof(ranges)[0], code)

static uint32_t kind_of(uint32_t code) {
    if (IN(white_space, code)) return KVRI_KIND_SPACE;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO: return KVRI_KIND_LETTER;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME: return KVRI_KIND_MARK;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return KVRI_KIND_NUMBER;
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO: return KVRI_KIND_PUNCT;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO: return KVRI_KIND_SYMBOL;
    default: return KVRI_KIND_OTHER;
    }
}

kvri_glyph kvri_glyph_at(const uint8_t *text, size_t at, size_t end) {
    kvri_glyph glyph = {0, 0, at};
    if (at >= end) return glyph;
    glyph.code = kvri_utf8_next(text, end, &glyph.next);
    glyph.kind = kind_of(glyph.code);
    return glyph;
}

/* code is one of the characters of an ASCII text */
static int one_of(const char *ascii, uint32_t code) {
    while (*ascii != 0 && (uint32_t)(unsigned char)*ascii != code) ascii++;
    return *ascii != 0;
}

static int is_stop(uint32_t code) {
    return one_of("(|.,!?)", code) || code == 0x2026 || code == 0x3002 || code == 0xFF0C || code == 0x3001 ||
           code == 0x0964 || code == 0x06D4 || code == 0x060C;
}

int kvri_charset_has(kvri_charset set, kvri_glyph glyph) {
    if (glyph.kind == 0) return 0;
    const int space = glyph.kind == KVRI_KIND_SPACE;
    switch (set) {
    case KVRI_SET_LETTER: return glyph.kind == KVRI_KIND_LETTER;
    case KVRI_SET_NUMBER: return glyph.kind == KVRI_KIND_NUMBER;
    case KVRI_SET_PUNCT: return glyph.kind == KVRI_KIND_PUNCT;
    case KVRI_SET_LINE_END: return glyph.code == '\r' || glyph.code == '\n';
    case KVRI_SET_PUNCT_MATH: return glyph.kind == KVRI_KIND_PUNCT || one_of("$+<=>^~|", glyph.code);
    case KVRI_SET_PUNCT_TICK: return glyph.kind == KVRI_KIND_PUNCT || one_of("$+<=>^~|`", glyph.code);
    case KVRI_SET_CASED: return IN(cased, glyph.code);
    case KVRI_SET_PUNCT_WIDE: return !space && IN(punct_wide, glyph.code);
    case KVRI_SET_EAST: return !space && IN(east, glyph.code);
    case KVRI_SET_HAN_KANA: return IN(han_kana, glyph.code);
    case KVRI_SET_NO_STOP: return !space && !is_stop(glyph.code);
    }
    return 0;
}
