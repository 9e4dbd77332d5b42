#include "timeline.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "say.h"

void timeline_add_up(timeline *v) {
    v->end_us = v->start_us + v->ttft_us;
    for (uint32_t i = 0; i < v->n_spans; i++) {
        const kvr_span *s = &v->spans[i];
        v->sum_us[s->rank][s->kind] += s->to_us - s->from_us;
        v->bytes[s->rank] += s->bytes;
        if (s->to_us > v->end_us) v->end_us = s->to_us;
    }
    if (v->end_us == v->start_us) v->end_us++; /* something to divide by */
}

void timeline_of_session(const chain *c, timeline *v) {
    kvr_stats stats;
    memset(v, 0, sizeof *v);
    memset(&stats, 0, sizeof stats);
    stats.struct_bytes = sizeof stats;
    kvr_session_get_stats(c->e.session, &stats);
    v->spans = c->e.spans;
    v->n_spans = kvr_session_get_trace(c->e.session, &v->start_us);
    v->n_layers = kvr_model_get_info(c->e.model)->n_layers;
    v->n_tokens = stats.n_prompt_tokens;
    v->ttft_us = stats.ttft_us;
    while (v->n_boards < KVR_MAX_BOARDS &&
           kvr_session_get_trace_board(c->e.session, v->n_boards, &v->boards[v->n_boards]) == KVR_OK)
        v->n_boards++;
    timeline_add_up(v);
}

/* Microseconds since the prompt; a helper's clock may be off by a little. */
static uint64_t since(const timeline *v, uint64_t us) {
    return us > v->start_us ? us - v->start_us : 0;
}

static const char *what(const timeline *v, const kvr_span *s, char *out, size_t cap) {
    const char *kind = kvr_span_kind_name((kvr_span_kind)s->kind);
    if (s->kind == KVR_SPAN_CONNECT) snprintf(out, cap, "%s", kind);
    else if (s->layer == v->n_layers) snprintf(out, cap, "%s head", kind);
    else snprintf(out, cap, "%s layer %u", kind, s->layer);
    return out;
}

/* The device's row or the link's. */
static int is_link(const kvr_span *s) {
    return s->kind == KVR_SPAN_TRANSFER;
}

static int open_file(const char *path, FILE **out) {
    *out = fopen(path, "w");
    if (*out == NULL) return say_error("cannot write '%s': %s; choose another name", path, strerror(errno));
    return EXIT_OK;
}

static int close_file(FILE *file, const char *path) {
    int failed = ferror(file);
    if (fclose(file) != 0 || failed) return say_error("cannot write '%s': free some space", path);
    return EXIT_OK;
}

/* --- Chrome's trace format (Trace Event Format, "complete events"; Perfetto opens it) ----------------------------- */

int timeline_write_trace(const timeline *v, const char *path) {
    FILE *file = NULL;
    if (path == NULL) return EXIT_OK;
    int code = open_file(path, &file);
    if (code != EXIT_OK) return code;
    fprintf(file, "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    for (uint32_t r = 0; r < v->n_boards; r++) {
        const kvr_trace_board *b = &v->boards[r];
        fprintf(
            file,
            "{\"ph\": \"M\", \"name\": \"process_name\", \"pid\": %u, \"args\": {\"name\": \"board %u, tokens %u to "
            "%u\"}},\n",
            r, r, b->first, b->first + b->tokens - 1);
        fprintf(
            file,
            "{\"ph\": \"M\", \"name\": \"process_sort_index\", \"pid\": %u, \"args\": {\"sort_index\": %u}},\n"
            "{\"ph\": \"M\", \"name\": \"process_labels\", \"pid\": %u, \"args\": {\"labels\": \"clock within %llu us, "
            "%u spans lost%s\"}},\n"
            "{\"ph\": \"M\", \"name\": \"thread_name\", \"pid\": %u, \"tid\": 0, \"args\": {\"name\": \"device\"}},\n"
            "{\"ph\": \"M\", \"name\": \"thread_name\", \"pid\": %u, \"tid\": 1, \"args\": {\"name\": \"link in\"}},\n",
            r, r, r, (unsigned long long)b->clock_error_us, b->n_lost, b->known ? "" : ", told nothing", r, r);
    }
    for (uint32_t i = 0; i < v->n_spans; i++) {
        const kvr_span *s = &v->spans[i];
        char name[48];
        const uint64_t from = since(v, s->from_us), to = since(v, s->to_us);
        fprintf(
            file,
            "{\"ph\": \"X\", \"name\": \"%s\", \"cat\": \"%s\", \"pid\": %u, \"tid\": %d, \"ts\": %llu, \"dur\": %llu, "
            "\"args\": {\"layer\": %u, \"bytes\": %u}},\n",
            what(v, s, name, sizeof name), kvr_span_kind_name((kvr_span_kind)s->kind), s->rank, is_link(s),
            (unsigned long long)from, (unsigned long long)(to - from), s->layer, s->bytes);
    }
    fprintf(file,
            "{\"ph\": \"i\", \"s\": \"g\", \"name\": \"first token\", \"pid\": %u, \"tid\": 0, \"ts\": %llu}\n]}\n",
            v->n_boards > 0 ? v->n_boards - 1 : 0, (unsigned long long)v->ttft_us);
    return close_file(file, path);
}

