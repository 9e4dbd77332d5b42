#include "forecast.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "forecast_draw.h"
#include "output.h"
#include "say.h"

#define DEFAULT_LINK "1gbit"

static const number_list DEFAULT_PROMPTS = {6, {512, 1024, 2048, 4096, 8192, 16384}};
static const number_list TABLE_PROMPTS = {11, {16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384}};

typedef struct chain_spec {
    kvr_geometry geometry;
    const kvr_board_profile *boards[KVR_MAX_BOARDS];
    const kvr_link_profile *links[KVR_MAX_BOARDS];
    kvr_cost_job job;
    forecast_memory memory;
    kvr_table table; /* n_rows 0: none */
} chain_spec;

int forecast_wanted(const options *opt) {
    return opt->boards != NULL && opt->boards[strspn(opt->boards, "0123456789")] != '\0';
}

int forecast_memory_for(forecast_memory *memory, const kvr_cost_job *job) {
    const size_t bytes = kvr_cost_work_bytes(job);
    if (bytes == 0) return say_error("this chain or prompt is beyond what the cost model takes: see 'kvr plan --help'");
    if (bytes <= memory->bytes) return EXIT_OK;
    free(memory->work);
    memory->bytes = bytes;
    memory->work = malloc(bytes);
    if (memory->work != NULL) return EXIT_OK;
    memory->bytes = 0;
    return say_error("predicting wants %zu bytes of memory: end other programs, or plan for fewer tokens", bytes);
}

void forecast_memory_free(forecast_memory *memory) {
    free(memory->work);
    memory->work = NULL;
    memory->bytes = 0;
}

/* --- text ----------------------------------------------------------------------------------------------------- */

static const char *seconds(double us, char *out, size_t cap) {
    if (us < 1e4) snprintf(out, cap, "%.2f ms", us / 1e3);
    else if (us < 1e6) snprintf(out, cap, "%.1f ms", us / 1e3);
    else snprintf(out, cap, "%.2f s", us / 1e6);
    return out;
}

static void print_sizes(const char *title, const uint32_t *sizes, uint32_t n) {
    printf("  %-22s", title);
    for (uint32_t r = 0; r < n; r++) printf("%s%u", r == 0 ? "" : ",", sizes[r]);
    printf("\n");
}

static void print_head(const chain_spec *c) {
    printf("model  %s: %s\n", c->geometry.name, c->geometry.source);
    for (uint32_t r = 0; r < c->job.n_boards; r++) {
        if (r > 0 && c->boards[r] == c->boards[r - 1]) continue;
        uint32_t n = 1;
        while (r + n < c->job.n_boards && c->boards[r + n] == c->boards[r]) n++;
        printf("boards %u x %s: %s\n", n, c->boards[r]->name, c->boards[r]->source);
    }
    for (uint32_t r = 0; r < c->job.n_boards; r++)
        if (r == 0 || c->links[r] != c->links[r - 1])
            printf("link   %s: %.1f Mbit/s, %.0f us; %s\n", c->links[r]->name, c->links[r]->mbit,
                   c->links[r]->latency_us, c->links[r]->source);
}

static void print_ranks(const chain_spec *c, const kvr_cost_rank *ranks, const uint32_t *used) {
    printf("  %4s %-18s %8s %12s %12s %12s %14s %12s\n", "rank", "board", "tokens", "compute", "wait_prefix",
           "wait_send", "products", "sent");
    for (uint32_t r = 0; r < c->job.n_boards; r++) {
        char compute[32], prefix[32], sending[32], bytes[32];
        printf("  %4u %-18s %8u %12s %12s %12s %14llu %12s%s\n", r, c->boards[used[r]]->name, ranks[r].n_tokens,
               seconds(ranks[r].compute_us, compute, sizeof compute),
               seconds(ranks[r].wait_prefix_us, prefix, sizeof prefix),
               seconds(ranks[r].wait_send_us, sending, sizeof sending), (unsigned long long)ranks[r].products,
               output_size(ranks[r].bytes_out, bytes, sizeof bytes), r + 1 == c->job.n_boards ? "  (lead)" : "");
    }
}

/* --- one prompt length ---------------------------------------------------------------------------------------- */

/* Which boards take part, from sizes with zeros. Returns how many. */
static uint32_t compact(const chain_spec *all, uint32_t *sizes, uint32_t *out_used, chain_spec *some) {
    uint32_t n = 0;
    for (uint32_t r = 0; r < all->job.n_boards; r++) {
        if (sizes[r] == 0) continue;
        some->boards[n] = all->boards[r];
        some->links[n] = all->links[r];
        out_used[n] = r;
        sizes[n++] = sizes[r];
    }
    return n;
}

