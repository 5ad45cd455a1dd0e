/* Trajectories in hand: from arrival to acknowledgement.  Cuts them into batches of images across
 * trajectories and puts the scores back together.  Pure bookkeeping: no sockets, no clock, no
 * replay.
 *
 *   WORK_UNPROVEN  its policy digest is not known yet
 *   WORK_SCORING   images are waiting for, or in, batches
 *   WORK_SCORED    every reward is there: to be admitted
 *   WORK_FAILED    its reward could not be had: to be answered so
 * A batch that fails for good and holds several trajectories is cut apart once: each of them is
 * scored in batches of its own, so that one of them cannot fail the others. */
#ifndef DAGLINE_SCORER_WORK_H
#define DAGLINE_SCORER_WORK_H

#include "rollout/trajectory.h"
#include "scorer/backend.h"
#include "wire/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum work_state { WORK_UNPROVEN, WORK_SCORING, WORK_SCORED, WORK_FAILED };

struct work_item {
    enum work_state state;
    struct trajectory *trajectory; /* owned */
    uint64_t bytes;                /* as the credit counts it */
    uint8_t peer[MESSAGE_PEER_BYTES_MAX];
    size_t peer_bytes;
    uint64_t session;
    int64_t came_ms;

    size_t images;                /* of the states, then the final one last */
    size_t submitted, scored;     /* of them */
    bool alone;                   /* only in batches of its own */
    struct backend_score *scores; /* owned [images] */
    enum backend_failure failure;
    char reason[BACKEND_REASON_BYTES_MAX];
};

struct work;

struct work *work_new(double scale, double offset) MUST_USE;
void work_free(struct work *w);

size_t work_count(const struct work *w);
struct work_item *work_at(struct work *w, size_t i);

/* The item with this id, or NULL. */
struct work_item *work_find(struct work *w, const uint8_t id[TRAJECTORY_ID_BYTES]);

/* Takes the trajectory over. */
struct work_item *work_add(struct work *w, struct trajectory **t, enum work_state state);

/* Frees the item at i; the order of the others stays. */
void work_remove(struct work *w, size_t i);

/* Images that wait for a batch. */
size_t work_waiting(const struct work *w);

/* The next batch of at most `max` images of one size and `bytes_max` of their pixels (one image at the
 * least): fills items[0..) and returns their number, 0 for none; *batch is its number for work_done.  Items point into
 * trajectories: valid until one is removed, which may be before work_done. */
size_t work_batch(struct work *w, struct backend_item *items, size_t max, uint64_t bytes_max,
                  uint64_t *batch);

/* The batch is over. On success the scores are kept; an item whose last score came becomes
 * WORK_SCORED with all its rewards set (reward = offset + scale * score; raw score and components
 * kept). */
void work_done(struct work *w, const struct backend_result *r);

#endif
