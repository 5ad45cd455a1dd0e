/* Which stored trajectories make a batch: pure, no I/O, no allocation kept.
 *
 * `count` of n candidates without replacement, candidate i with weight w(i) of its rank in the
 * order given.  Each candidate draws one number from (seed, step, id) alone, and the batch is the
 * `count` smallest of -log(u) / w (Efraimidis and Spirakis 2006), so the choice is a function of
 * the seed and of what is stored, and one more item changes at most one place of the batch. */
#ifndef DAGLINE_REPLAY_REPLAY_SELECT_H
#define DAGLINE_REPLAY_REPLAY_SELECT_H

#include "replay/replay.h"

/* ids [n]: the candidates in the selector's own order, best first for the rank selectors, newest
 * first for RECENT and LIFO, oldest first for FIFO, any for UNIFORM. Weights: UNIFORM 1; RECENT (1
 * - p)^rank with p = 1 / (2 count), so the mean age is two batches; RANK_* 1 / (k n + rank + 1).
 * FIFO and LIFO take the first `count`. chosen [count]: indices into ids; count <= n.  priority_k >
 * 0 where a rank selector is used. */
void replay_select(size_t *chosen, size_t count, const uint8_t (*ids)[TRAJECTORY_ID_BYTES],
                   size_t n, enum replay_selector selector, double priority_k, uint64_t seed,
                   uint64_t step);

/* "uniform", "fifo", "lifo", "recent", "rank-delta", "rank-reward"; ERR_INVALID names the choices.
 */
int replay_selector_parse(enum replay_selector *out, const char *name, struct err *e) MUST_USE;
const char *replay_selector_name(enum replay_selector selector);

/* Trajectories that samplers may still be asked for (the whole of replay_room but for memory):
 * inserts paced to samples / samples_per_insert, `ahead` more, and never less than a waiting batch
 * needs.  `inserted` counts without those evicted unused: they can no longer feed a batch. */
struct replay_pace {
    double samples_per_insert; /* 0: no limit */
    uint64_t items_min, ahead;
    uint64_t inserted, sampled, evicted_unused;
    uint64_t need; /* value of `inserted` at which a waiting batch fills; 0: none waits */
};
uint64_t replay_pace_room(const struct replay_pace *p);

#endif
