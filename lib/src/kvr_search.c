/* KVR-S: the best partition by the cost model, and which boards are worth using. */
#include "kvr_cost_core.h"

#include "kvr_checked.h"
#include "kvr_error.h"

#include <math.h>
#include <string.h>

#define MODULE "search"
#define MAX_ROUNDS 6       /* passes over all pairs at one step size */
#define LONG_CHAIN 16u     /* more boards than this: fewer repetitions, or it takes minutes */
#define ALL_PAIRS 8u       /* boards of a short chain */
#define HOPELESS 1.15      /* the coarse grid alone is so much slower than the best set of boards: not refined */
#define MAX_PASSES 4       /* from coarse to fine */
#define WORTH_A_PASS 0.998 /* the last one gained so much */
#define BETTER (1 - 1e-9)  /* smaller gains are rounding */
#define SMOOTH 0.002       /* weight of the boards' balance beside TTFT; see score() */
#define FEWER_WINS 1.001   /* a board that saves less stays out */
#define EQUAL_ROUNDS 6     /* quick search: of making all boards compute equally long */
#define ROUGH_ROUNDS 2     /* the same for each set of a long chain; the chosen one gets the others */
#define QUICK_PAIRS 8u     /* of boards: beyond these, their moves would take too long */
#define SHORT_PROMPT 1024u /* tokens */
#define QUICK_WORTH 1.01   /* a board that is predicted to save less stays out: predictions err by more */
#define HIDDEN 1.02 /* of TTFT with free links: the network is hidden */

/* --- one set of boards --------------------------------------------------------------------------------------- */

/*
 * What is minimised: TTFT, and among partitions that are as good as equal the one whose boards compute equally long.
 * Where the network is the limit very many cuts take the same time; an arbitrary one of them would be a bad neighbour
 * to interpolate from. Unequal work by its own size (variance = squared mean) weighs as 0.2 % of TTFT.
 */
static double score(kvri_sim *sim, const uint32_t *sizes) {
    const uint32_t P = sim->n_boards;
    const double ttft = kvri_sim_run(sim, sizes, NULL);
    double sum = 0, squares = 0;
    for (uint32_t r = 0; r < P; r++) {
        sum += sim->ranks[r].compute_us;
        squares += sim->ranks[r].compute_us * sim->ranks[r].compute_us;
    }
    return sum > 0 ? ttft * (1 + SMOOTH * (squares * P / (sum * sum) - 1)) : ttft;
}

/* Whole tokens in these shares, one at least each. */
static void round_shares(const double *weights, uint32_t n_boards, uint32_t n_tokens, uint32_t *out_sizes) {
    double sum = 0, at = 0;
    uint32_t given = 0;
    for (uint32_t r = 0; r < n_boards; r++) sum += weights[r];
    for (uint32_t r = 0; r < n_boards; r++) {
        at += weights[r] / sum;
        const uint32_t least = given + 1, most = n_tokens - (n_boards - 1 - r);
        uint32_t cut = (uint32_t)(at * n_tokens + 0.5);
        if (cut < least) cut = least;
        if (cut > most || r + 1 == n_boards) cut = most;
        out_sizes[r] = cut - given;
        given = cut;
    }
}

/* The coarse grid: shares by speed, bent by a slope (early ranks have less to attend to and nobody to wait for) and by
 * what the lead gets (it waits longest, but computes little of the last layer). Leaves the best in sim->best. */
