#include "kvr_merge.h"

void kvri_merge_place(kvri_merge *merge, kvri_carve *carve, uint64_t cap) {
    merge->at = kvri_carve_take(carve, cap + 1, sizeof *merge->at);
    merge->next = kvri_carve_take(carve, cap, sizeof *merge->next);
    merge->prev = kvri_carve_take(carve, cap, sizeof *merge->prev);
    merge->rank = kvri_carve_take(carve, cap, sizeof *merge->rank);
    merge->place = kvri_carve_take(carve, cap, sizeof *merge->place);
    merge->heap = kvri_carve_take(carve, cap, sizeof *merge->heap);
}

static int before(const kvri_merge *m, uint32_t a, uint32_t b) {
    return m->rank[a] != m->rank[b] ? m->rank[a] < m->rank[b] : a < b;
}

static void put(kvri_merge *m, uint32_t place, uint32_t symbol) {
    m->heap[place] = symbol;
    m->place[symbol] = place;
}

static void sift_up(kvri_merge *m, uint32_t place, uint32_t symbol) {
    while (place > 0) {
        const uint32_t up = (place - 1) / 2;
        if (!before(m, symbol, m->heap[up])) break;
        put(m, place, m->heap[up]);
        place = up;
    }
    put(m, place, symbol);
}

static void sift_down(kvri_merge *m, uint32_t place, uint32_t symbol) {
    for (;;) {
        uint32_t down = place * 2 + 1;
        if (down >= m->n_heap) break;
        if (down + 1 < m->n_heap && before(m, m->heap[down + 1], m->heap[down])) down++;
        if (!before(m, m->heap[down], symbol)) break;
        put(m, place, m->heap[down]);
        place = down;
    }
    put(m, place, symbol);
}

static void take_out(kvri_merge *m, uint32_t symbol) {
    const uint32_t place = m->place[symbol];
    if (place == KVRI_MERGE_NONE) return;
    m->place[symbol] = KVRI_MERGE_NONE;
    const uint32_t last = m->heap[--m->n_heap];
    if (last == symbol) return;
    sift_down(m, place, last);
    sift_up(m, m->place[last], last);
}

/* Ranks the pair of a symbol and its neighbour anew after either changed. */
static void update(kvri_merge *m, uint32_t symbol, kvri_merge_rank rank, const void *user) {
    take_out(m, symbol);
    const uint32_t next = m->next[symbol];
    if (next == KVRI_MERGE_NONE) return;
    const uint32_t n_left = m->at[next] - m->at[symbol];
    if (!rank(user, m->text + m->at[symbol], n_left, kvri_merge_bytes(m, next), &m->rank[symbol])) return;
    sift_up(m, m->n_heap++, symbol);
}

void kvri_merge_run(kvri_merge *m, kvri_merge_rank rank, const void *user) {
    m->n_heap = 0;
    for (uint32_t i = 0; i < m->n; i++) {
        m->prev[i] = i > 0 ? i - 1 : KVRI_MERGE_NONE;
        m->next[i] = i + 1 < m->n ? i + 1 : KVRI_MERGE_NONE;
        m->place[i] = KVRI_MERGE_NONE;
    }
    for (uint32_t i = 0; i + 1 < m->n; i++) update(m, i, rank, user);
    while (m->n_heap > 0) {
        const uint32_t left = m->heap[0];
        const uint32_t gone = m->next[left];
        take_out(m, gone);
        m->next[left] = m->next[gone];
        if (m->next[left] != KVRI_MERGE_NONE) m->prev[m->next[left]] = left;
        update(m, left, rank, user);
        if (m->prev[left] != KVRI_MERGE_NONE) update(m, m->prev[left], rank, user);
    }
}
