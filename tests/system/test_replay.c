/* The replay against a real redis-server on a unix socket. */
#include "replay/replay.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "replay/replay_keys.h"
#include "replay/replay_memo.h"
#include "support/proc.h"
#include "support/suite.h"
#include "support/trajectories.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char folder[PROC_PATH_BYTES];
static struct proc_redis redis;

static void start_redis(const char *const *extra)
{
    proc_folder(folder);
    proc_redis_start(&redis, folder, extra);
}

static void stop_redis(void)
{
    proc_redis_kill(&redis);
    proc_folder_remove(folder);
}

static struct replay_options options(void)
{
    return (struct replay_options){.address = redis.address,
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

static struct replay *open_replay(const struct replay_options *o)
{
    struct replay *r = NULL;
    struct err e = {0};
    ck_assert_msg(replay_open(&r, o, &e) == 0, "%s", e.text);
    return r;
}

static enum replay_outcome admit(struct replay *r, uint32_t slot, uint64_t counter,
                                 uint64_t version)
{
    struct trajectory *t = trajectories_make_scored(
        slot, counter, &(struct trajectory_shape){.policy_version = version});
    enum replay_outcome outcome;
    struct err e = {0};
    ck_assert_msg(replay_admit(r, t, &outcome, &e) == 0, "%s", e.text);
    trajectory_free(t);
    return outcome;
}

static int batch(struct replay *r, uint64_t step, uint32_t count, struct trajectory **out,
                 struct err *e)
{
    return replay_batch(
        r,
        &(struct replay_batch_request){.step = step, .count = count, .seed = 7, .priority_k = 0.1},
        out, e);
}

static void free_all(struct trajectory **t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        trajectory_free(t[i]);
}

static struct replay_stats stats(struct replay *r)
{
    struct replay_stats s;
    struct err e = {0};
    ck_assert_msg(replay_stats(r, &s, &e) == 0, "%s", e.text);
    return s;
}

static void fence(struct replay *r, uint64_t token)
{
    struct err e = {0};
    ck_assert_msg(replay_fence(r, token, &e) == 0, "%s", e.text);
}

START_TEST(a_trajectory_is_stored_once_whatever_is_resent)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_STORED);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_DUPLICATE);
    struct trajectory *other = trajectories_make_scored(1, 1, NULL);
    other->latents[0] += 1.0f;
    enum replay_outcome outcome;
    ck_assert_int_eq(replay_admit(r, other, &outcome, NULL), 0);
    ck_assert_int_eq(outcome, REPLAY_CONFLICT);
    trajectory_free(other);
    const struct replay_stats s = stats(r);
    ck_assert_uint_eq(s.items, 1);
    ck_assert_uint_eq(s.inserted, 1);
    ck_assert_uint_eq(s.duplicates, 1);
    ck_assert_uint_eq(s.conflicts, 1);
    ck_assert_uint_gt(s.bytes, 4 * 4 * 4 * 4 * 4);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_consumed_trajectory_leaves_a_tombstone_with_its_checksum)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    fence(r, 1);
    admit(r, 1, 1, 0);
    admit(r, 1, 2, 0);
    ck_assert_msg(batch(r, 1, 2, out, &e) == 0, "%s", e.text);
    free_all(out, 2);
    ck_assert_uint_eq(stats(r).items, 2); /* until a checkpoint covers them */
    ck_assert_uint_eq(stats(r).items_pinned, 2);
    ck_assert_uint_eq(stats(r).items_eligible, 0);
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    const struct replay_stats s = stats(r);
    ck_assert_uint_eq(s.items, 0);
    ck_assert_uint_eq(s.bytes, 0);
    ck_assert_uint_eq(s.items_pinned, 0);
    ck_assert_uint_eq(s.consumed, 2);
    ck_assert_uint_eq(s.commit_step, 1);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_DUPLICATE);
    ck_assert_uint_eq(stats(r).items, 0);
    /* nothing is left of the two but their tombstones */
    char reply[64];
    proc_redis_say(&redis, "DBSIZE", reply, sizeof reply);
    ck_assert_str_eq(reply, ":8"); /* epoch fence version seq stats z:tombs and two t: */
    ck_assert_int_eq(batch(r, 1, 2, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    replay_close(r);
    stop_redis();
}
END_TEST

static int rewound_lines, lost_lines, not_durable_lines;

static void count_lines(const char *line, void *arg)
{
    (void)arg;
    rewound_lines += strstr(line, "replay_rewound") != NULL;
    lost_lines += strstr(line, "replay_lost") != NULL;
    not_durable_lines += strstr(line, "replay_not_durable") != NULL;
}

/* As many as trainer.checkpoint_every lets come together; a batch that is used again and again holds no more items. */
START_TEST(a_commit_covers_any_number_of_batches)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct err e = {0};
    char reply[64];
    fence(r, 1);
    proc_redis_say(&redis,
                   "EVAL \"for i = 1, 70000 do redis.call('ZADD', KEYS[1], i, i) end return 1\" 1 dagline:{test}:z:batches",
                   reply, sizeof reply);
    ck_assert_str_eq(reply, ":1");
    ck_assert_msg(replay_commit(r, 69999, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(stats(r).commit_step, 69999);
    proc_redis_say(&redis, "ZCARD dagline:{test}:z:batches", reply, sizeof reply);
    ck_assert_str_eq(reply, ":1");
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_trainer_may_go_on_from_a_checkpoint_before_the_committed_one)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o), *old = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    fence(old, 1);
    fence(r, 2);
    for (uint64_t step = 1; step <= 3; step++) {
        admit(r, 1, 2 * step, 0);
        admit(r, 1, 2 * step + 1, 0);
        ck_assert_msg(batch(r, step, 2, out, &e) == 0, "%s", e.text);
        free_all(out, 2);
        ck_assert_int_eq(replay_commit(r, step, &e), 0);
    }
    log_sink(count_lines, NULL);
    ck_assert_int_eq(replay_rewind(old, 1, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    ck_assert_int_eq(replay_rewind(r, 3, &e), 0);
    ck_assert_int_eq(rewound_lines, 0);
    ck_assert_int_eq(replay_rewind(r, 1, &e), 0);
    ck_assert_int_eq(replay_rewind(r, 2, &e), 0); /* never forth */
    ck_assert_int_eq(rewound_lines, 1);
    ck_assert_uint_eq(stats(r).commit_step, 1);
    /* the batch of step 2 is another one: what it held is used up */
    ck_assert_int_eq(admit(r, 1, 4, 0), REPLAY_DUPLICATE);
    admit(r, 1, 8, 0);
    admit(r, 1, 9, 0);
    ck_assert_msg(batch(r, 2, 2, out, &e) == 0, "%s", e.text);
    ck_assert_uint_ge(out[0]->counter, 8);
    ck_assert_uint_ge(out[1]->counter, 8);
    free_all(out, 2);
    log_sink(NULL, NULL);
    replay_close(old);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_logged_batch_comes_back_to_a_trainer_that_starts_again)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.uses_max = 0;
    struct replay *r = open_replay(&o);
    struct trajectory *a[6], *b[6];
    struct err e = {0};
    fence(r, 1);
    for (uint64_t i = 0; i < 20; i++)
        admit(r, 1, i, 0);
    for (uint64_t step = 1; step <= 3; step++) {
        ck_assert_msg(batch(r, step, 6, a, &e) == 0, "%s", e.text);
        free_all(a, 6);
    }
    ck_assert_int_eq(batch(r, 2, 6, a, &e), 0);
    replay_close(r);
    proc_redis_kill(&redis);
    proc_redis_again(&redis, NULL);
    r = open_replay(&o);
    fence(r, 2);
    for (uint64_t i = 20; i < 40; i++)
        admit(r, 1, i, 0); /* more to choose from changes nothing that is logged */
    ck_assert_msg(batch(r, 2, 6, b, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_mem_eq(a[i]->id, b[i]->id, TRAJECTORY_ID_BYTES);
        ck_assert_mem_eq(a[i]->latents, b[i]->latents, 4 * 64 * sizeof(float));
    }
    ck_assert_uint_eq(stats(r).sampled, 18);
    free_all(a, 6);
    free_all(b, 6);
    ck_assert_int_eq(batch(r, 2, 5, b, &e), -1);
    ck_assert_int_eq(e.code, ERR_CONFLICT);
    replay_close(r);
    stop_redis();
}
END_TEST

/* How often Redis was asked about its append-only file since the last time; every such question is one INFO. */
static unsigned asked_for_the_disk(void)
{
    char reply[64];
    proc_redis_say(&redis,
                   "EVAL \"return tonumber(string.match(redis.call('INFO','commandstats'),'cmdstat_info:calls=(%d+)') or 0)\" 0",
                   reply, sizeof reply);
    ck_assert_msg(reply[0] == ':', "%s", reply);
    const unsigned n = (unsigned)strtoul(reply + 1, NULL, 10);
    proc_redis_say(&redis, "CONFIG RESETSTAT", reply, sizeof reply);
    return n;
}

START_TEST(nothing_is_answered_before_it_is_asked_for_whether_the_disk_has_it)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    asked_for_the_disk();
    fence(r, 1);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_STORED);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_DUPLICATE); /* the first answer may not have come */
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_msg(batch(r, 1, 1, out, &e) == 0, "%s", e.text);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    free_all(out, 1);
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(replay_rewind(r, 0, &e), 0);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(too_few_is_a_timeout_that_lets_the_missing_ones_in)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.samples_per_insert = 1.0;
    o.items_min = 2;
    struct replay *r = open_replay(&o);
    struct trajectory *out[5];
    struct err e = {0};
    uint64_t room;
    fence(r, 1);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    admit(r, 1, 1, 0);
    admit(r, 1, 2, 0);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    ck_assert_int_eq(batch(r, 1, 5, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 3);
    for (uint64_t i = 3; i <= 5; i++)
        admit(r, 1, i, 0);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    ck_assert_msg(batch(r, 1, 5, out, &e) == 0, "%s", e.text);
    free_all(out, 5);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    /* what is missing counts beside all that ever came */
    struct trajectory *more[6];
    ck_assert_int_eq(batch(r, 2, 6, more, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 6);
    /* a smaller batch does: nothing is waited for any longer */
    admit(r, 1, 6, 0);
    admit(r, 1, 7, 0);
    ck_assert_msg(batch(r, 2, 2, more, &e) == 0, "%s", e.text);
    free_all(more, 2);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(eviction_keeps_the_bound_takes_the_oldest_and_spares_logged_batches)
{
    start_redis(NULL);
    struct replay_options o = options();
    struct replay *r = open_replay(&o);
    admit(r, 9, 1, 0);
    const uint64_t one = stats(r).bytes;
    replay_close(r);
    char reply[64];
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    o.bytes_max = 5 * one + one / 2;
    r = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    fence(r, 1);
    for (uint64_t i = 1; i <= 5; i++)
        admit(r, 1, i, 0);
    ck_assert_int_eq(
        replay_batch(r,
                     &(struct replay_batch_request){.step = 1, .count = 2, .selector = REPLAY_FIFO},
                     out, &e),
        0);
    ck_assert_uint_eq(out[0]->counter, 1);
    ck_assert_uint_eq(out[1]->counter, 2);
    free_all(out, 2);
    for (uint64_t i = 6; i <= 9; i++) {
        ck_assert_int_eq(admit(r, 1, i, 0), REPLAY_STORED);
        ck_assert_uint_le(stats(r).bytes, o.bytes_max);
    }
    ck_assert_uint_eq(stats(r).evicted_bytes, 4);
    ck_assert_uint_eq(stats(r).evicted_unused, 4);
    ck_assert_int_eq(admit(r, 1, 3, 0), REPLAY_DUPLICATE); /* evicted */
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_DUPLICATE); /* pinned, still there */
    /* 7, 8, 9 go to batch 2 with 1, 2 in batch 1: nothing may be evicted */
    struct trajectory *three[3];
    ck_assert_msg(batch(r, 2, 3, three, &e) == 0, "%s", e.text);
    free_all(three, 3);
    struct trajectory *t = trajectories_make_scored(1, 10, NULL);
    enum replay_outcome outcome;
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    ck_assert_int_eq(replay_commit(r, 2, &e), 0);
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    trajectory_free(t);
    ck_assert_uint_eq(stats(r).items, 1);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(items_that_fill_the_bound_exactly_make_one_go_for_each_that_comes)
{
    start_redis(NULL);
    struct replay_options o = options();
    struct replay *r = open_replay(&o);
    admit(r, 9, 1, 0);
    o.bytes_max = 4 * stats(r).bytes;
    replay_close(r);
    char reply[64];
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    r = open_replay(&o);
    for (uint64_t i = 1; i <= 7; i++) {
        ck_assert_int_eq(admit(r, 1, i, 0), REPLAY_STORED);
        ck_assert_uint_eq(stats(r).evicted_bytes, i > 4 ? i - 4 : 0);
    }
    ck_assert_uint_eq(stats(r).bytes, o.bytes_max);
    replay_close(r);
    stop_redis();
}
END_TEST

static int batch_by(struct replay *r, uint64_t step, uint32_t count, enum replay_selector selector, uint64_t version,
                    struct trajectory **out, struct err *e)
{
    return replay_batch(r,
                        &(struct replay_batch_request){.step = step, .count = count, .seed = 7, .priority_k = 0.1,
                                                       .selector = selector, .policy_version = version},
                        out, e);
}

START_TEST(what_a_logged_batch_names_ages_out_of_the_selection_and_stays_until_the_commit)
{
    static const enum replay_selector selectors[] = {REPLAY_UNIFORM, REPLAY_RANK_DELTA, REPLAY_RANK_REWARD};
    start_redis(NULL);
    struct replay_options o = options();
    o.uses_max = 0;
    o.age_max = 2;
    struct replay *r = open_replay(&o);
    struct trajectory *out[4];
    struct err e = {0};
    fence(r, 1);
    for (uint64_t i = 1; i <= 2; i++)
        admit(r, 1, i, 0);
    ck_assert_msg(batch(r, 1, 2, out, &e) == 0, "%s", e.text);
    free_all(out, 2);
    for (uint64_t i = 3; i <= 5; i++)
        admit(r, 1, i, 5);
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        ck_assert_int_eq(batch_by(r, 2 + i, 4, selectors[i], 5, out, &e), -1); /* three are eligible */
        ck_assert_int_eq(e.code, ERR_TIMEOUT);
        ck_assert_msg(batch_by(r, 2 + i, 3, selectors[i], 5, out, &e) == 0, "%s", e.text);
        free_all(out, 3);
    }
    ck_assert_uint_eq(stats(r).items, 5);
    ck_assert_uint_eq(stats(r).evicted_age, 0);
    ck_assert_msg(batch_by(r, 1, 2, REPLAY_UNIFORM, 5, out, &e) == 0, "%s", e.text); /* again, after a restart */
    free_all(out, 2);
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    ck_assert_msg(batch_by(r, 5, 3, REPLAY_UNIFORM, 5, out, &e) == 0, "%s", e.text);
    free_all(out, 3);
    ck_assert_uint_eq(stats(r).items, 3);
    ck_assert_uint_eq(stats(r).evicted_age, 2);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_commit_spares_what_a_later_batch_names_and_never_goes_back)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.uses_max = 0;
    struct replay *r = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    fence(r, 1);
    admit(r, 1, 1, 0);
    admit(r, 1, 2, 0);
    for (uint64_t step = 2; step >= 1; step--) { /* the later one first, as after a rewind */
        ck_assert_msg(batch(r, step, 2, out, &e) == 0, "%s", e.text);
        free_all(out, 2);
    }
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    ck_assert_uint_eq(stats(r).items_pinned, 2);
    ck_assert_int_eq(replay_commit(r, 3, &e), 0);
    ck_assert_uint_eq(stats(r).items_pinned, 0);
    ck_assert_int_eq(replay_commit(r, 2, &e), 0);
    ck_assert_uint_eq(stats(r).commit_step, 3);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(age_is_counted_in_policy_versions_at_both_doors)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.age_max = 2;
    struct replay *r = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    fence(r, 1);
    for (uint64_t v = 0; v < 6; v++)
        admit(r, 1, v, v);
    ck_assert_int_eq(
        replay_batch(r,
                     &(struct replay_batch_request){
                         .step = 1, .count = 2, .selector = REPLAY_FIFO, .policy_version = 5},
                     out, &e),
        0);
    ck_assert_uint_eq(out[0]->policy_version, 3);
    free_all(out, 2);
    ck_assert_uint_eq(stats(r).evicted_age, 3);
    ck_assert_uint_eq(stats(r).policy_version, 5);
    ck_assert_int_eq(admit(r, 2, 1, 2), REPLAY_TOO_OLD);
    ck_assert_int_eq(admit(r, 2, 2, 3), REPLAY_STORED);
    ck_assert_uint_eq(stats(r).refused_age, 1);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(without_age_max_what_tombstones_no_longer_guard_is_evicted)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    fence(r, 1);
    for (uint64_t v = 3; v <= 5; v++)
        admit(r, 1, v, v);
    ck_assert_int_eq(
        replay_batch(r,
                     &(struct replay_batch_request){.step = 1,
                                                    .count = 1,
                                                    .selector = REPLAY_FIFO,
                                                    .policy_version = 4 + REPLAY_TOMBSTONE_VERSIONS},
                     out, &e),
        0);
    ck_assert_uint_eq(out[0]->policy_version, 4);
    free_all(out, 1);
    ck_assert_uint_eq(stats(r).evicted_age, 1);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(tombstones_go_by_version_and_what_they_guarded_is_then_too_old)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    fence(r, 1);
    admit(r, 1, 1, 3);
    ck_assert_int_eq(batch(r, 1, 1, out, &e), 0);
    free_all(out, 1);
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    ck_assert_int_eq(admit(r, 1, 1, 3), REPLAY_DUPLICATE);
    const uint64_t later = 3 + REPLAY_TOMBSTONE_VERSIONS;
    for (uint64_t i = 0; i < 2; i++) {
        admit(r, 2, i, later + i);
        ck_assert_int_eq(replay_batch(r,
                                      &(struct replay_batch_request){
                                          .step = 2 + i, .count = 1, .policy_version = later + i},
                                      out, &e),
                         0);
        free_all(out, 1);
        ck_assert_int_eq(replay_commit(r, 2 + i, &e), 0);
        ck_assert_int_eq(admit(r, 1, 1, 3), i == 0 ? REPLAY_DUPLICATE : REPLAY_TOO_OLD);
    }
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_tombstone_is_as_old_as_its_eviction_not_as_its_trajectory)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.age_max = 2;
    struct replay *r = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    fence(r, 1);
    admit(r, 1, 1, 0);
    ck_assert_int_eq(batch_by(r, 1, 1, REPLAY_UNIFORM, 5, out, &e), -1); /* evicts it */
    ck_assert_uint_eq(stats(r).evicted_age, 1);
    static const enum replay_outcome outcome[] = {REPLAY_DUPLICATE, REPLAY_TOO_OLD};
    for (uint64_t i = 0; i < 2; i++) {
        const uint64_t later = 5 + REPLAY_TOMBSTONE_VERSIONS + i;
        admit(r, 2, i, later);
        ck_assert_msg(batch_by(r, 1 + i, 1, REPLAY_UNIFORM, later, out, &e) == 0, "%s", e.text);
        free_all(out, 1);
        ck_assert_int_eq(replay_commit(r, 1 + i, &e), 0);
        ck_assert_int_eq(admit(r, 1, 1, 0), outcome[i]);
    }
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(one_commit_drops_every_tombstone_that_is_due)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    char reply[64];
    const uint64_t later = 4 + REPLAY_TOMBSTONE_VERSIONS;
    fence(r, 1);
    proc_redis_say(&redis,
                   "EVAL \"for i = 1, 40000 do local id = string.format('%032x', i) "
                   "redis.call('SET', 'dagline:{test}:t:' .. id, 1) "
                   "redis.call('ZADD', 'dagline:{test}:z:tombs', 3, id) end return 40000\" 0",
                   reply, sizeof reply);
    ck_assert_str_eq(reply, ":40000");
    admit(r, 1, 1, later);
    ck_assert_int_eq(
        replay_batch(r,
                     &(struct replay_batch_request){.step = 1, .count = 1, .policy_version = later},
                     out, &e),
        0);
    free_all(out, 1);
    ck_assert_msg(replay_commit(r, 1, &e) == 0, "%s", e.text);
    proc_redis_say(&redis, "ZCARD dagline:{test}:z:tombs", reply, sizeof reply);
    ck_assert_str_eq(reply, ":1"); /* of the batch */
    proc_redis_say(&redis, "DBSIZE", reply, sizeof reply);
    ck_assert_str_eq(reply, ":7"); /* epoch fence version seq stats z:tombs and one t: */
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(lockstep_takes_one_version_in_slot_and_counter_order)
{
    start_redis(NULL);
    struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[4];
    struct err e = {0};
    fence(r, 1);
    static const uint64_t order[] = {3, 0, 2, 1};
    for (size_t i = 0; i < 4; i++) {
        admit(r, 2, order[i], 7);
        admit(r, 1, order[i], i < 2 ? 7 : 6);
    }
    const struct replay_batch_request q = {
        .step = 1, .count = 4, .policy_version = 7, .exact_version = true};
    ck_assert_msg(replay_batch(r, &q, out, &e) == 0, "%s", e.text);
    static const uint32_t slots[] = {1, 1, 2, 2};
    static const uint64_t counters[] = {0, 3, 0, 1};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_uint_eq(out[i]->slot, slots[i]);
        ck_assert_uint_eq(out[i]->counter, counters[i]);
    }
    free_all(out, 4);
    /* handed out once: two of version 7 are left */
    ck_assert_int_eq(
        replay_batch(r,
                     &(struct replay_batch_request){
                         .step = 2, .count = 4, .policy_version = 7, .exact_version = true},
                     out, &e),
        -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(rank_selection_follows_the_trained_delta)
{
    start_redis(NULL);
    struct replay_options o = options();
    o.uses_max = 0;
    struct replay *r = open_replay(&o);
    struct err e = {0};
    struct trajectory *out[1];
    fence(r, 1);
    uint8_t ids[40][TRAJECTORY_ID_BYTES];
    double delta[40];
    for (uint64_t i = 0; i < 40; i++) {
        admit(r, 1, i, 0);
        trajectory_id(ids[i], TRAJECTORIES_RUN, 1, i);
        delta[i] = (double)i;
    }
    ck_assert_int_eq(
        replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 40, &e), 0);
    uint64_t high = 0;
    for (uint64_t step = 1; step <= 100; step++) {
        ck_assert_int_eq(replay_batch(r,
                                      &(struct replay_batch_request){.step = step,
                                                                     .count = 1,
                                                                     .selector = REPLAY_RANK_DELTA,
                                                                     .priority_k = 0.01,
                                                                     .seed = 3},
                                      out, &e),
                         0);
        high += out[0]->counter >= 35;
        free_all(out, 1);
    }
    ck_assert_uint_gt(high, 40); /* 5 of 40 by |delta|; about 50 of 100 draws by 1/(0.4+rank) */
    delta[3] = -1.0;
    ck_assert_int_eq(
        replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 40, &e), -1);
    ck_assert_int_eq(e.code, ERR_NONFINITE);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_priority_brings_nothing_back_that_is_used_up)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct trajectory *out[2];
    struct err e = {0};
    uint8_t ids[2][TRAJECTORY_ID_BYTES];
    const double delta[2] = {1.0, 2.0};
    fence(r, 1);
    for (uint64_t i = 0; i < 2; i++) {
        admit(r, 1, i, 0);
        trajectory_id(ids[i], TRAJECTORIES_RUN, 1, i);
    }
    ck_assert_msg(batch_by(r, 1, 2, REPLAY_RANK_DELTA, 0, out, &e) == 0, "%s", e.text);
    free_all(out, 2);
    ck_assert_int_eq(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 2, &e), 0);
    ck_assert_int_eq(batch_by(r, 2, 1, REPLAY_RANK_DELTA, 0, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    ck_assert_int_eq(replay_commit(r, 1, &e), 0);
    ck_assert_int_eq(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 2, &e), 0);
    ck_assert_int_eq(batch_by(r, 2, 1, REPLAY_RANK_DELTA, 0, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_fence_that_redis_lost_is_back_with_the_next_batch)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *old = open_replay(&o), *new = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    char reply[64];
    fence(old, 4);
    fence(new, 5);
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    admit(new, 1, 1, 0);
    admit(new, 1, 2, 0);
    ck_assert_msg(batch(new, 1, 1, out, &e) == 0, "%s", e.text);
    free_all(out, 1);
    ck_assert_int_eq(batch(old, 2, 1, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    replay_close(old);
    replay_close(new);
    stop_redis();
}
END_TEST

START_TEST(an_older_token_is_fenced_out_of_every_call)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *old = open_replay(&o), *new = open_replay(&o);
    struct trajectory *out[1];
    struct err e = {0};
    fence(old, 4);
    admit(old, 1, 1, 0);
    fence(new, 5);
    ck_assert_int_eq(batch(old, 1, 1, out, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    uint8_t id[1][TRAJECTORY_ID_BYTES] = {{0}};
    const double delta = 1.0;
    ck_assert_int_eq(
        replay_prioritise(old, (const uint8_t(*)[TRAJECTORY_ID_BYTES])id, &delta, 1, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    ck_assert_int_eq(replay_commit(old, 1, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    ck_assert_int_eq(replay_fence(old, 4, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    ck_assert_int_eq(batch(new, 1, 1, out, &e), 0);
    free_all(out, 1);
    replay_close(old);
    replay_close(new);
    stop_redis();
}
END_TEST

/* ---- races ---- */

#define RACE_ITEMS 200

struct racer {
    uint64_t stored, duplicate, other;
};

static void *race(void *arg)
{
    struct racer *me = arg;
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    for (uint64_t i = 0; i < RACE_ITEMS; i++) {
        const enum replay_outcome outcome = admit(r, 1, i, 0);
        me->stored += outcome == REPLAY_STORED;
        me->duplicate += outcome == REPLAY_DUPLICATE;
        me->other += outcome != REPLAY_STORED && outcome != REPLAY_DUPLICATE;
    }
    replay_close(r);
    return NULL;
}

START_TEST(of_racing_writers_exactly_one_stores_each_trajectory)
{
    start_redis(NULL);
    struct racer racers[3] = {{0}};
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(racers[0].stored + racers[1].stored + racers[2].stored, RACE_ITEMS);
    ck_assert_uint_eq(racers[0].duplicate + racers[1].duplicate + racers[2].duplicate,
                      2 * RACE_ITEMS);
    ck_assert_uint_eq(racers[0].other + racers[1].other + racers[2].other, 0);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    ck_assert_uint_eq(stats(r).items, RACE_ITEMS);
    ck_assert_uint_eq(stats(r).inserted, RACE_ITEMS);
    replay_close(r);
    stop_redis();
}
END_TEST

#define RACE_EVICTIONS 1500
#define RACE_HELD 12 /* trajectories that the bound lets in */

static struct replay_options crowded;

static void *crowd(void *arg)
{
    struct replay *r = open_replay(&crowded);
    (void)arg;
    for (uint64_t i = 100; i < 100 + RACE_EVICTIONS; i++)
        ck_assert_int_eq(admit(r, 1, i, 0), REPLAY_STORED);
    replay_close(r);
    return NULL;
}

START_TEST(of_a_batch_nothing_is_evicted_while_it_is_chosen)
{
    start_redis(NULL);
    struct trajectory *out[2];
    struct err e = {0};
    pthread_t thread;
    crowded = options();
    struct replay *r = open_replay(&crowded);
    admit(r, 9, 1, 0);
    crowded.bytes_max = RACE_HELD * stats(r).bytes;
    replay_close(r);
    r = open_replay(&crowded);
    fence(r, 1);
    for (uint64_t i = 1; i <= RACE_HELD; i++)
        admit(r, 1, i, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, crowd, NULL), 0);
    for (uint64_t step = 1; stats(r).inserted < RACE_EVICTIONS; step++) {
        /* the oldest, which go next */
        const int rc = batch_by(r, step, 2, REPLAY_FIFO, 0, out, &e);
        ck_assert_msg(rc == 0 || e.code == ERR_TIMEOUT, "step %llu: %s", (unsigned long long)step, e.text);
        if (rc == 0)
            free_all(out, 2);
        ck_assert_msg(replay_commit(r, step, &e) == 0, "%s", e.text);
    }
    pthread_join(thread, NULL);
    replay_close(r);
    stop_redis();
}
END_TEST

/* ---- faults ---- */

#define KILLS 20
#define KILL_ITEMS_MAX 20000

struct load {
    struct replay_options o;
    uint8_t acked[KILL_ITEMS_MAX]; /* admissions answered STORED, of each counter */
    uint64_t next, acks;
    bool stop;
    pthread_mutex_t lock; /* guards all of the above but o */
};

static void *admit_under_kills(void *arg)
{
    struct load *l = arg;
    struct replay *r = open_replay(&l->o);
    bool stop = false;
    for (uint64_t i = 0; !stop && i < KILL_ITEMS_MAX; i++) {
        struct trajectory *t = trajectories_make_scored(1, i, NULL);
        enum replay_outcome outcome;
        struct err e = {0};
        /* As a scorer does: the same id again until there is an answer. */
        while (replay_admit(r, t, &outcome, &e) < 0)
            ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
        trajectory_free(t);
        pthread_mutex_lock(&l->lock);
        l->acked[i] = 1;
        l->acks++;
        l->next = i + 1;
        stop = l->stop;
        pthread_mutex_unlock(&l->lock);
    }
    replay_close(r);
    return NULL;
}

static uint64_t acks(struct load *l)
{
    pthread_mutex_lock(&l->lock);
    const uint64_t n = l->acks;
    pthread_mutex_unlock(&l->lock);
    return n;
}

static void wait_for_acks(struct load *l, uint64_t n)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    for (int i = 0; acks(l) < n; i++) {
        ck_assert_msg(i < 20000, "stuck at %llu of %llu", (unsigned long long)acks(l),
                      (unsigned long long)n);
        nanosleep(&nap, NULL);
    }
}

START_TEST(twenty_kills_of_redis_lose_nothing_acknowledged_and_store_nothing_twice)
{
    start_redis(NULL);
    struct load *l = mem_new(1, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->o = options();
    l->o.bytes_max = 1 << 30;
    pthread_t writer;
    ck_assert_int_eq(pthread_create(&writer, NULL, admit_under_kills, l), 0);
    for (int k = 0; k < KILLS; k++) {
        wait_for_acks(l, acks(l) + 20 + (uint64_t)(k * 13 % 40));
        proc_redis_kill(&redis);
        proc_redis_again(&redis, NULL);
    }
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_mutex_unlock(&l->lock);
    pthread_join(writer, NULL);
    struct replay *r = open_replay(&l->o);
    const struct replay_stats s = stats(r);
    ck_assert_uint_eq(s.items, l->acks);
    ck_assert_uint_eq(s.inserted, l->acks);
    /* Each is there, whole, once: all of them in batches. */
    fence(r, 1);
    uint64_t seen = 0;
    struct trajectory *out[64];
    for (uint64_t step = 1; seen < l->acks; step++) {
        const uint32_t n = l->acks - seen < 64 ? (uint32_t)(l->acks - seen) : 64;
        struct err e = {0};
        ck_assert_msg(batch(r, step, n, out, &e) == 0, "%s", e.text);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_msg(l->acked[out[i]->counter] == 1,
                          "trajectory %llu twice or never acknowledged",
                          (unsigned long long)out[i]->counter);
            l->acked[out[i]->counter] = 2;
        }
        free_all(out, n);
        seen += n;
    }
    printf("%d kills: %llu acknowledged, 0 lost, 0 twice\n", KILLS, (unsigned long long)l->acks);
    replay_close(r);
    mem_free(l);
    stop_redis();
}
END_TEST

START_TEST(an_emptied_redis_is_noticed_by_its_epoch)
{
    start_redis(NULL);
    struct replay_options o = options();
    struct replay *r = open_replay(&o);
    admit(r, 1, 1, 0);
    const struct replay_stats before = stats(r);
    log_sink(count_lines, NULL);
    char reply[64];
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    uint64_t room;
    ck_assert_int_eq(replay_room(r, &room, NULL), 0);
    ck_assert_int_eq(lost_lines, 1);
    const struct replay_stats after = stats(r);
    ck_assert_str_ne(before.epoch, after.epoch);
    ck_assert_uint_eq(after.items, 0);
    ck_assert_int_eq(replay_room(r, &room, NULL), 0);
    ck_assert_int_eq(lost_lines, 1); /* once */
    ck_assert_int_eq(admit(r, 1, 2, 0), REPLAY_STORED);
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    ck_assert_int_eq(admit(r, 1, 3, 0), REPLAY_STORED); /* a writer notices too */
    ck_assert_int_eq(lost_lines, 2);
    log_sink(NULL, NULL);
    replay_close(r);
    stop_redis();
}
END_TEST

static void wait_for_redis(struct replay *r)
{
    struct err e = {0};
    uint64_t room;
    while (replay_room(r, &room, &e) < 0)
        ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
}

START_TEST(a_redis_that_comes_back_with_an_old_snapshot_is_noticed)
{
    static const char *const snapshots[] = {"--appendonly", "no", NULL};
    static const char *const *const extra[] = {snapshots, NULL};
    for (int durable = 0; durable <= 1; durable++) {
        lost_lines = not_durable_lines = 0;
        log_sink(count_lines, NULL);
        start_redis(extra[durable]);
        const struct replay_options o = options();
        struct replay *r = open_replay(&o);
        char reply[64];
        admit(r, 1, 1, 0);
        proc_redis_say(&redis, "SAVE", reply, sizeof reply);
        admit(r, 1, 2, 0);
        for (int kill = 1; kill <= 2; kill++) {
            proc_redis_kill(&redis);
            proc_redis_again(&redis, extra[durable]);
            wait_for_redis(r);
            ck_assert_int_eq(lost_lines, durable ? 0 : kill);
        }
        ck_assert_uint_eq(stats(r).items, durable ? 2 : 1);
        ck_assert_int_eq(not_durable_lines, !durable); /* once */
        /* one that has no snapshot either is one loss, not two */
        char snapshot[PROC_PATH_BYTES + 16];
        snprintf(snapshot, sizeof snapshot, "%s/dump.rdb", redis.folder);
        proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
        proc_redis_kill(&redis);
        ck_assert_int_eq(unlink(snapshot), 0);
        proc_redis_again(&redis, extra[durable]);
        lost_lines = 0;
        wait_for_redis(r);
        ck_assert_int_eq(lost_lines, 1);
        log_sink(NULL, NULL);
        replay_close(r);
        stop_redis();
    }
}
END_TEST

START_TEST(a_redis_that_evicts_by_itself_is_refused)
{
    start_redis(
        (const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", NULL});
    struct replay_options o = options();
    struct replay *r = NULL;
    struct err e = {0};
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "noeviction"));
    char reply[64];
    proc_redis_say(&redis, "CONFIG SET maxmemory-policy noeviction", reply, sizeof reply);
    o.bytes_max = 71 << 20;
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "maxmemory"));
    o.bytes_max = 50 << 20;
    ck_assert_int_eq(replay_open(&r, &o, &e), 0);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_redis_that_came_back_evicting_is_refused_by_every_call_until_it_is_mended)
{
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o);
    struct err e = {0};
    uint64_t room;
    char reply[64];
    proc_redis_kill(&redis);
    proc_redis_again(
        &redis, (const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", NULL});
    while (replay_room(r, &room, &e) < 0 && e.code == ERR_UNAVAILABLE)
        ;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(replay_room(r, &room, &e), -1);
        ck_assert_msg(e.code == ERR_INVALID && strstr(e.text, "noeviction") != NULL, "%s", e.text);
    }
    proc_redis_say(&redis, "CONFIG SET maxmemory-policy noeviction", reply, sizeof reply);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(redis_at_its_limit_is_full_not_a_loss)
{
    start_redis((const char *const[]){"--maxmemory", "100mb", NULL});
    struct replay_options o = options();
    struct replay *r = open_replay(&o);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_STORED);
    char reply[64];
    proc_redis_say(&redis, "CONFIG SET maxmemory 1000kb", reply, sizeof reply);
    uint64_t room = 1;
    struct err e = {0};
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    struct trajectory *t = trajectories_make_scored(1, 2, NULL);
    enum replay_outcome outcome;
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), -1);
    ck_assert_int_eq(e.code, ERR_FULL);
    proc_redis_say(&redis, "CONFIG SET maxmemory 100mb", reply, sizeof reply);
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    trajectory_free(t);
    replay_close(r);
    stop_redis();
}
END_TEST

/* What passes by itself is waited for: a replica that lags behind, all of Redis's connections taken. */
START_TEST(a_redis_that_takes_nothing_now_is_away)
{
    start_redis(NULL);
    struct replay_options o = options();
    struct replay *r = open_replay(&o), *more = NULL;
    struct trajectory *t = trajectories_make_scored(1, 1, NULL);
    char reply[64];
    enum replay_outcome outcome;
    struct err e = {0};
    proc_redis_say(&redis, "CONFIG SET min-replicas-to-write 1", reply, sizeof reply);
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), -1);
    ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
    proc_redis_say(&redis, "CONFIG SET min-replicas-to-write 0", reply, sizeof reply);
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    proc_redis_say(&redis, "CONFIG SET maxclients 1", reply, sizeof reply);
    ck_assert_int_eq(replay_open(&more, &o, &e), -1);
    ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
    trajectory_free(t);
    replay_close(r);
    stop_redis();
}
END_TEST

/* Latents of 528 KiB, which the allocator rounds up to 640. */
START_TEST(at_the_largest_bound_eviction_comes_before_credit_ends)
{
    start_redis((const char *const[]){"--maxmemory", "40mb", NULL});
    struct replay_options o = options();
    o.bytes_max = 28 << 20;
    struct replay *r = open_replay(&o);
    struct err e = {0};
    for (uint64_t i = 0; i < 80; i++) {
        uint64_t room;
        enum replay_outcome outcome;
        ck_assert_int_eq(replay_room(r, &room, &e), 0);
        ck_assert_uint_gt(room, 0);
        struct trajectory *t = trajectories_make_scored(
            1, i, &(struct trajectory_shape){.states = 33, .latent_side = 32});
        ck_assert_msg(replay_admit(r, t, &outcome, &e) == 0, "%s", e.text);
        trajectory_free(t);
    }
    ck_assert_uint_gt(stats(r).evicted_bytes, 20);
    replay_close(r);
    stop_redis();
}
END_TEST

START_TEST(a_password_is_needed_and_used)
{
    start_redis(
        (const char *const[]){"--user", "scorer", "on", ">secret", "~dagline:*", "+@all", NULL});
    struct replay_options o = options();
    o.user = "scorer";
    o.password = "secret";
    struct replay *r = open_replay(&o);
    ck_assert_int_eq(admit(r, 1, 1, 0), REPLAY_STORED);
    replay_close(r);
    o.password = "wrong";
    struct err e = {0};
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "WRONGPASS"));
    ck_assert_ptr_null(strstr(e.text, "wrong"));
    stop_redis();
}
END_TEST

