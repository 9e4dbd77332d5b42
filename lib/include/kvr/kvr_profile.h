/*
 * kvr_profile.h - boards, links and models as a few numbers: what the cost model (kvr_cost.h) computes with. They come
 * from small text files, so no number is hidden in the program. The text is treated as hostile.
 *
 *   kvr-board 1                 kind and version of the file, always the first line
 *   # remark                    empty lines and remarks may stand anywhere
 *   name   rk3588               one line for each field: its name, blanks, its value to the end of the line
 *   dense_gmacs  150            decimal numbers, an exponent is allowed
 */
#ifndef KVR_PROFILE_H
#define KVR_PROFILE_H

#include "kvr/kvr_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_PROFILE_NAME 48u
#define KVR_PROFILE_SOURCE 240u
#define KVR_PROFILE_MAX_BYTES 65536u /* longest text that is read */

/* The shape of a model: enough to count its arithmetic and its keys and values. */
typedef struct kvr_geometry {
    char name[KVR_PROFILE_NAME];
    char source[KVR_PROFILE_SOURCE]; /* where the numbers come from, for people */
    uint32_t n_layers, model_dim, ffn_dim, n_heads, n_kv_heads, head_dim, n_vocab;
    uint32_t ffn_products; /* matrices of a feed-forward: 3 with a gate (Llama), 2 without (Falcon) */
    double weight_bytes;   /* of one weight as stored: 2 = F16, 1.0625 = Q8_0, 0.5625 = Q4_0 */
} kvr_geometry;

/* What a board can do. Rates in 10^9 per second. */
typedef struct kvr_board_profile {
    char name[KVR_PROFILE_NAME];
    char source[KVR_PROFILE_SOURCE];
    uint32_t measured;             /* 1: by the board itself (kvr_session_measure); 0: an estimate, see source */
    uint32_t attention_tile;       /* masked query-key products are skipped in squares of so many tokens; 0 = none is
                                      skipped: every query meets all keys up to the end of its operator call */
    double dense_gmacs;            /* multiply-adds in products with weights, many rows at once */
    double attention_gmacs;        /* multiply-adds of queries with keys and of weights with values */
    double memory_gbs;             /* bytes of weights read: lower bound of a call with few rows */
    double score_bytes;            /* memory traffic for each query-key score of each head; 0 = it stays on chip */
    double call_us;                /* of half a layer over a micro-batch, whatever its size: launches, norms */
    double frame_gbs; /* bytes of frames that the computing processor copies and checks; 0 = costs it nothing */
    double prompt_us;              /* of every prompt: from the question to the first operator, and sampling */
} kvr_board_profile;

/* What a board sends through. */
typedef struct kvr_link_profile {
    char name[KVR_PROFILE_NAME];
    char source[KVR_PROFILE_SOURCE];
    double mbit;        /* payload, 10^6 bits per second, each direction */
    double latency_us;  /* one way */
    double message_us;  /* of every message, on top of its bytes */
    /* A link whose bandwidth varies: in each period it is slow with this chance. slow_chance 0 = steady. */
    double slow_chance; /* 0..1 */
    double slow_factor; /* of mbit while slow, 0.01..1 */
    double period_ms;   /* 1..10^6 */
} kvr_link_profile;

/*
 * Each reads one text (not terminated) into *out, which is unchanged on error. Cost: one pass.
 * Errors: MAGIC (another kind of file), VERSION, KEY (a field is missing, unknown, there twice or out of its range; the
 * detail names it), TRUNCATED (longer than KVR_PROFILE_MAX_BYTES), ARG.
 */
kvr_status kvr_board_profile_read(const char *text, size_t bytes, kvr_board_profile *out, kvr_error *error);
kvr_status kvr_link_profile_read(const char *text, size_t bytes, kvr_link_profile *out, kvr_error *error);
kvr_status kvr_geometry_read(const char *text, size_t bytes, kvr_geometry *out, kvr_error *error);

/* The geometry of a model file. UNSUPPORTED: it holds a vocabulary only. */
kvr_status kvr_geometry_of(const kvr_model_info *info, kvr_geometry *out);

/* 1: every number is finite and within the ranges that kvr_board_profile_read takes. */
int kvr_board_profile_valid(const kvr_board_profile *profile);

/* Writes a board's profile as text that kvr_board_profile_read takes. Returns the bytes written; 0 = cap is too small
 * (KVR_PROFILE_MAX_BYTES always suffices). */
size_t kvr_board_profile_write(const kvr_board_profile *profile, char *out, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
