#include "statistics.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "say.h"

enum { CAP_PARTITION = 8 * KVR_MAX_BOARDS };

static double ms(uint64_t us) {
    return (double)us / 1000.0;
}

static double per_second(uint64_t n, uint64_t us) {
    return us > 0 ? (double)n * 1e6 / (double)us : 0;
}

double statistics_decode_rate(const kvr_stats *stats) {
    return stats->n_new_tokens > 1 ? per_second(stats->n_new_tokens - 1, stats->decode_us) : 0;
}

double statistics_expected_us(const chain *c, const kvr_stats *stats) {
    return c->expected_us > 0 ? c->expected_us : (double)stats->expected_us;
}

static void get_stats(const chain *c, kvr_stats *out) {
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    kvr_session_get_stats(c->e.session, out);
}

void statistics_partition(const chain *c, char *out, size_t cap) {
    kvr_trace_board board;
    size_t n = 0;
    memset(&board, 0, sizeof board);
    board.struct_bytes = sizeof board;
    out[0] = '\0';
    for (uint32_t r = 0; n < cap && kvr_session_get_trace_board(c->e.session, r, &board) == KVR_OK; r++)
        n += (size_t)snprintf(out + n, cap - n, "%s%u", r ? "," : "", board.tokens);
}

void statistics_print(const chain *c, const kvr_prompt *prompt) {
    kvr_stats stats;
    get_stats(c, &stats);
    fprintf(stderr, "prompt   %u tokens, first token after %.1f ms (%.2f tokens/s)\n", stats.n_prompt_tokens,
            ms(stats.ttft_us), per_second(stats.n_prompt_tokens, stats.ttft_us));
    const double expected_us = statistics_expected_us(c, &stats);
    if (expected_us > 0)
        fprintf(stderr, "expected %.1f ms by the profiles, predicted / measured %.2f\n", expected_us / 1e3,
                stats.ttft_us > 0 ? expected_us / (double)stats.ttft_us : 0);
    fprintf(stderr, "answer   %u tokens, %.2f tokens/s\n", stats.n_new_tokens, statistics_decode_rate(&stats));
    fprintf(stderr, "boards   %u", stats.n_boards);
    if (c->plans && stats.n_boards < c->n_boards) fprintf(stderr, " of %u", c->n_boards);
    char partition[CAP_PARTITION];
    statistics_partition(c, partition, sizeof partition);
    fprintf(stderr, ", partition %s, %s, %s\n", partition, chain_strategy_name(stats.n_boards, prompt->strategy),
            device_name(c->e.dev));
    if (stats.n_boards < 2) return;
    fprintf(stderr, "chain    connect %.1f ms, computed %.1f ms, waited for the prefix %.1f ms, for sending %.1f ms\n",
            ms(stats.connect_us), ms(stats.compute_us), ms(stats.wait_prefix_us), ms(stats.wait_send_us));
    fprintf(stderr, "frames   in %llu (%llu bytes), out %llu (%llu bytes), dropped %llu\n",
            (unsigned long long)stats.frames_in, (unsigned long long)stats.bytes_in,
            (unsigned long long)stats.frames_out, (unsigned long long)stats.bytes_out,
            (unsigned long long)stats.frames_dropped);
}

int statistics_write_json(const chain *c, const kvr_prompt *prompt, const char *path) {
    kvr_stats stats;
    get_stats(c, &stats);
    FILE *file = fopen(path, "w");
    if (file == NULL) return say_error("cannot write '%s': %s; choose another name", path, strerror(errno));
    fprintf(file, "{\n  \"backend\": ");
    output_json_text(file, device_backend(c->e.dev)->name);
    fprintf(file, ",\n  \"device\": ");
    output_json_text(file, device_name(c->e.dev));
    fprintf(file, ",\n  \"strategy\": \"%s\"", chain_strategy_name(stats.n_boards, prompt->strategy));
    char partition[CAP_PARTITION];
    statistics_partition(c, partition, sizeof partition);
    fprintf(file, ",\n  \"boards\": %u,\n  \"partition\": [%s", stats.n_boards, partition);
    fprintf(file, "],\n  \"ctx_tokens\": %u,\n  \"prompt_tokens\": %u,\n  \"new_tokens\": %u,\n", c->e.plan.ctx_tokens,
            stats.n_prompt_tokens, stats.n_new_tokens);
    fprintf(file, "  \"ttft_ms\": %.3f,\n  \"prompt_tokens_per_s\": %.3f,\n  \"decode_ms\": %.3f,\n", ms(stats.ttft_us),
            per_second(stats.n_prompt_tokens, stats.ttft_us), ms(stats.decode_us));
    if (statistics_expected_us(c, &stats) > 0)
        fprintf(file, "  \"expected_ttft_ms\": %.3f,\n", statistics_expected_us(c, &stats) / 1e3);
    fprintf(file, "  \"plan_ms\": %.3f,\n", ms(stats.plan_us));
    fprintf(file, "  \"decode_tokens_per_s\": %.3f,\n  \"connect_ms\": %.3f,\n", statistics_decode_rate(&stats),
            ms(stats.connect_us));
    fprintf(file, "  \"compute_ms\": %.3f,\n", ms(stats.compute_us));
    fprintf(file, "  \"wait_prefix_ms\": %.3f,\n  \"wait_send_ms\": %.3f,\n", ms(stats.wait_prefix_us),
            ms(stats.wait_send_us));
    fprintf(file, "  \"own_first\": %u,\n  \"own_tokens\": %u,\n", stats.own_first, stats.own_tokens);
    fprintf(file, "  \"frames_in\": %llu,\n  \"frames_out\": %llu,\n  \"bytes_in\": %llu,\n",
            (unsigned long long)stats.frames_in, (unsigned long long)stats.frames_out,
            (unsigned long long)stats.bytes_in);
    fprintf(file, "  \"bytes_out\": %llu,\n  \"frames_dropped\": %llu\n}\n", (unsigned long long)stats.bytes_out,
            (unsigned long long)stats.frames_dropped);
    int failed = ferror(file);
    if (fclose(file) != 0 || failed) return say_error("cannot write '%s': free some space", path);
    return EXIT_OK;
}
