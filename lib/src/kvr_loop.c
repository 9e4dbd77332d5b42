#include "kvr/kvr_loop.h"

#include "kvr_carve.h"
#include "kvr_checked.h"

#include <string.h>

#define LOOP_SLOTS 64u          /* peer slots of each board */
#define LOOP_NOWHERE UINT32_MAX /* a slot that is not connected */

/* One board: what its slots point at, and its inbox, a ring of frames. */
typedef struct board {
    kvr_loop *loop;
    uint32_t targets[LOOP_SLOTS];
    uint32_t head, count;
    size_t *sizes;   /* [cap_frames] */
    uint8_t *frames; /* [cap_frames][frame_bytes] */
} board;

struct kvr_loop {
    uint32_t n_boards, cap_frames;
    size_t frame_bytes;
    board *boards; /* [n_boards] */
};

typedef struct layout {
    kvr_loop *loop;
    board *boards;
    size_t *sizes;
    uint8_t *frames;
    size_t bytes; /* 0 = does not fit */
} layout;

/* base NULL: only measures. */
static layout place(void *base, uint32_t n_boards, uint32_t cap_frames, size_t frame_bytes) {
    layout l = {0};
    if (n_boards == 0 || n_boards >= LOOP_NOWHERE || cap_frames == 0 || frame_bytes == 0) return l;
    const uint64_t n_frames = (uint64_t)n_boards * cap_frames;
    kvri_carve carve = {.base = base};
    l.loop = kvri_carve_take(&carve, 1, sizeof *l.loop);
    l.boards = kvri_carve_take(&carve, n_boards, sizeof *l.boards);
    l.sizes = kvri_carve_take(&carve, n_frames, sizeof *l.sizes);
    l.frames = kvri_carve_take(&carve, n_frames, frame_bytes);
    l.bytes = carve.overflow ? 0 : (size_t)carve.used;
    return l;
}

size_t kvr_loop_bytes(uint32_t n_boards, uint32_t cap_frames, size_t frame_bytes) {
    return place(NULL, n_boards, cap_frames, frame_bytes).bytes;
}

kvr_status kvr_loop_open(void *mem, size_t mem_bytes, uint32_t n_boards, uint32_t cap_frames, size_t frame_bytes,
                         kvr_loop **out) {
    if (mem == NULL || out == NULL || (uintptr_t)mem % KVRI_CARVE_ALIGN != 0) return KVR_ERR_ARG;
    const size_t need = kvr_loop_bytes(n_boards, cap_frames, frame_bytes);
    if (need == 0) return KVR_ERR_ARG;
    if (mem_bytes < need) return KVR_ERR_NOMEM;
    const layout l = place(mem, n_boards, cap_frames, frame_bytes);
    l.loop->n_boards = n_boards;
    l.loop->cap_frames = cap_frames;
    l.loop->frame_bytes = frame_bytes;
    l.loop->boards = l.boards;
    for (uint32_t i = 0; i < n_boards; i++) {
        board *const b = &l.boards[i];
        memset(b, 0, sizeof *b);
        b->loop = l.loop;
        for (uint32_t slot = 0; slot < LOOP_SLOTS; slot++) b->targets[slot] = LOOP_NOWHERE;
        b->sizes = l.sizes + (size_t)i * cap_frames;
        b->frames = l.frames + (size_t)i * cap_frames * frame_bytes;
    }
    *out = l.loop;
    return KVR_OK;
}

/* "loop:N", N decimal without leading zeros, below n_boards; LOOP_NOWHERE for anything else. */
static uint32_t parse_address(const char *address, uint32_t n_boards) {
    static const char scheme[] = "loop:";
    if (address == NULL || strncmp(address, scheme, sizeof scheme - 1) != 0) return LOOP_NOWHERE;
    const char *at = address + sizeof scheme - 1;
    if (at[0] == '0' && at[1] != 0) return LOOP_NOWHERE;
    if (at[0] == 0) return LOOP_NOWHERE;
    uint64_t number = 0;
    for (; *at != 0; at++) {
        if (*at < '0' || *at > '9') return LOOP_NOWHERE;
        number = number * 10 + (uint64_t)(*at - '0');
        if (number >= n_boards) return LOOP_NOWHERE;
    }
    return (uint32_t)number;
}

static kvr_status loop_connect(void *user, uint32_t peer, const char *address) {
    board *const b = user;
    if (peer >= LOOP_SLOTS) return KVR_ERR_ARG;
    const uint32_t target = parse_address(address, b->loop->n_boards);
    if (target == LOOP_NOWHERE) return KVR_ERR_ADDRESS;
    b->targets[peer] = target;
    return KVR_OK;
}

static kvr_status loop_send(void *user, uint32_t peer, const void *frame, size_t bytes) {
    const board *const b = user;
    const kvr_loop *const loop = b->loop;
    if (peer >= LOOP_SLOTS || frame == NULL || bytes == 0 || bytes > loop->frame_bytes) return KVR_ERR_ARG;
    if (b->targets[peer] == LOOP_NOWHERE) return KVR_ERR_STATE;
    board *const to = &loop->boards[b->targets[peer]];
    if (to->count == loop->cap_frames) return KVR_AGAIN;
    const size_t at = (size_t)(((uint64_t)to->head + to->count) % loop->cap_frames);
    memcpy(to->frames + at * loop->frame_bytes, frame, bytes);
    to->sizes[at] = bytes;
    to->count++;
    return KVR_OK;
}

static kvr_status loop_recv(void *user, void *buf, size_t cap, size_t *out_bytes) {
    board *const b = user;
    if (buf == NULL || out_bytes == NULL) return KVR_ERR_ARG;
    if (b->count == 0) return KVR_AGAIN;
    const size_t at = b->head;
    b->head = (uint32_t)(((uint64_t)b->head + 1) % b->loop->cap_frames);
    b->count--;
    if (b->sizes[at] > cap) return KVR_ERR_FRAME;
    memcpy(buf, b->frames + at * b->loop->frame_bytes, b->sizes[at]);
    *out_bytes = b->sizes[at];
    return KVR_OK;
}

kvr_status kvr_loop_link(kvr_loop *loop, uint32_t board_index, kvr_link *out) {
    if (loop == NULL || out == NULL || board_index >= loop->n_boards) return KVR_ERR_ARG;
    memset(out, 0, sizeof *out);
    out->struct_bytes = sizeof *out;
    out->user = &loop->boards[board_index];
    out->connect = loop_connect;
    out->send = loop_send;
    out->recv = loop_recv;
    out->wait = NULL; /* one thread: nothing can arrive while it waits */
    return KVR_OK;
}