static double coarse(kvri_sim *sim) {
    static const double slopes[] = {0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, -0.2, -0.5};
    static const double leads[] = {1, 0.5, 0.75, 1.25, 1.6, 2.5};
    const uint32_t P = sim->n_boards, C = sim->job->n_tokens;
    double best = -1;
    if (P == 1) {
        sim->best[0] = C;
        return score(sim, sim->best);
    }
    for (size_t a = 0; a < sizeof slopes / sizeof slopes[0]; a++)
        for (size_t b = 0; b < sizeof leads / sizeof leads[0]; b++) {
            for (uint32_t r = 0; r < P; r++) {
                const double speed =
                    1 / kvri_single_us(&sim->costs[r], C, sim->costs[r].tile, sim->n_layers, sim->batch_tokens);
                const double place = 1 - 2.0 * r / (P - 1); /* 1 first .. -1 last */
                sim->weights[r] = speed * (1 + slopes[a] * place) * (r + 1 == P ? leads[b] : 1);
            }
            round_shares(sim->weights, P, C, sim->trial);
            const double found = score(sim, sim->trial);
            if (best >= 0 && found >= best * BETTER) continue;
            best = found;
            memcpy(sim->best, sim->trial, P * sizeof *sim->best);
        }
    return best;
}

static int try_trial(kvri_sim *sim, double *best) {
    const double found = score(sim, sim->trial);
    if (found >= *best * BETTER) {
        memcpy(sim->trial, sim->best, sim->n_boards * sizeof *sim->trial);
        return 0;
    }
    *best = found;
    memcpy(sim->best, sim->trial, sim->n_boards * sizeof *sim->best);
    return 1;
}

/* Rank r gives (or takes, when it is a taker) step tokens in equal parts to all others. 0: somebody would run dry. */
static int spread(uint32_t *sizes, uint32_t n_boards, uint32_t r, uint32_t step, int takes) {
    const uint32_t part = step / (n_boards - 1);
    if (part == 0) return 0;
    for (uint32_t i = 0; i < n_boards; i++) {
        const uint32_t moved = i == r ? part * (n_boards - 1) : part;
        if ((i == r) != takes && sizes[i] <= moved) return 0;
    }
    for (uint32_t i = 0; i < n_boards; i++) {
        const uint32_t moved = i == r ? part * (n_boards - 1) : part;
        sizes[i] = (i == r) != takes ? sizes[i] - moved : sizes[i] + moved;
    }
    return 1;
}

/* Which pairs exchange tokens: all of them on short chains; on long ones those a power of two apart, and the lead. */
static int are_partners(uint32_t a, uint32_t b, uint32_t n_boards) {
    const uint32_t apart = a < b ? b - a : a - b;
    if (apart == 0) return 0;
    return n_boards <= ALL_PAIRS || (apart & (apart - 1)) == 0 || a + 1 == n_boards || b + 1 == n_boards;
}

/* All moves of one step size, over and over while one of them helps. */
static void refine_step(kvri_sim *sim, uint32_t step, double *best) {
    const uint32_t P = sim->n_boards;
    int moved = 1;
    for (uint32_t round = 0; moved && round < (P > LONG_CHAIN ? 2 : MAX_ROUNDS); round++) {
        moved = 0;
        for (uint32_t i = 0; i < P; i++) {
            for (int takes = 0; takes < 2; takes++)
                if (P > 2 && spread(sim->trial, P, i, step, takes)) moved |= try_trial(sim, best);
            for (uint32_t j = 0; j < P; j++) {
                if (!are_partners(i, j, P) || sim->trial[i] <= step) continue;
                sim->trial[i] -= step;
                sim->trial[j] += step;
                moved |= try_trial(sim, best);
            }
        }
    }
}

/* From sim->best and its score on, in finer and finer steps. Returns TTFT. */
static double refine(kvri_sim *sim, double best) {
    const uint32_t P = sim->n_boards, C = sim->job->n_tokens;
    if (P == 1) return kvri_sim_run(sim, sim->best, NULL);
    memcpy(sim->trial, sim->best, P * sizeof *sim->trial);
    uint32_t coarsest = 1;
    while (coarsest < C / (4 * P)) coarsest *= 2;
    for (uint32_t pass = 0; pass < (P > LONG_CHAIN ? 1 : MAX_PASSES); pass++) {
        const double before = best;
        for (uint32_t step = coarsest; step >= C / 4096 + 1; step /= 2) refine_step(sim, step, &best);
        if (best > before * WORTH_A_PASS) break;
    }
    return kvri_sim_run(sim, sim->best, NULL);
}

