/*
 * kvr_cost.h - time to first token predicted: the chain's scheduling rules in virtual time, the best partition by these
 * rules, and what other ways to share a prompt would take. Sources: KV-Runahead (arXiv 2405.05329) for the method, the
 * baseline TSP and the hierarchical grid search; lib/README.md for what this library's chain does.
 *
 * Arithmetic only: no clock, no device, no heap. The caller gives the working memory.
 */
#ifndef KVR_COST_H
#define KVR_COST_H

#include "kvr/kvr_plan.h"
#include "kvr/kvr_profile.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_COST_MAX_BOARDS 1024u /* simulated; a real chain has at most KVR_MAX_BOARDS */

typedef enum kvr_cost_strategy {
    KVR_COST_CHAIN = 0,  /* KV-Runahead, any partition */
    KVR_COST_SINGLE = 1, /* the last board alone */
    KVR_COST_TSP = 2, /* the paper's baseline: even cut, K and V of each layer by a blocking ring all-gather; the full
                         square of products, masked afterwards; every layer in full */
    KVR_COST_TSP_SKIP = 3, /* the same, but no keys after a chunk's end, masked tiles and the last layer's unread rows
                              are skipped as in the chain: what is left of the chain's lead comes from its transfers */
    KVR_COST_FAN_OUT = 4,  /* each rank sends its keys and values to all later ranks itself */
    KVR_COST_TENSOR = 5    /* tensor parallel: weights and heads divided evenly, two ring all-reduces per layer */
} kvr_cost_strategy;
#define KVR_COST_STRATEGIES 6u

/* "chain", "single", "tsp", "tsp-skip", "fan-out", "tensor". */
const char *kvr_cost_strategy_name(kvr_cost_strategy strategy);

typedef enum kvr_cost_span {
    KVR_COST_COMPUTE = 0,
    KVR_COST_WAIT_PREFIX = 1, /* for keys and values of others */
    KVR_COST_WAIT_SEND = 2,   /* done, but what it has to pass on is not out yet */
    KVR_COST_TRANSFER = 3 /* on the board's outgoing link: a layer's first byte to its last arrival; layers overlap */
} kvr_cost_span;

/* One stretch of time on a board, for drawing. Spans of a rank come layer by layer; ranks in ascending order. */
typedef void (*kvr_cost_span_fn)(void *user, uint32_t rank, uint32_t layer, kvr_cost_span span, double begin_us,
                                 double end_us);

/* Zero is the default of every field that is not required. P = n_boards. */
typedef struct kvr_cost_job {
    uint32_t struct_bytes;
    uint32_t strategy;                       /* kvr_cost_strategy */
    const kvr_geometry *geometry;            /* required */
    const kvr_board_profile *const *boards;  /* [P] required; in chain order, the lead last */
    const kvr_link_profile *const *links;    /* [P]: what each board sends through; NULL = free links */
    uint32_t n_boards;                       /* 1..KVR_COST_MAX_BOARDS */
    uint32_t n_tokens;                       /* of the prompt, 1..2^20; at least one per board */
    const uint32_t *sizes;                   /* [P] tokens of each rank; NULL = even */
    uint32_t batch_tokens;                   /* rows per operator call; 0 = 256 */
    uint32_t frame_tokens;                   /* most tokens per frame; 0 = 128 */
    double kv_bytes;                         /* of one key or value element on the wire; 0 = 2 (F16); Q8_0: 1.0625 */
    uint64_t seed;                           /* of links whose bandwidth varies */
    kvr_cost_span_fn span;                   /* may be NULL */
    void *span_user;
} kvr_cost_job;

typedef struct kvr_cost_rank {
    uint32_t first, n_tokens;
    double compute_us, wait_prefix_us, wait_send_us;
    double done_us;    /* end of its own work, sending included */
    uint64_t products; /* query-key products per head and layer (of a layer computed in full) */
    uint64_t bytes_out, frames_out; /* on its outgoing link, headers included */
} kvr_cost_rank;

typedef struct kvr_cost_result {
    double ttft_us;
    double single_us;        /* the last board alone, same rules */
    double bound_split_us; /* lower bound: the least work (no masked product, no unread row) divided perfectly over the
                              boards by their speed, free links; TTFT(1)/P on equal boards */
    double bound_busiest_us; /* lower bound of this partition: the busiest rank, free links */
    double free_us;          /* this partition and strategy with free links */
    double bound_overlap_us; /* chain: if a board that waits for a prefix could do its attention meanwhile, all of it:
                              * what attending in parts to the keys that are there could save at most. Others:
                              * ttft_us */
    uint64_t entries_moved; /* K and V entries (a token's row of one layer counts 1 for K and 1 for V) over all links */
    uint64_t bytes_moved;    /* over all links and layers, headers included */
} kvr_cost_result;

