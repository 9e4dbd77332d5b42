/*
 * kvr_plan.h - the memory need of a session, to the byte, before anything is taken.
 */
#ifndef KVR_PLAN_H
#define KVR_PLAN_H

#include "kvr/kvr_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KVR_MAX_BOARDS 64u

/* Zero is the default of every field. */
typedef struct kvr_config {
    uint32_t struct_bytes;    /* sizeof, or 0; another size (of other headers) is refused. So in kvr_prompt and
                               * kvr_opencl_config; in structures that are given back it is the library's own */
    uint32_t ctx_tokens;      /* prompt + answer; 1..2^20; 0 = the model's training context */
    uint32_t batch_tokens;    /* rows per operator call (micro-batch), 1..4096; 0 = 256, in a chain fewer
                               * where a backend's operators block (kvr_backend.call_products). Costs batch * (model
                               * + 2 * heads*head + 2 * kv_heads*head + 2 * ffn) floats */
    uint32_t chunk_tokens;    /* most prompt tokens this board computes itself; 0 = ctx_tokens. Costs chunk * model_dim
                               * floats */
    uint32_t kv_dtype;        /* 0 or KVR_DTYPE_F16 = F16; KVR_KV_F32 = F32 (twice the memory) */
    uint32_t wire_kv;         /* type of keys and values in frames; 0 = as cached. KVR_DTYPE_Q8_0: a little more than
                               * half the bytes of F16; then every board, one alone as well, rounds its keys and values
                               * to 8 bits before it caches them, so a chain still gives one board's bits - of one board
                               * with this setting */
    uint32_t kv_window_layers; /* a helper keeps keys and values of so many layers at a time instead of all, 1..layers;
                               * 0 = all. For boards with little memory; fewer than 3 make it wait for its own work.
                               * Cannot ask or answer questions itself, nor take part in TSP */
    uint32_t max_boards;      /* longest chain this session can be part of, 1..64; 0 = 1 (no link buffers) */
    uint32_t frame_tokens;    /* most tokens per KV frame, 1..4096; 0 = 128. Boards of one chain must agree */
    uint32_t peer_timeout_ms; /* silence after which a board counts as lost; 0 = 2000. A board gives signs of life
                               * between operators: raise it where a single one blocks for longer (batch_tokens lowers
                               * that) */
    uint32_t stall_timeout_ms; /* how long all may live and nothing move; 0 = 15 x peer_timeout_ms */
    uint32_t all_keys;        /* 1: layers with a sliding window keep the keys of all tokens, as other layers do: for
                               * kvr_prompt.keep_tokens that go far back. Costs memory: see kvr_plan.ring_tokens */
} kvr_config;

#define KVR_KV_F32 0x100u /* kvr_config.kv_dtype: F32, whose own number is 0 = default */

typedef enum kvr_region {
    KVR_REGION_MODEL = 0,   /* host: tables of kvr_model_open */
    KVR_REGION_SESSION = 1, /* host: session state, tokens, logits, link buffers, the backend's host part */
    KVR_REGION_DEVICE = 2,  /* device: weights, KV, activations, scratch (0 for the reference backend: all in
                             * SESSION) */
    KVR_REGION_MAPPED = 3,  /* the model file, mapped read-only */
    KVR_REGION_DRIVER = 4,  /* estimate: what drivers and libraries take for themselves */
    KVR_REGION_COUNT = 5
} kvr_region;

/* "model", "session", "device", "mapped", "driver (estimate)". */
const char *kvr_region_name(kvr_region region);

#define KVR_PLAN_ROWS 32u

typedef struct kvr_plan {
    uint32_t struct_bytes;
    uint32_t ctx_tokens, batch_tokens, chunk_tokens, kv_dtype, wire_kv, max_boards, frame_tokens,
        /* in force; kv_window_layers: all layers unless fewer are kept */
        peer_timeout_ms, stall_timeout_ms, kv_window_layers;
    uint32_t ring_tokens; /* tokens whose keys and values a layer with a sliding window keeps, the latest ones: the
                           * window, and batch_tokens, or in a chain chunk_tokens and a frame; ctx_tokens: all, or no
                           * layer has one */
    uint64_t region_bytes[KVR_REGION_COUNT];
    uint64_t frame_bytes; /* largest legal frame: MAXMSGSIZE of a link */
    uint32_t n_rows;
    struct { uint32_t region; const char *name; uint64_t bytes; } rows[KVR_PLAN_ROWS];
} kvr_plan;

/*
 * Arithmetic only: takes nothing, touches no device memory. backend: whose measure() is asked (needs no open). Works in
 * the tables of the model: one plan or open at a time per model, and kvr_model_open's memory stays writable.
 * Errors: ARG (a config field out of range), UNSUPPORTED (no tensors in the file; wire_kv with rows that are no whole
 * blocks), NOMEM (sizes overflow, or the device can not hold a tensor), TYPE.
 */
kvr_status kvr_plan_make(const kvr_model *model, const kvr_config *config, const kvr_backend *backend, kvr_plan *out,
                         kvr_error *error);

/*
 * The even cut (KVR-E): out_sizes[n_boards] tokens per rank, differing by at most one, the larger ones first.
 * PARTITION: fewer tokens than boards, or n_boards not 1..KVR_MAX_BOARDS.
 */
kvr_status kvr_partition_even(uint32_t n_tokens, uint32_t n_boards, uint32_t *out_sizes);

#ifdef __cplusplus
}
#endif
#endif