static kvr_status begin(kvri_sim *sim, const kvr_cost_job *job, void *work, size_t work_bytes, kvr_error *error) {
    if (work == NULL) return kvri_fail(error, KVR_ERR_ARG, MODULE, "work must not be NULL");
    KVRI_TRY(kvri_sim_begin(sim, job, work, work_bytes, NULL, error));
    if (sim->strategy != KVR_COST_CHAIN && sim->strategy != KVR_COST_FAN_OUT)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "only chain and fan-out have a partition to search for");
    return KVR_OK;
}

kvr_status kvr_cost_search(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                           double *out_ttft_us, kvr_error *error) {
    kvri_sim sim;
    KVRI_TRY(begin(&sim, job, work, work_bytes, error));
    if (out_sizes == NULL || out_ttft_us == NULL)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "outputs must not be NULL");
    if (job->n_tokens < job->n_boards)
        return kvri_fail_n(error, KVR_ERR_PARTITION, MODULE,
                           "every board needs a token: use fewer boards, or kvr_cost_choose", job->n_boards,
                           job->n_tokens);
    *out_ttft_us = refine(&sim, coarse(&sim));
    memcpy(out_sizes, sim.best, job->n_boards * sizeof *out_sizes);
    return KVR_OK;
}

/* --- which boards -------------------------------------------------------------------------------------------- */

/* The simulation of the n boards whose indices are in `used`, without the one at position `without` (n: with all). */
static void use_boards(kvri_sim *sim, uint32_t n, uint32_t without) {
    uint32_t m = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (i == without) continue;
        sim->some_boards[m] = sim->job->boards[sim->used[i]];
        if (sim->job->links != NULL) sim->some_links[m] = sim->job->links[sim->used[i]];
        m++;
    }
    kvri_sim_use(sim, sim->some_boards, sim->job->links != NULL ? sim->some_links : NULL, m);
}

/* Whether an earlier helper of the list is the same board on the same link, so that leaving it out was tried already.
 */
static int tried_before(const kvri_sim *sim, uint32_t position) {
    const kvr_cost_job *job = sim->job;
    for (uint32_t i = 0; i < position; i++)
        if (job->boards[sim->used[i]] == job->boards[sim->used[position]] &&
            (job->links == NULL || job->links[sim->used[i]] == job->links[sim->used[position]]))
            return 1;
    return 0;
}

/* The helper without which the rest is fastest, by the coarse grid. The lead is the last of the list and stays. */
static uint32_t least_useful(kvri_sim *sim, uint32_t n) {
    uint32_t worst = 0;
    double best = -1;
    for (uint32_t i = 0; i + 1 < n; i++) {
        if (tried_before(sim, i)) continue;
        use_boards(sim, n, i);
        const double found = coarse(sim);
        if (best >= 0 && found >= best) continue;
        best = found;
        worst = i;
    }
    return worst;
}

kvr_status kvr_cost_choose(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                           uint32_t *out_used, double *out_ttft_us, kvr_error *error) {
    kvri_sim sim;
    KVRI_TRY(begin(&sim, job, work, work_bytes, error));
    if (out_sizes == NULL || out_used == NULL || out_ttft_us == NULL)
        return kvri_fail(error, KVR_ERR_ARG, MODULE, "outputs must not be NULL");
    const uint32_t P = job->n_boards;
    uint32_t n = (uint32_t)kvri_min(P, job->n_tokens);
    for (uint32_t i = 0; i < n; i++) sim.used[i] = P - n + i; /* too few tokens: the first boards stay out */
    double least = -1, taken = -1;
    for (;;) {
        use_boards(&sim, n, n);
        double ttft = coarse(&sim);
        if (least < 0 || ttft <= least * HOPELESS) ttft = refine(&sim, ttft);
        if (least < 0 || ttft < least) least = ttft;
        if (ttft <= least * FEWER_WINS) {
            taken = ttft;
            *out_used = n;
            memset(out_sizes, 0, P * sizeof *out_sizes);
            for (uint32_t i = 0; i < n; i++) out_sizes[sim.used[i]] = sim.best[i];
        }
        if (n == 1) break;
        const uint32_t out = least_useful(&sim, n);
        memmove(sim.used + out, sim.used + out + 1, (n - 1 - out) * sizeof *sim.used);
        n--;
    }
    *out_ttft_us = taken;
    return KVR_OK;
}