static int run(kvr_cost_job *job, forecast_memory *memory, kvr_cost_result *result, kvr_cost_rank *ranks) {
    kvr_error error = {0};
    const int code = forecast_memory_for(memory, job);
    if (code != EXIT_OK) return code;
    if (kvr_cost_run(job, memory->work, memory->bytes, result, ranks, &error) != KVR_OK)
        return say_kvr_error("cannot predict", &error);
    return EXIT_OK;
}

static int pick_partition(chain_spec *c, const options *opt, uint32_t *sizes, const char **out_how) {
    kvr_error error = {0};
    uint32_t used = 0;
    double ttft = 0;
    if (opt->partition.n != 0) {
        *out_how = "partition (given)";
        if (opt->partition.n != c->job.n_boards)
            return say_usage("plan", "--partition has %u parts for %u boards: give one part for each, the lead last",
                             opt->partition.n, c->job.n_boards);
        memcpy(sizes, opt->partition.values, c->job.n_boards * sizeof *sizes);
        return EXIT_OK;
    }
    if (c->table.n_rows != 0) {
        *out_how = "partition (KVR-P)";
        if (kvr_table_predict(&c->table, c->job.n_tokens, sizes) == KVR_OK) return EXIT_OK;
        return say_error("the table gives no partition of %u tokens", c->job.n_tokens);
    }
    *out_how = "partition (KVR-S)";
    if (kvr_cost_choose(&c->job, c->memory.work, c->memory.bytes, sizes, &used, &ttft, &error) != KVR_OK)
        return say_kvr_error("cannot search", &error);
    return EXIT_OK;
}

static int forecast_prompt(chain_spec *c, const options *opt, uint32_t n_tokens) {
    static chain_spec some;
    static kvr_cost_rank ranks[KVR_MAX_BOARDS];
    static uint32_t sizes[KVR_MAX_BOARDS]; /* as long as some.job, which names it */
    uint32_t used[KVR_MAX_BOARDS];
    const char *how = "";
    char text[4][32];
    kvr_cost_result best, even, other;
    double mbit = 0;
    kvr_error error = {0};

    c->job.n_tokens = n_tokens;
    int code = forecast_memory_for(&c->memory, &c->job);
    if (code == EXIT_OK) code = pick_partition(c, opt, sizes, &how);
    if (code != EXIT_OK) return code;

    memset(&even, 0, sizeof even);
    const int has_even = n_tokens >= c->job.n_boards;
    if (has_even) code = run(&c->job, &c->memory, &even, NULL);
    some.geometry = c->geometry;
    some.job = c->job;
    some.job.geometry = &some.geometry;
    some.job.boards = some.boards;
    some.job.links = some.links;
    some.job.sizes = sizes;
    some.job.n_boards = compact(c, sizes, used, &some);
    if (code == EXIT_OK) code = run(&some.job, &c->memory, &best, ranks);
    if (code == EXIT_OK && kvr_cost_bandwidth(&some.job, c->memory.work, c->memory.bytes, &mbit, &error) != KVR_OK)
        code = say_kvr_error("cannot predict", &error);
    if (code != EXIT_OK) return code;

    printf("\nprompt of %u tokens\n", n_tokens);
    printf("  %-22s%u of %u\n", "boards worth using", some.job.n_boards, c->job.n_boards);
    print_sizes(how, sizes, some.job.n_boards);
    printf("  %-22s%s, speed-up %.2fx over the lead alone (%s)", "time to first token",
           seconds(best.ttft_us, text[0], 32), best.single_us / best.ttft_us, seconds(best.single_us, text[1], 32));
    if (has_even) printf("; all boards, even cut: %s", seconds(even.ttft_us, text[2], 32));
    printf("\n  %-22sperfect split %s, busiest board %s\n", "lower bounds", seconds(best.bound_split_us, text[0], 32),
           seconds(best.bound_busiest_us, text[1], 32));
    printf("  %-22s%s moved; free links would give %s", "network", output_size(best.bytes_moved, text[0], 32),
           seconds(best.free_us, text[1], 32));
    if (some.job.n_boards == 1) printf("\n");
    else if (mbit > 0) printf("; hidden from %.1f Mbit/s on\n", mbit);
    else printf("; hidden at any bandwidth\n");
    static const kvr_cost_strategy others[] = {KVR_COST_TSP, KVR_COST_TSP_SKIP, KVR_COST_FAN_OUT, KVR_COST_TENSOR};
    printf("  %-22s", "other strategies");
    for (size_t i = 0; has_even && i < sizeof others / sizeof others[0]; i++) {
        kvr_cost_job job = c->job;
        job.strategy = (uint32_t)others[i];
        code = run(&job, &c->memory, &other, NULL);
        if (code != EXIT_OK) return code;
        printf("%s%s %s", i == 0 ? "" : ", ", kvr_cost_strategy_name(others[i]), seconds(other.ttft_us, text[0], 32));
    }
    printf("%s\n", has_even ? "" : "-");
    chain_spec shown = some;
    memcpy(shown.boards, c->boards, sizeof shown.boards);
    print_ranks(&shown, ranks, used);
    return forecast_draw(&some.job, &c->memory, opt);
}