/* --- the picture ------------------------------------------------------------------------------------------------ */

enum { LEFT = 150, PLOT = 1040, RIGHT = 170, TOP = 76, LANE = 58, DEVICE_H = 26, LINK_H = 10, BOTTOM = 64 };

/* Two shades each, so that neighbouring layers are told apart. */
static const char *const COLOURS[KVR_SPAN_KINDS][2] = {{"#2f7d5b", "#58a583"},
                                                       {"#d9534f", "#e58783"},
                                                       {"#e0a030", "#ebc174"},
                                                       {"#3b6fb6", "#7ba3d8"},
                                                       {"#b8b8b8", "#b8b8b8"}};
static const char *const MEANINGS[KVR_SPAN_KINDS] = {
    "compute: the device works on a layer", "wait_prefix: idle until keys and values come",
    "wait_send: idle until the last ones have left", "transfer: from the board before, sent to received",
    "connect: until all boards have their job"};

static double percent(uint64_t part, uint64_t whole) {
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

/* 1, 2 or 5 times a power of ten microseconds, about a tenth of the whole. */
static uint64_t tick_us(uint64_t whole_us) {
    static const uint32_t steps[3] = {1, 2, 5};
    for (uint64_t power = 1; power < UINT64_MAX / 100; power *= 10)
        for (int i = 0; i < 3; i++)
            if (power * steps[i] * 12 >= whole_us) return power * steps[i];
    return whole_us;
}

static void draw_head(FILE *file, const timeline *v) {
    uint64_t bytes = 0, prefix_us = 0, send_us = 0;
    for (uint32_t r = 0; r < v->n_boards; r++) {
        bytes += v->bytes[r];
        prefix_us += v->sum_us[r][KVR_SPAN_WAIT_PREFIX];
        send_us += v->sum_us[r][KVR_SPAN_WAIT_SEND];
    }
    fprintf(file, "<text x=\"%d\" y=\"24\" class=\"title\">%u tokens on %u board%s, partition ", 12, v->n_tokens,
            v->n_boards, v->n_boards == 1 ? "" : "s");
    for (uint32_t r = 0; r < v->n_boards; r++) fprintf(file, "%s%u", r ? "," : "", v->boards[r].tokens);
    fprintf(file, ": first token%s after %.1f ms</text>\n", v->is_predicted ? " predicted" : "",
            (double)v->ttft_us / 1000.0);
    fprintf(file,
            "<text x=\"%d\" y=\"46\">%u layers; keys and values moved %.2f MB; boards together waited %.1f ms for the "
            "prefix, "
            "%.1f ms for sending</text>\n",
            12, v->n_layers, (double)bytes / 1e6, (double)prefix_us / 1000.0, (double)send_us / 1000.0);
}

static void draw_axis(FILE *file, const timeline *v, int bottom) {
    const uint64_t whole = v->end_us - v->start_us, tick = tick_us(whole);
    for (uint64_t at = 0; tick > 0; at += tick) {
        const double x = LEFT + (double)PLOT * (double)at / (double)whole;
        fprintf(file, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" class=\"grid\"/>", x, TOP - 6, x, bottom);
        fprintf(file, "<text x=\"%.1f\" y=\"%d\" class=\"tick\">%g ms</text>\n", x, TOP - 10, (double)at / 1000.0);
        if (whole - at < tick) break; /* before the sum could wrap around */
    }
    const double x = LEFT + (double)PLOT * (double)v->ttft_us / (double)whole;
    fprintf(file,
            "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" class=\"first\"><title>first token</title></line>\n", x,
            TOP - 6, x, bottom);
}

static void draw_lane(FILE *file, const timeline *v, uint32_t rank) {
    const kvr_trace_board *b = &v->boards[rank];
    const int y = TOP + (int)rank * LANE;
    fprintf(file, "<text x=\"12\" y=\"%d\">board %u%s</text>", y + 14, rank, rank + 1 == v->n_boards ? " (lead)" : "");
    fprintf(file, "<text x=\"12\" y=\"%d\" class=\"small\">%u tokens from %u</text>\n", y + 30, b->tokens, b->first);
    if (!b->known) {
        fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"small\">told nothing</text>\n", LEFT + 4, y + 18);
        return;
    }
    fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"small\">compute %.1f ms, %.0f %%</text>", LEFT + PLOT + 10, y + 12,
            (double)v->sum_us[rank][KVR_SPAN_COMPUTE] / 1000.0, percent(v->sum_us[rank][KVR_SPAN_COMPUTE], v->ttft_us));
    fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"small\">waits %.1f + %.1f ms</text>", LEFT + PLOT + 10, y + 25,
            (double)v->sum_us[rank][KVR_SPAN_WAIT_PREFIX] / 1000.0,
            (double)v->sum_us[rank][KVR_SPAN_WAIT_SEND] / 1000.0);
    fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"small\">in %.2f MB%s</text>\n", LEFT + PLOT + 10, y + 38,
            (double)v->bytes[rank] / 1e6, b->n_lost ? ", spans lost" : "");
}