/* --- while a prompt waits ------------------------------------------------------------------------------------ */

/* Shares by speed, bent until all boards compute equally long: nearly the best cut where the network keeps up. */
static double equal(kvri_sim *sim, uint32_t rounds) {
    const uint32_t P = sim->n_boards, C = sim->job->n_tokens;
    double best = -1;
    for (uint32_t r = 0; r < P; r++)
        sim->weights[r] = 1 / kvri_single_us(&sim->costs[r], C, sim->costs[r].tile, sim->n_layers, sim->batch_tokens);
    for (uint32_t round = 0; round < rounds; round++) {
        round_shares(sim->weights, P, C, sim->trial);
        const double found = score(sim, sim->trial);
        double mean = 0;
        if (best < 0 || found < best) {
            best = found;
            memcpy(sim->best, sim->trial, P * sizeof *sim->best);
        }
        for (uint32_t r = 0; r < P; r++) mean += sim->ranks[r].compute_us / P;
        for (uint32_t r = 0; r < P; r++) sim->weights[r] *= mean / sim->ranks[r].compute_us;
    }
    return best;
}

static int is_short(const kvri_sim *sim) { return sim->job->n_tokens <= SHORT_PROMPT; }

/* Where weights are waited for, more than tokens, equal work is no good beginning; but then a prediction takes no
 * time. */
static double start(kvri_sim *sim) {
    const double found = equal(sim, sim->n_boards > LONG_CHAIN ? ROUGH_ROUNDS : EQUAL_ROUNDS);
    if (!is_short(sim) || sim->n_boards > QUICK_PAIRS) return found;
    memcpy(sim->kept, sim->best, sim->n_boards * sizeof *sim->kept);
    const double other = coarse(sim);
    if (other < found) return other;
    memcpy(sim->best, sim->kept, sim->n_boards * sizeof *sim->kept);
    return found;
}

static double polish(kvri_sim *sim, double best) {
    const uint32_t P = sim->n_boards, C = sim->job->n_tokens;
    if (P > 1 && P <= QUICK_PAIRS) {
        memcpy(sim->trial, sim->best, P * sizeof *sim->trial);
        for (uint32_t step = C / 16 + 1; step > C / 1024; step /= is_short(sim) ? 2 : 4) refine_step(sim, step, &best);
    }
    return kvri_sim_run(sim, sim->best, NULL);
}

/* What a helper would cost: its part of an even cut, and passing on the keys and values of a prompt. */
static double burden(const kvri_sim *sim, const kvri_costs *costs, uint32_t board) {
    const kvr_cost_job *job = sim->job;
    const double whole =
        kvri_single_us(&costs[board], job->n_tokens, costs[board].tile, sim->n_layers, sim->batch_tokens);
    const double bits = 8.0 * sim->token_bytes * sim->n_layers * job->n_tokens;
    return whole / job->n_boards +
           (job->links != NULL ? bits / job->links[board]->mbit + job->links[board]->latency_us : 0);
}

/* Boards in sim->used, ascending; the helper that costs most is taken off. */
static void drop_one(kvri_sim *sim, const double *burdens, uint32_t n) {
    uint32_t worst = 0;
    for (uint32_t i = 1; i + 1 < n; i++)
        if (burdens[sim->used[i]] > burdens[sim->used[worst]]) worst = i;
    memmove(sim->used + worst, sim->used + worst + 1, (n - 1 - worst) * sizeof *sim->used);
}