/* --- the table ------------------------------------------------------------------------------------------------ */

static int write_table(chain_spec *c, const number_list *prompts, const char *path) {
    kvr_error error = {0};
    FILE *file = path != NULL ? fopen(path, "w") : stdout;
    if (file == NULL) return say_error("cannot write %s: %s; choose another name", path, strerror(errno));
    fprintf(file, "kvr-table 1\n# kvr plan --search: tokens of each board by prompt length, the lead last; 0 = not "
                  "worth using\n");
    fprintf(file, "geometry %s\nboards %u", c->geometry.name[0] != '\0' ? c->geometry.name : "unnamed",
            c->job.n_boards);
    for (uint32_t r = 0; r < c->job.n_boards; r++) {
        fprintf(file, " ");
        for (const char *at = c->boards[r]->name; *at; at++) fputc(*at == ' ' ? '_' : *at, file);
    }
    fprintf(file, "\nlinks");
    for (uint32_t r = 0; r < c->job.n_boards; r++) fprintf(file, " %s", c->links[r]->name);
    fprintf(file, "\n");
    int code = EXIT_OK;
    for (uint32_t i = 0; i < prompts->n && code == EXIT_OK; i++) {
        uint32_t sizes[KVR_MAX_BOARDS], used = 0;
        char line[KVR_MAX_BOARDS * 11 + 32];
        double ttft = 0;
        c->job.n_tokens = prompts->values[i];
        code = forecast_memory_for(&c->memory, &c->job);
        if (code != EXIT_OK) break;
        if (kvr_cost_choose(&c->job, c->memory.work, c->memory.bytes, sizes, &used, &ttft, &error) != KVR_OK)
            code = say_kvr_error("cannot search", &error);
        else fwrite(line, 1, kvr_table_write_row(c->job.n_tokens, sizes, c->job.n_boards, line, sizeof line), file);
    }
    if (path != NULL && fclose(file) != 0 && code == EXIT_OK)
        code = say_error("cannot write %s: %s; free some space or choose another name", path, strerror(errno));
    return code;
}

static int read_table(chain_spec *c, const char *path) {
    static char text[1 << 20];
    static uint32_t work[(1 + KVR_MAX_BOARDS) * KVR_TABLE_ROWS];
    size_t bytes = 0;
    kvr_error error = {0};
    const int code = profiles_read_file(path, text, sizeof text, &bytes);
    if (code != EXIT_OK) return code;
    if (kvr_table_read(text, bytes, work, sizeof work, &c->table, &error) != KVR_OK) return say_kvr_error(path, &error);
    if (c->table.n_boards != c->job.n_boards)
        return say_error("%s was searched for %u boards, --boards names %u: search again", path, c->table.n_boards,
                         c->job.n_boards);
    return EXIT_OK;
}

int forecast(const options *opt) {
    static profiles store;
    static chain_spec c;
    memset(&store, 0, sizeof store);
    memset(&c, 0, sizeof c);
    if (opt->search && (opt->trace != NULL || opt->timeline != NULL || opt->table != NULL || opt->partition.n != 0))
        return say_usage("plan", "--search writes a table of partitions: leave --trace, --timeline, --table and "
                                 "--partition out");
    int code = profiles_begin(&store, opt->profiles);
    if (code == EXIT_OK) code = profiles_geometry(&store, opt->model, &c.geometry);
    if (code == EXIT_OK)
        code = profiles_chain(&store, opt->boards, opt->link != NULL ? opt->link : DEFAULT_LINK, c.boards, c.links,
                              &c.job.n_boards);
    if (code != EXIT_OK) return code;
    c.job.struct_bytes = sizeof c.job;
    c.job.geometry = &c.geometry;
    c.job.boards = c.boards;
    c.job.links = c.links;
    c.job.batch_tokens = opt->batch_tokens;
    c.job.kv_bytes = opt->wire_kv == KVR_DTYPE_Q8_0 ? 34.0 / 32 : opt->kv_dtype == KVR_KV_F32 ? 4 : 2;
    if (opt->search) {
        code = write_table(&c, opt->plan_prompt.n != 0 ? &opt->plan_prompt : &TABLE_PROMPTS, opt->table_out);
    } else {
        const number_list *lengths = opt->plan_prompt.n != 0 ? &opt->plan_prompt : &DEFAULT_PROMPTS;
        if ((opt->trace != NULL || opt->timeline != NULL) && lengths->n != 1)
            return say_usage("plan", "a timeline is of one prompt: give one length with -p");
        if (opt->table != NULL) code = read_table(&c, opt->table);
        if (code == EXIT_OK) print_head(&c);
        for (uint32_t i = 0; i < lengths->n && code == EXIT_OK; i++)
            code = forecast_prompt(&c, opt, lengths->values[i]);
    }
    forecast_memory_free(&c.memory);
    return code;
}
