#include "replay/replay_select.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct ticket {
    double key; /* log(-log u) - log w: smaller is chosen first */
    size_t index;
};

/* splitmix64's finaliser: a bijection that mixes every bit into every other. */
static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Uniform in (0, 1), of (seed, step, id). */
static double draw(uint64_t seed, uint64_t step, const uint8_t id[TRAJECTORY_ID_BYTES])
{
    uint64_t half[2];
    memcpy(half, id, sizeof half);
    const uint64_t h = mix(mix(mix(mix(seed) ^ step) ^ half[0]) ^ half[1]);
    return ((double)(h >> 12) + 0.5) * 0x1p-52;
}

static double log_weight(enum replay_selector selector, size_t rank, size_t n, size_t count,
                         double priority_k)
{
    switch (selector) {
    case REPLAY_RECENT:
        return (double)rank * log1p(-1.0 / (2.0 * (double)count));
    case REPLAY_RANK_DELTA:
    case REPLAY_RANK_REWARD:
        return -log(priority_k * (double)n + (double)rank + 1.0);
    case REPLAY_UNIFORM:
    case REPLAY_FIFO:
    case REPLAY_LIFO:
    default:
        return 0.0;
    }
}

static int by_key(const void *a, const void *b)
{
    const struct ticket *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

void replay_select(size_t *chosen, size_t count, const uint8_t (*ids)[TRAJECTORY_ID_BYTES],
                   size_t n, enum replay_selector selector, double priority_k, uint64_t seed,
                   uint64_t step)
{
    assert(count <= n && count > 0);
    if (selector == REPLAY_FIFO || selector == REPLAY_LIFO) {
        for (size_t i = 0; i < count; i++)
            chosen[i] = i;
        return;
    }
    struct ticket *tickets = mem_new(n, sizeof *tickets);
    for (size_t i = 0; i < n; i++) {
        const double gumbel = log(-log(draw(seed, step, ids[i])));
        tickets[i].key = gumbel - log_weight(selector, i, n, count, priority_k);
        tickets[i].index = i;
    }
    qsort(tickets, n, sizeof *tickets, by_key);
    for (size_t i = 0; i < count; i++)
        chosen[i] = tickets[i].index;
    mem_free(tickets);
}

static const char *const selector_names[] = {
    [REPLAY_UNIFORM] = "uniform",
    [REPLAY_FIFO] = "fifo",
    [REPLAY_LIFO] = "lifo",
    [REPLAY_RECENT] = "recent",
    [REPLAY_RANK_DELTA] = "rank-delta",
    [REPLAY_RANK_REWARD] = "rank-reward",
};

const char *replay_selector_name(enum replay_selector selector)
{
    assert((size_t)selector < sizeof selector_names / sizeof *selector_names);
    return selector_names[selector];
}

int replay_selector_parse(enum replay_selector *out, const char *name, struct err *e)
{
    for (size_t i = 0; i < sizeof selector_names / sizeof *selector_names; i++)
        if (strcmp(name, selector_names[i]) == 0) {
            *out = (enum replay_selector)i;
            return 0;
        }
    return err_set(
        e, ERR_INVALID,
        "selector %s is unknown: write uniform, fifo, lifo, recent, rank-delta or rank-reward",
        name);
}

uint64_t replay_pace_room(const struct replay_pace *p)
{
    if (p->samples_per_insert <= 0.0)
        return UINT32_MAX;
    const uint64_t live = p->inserted > p->evicted_unused ? p->inserted - p->evicted_unused : 0;
    const double served = floor((double)p->sampled / p->samples_per_insert);
    const uint64_t allowed = p->items_min + p->ahead + (uint64_t)served;
    const uint64_t paced = allowed > live ? allowed - live : 0;
    const uint64_t waiting = p->need > p->inserted ? p->need - p->inserted : 0;
    const uint64_t room = paced > waiting ? paced : waiting;
    return room < UINT32_MAX ? room : UINT32_MAX;
}