/* The chosen set of a long chain: its cut was a rough one. */
static void finish(kvri_sim *sim, uint32_t *sizes, double *ttft_us) {
    uint32_t n = 0;
    for (uint32_t r = 0; r < sim->job->n_boards; r++)
        if (sizes[r] != 0) sim->used[n++] = r;
    if (n <= LONG_CHAIN) return;
    use_boards(sim, n, n);
    equal(sim, EQUAL_ROUNDS);
    const double found = kvri_sim_run(sim, sim->best, NULL);
    if (found >= *ttft_us) return;
    *ttft_us = found;
    for (uint32_t i = 0; i < n; i++) sizes[sim->used[i]] = sim->best[i];
}

kvr_status kvri_search_quick(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                             double *out_ttft_us) {
    kvri_sim sim;
    KVRI_TRY(begin(&sim, job, work, work_bytes, NULL));
    const uint32_t P = job->n_boards;
    double *const burdens = sim.scratch;
    for (uint32_t r = 0; r < P; r++) burdens[r] = burden(&sim, sim.costs, r);
    double taken = -1;
    uint32_t n = P;
    for (uint32_t i = 0; i < P; i++) sim.used[i] = i;
    while (n > job->n_tokens) drop_one(&sim, burdens, n--);
    for (;;) {
        use_boards(&sim, n, n);
        double ttft = start(&sim);
        if (taken < 0 || is_short(&sim) || ttft <= taken * HOPELESS) ttft = polish(&sim, ttft);
        if (taken < 0 || ttft <= taken * QUICK_WORTH) {
            /* of sets that are as good as equal the smaller one, but never much worse than the best */
            memset(out_sizes, 0, P * sizeof *out_sizes);
            for (uint32_t i = 0; i < n; i++) out_sizes[sim.used[i]] = sim.best[i];
            *out_ttft_us = ttft;
            if (taken < 0 || ttft < taken) taken = ttft;
        }
        if (n == 1) break;
        drop_one(&sim, burdens, n--);
    }
    finish(&sim, out_sizes, out_ttft_us);
    return KVR_OK;
}

/* --- the network --------------------------------------------------------------------------------------------- */

kvr_status kvr_cost_bandwidth(const kvr_cost_job *job, void *work, size_t work_bytes, double *out_mbit,
                              kvr_error *error) {
    kvri_sim sim;
    kvr_cost_result result;
    if (out_mbit == NULL) return kvri_fail(error, KVR_ERR_ARG, MODULE, "out_mbit must not be NULL");
    KVRI_TRY(kvr_cost_run(job, work, work_bytes, &result, NULL, error)); /* checks the sizes */
    *out_mbit = 0;
    if (job->n_boards == 1 || job->strategy == KVR_COST_SINGLE || job->links == NULL) return KVR_OK;
    KVRI_TRY(kvri_sim_begin(&sim, job, work, work_bytes, NULL, error));
    if (job->sizes != NULL) memcpy(sim.kept, job->sizes, job->n_boards * sizeof *sim.kept);
    else kvri_sim_even(job->n_tokens, job->n_boards, sim.kept);
    double low = 0.01, high = 1e9;
    sim.mbit = high; /* latencies stay, so this and not free links is what can be had */
    const double goal = kvri_sim_run(&sim, sim.kept, NULL) * HIDDEN;
    sim.mbit = low;
    if (kvri_sim_run(&sim, sim.kept, NULL) <= goal) return KVR_OK;
    while (high > low * 1.01) {
        sim.mbit = sqrt(low * high);
        if (kvri_sim_run(&sim, sim.kept, NULL) <= goal) high = sim.mbit;
        else low = sim.mbit;
    }
    *out_mbit = high;
    return KVR_OK;
}