/* A server that greets properly and then announces a terabyte and begins to send it. */
static void endless_server(const char *path)
{
    const int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    bind(listener, (struct sockaddr *)&a, sizeof a);
    listen(listener, 4);
    char junk[65536];
    memset(junk, 'x', sizeof junk);
    for (;;) {
        const int fd = accept(listener, NULL, NULL);
        char in[256];
        if (read(fd, in, sizeof in) > 0 && write(fd, "+PONG\r\n", 7) == 7 &&
            read(fd, in, sizeof in) > 0 && write(fd, "$1000000000000\r\n", 16) == 16)
            while (send(fd, junk, sizeof junk, MSG_NOSIGNAL) > 0)
                ;
        close(fd);
    }
}

static long rss_kb(void)
{
    char *text = proc_read("/proc/self/status");
    const char *at = strstr(text, "VmRSS:");
    const long kb = at != NULL ? strtol(at + 6, NULL, 10) : 0;
    free(text);
    return kb;
}

START_TEST(an_endless_reply_ends_the_connection_not_the_process)
{
    proc_folder(folder);
    char path[PROC_PATH_BYTES], address[PROC_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%.200s/fake.sock", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    const pid_t server = fork();
    if (server == 0)
        endless_server(path);
    while (access(path, F_OK) != 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    struct replay_options o = options();
    o.address = address;
    struct replay *r = NULL;
    struct err e = {0};
    const long before_kb = rss_kb();
    /* the listener may not be ready on the first try */
    for (int i = 0; i < 100 && strstr(e.text, "larger than the limit") == NULL; i++)
        ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_msg(strstr(e.text, "larger than the limit") != NULL, "%s", e.text);
    ck_assert_int_lt(rss_kb() - before_kb, 300 << 10);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    proc_folder_remove(folder);
}
END_TEST

START_TEST(the_memo_keeps_the_last_texts_and_is_bounded)
{
    enum { N = 100, ROUNDS = 30, MAX = 1000 };
    start_redis(NULL);
    const struct replay_options o = options();
    struct replay *r = open_replay(&o), *other = open_replay(&o);
    struct err e = {0};
    struct replay_memo_key keys[N];
    char text[N][32], *found[N];
    const char *texts[N];
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < N; i++) {
            const uint32_t number[4] = {round, i};
            memcpy(keys[i].bytes, number, sizeof number);
            snprintf(text[i], sizeof text[i], "text %u of %u", i, round);
            texts[i] = text[i];
        }
        ck_assert_msg(replay_memo_get(r, keys, N, found, &e) == 0, "%s", e.text);
        for (uint32_t i = 0; i < N; i++)
            ck_assert_ptr_null(found[i]);
        ck_assert_msg(replay_memo_put(round % 2 == 0 ? r : other, keys, texts, N, MAX, &e) == 0, "%s", e.text);
        /* the last half is always there, whoever wrote it */
        for (uint32_t back = 0; back <= round && back < MAX / 2 / N; back++) {
            for (uint32_t i = 0; i < N; i++)
                memcpy(keys[i].bytes, (const uint32_t[4]){round - back, i}, 16);
            ck_assert_int_eq(replay_memo_get(other, keys, N, found, &e), 0);
            for (uint32_t i = 0; i < N; i++) {
                snprintf(text[0], sizeof text[0], "text %u of %u", i, round - back);
                ck_assert_msg(found[i] != NULL && strcmp(found[i], text[0]) == 0, "%s", text[0]);
                mem_free(found[i]);
            }
        }
        /* and never more than all */
        size_t kept = 0;
        for (uint32_t back = 0; back <= round; back++) {
            for (uint32_t i = 0; i < N; i++)
                memcpy(keys[i].bytes, (const uint32_t[4]){back, i}, 16);
            ck_assert_int_eq(replay_memo_get(other, keys, N, found, &e), 0);
            for (uint32_t i = 0; i < N; i++) {
                kept += found[i] != NULL;
                mem_free(found[i]);
            }
        }
        ck_assert_uint_le(kept, MAX);
    }
    /* the first are gone */
    for (uint32_t i = 0; i < N; i++)
        memcpy(keys[i].bytes, (const uint32_t[4]){0, i}, 16);
    ck_assert_int_eq(replay_memo_get(r, keys, N, found, &e), 0);
    for (uint32_t i = 0; i < N; i++)
        ck_assert_ptr_null(found[i]);
    /* a Redis that is away is told, and nothing is leaked */
    proc_redis_kill(&redis);
    ck_assert_int_eq(replay_memo_get(r, keys, N, found, &e), -1);
    ck_assert_int_eq(e.code, ERR_UNAVAILABLE);
    replay_close(r);
    replay_close(other);
    proc_folder_remove(folder);
}
END_TEST

