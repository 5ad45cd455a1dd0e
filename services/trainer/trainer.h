/* The trainer: batches from the replay, updates of the policy, policies and checkpoints to the store.
 *
 * Step n is: the batch that the replay logs for n, one update, policy n published, every `checkpoint_every` steps
 * a checkpoint, and once that is durable the replay may forget the batches before it.  After a crash the
 * newest checkpoint is loaded and the logged batches behind it are trained again: same bits, same
 * policies, so that publishing them again is a repetition and not a change.
 *
 * A fencing token, taken at start, goes with every write to store and replay: a second trainer's higher
 * token shuts this one out (ERR_STALE), and it ends. */
#ifndef DAGLINE_TRAINER_TRAINER_H
#define DAGLINE_TRAINER_TRAINER_H

#include "base/err.h"
#include "replay/replay.h"
#include "trainer/learner.h"
#include "wire/loop.h"
#include "wire/wire.h"

#include <stdint.h>

struct trainer_options {
    const char *store, *news;      /* endpoints */
    const char *cache;             /* folder for the model's files */
    const char *listen;            /* /healthz and /metrics; "": none */
    struct replay_options replay;  /* run_id is filled in */
    uint32_t batch;                /* trajectories of one update */
    enum replay_selector selector;
    double priority_k;
    uint32_t checkpoint_every;     /* updates */
    double path_kl_max;            /* nats; 0: none */
    struct learner_options learner; /* model_folder, kernels, steps, seed, guidance, latents, updates_total are filled in from the run */
};

struct trainer;

int trainer_open(struct trainer **out, struct wire_net *net, struct loop *loop,
                 const struct trainer_options *o, struct err *e) MUST_USE;
void trainer_close(struct trainer *t);

/* Until the run's last update, or the first of which and the TRAINER_GUARD_UPDATES - 1 before it the mean path-KL is above
 * path_kl_max (then it tells the store to stop the run), or until the loop drains: an update under way is finished and a
 * checkpoint written. */
#define TRAINER_GUARD_UPDATES 10
int trainer_run(struct trainer *t, struct err *e) MUST_USE;

uint64_t trainer_bytes_bound(const struct trainer *t);

#endif
