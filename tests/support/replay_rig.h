/* A replay on a private redis-server, for tests: the run "test", trajectories of TRAJECTORIES_RUN.  What fails fails the test.
 *
 *     struct replay *r = rig_begin(NULL);      // Redis, the replay, token 1
 *     rig_admit(r, 1, 1, 0);
 *     rig_take(r, 1, 1);                       // the batch of step 1, of one trajectory
 *     rig_end(r); */
#ifndef DAGLINE_TESTS_REPLAY_RIG_H
#define DAGLINE_TESTS_REPLAY_RIG_H

#include "replay/replay.h"
#include "support/proc.h"

extern char rig_folder[PROC_PATH_BYTES];
extern struct proc_redis rig_redis;

/* extra: further arguments of redis-server, or NULL. */
void rig_start(const char *const *extra);
void rig_stop(void);
/* One command; the first line of its reply, until the next call. */
const char *rig_say(const char *command);

/* 64 MiB, no pacing, every trajectory once; for a server that rig_start has started or will. */
struct replay_options rig_options(void);
struct replay *rig_open(const struct replay_options *o);
/* Redis, replay (NULL: by rig_options) and token 1; and their end. */
struct replay *rig_begin(const struct replay_options *o);
void rig_end(struct replay *r);

void rig_fence(struct replay *r, uint64_t token);
enum replay_outcome rig_admit(struct replay *r, uint32_t slot, uint64_t counter, uint64_t version);
struct replay_stats rig_stats(struct replay *r);
void rig_commit(struct replay *r, uint64_t step);

/* replay_batch at random; by a selector, for a policy version. */
int rig_batch(struct replay *r, uint64_t step, uint32_t count, struct trajectory **out, struct err *e);
int rig_batch_by(struct replay *r, uint64_t step, uint32_t count, enum replay_selector selector, uint64_t version,
                 struct trajectory **out, struct err *e);
void rig_free(struct trajectory **t, size_t n);
/* The same, and nobody looks at what came. */
void rig_take(struct replay *r, uint64_t step, uint32_t count);
void rig_take_by(struct replay *r, uint64_t step, uint32_t count, enum replay_selector selector, uint64_t version);

/* rc: of a call that was to fail with `code`, which is in e. */
void rig_refused(int rc, const struct err *e, enum err_code code);

#endif