static void draw_span(FILE *file, const timeline *v, const kvr_span *s) {
    const double scale = (double)PLOT / (double)(v->end_us - v->start_us);
    const double x = LEFT + (double)since(v, s->from_us) * scale;
    double width = (double)(since(v, s->to_us) - since(v, s->from_us)) * scale;
    const int y = TOP + s->rank * LANE + (is_link(s) ? DEVICE_H + 4 : 0);
    char name[48];
    if (width < 0.5) width = 0.5; /* still to be seen */
    fprintf(file, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>%s, %.3f ms from %.3f ms",
            x, y, width, is_link(s) ? LINK_H : DEVICE_H, COLOURS[s->kind][s->layer & 1u], what(v, s, name, sizeof name),
            (double)(s->to_us - s->from_us) / 1000.0, (double)since(v, s->from_us) / 1000.0);
    if (s->bytes > 0) fprintf(file, ", %u bytes", s->bytes);
    fprintf(file, "</title></rect>\n");
    if (s->kind == KVR_SPAN_COMPUTE && width >= 16 && s->layer < v->n_layers)
        fprintf(file, "<text x=\"%.1f\" y=\"%d\" class=\"layer\">%u</text>\n", x + width / 2, y + 17, s->layer);
}

static void draw_legend(FILE *file, int y) {
    int x = 12;
    for (int k = 0; k < KVR_SPAN_KINDS; k++) {
        if (k == 3) {
            x = 12;
            y += 20;
        }
        fprintf(file, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/>", x, y - 10, COLOURS[k][0]);
        fprintf(file, "<text x=\"%d\" y=\"%d\" class=\"small\">%s</text>\n", x + 18, y, MEANINGS[k]);
        x += 360;
    }
}

int timeline_write_picture(const timeline *v, const char *path) {
    FILE *file = NULL;
    if (path == NULL) return EXIT_OK;
    int code = open_file(path, &file);
    if (code != EXIT_OK) return code;
    const int bottom = TOP + (int)v->n_boards * LANE, width = LEFT + PLOT + RIGHT, height = bottom + BOTTOM;
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\">\n"
            "<style>text{font:13px sans-serif;fill:#222}.title{font-size:17px;font-weight:bold}.small{font-size:11px}"
            ".tick{font-size:11px;text-anchor:middle;fill:#666}.layer{font-size:10px;text-anchor:middle;fill:#fff}"
            ".grid{stroke:#e2e2e2}.first{stroke:#222;stroke-dasharray:4 3}</style>\n"
            "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
            width, height, width, height, width, height);
    draw_head(file, v);
    draw_axis(file, v, bottom);
    for (uint32_t r = 0; r < v->n_boards; r++) draw_lane(file, v, r);
    for (uint32_t i = 0; i < v->n_spans; i++) draw_span(file, v, &v->spans[i]);
    draw_legend(file, bottom + 24);
    fprintf(file, "</svg>\n");
    return close_file(file, path);
}
