#include "balance.h"

#include <string.h>

#include "forecast.h"
#include "profiles.h"
#include "say.h"

#define LOCAL_LINK "loopback"
#define REMOTE_LINK "1gbit"

static void swap_helpers(chain *c, uint32_t a, uint32_t b) {
    const char *address = c->addresses[a];
    const uint32_t place = c->place[a];
    c->addresses[a] = c->addresses[b];
    c->addresses[b] = address;
    c->place[a] = c->place[b];
    c->place[b] = place;
    if (c->local.n_boards < 2) return;
    const board_process helper = c->local.helpers[a];
    c->local.helpers[a] = c->local.helpers[b];
    c->local.helpers[b] = helper;
}

/* The order of --profile, as it was before an earlier prompt moved boards. */
static void restore_order(chain *c) {
    for (uint32_t r = 0; r + 1 < c->n_boards; r++)
        if (c->place[r] == 0) c->place[r] = r + 1;
    for (uint32_t r = 0; r + 1 < c->n_boards; r++)
        while (c->place[r] != r + 1) swap_helpers(c, r, c->place[r] - 1);
}

/* Boards that take part move to the front, the order among them kept; sizes likewise. Returns how many they are. */
static uint32_t move_to_front(chain *c, uint32_t *sizes) {
    uint32_t n = 0;
    restore_order(c);
    for (uint32_t r = 0; r + 1 < c->n_boards; r++) {
        if (sizes[r] == 0) continue;
        swap_helpers(c, r, n);
        sizes[n++] = sizes[r];
    }
    sizes[n++] = sizes[c->n_boards - 1];
    return n;
}

/* Whether the boards of a search are the first ones, up to boards that are alike. */
static int order_is_free(const kvr_board_profile **who, const kvr_link_profile **links, uint32_t n) {
    for (uint32_t r = 1; r + 1 < n; r++)
        if (who[r] != who[0] || links[r] != links[0]) return 0;
    return 1;
}

/* The boards of --profile, one for each of the chain. */
static int read_profiles(const chain *c, const options *opt, const kvr_board_profile **who,
                         const kvr_link_profile **links) {
    static profiles store;
    uint32_t n = 0;
    memset(&store, 0, sizeof store);
    const char *link = opt->link != NULL ? opt->link : opt->local_boards != 0 ? LOCAL_LINK : REMOTE_LINK;
    int code = profiles_begin(&store, opt->profiles);
    if (code == EXIT_OK) code = profiles_chain(&store, opt->profile, link, who, links, &n);
    if (code != EXIT_OK) return code;
    if (n != 1 && n != c->n_boards)
        return say_usage(
            NULL, "--profile names %u boards, the chain has %u: give one for all, or one for each, the lead last", n,
            c->n_boards);
    for (uint32_t r = n; r < c->n_boards; r++) {
        who[r] = who[n - 1];
        links[r] = links[n - 1];
    }
    return EXIT_OK;
}

/* The best partition; sizes of boards that are left out are 0. */
static int search(const kvr_cost_job *job, const forecast_memory *memory, uint32_t *sizes, double *out_us) {
    kvr_error error = {0};
    uint32_t used = 0;
    if (kvr_cost_choose(job, memory->work, memory->bytes, sizes, &used, out_us, &error) == KVR_OK) return EXIT_OK;
    return say_kvr_error("cannot plan the partition", &error);
}

/* What a prompt takes that is cut otherwise. */
static int predict(const kvr_cost_job *job, const forecast_memory *memory, double *out_us) {
    kvr_error error = {0};
    kvr_cost_result result;
    if (kvr_cost_run(job, memory->work, memory->bytes, &result, NULL, &error) != KVR_OK)
        return say_kvr_error("cannot predict", &error);
    *out_us = result.ttft_us;
    return EXIT_OK;
}

int balance_prompt(chain *c, const options *opt, kvr_prompt *prompt, uint32_t out_sizes[KVR_MAX_BOARDS]) {
    kvr_geometry geometry;
    const kvr_board_profile *who[KVR_MAX_BOARDS];
    const kvr_link_profile *links[KVR_MAX_BOARDS];
    forecast_memory memory = {NULL, 0};
    kvr_cost_job job;
    if (opt->profile == NULL) return EXIT_OK;
    int code = read_profiles(c, opt, who, links);
    if (code != EXIT_OK) return code;
    if (kvr_geometry_of(kvr_model_get_info(c->e.model), &geometry) != KVR_OK)
        return say_error("the model has no weights");

    const int alone = prompt->n_boards < 2;
    const int given = opt->partition.n != 0 || opt->even || prompt->strategy != KVR_STRATEGY_CHAIN;
    memset(&job, 0, sizeof job);
    job.struct_bytes = sizeof job;
    job.strategy = alone ? (uint32_t)KVR_COST_SINGLE : prompt->strategy;
    job.geometry = &geometry;
    job.boards = who;
    job.links = links;
    job.sizes = opt->partition.n != 0 ? opt->partition.values : NULL;
    job.n_boards = c->n_boards;
    job.n_tokens = prompt->n_ids;
    job.batch_tokens = c->e.plan.batch_tokens;
    job.frame_tokens = c->e.plan.frame_tokens;
    job.kv_bytes = (double)kvr_dtype_row_bytes(c->e.plan.wire_kv, 32) / 32;
    code = forecast_memory_for(&memory, &job);
    if (code == EXIT_OK && (alone || given)) code = predict(&job, &memory, &c->expected_us);
    else if (code == EXIT_OK) code = search(&job, &memory, out_sizes, &c->expected_us);
    forecast_memory_free(&memory);
    if (code != EXIT_OK || alone || given) return code;

    uint32_t n_front = 0;
    if (order_is_free(who, links, c->n_boards)) { /* alike: the first helpers do as well as any */
        for (uint32_t r = 0; r < c->n_boards; r++)
            if (out_sizes[r] != 0) out_sizes[n_front++] = out_sizes[r];
    } else {
        n_front = move_to_front(c, out_sizes);
        if (n_front > 1) code = engine_set_boards(&c->e, c->addresses, n_front - 1);
    }
    if (n_front < c->n_boards && opt->verbose)
        say_note("%u of %u boards are worth using for %u tokens", n_front, c->n_boards, prompt->n_ids);
    prompt->n_boards = n_front;
    prompt->partition = out_sizes;
    return code;
}
