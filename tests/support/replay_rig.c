#include "support/replay_rig.h"

#include "support/trajectories.h"

#include <check.h>
#include <stddef.h>

#define BATCH_MAX 64

char rig_folder[PROC_PATH_BYTES];
struct proc_redis rig_redis;

void rig_start(const char *const *extra)
{
    proc_folder(rig_folder);
    proc_redis_start(&rig_redis, rig_folder, extra);
}

void rig_stop(void)
{
    proc_redis_kill(&rig_redis);
    proc_folder_remove(rig_folder);
}

const char *rig_say(const char *command)
{
    static char reply[64];
    proc_redis_say(&rig_redis, command, reply, sizeof reply);
    return reply;
}

struct replay_options rig_options(void)
{
    return (struct replay_options){.address = rig_redis.address,
                                   .user = "",
                                   .password = "",
                                   .run_id = "test",
                                   .bytes_max = 64 << 20,
                                   .items_min = 1,
                                   .samples_per_insert = 0.0,
                                   .ahead_max = 0,
                                   .uses_max = 1,
                                   .age_max = 0,
                                   .timeout_ms = 2000};
}

struct replay *rig_open(const struct replay_options *o)
{
    struct replay *r = NULL;
    struct err e = {0};
    ck_assert_msg(replay_open(&r, o, &e) == 0, "%s", e.text);
    return r;
}

struct replay *rig_begin(const struct replay_options *o)
{
    const struct replay_options usual = rig_options();
    rig_start(NULL);
    struct replay *r = rig_open(o != NULL ? o : &usual);
    rig_fence(r, 1);
    return r;
}

void rig_end(struct replay *r)
{
    replay_close(r);
    rig_stop();
}

void rig_fence(struct replay *r, uint64_t token)
{
    struct err e = {0};
    ck_assert_msg(replay_fence(r, token, &e) == 0, "%s", e.text);
}

enum replay_outcome rig_admit(struct replay *r, uint32_t slot, uint64_t counter, uint64_t version)
{
    struct trajectory *t = trajectories_make_scored(slot, counter, &(struct trajectory_shape){.policy_version = version});
    enum replay_outcome outcome;
    struct err e = {0};
    ck_assert_msg(replay_admit(r, t, &outcome, &e) == 0, "%s", e.text);
    trajectory_free(t);
    return outcome;
}

struct replay_stats rig_stats(struct replay *r)
{
    struct replay_stats s;
    struct err e = {0};
    ck_assert_msg(replay_stats(r, &s, &e) == 0, "%s", e.text);
    return s;
}

void rig_commit(struct replay *r, uint64_t step)
{
    struct err e = {0};
    ck_assert_msg(replay_commit(r, step, &e) == 0, "%s", e.text);
}

int rig_batch(struct replay *r, uint64_t step, uint32_t count, struct trajectory **out, struct err *e)
{
    return rig_batch_by(r, step, count, REPLAY_UNIFORM, 0, out, e);
}

int rig_batch_by(struct replay *r, uint64_t step, uint32_t count, enum replay_selector selector, uint64_t version,
                 struct trajectory **out, struct err *e)
{
    const struct replay_batch_request q = {.step = step,
                                           .count = count,
                                           .seed = 7,
                                           .priority_k = 0.1,
                                           .selector = selector,
                                           .policy_version = version};
    return replay_batch(r, &q, out, e);
}

void rig_free(struct trajectory **t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        trajectory_free(t[i]);
}

void rig_take(struct replay *r, uint64_t step, uint32_t count)
{
    rig_take_by(r, step, count, REPLAY_UNIFORM, 0);
}

void rig_take_by(struct replay *r, uint64_t step, uint32_t count, enum replay_selector selector, uint64_t version)
{
    struct trajectory *out[BATCH_MAX];
    struct err e = {0};
    ck_assert_uint_le(count, BATCH_MAX);
    ck_assert_msg(rig_batch_by(r, step, count, selector, version, out, &e) == 0, "%s", e.text);
    rig_free(out, count);
}

void rig_refused(int rc, const struct err *e, enum err_code code)
{
    ck_assert_int_eq(rc, -1);
    ck_assert_msg(e->code == code, "%s: %s", err_name(e->code), e->text);
}