SUITE("system/replay", 120, a_trajectory_is_stored_once_whatever_is_resent,
      a_consumed_trajectory_leaves_a_tombstone_with_its_checksum,
      a_commit_covers_any_number_of_batches,
      a_trainer_may_go_on_from_a_checkpoint_before_the_committed_one,
      a_logged_batch_comes_back_to_a_trainer_that_starts_again,
      nothing_is_answered_before_it_is_asked_for_whether_the_disk_has_it, too_few_is_a_timeout_that_lets_the_missing_ones_in,
      eviction_keeps_the_bound_takes_the_oldest_and_spares_logged_batches,
      items_that_fill_the_bound_exactly_make_one_go_for_each_that_comes,
      what_a_logged_batch_names_ages_out_of_the_selection_and_stays_until_the_commit,
      a_commit_spares_what_a_later_batch_names_and_never_goes_back,
      age_is_counted_in_policy_versions_at_both_doors,
      without_age_max_what_tombstones_no_longer_guard_is_evicted,
      tombstones_go_by_version_and_what_they_guarded_is_then_too_old,
      a_tombstone_is_as_old_as_its_eviction_not_as_its_trajectory, one_commit_drops_every_tombstone_that_is_due,
      lockstep_takes_one_version_in_slot_and_counter_order,
      rank_selection_follows_the_trained_delta, a_priority_brings_nothing_back_that_is_used_up,
      a_fence_that_redis_lost_is_back_with_the_next_batch, an_older_token_is_fenced_out_of_every_call,
      of_racing_writers_exactly_one_stores_each_trajectory, of_a_batch_nothing_is_evicted_while_it_is_chosen,
      twenty_kills_of_redis_lose_nothing_acknowledged_and_store_nothing_twice,
      an_emptied_redis_is_noticed_by_its_epoch,
      a_redis_that_comes_back_with_an_old_snapshot_is_noticed, a_redis_that_evicts_by_itself_is_refused,
      a_redis_that_came_back_evicting_is_refused_by_every_call_until_it_is_mended,
      redis_at_its_limit_is_full_not_a_loss,
      a_redis_that_takes_nothing_now_is_away,
      at_the_largest_bound_eviction_comes_before_credit_ends, a_password_is_needed_and_used,
      an_endless_reply_ends_the_connection_not_the_process,
      the_memo_keeps_the_last_texts_and_is_bounded)