/* Working memory that kvr_cost_run, _search, _choose and _bandwidth want for this job; 0 = a field is out of range. */
size_t kvr_cost_work_bytes(const kvr_cost_job *job);

/*
 * Predicts one prompt. out_ranks: [P] or NULL. work: aligned to 8 bytes.
 * Rules: lib/README.md, "The cost model". Cost: n_layers * frames steps for every rank (P = 8, 32 layers, 16k tokens:
 * below a millisecond on a PC). Same job, same result, bit for bit on one machine. Errors: ARG, PARTITION (sizes do not
 * add up), NOMEM (work too small; wanted and had).
 */
kvr_status kvr_cost_run(const kvr_cost_job *job, void *work, size_t work_bytes, kvr_cost_result *out,
                        kvr_cost_rank *out_ranks, kvr_error *error);

/*
 * KVR-S: the partition with the least TTFT by hierarchical search: a coarse grid over the shape of the cut, then the
 * best is refined, moving tokens between any two ranks in steps from coarse to fine (n_tokens / 4096). Among partitions
 * within 0.2 % of each other the one with balanced work is taken, so that neighbouring lengths get similar ones.
 * Deterministic. All P boards take part; job->sizes and span are ignored. Strategies CHAIN and FAN_OUT; others: ARG.
 * Cost: about 100 + 50 P^2 predictions up to 16 boards (8 boards, 2k tokens: a tenth of a second on a PC), fewer each
 * above.
 */
kvr_status kvr_cost_search(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                           double *out_ttft_us, kvr_error *error);

/*
 * The same, and which boards are worth using: they are left out one after the other, down to the lead, which always
 * stays; the fastest set is taken. A board that saves less than 0.1 % stays out. out_sizes: [P], 0 for a board left
 * out. Cost: up to P^2/2 searches on unequal boards, P on equal ones.
 */
kvr_status kvr_cost_choose(const kvr_cost_job *job, void *work, size_t work_bytes, uint32_t *out_sizes,
                           uint32_t *out_used, double *out_ttft_us, kvr_error *error);

/* Bandwidth in Mbit/s (steady and the same for all links, their latencies kept) at which TTFT is within 2 % of what
 * more bandwidth could give; 0 when any will do. A few dozen predictions. */
kvr_status kvr_cost_bandwidth(const kvr_cost_job *job, void *work, size_t work_bytes, double *out_mbit,
                              kvr_error *error);

/* --- KVR-P: a table of searched partitions ------------------------------------------------------------------- */

#define KVR_TABLE_ROWS 256u

/*
 * Text:  kvr-table 1
 *        geometry llama-7b            for people, like boards and links: whom it was searched for
 *        boards 3 rk3588 rk3588 rpi5
 *        links 1gbit 1gbit 1gbit
 *        row 1024 412 380 232         prompt tokens, then tokens of each board in chain order; 0 = left out
 * Rows ascend strictly, at most KVR_TABLE_ROWS of them.
 */
typedef struct kvr_table {
    uint32_t n_boards, n_rows;
    const uint32_t *n_tokens; /* [n_rows] */
    const uint32_t *sizes;    /* [n_rows][n_boards] */
} kvr_table;

/* Reads a table; its rows lie in work, aligned to 4 bytes: (1 + boards) * KVR_TABLE_ROWS * 4 bytes suffice for any.
 * *out is unchanged on error. Hostile text gives MAGIC, VERSION, KEY (detail: the line's first word), CORRUPT (numbers
 * that do not add up, with the row's tokens as `wanted`), TRUNCATED, NOMEM. */
kvr_status kvr_table_read(const char *text, size_t bytes, void *work, size_t work_bytes, kvr_table *out,
                          kvr_error *error);

/* The line of one row; returns its bytes, 0 when cap is too small. */
size_t kvr_table_write_row(uint32_t n_tokens, const uint32_t *sizes, uint32_t n_boards, char *out, size_t cap);

/*
 * The partition of any prompt: shares interpolated linearly over the context between the two rows beside it, the
 * nearest row's beyond the ends. Sizes add up to n_tokens; the lead has a token at least, a board without one is left
 * out. PARTITION: no tokens.
 */
kvr_status kvr_table_predict(const kvr_table *table, uint32_t n_tokens, uint32_t *out_sizes);

#ifdef __cplusplus
}
#endif
#endif
