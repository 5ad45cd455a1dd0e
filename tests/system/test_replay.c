/* The replay against a real redis-server on a unix socket: what it keeps, hands out and drops. */
#include "support/replay_rig.h"

#include "base/log.h"
#include "replay/replay_keys.h"
#include "support/suite.h"
#include "support/trajectories.h"

#include <stdlib.h>
#include <string.h>

START_TEST(a_trajectory_is_stored_once_whatever_is_resent)
{
    struct replay *r = rig_begin(NULL);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_STORED);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_DUPLICATE);
    struct trajectory *other = trajectories_make_scored(1, 1, NULL);
    other->latents[0] += 1.0f;
    enum replay_outcome outcome;
    ck_assert_int_eq(replay_admit(r, other, &outcome, NULL), 0);
    ck_assert_int_eq(outcome, REPLAY_CONFLICT);
    trajectory_free(other);
    const struct replay_stats s = rig_stats(r);
    ck_assert_uint_eq(s.items, 1);
    ck_assert_uint_eq(s.inserted, 1);
    ck_assert_uint_eq(s.duplicates, 1);
    ck_assert_uint_eq(s.conflicts, 1);
    ck_assert_uint_gt(s.bytes, 4 * 4 * 4 * 4 * 4);
    rig_end(r);
}
END_TEST

START_TEST(a_consumed_trajectory_leaves_a_tombstone_with_its_checksum)
{
    struct replay *r = rig_begin(NULL);
    struct trajectory *out[2];
    struct err e = {0};
    rig_admit(r, 1, 1, 0);
    rig_admit(r, 1, 2, 0);
    rig_take(r, 1, 2);
    ck_assert_uint_eq(rig_stats(r).items, 2); /* until a checkpoint covers them */
    ck_assert_uint_eq(rig_stats(r).items_pinned, 2);
    ck_assert_uint_eq(rig_stats(r).items_eligible, 0);
    rig_commit(r, 1);
    const struct replay_stats s = rig_stats(r);
    ck_assert_uint_eq(s.items, 0);
    ck_assert_uint_eq(s.bytes, 0);
    ck_assert_uint_eq(s.items_pinned, 0);
    ck_assert_uint_eq(s.consumed, 2);
    ck_assert_uint_eq(s.commit_step, 1);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_DUPLICATE);
    ck_assert_uint_eq(rig_stats(r).items, 0);
    /* nothing is left of the two but their tombstones */
    ck_assert_str_eq(rig_say("DBSIZE"), ":8"); /* epoch fence version seq stats z:tombs and two t: */
    rig_refused(rig_batch(r, 1, 2, out, &e), &e, ERR_STALE);
    rig_end(r);
}
END_TEST

static int rewound_lines;

static void count_rewinds(const char *line, void *arg)
{
    (void)arg;
    rewound_lines += strstr(line, "replay_rewound") != NULL;
}

/* As many as trainer.checkpoint_every lets come together; a batch that is used again and again holds no more items. */
START_TEST(a_commit_covers_any_number_of_batches)
{
    struct replay *r = rig_begin(NULL);
    ck_assert_str_eq(
        rig_say("EVAL \"for i = 1, 70000 do redis.call('ZADD', KEYS[1], i, i) end return 1\" 1 dagline:{test}:z:batches"), ":1");
    rig_commit(r, 69999);
    ck_assert_uint_eq(rig_stats(r).commit_step, 69999);
    ck_assert_str_eq(rig_say("ZCARD dagline:{test}:z:batches"), ":1");
    rig_end(r);
}
END_TEST

START_TEST(a_trainer_may_go_on_from_a_checkpoint_before_the_committed_one)
{
    rig_start(NULL);
    const struct replay_options o = rig_options();
    struct replay *r = rig_open(&o), *old = rig_open(&o);
    struct trajectory *out[2];
    struct err e = {0};
    rig_fence(old, 1);
    rig_fence(r, 2);
    for (uint64_t step = 1; step <= 3; step++) {
        rig_admit(r, 1, 2 * step, 0);
        rig_admit(r, 1, 2 * step + 1, 0);
        rig_take(r, step, 2);
        rig_commit(r, step);
    }
    log_sink(count_rewinds, NULL);
    rig_refused(replay_rewind(old, 1, &e), &e, ERR_STALE);
    ck_assert_int_eq(replay_rewind(r, 3, &e), 0);
    ck_assert_int_eq(rewound_lines, 0);
    ck_assert_int_eq(replay_rewind(r, 1, &e), 0);
    ck_assert_int_eq(replay_rewind(r, 2, &e), 0); /* never forth */
    ck_assert_int_eq(rewound_lines, 1);
    ck_assert_uint_eq(rig_stats(r).commit_step, 1);
    /* the batch of step 2 is another one: what it held is used up */
    ck_assert_int_eq(rig_admit(r, 1, 4, 0), REPLAY_DUPLICATE);
    rig_admit(r, 1, 8, 0);
    rig_admit(r, 1, 9, 0);
    ck_assert_msg(rig_batch(r, 2, 2, out, &e) == 0, "%s", e.text);
    ck_assert_uint_ge(out[0]->counter, 8);
    ck_assert_uint_ge(out[1]->counter, 8);
    rig_free(out, 2);
    log_sink(NULL, NULL);
    replay_close(old);
    rig_end(r);
}
END_TEST

START_TEST(a_logged_batch_comes_back_to_a_trainer_that_starts_again)
{
    struct replay_options o = rig_options();
    o.uses_max = 0;
    struct replay *r = rig_begin(&o);
    struct trajectory *a[6], *b[6];
    struct err e = {0};
    for (uint64_t i = 0; i < 20; i++)
        rig_admit(r, 1, i, 0);
    for (uint64_t step = 1; step <= 3; step++)
        rig_take(r, step, 6);
    ck_assert_int_eq(rig_batch(r, 2, 6, a, &e), 0);
    replay_close(r);
    proc_redis_kill(&rig_redis);
    proc_redis_again(&rig_redis, NULL);
    r = rig_open(&o);
    rig_fence(r, 2);
    for (uint64_t i = 20; i < 40; i++)
        rig_admit(r, 1, i, 0); /* more to choose from changes nothing that is logged */
    ck_assert_msg(rig_batch(r, 2, 6, b, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_mem_eq(a[i]->id, b[i]->id, TRAJECTORY_ID_BYTES);
        ck_assert_mem_eq(a[i]->latents, b[i]->latents, 4 * 64 * sizeof(float));
    }
    ck_assert_uint_eq(rig_stats(r).sampled, 18);
    rig_free(a, 6);
    rig_free(b, 6);
    rig_refused(rig_batch(r, 2, 5, b, &e), &e, ERR_CONFLICT);
    rig_end(r);
}
END_TEST

/* How often Redis was asked about its append-only file since the last time; every such question is one INFO. */
static unsigned asked_for_the_disk(void)
{
    const char *const reply = rig_say(
        "EVAL \"return tonumber(string.match(redis.call('INFO','commandstats'),'cmdstat_info:calls=(%d+)') or 0)\" 0");
    ck_assert_msg(reply[0] == ':', "%s", reply);
    const unsigned n = (unsigned)strtoul(reply + 1, NULL, 10);
    rig_say("CONFIG RESETSTAT");
    return n;
}

START_TEST(nothing_is_answered_before_it_is_asked_for_whether_the_disk_has_it)
{
    struct replay *r = rig_begin(NULL);
    struct trajectory *out[1];
    struct err e = {0};
    asked_for_the_disk();
    rig_fence(r, 1);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_STORED);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_DUPLICATE); /* the first answer may not have come */
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_msg(rig_batch(r, 1, 1, out, &e) == 0, "%s", e.text);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    rig_free(out, 1);
    rig_commit(r, 1);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    ck_assert_int_eq(replay_rewind(r, 0, &e), 0);
    ck_assert_uint_gt(asked_for_the_disk(), 0);
    rig_end(r);
}
END_TEST

START_TEST(too_few_is_a_timeout_that_lets_the_missing_ones_in)
{
    struct replay_options o = rig_options();
    o.samples_per_insert = 1.0;
    o.items_min = 2;
    struct replay *r = rig_begin(&o);
    struct trajectory *out[5];
    struct err e = {0};
    uint64_t room;
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    rig_admit(r, 1, 1, 0);
    rig_admit(r, 1, 2, 0);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    rig_refused(rig_batch(r, 1, 5, out, &e), &e, ERR_TIMEOUT);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 3);
    for (uint64_t i = 3; i <= 5; i++)
        rig_admit(r, 1, i, 0);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    rig_take(r, 1, 5);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    /* what is missing counts beside all that ever came */
    struct trajectory *more[6];
    rig_refused(rig_batch(r, 2, 6, more, &e), &e, ERR_TIMEOUT);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 6);
    /* a smaller batch does: nothing is waited for any longer */
    rig_admit(r, 1, 6, 0);
    rig_admit(r, 1, 7, 0);
    rig_take(r, 2, 2);
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 2);
    rig_end(r);
}
END_TEST

START_TEST(eviction_keeps_the_bound_takes_the_oldest_and_spares_logged_batches)
{
    struct replay_options o = rig_options();
    struct replay *r = rig_begin(&o);
    rig_admit(r, 9, 1, 0);
    const uint64_t one = rig_stats(r).bytes;
    replay_close(r);
    rig_say("FLUSHALL");
    o.bytes_max = 5 * one + one / 2;
    r = rig_open(&o);
    struct trajectory *out[2];
    struct err e = {0};
    rig_fence(r, 1);
    for (uint64_t i = 1; i <= 5; i++)
        rig_admit(r, 1, i, 0);
    ck_assert_int_eq(rig_batch_by(r, 1, 2, REPLAY_FIFO, 0, out, &e), 0);
    ck_assert_uint_eq(out[0]->counter, 1);
    ck_assert_uint_eq(out[1]->counter, 2);
    rig_free(out, 2);
    for (uint64_t i = 6; i <= 9; i++) {
        ck_assert_int_eq(rig_admit(r, 1, i, 0), REPLAY_STORED);
        ck_assert_uint_le(rig_stats(r).bytes, o.bytes_max);
    }
    ck_assert_uint_eq(rig_stats(r).evicted_bytes, 4);
    ck_assert_uint_eq(rig_stats(r).evicted_unused, 4);
    ck_assert_int_eq(rig_admit(r, 1, 3, 0), REPLAY_DUPLICATE); /* evicted */
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_DUPLICATE); /* pinned, still there */
    /* 7, 8, 9 go to batch 2 with 1, 2 in batch 1: nothing may be evicted */
    rig_take(r, 2, 3);
    struct trajectory *t = trajectories_make_scored(1, 10, NULL);
    enum replay_outcome outcome;
    rig_refused(replay_admit(r, t, &outcome, &e), &e, ERR_FULL);
    rig_commit(r, 2);
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    trajectory_free(t);
    ck_assert_uint_eq(rig_stats(r).items, 1);
    rig_end(r);
}
END_TEST

START_TEST(items_that_fill_the_bound_exactly_make_one_go_for_each_that_comes)
{
    struct replay_options o = rig_options();
    struct replay *r = rig_begin(&o);
    rig_admit(r, 9, 1, 0);
    o.bytes_max = 4 * rig_stats(r).bytes;
    replay_close(r);
    rig_say("FLUSHALL");
    r = rig_open(&o);
    for (uint64_t i = 1; i <= 7; i++) {
        ck_assert_int_eq(rig_admit(r, 1, i, 0), REPLAY_STORED);
        ck_assert_uint_eq(rig_stats(r).evicted_bytes, i > 4 ? i - 4 : 0);
    }
    ck_assert_uint_eq(rig_stats(r).bytes, o.bytes_max);
    rig_end(r);
}
END_TEST

START_TEST(what_a_logged_batch_names_ages_out_of_the_selection_and_stays_until_the_commit)
{
    static const enum replay_selector selectors[] = {REPLAY_UNIFORM, REPLAY_RANK_DELTA, REPLAY_RANK_REWARD};
    struct replay_options o = rig_options();
    o.uses_max = 0;
    o.age_max = 2;
    struct replay *r = rig_begin(&o);
    struct trajectory *out[4];
    struct err e = {0};
    for (uint64_t i = 1; i <= 2; i++)
        rig_admit(r, 1, i, 0);
    rig_take(r, 1, 2);
    for (uint64_t i = 3; i <= 5; i++)
        rig_admit(r, 1, i, 5);
    for (size_t i = 0; i < sizeof selectors / sizeof *selectors; i++) {
        rig_refused(rig_batch_by(r, 2 + i, 4, selectors[i], 5, out, &e), &e, ERR_TIMEOUT); /* three are eligible */
        rig_take_by(r, 2 + i, 3, selectors[i], 5);
    }
    ck_assert_uint_eq(rig_stats(r).items, 5);
    ck_assert_uint_eq(rig_stats(r).evicted_age, 0);
    rig_take_by(r, 1, 2, REPLAY_UNIFORM, 5); /* again, after a restart */
    rig_commit(r, 1);
    rig_take_by(r, 5, 3, REPLAY_UNIFORM, 5);
    ck_assert_uint_eq(rig_stats(r).items, 3);
    ck_assert_uint_eq(rig_stats(r).evicted_age, 2);
    rig_end(r);
}
END_TEST

START_TEST(a_commit_spares_what_a_later_batch_names_and_never_goes_back)
{
    struct replay_options o = rig_options();
    o.uses_max = 0;
    struct replay *r = rig_begin(&o);
    rig_admit(r, 1, 1, 0);
    rig_admit(r, 1, 2, 0);
    for (uint64_t step = 2; step >= 1; step--) /* the later one first, as after a rewind */
        rig_take(r, step, 2);
    rig_commit(r, 1);
    ck_assert_uint_eq(rig_stats(r).items_pinned, 2);
    rig_commit(r, 3);
    ck_assert_uint_eq(rig_stats(r).items_pinned, 0);
    rig_commit(r, 2);
    ck_assert_uint_eq(rig_stats(r).commit_step, 3);
    rig_end(r);
}
END_TEST

START_TEST(age_is_counted_in_policy_versions_at_both_doors)
{
    struct replay_options o = rig_options();
    o.age_max = 2;
    struct replay *r = rig_begin(&o);
    struct trajectory *out[2];
    struct err e = {0};
    for (uint64_t v = 0; v < 6; v++)
        rig_admit(r, 1, v, v);
    ck_assert_int_eq(rig_batch_by(r, 1, 2, REPLAY_FIFO, 5, out, &e), 0);
    ck_assert_uint_eq(out[0]->policy_version, 3);
    rig_free(out, 2);
    ck_assert_uint_eq(rig_stats(r).evicted_age, 3);
    ck_assert_uint_eq(rig_stats(r).policy_version, 5);
    ck_assert_int_eq(rig_admit(r, 2, 1, 2), REPLAY_TOO_OLD);
    ck_assert_int_eq(rig_admit(r, 2, 2, 3), REPLAY_STORED);
    ck_assert_uint_eq(rig_stats(r).refused_age, 1);
    rig_end(r);
}
END_TEST

START_TEST(without_age_max_what_tombstones_no_longer_guard_is_evicted)
{
    struct replay *r = rig_begin(NULL);
    struct trajectory *out[1];
    struct err e = {0};
    for (uint64_t v = 3; v <= 5; v++)
        rig_admit(r, 1, v, v);
    ck_assert_int_eq(rig_batch_by(r, 1, 1, REPLAY_FIFO, 4 + REPLAY_TOMBSTONE_VERSIONS, out, &e), 0);
    ck_assert_uint_eq(out[0]->policy_version, 4);
    rig_free(out, 1);
    ck_assert_uint_eq(rig_stats(r).evicted_age, 1);
    rig_end(r);
}
END_TEST

START_TEST(tombstones_go_by_version_and_what_they_guarded_is_then_too_old)
{
    struct replay *r = rig_begin(NULL);
    rig_admit(r, 1, 1, 3);
    rig_take(r, 1, 1);
    rig_commit(r, 1);
    ck_assert_int_eq(rig_admit(r, 1, 1, 3), REPLAY_DUPLICATE);
    const uint64_t later = 3 + REPLAY_TOMBSTONE_VERSIONS;
    for (uint64_t i = 0; i < 2; i++) {
        rig_admit(r, 2, i, later + i);
        rig_take_by(r, 2 + i, 1, REPLAY_UNIFORM, later + i);
        rig_commit(r, 2 + i);
        ck_assert_int_eq(rig_admit(r, 1, 1, 3), i == 0 ? REPLAY_DUPLICATE : REPLAY_TOO_OLD);
    }
    rig_end(r);
}
END_TEST

START_TEST(a_tombstone_is_as_old_as_its_eviction_not_as_its_trajectory)
{
    struct replay_options o = rig_options();
    o.age_max = 2;
    struct replay *r = rig_begin(&o);
    struct trajectory *out[1];
    struct err e = {0};
    rig_admit(r, 1, 1, 0);
    ck_assert_int_eq(rig_batch_by(r, 1, 1, REPLAY_UNIFORM, 5, out, &e), -1); /* evicts it */
    ck_assert_uint_eq(rig_stats(r).evicted_age, 1);
    static const enum replay_outcome outcome[] = {REPLAY_DUPLICATE, REPLAY_TOO_OLD};
    for (uint64_t i = 0; i < 2; i++) {
        const uint64_t later = 5 + REPLAY_TOMBSTONE_VERSIONS + i;
        rig_admit(r, 2, i, later);
        rig_take_by(r, 1 + i, 1, REPLAY_UNIFORM, later);
        rig_commit(r, 1 + i);
        ck_assert_int_eq(rig_admit(r, 1, 1, 0), outcome[i]);
    }
    rig_end(r);
}
END_TEST

START_TEST(one_commit_drops_every_tombstone_that_is_due)
{
    struct replay *r = rig_begin(NULL);
    const uint64_t later = 4 + REPLAY_TOMBSTONE_VERSIONS;
    ck_assert_str_eq(rig_say("EVAL \"for i = 1, 40000 do local id = string.format('%032x', i) "
                             "redis.call('SET', 'dagline:{test}:t:' .. id, 1) "
                             "redis.call('ZADD', 'dagline:{test}:z:tombs', 3, id) end return 40000\" 0"),
                     ":40000");
    rig_admit(r, 1, 1, later);
    rig_take_by(r, 1, 1, REPLAY_UNIFORM, later);
    rig_commit(r, 1);
    ck_assert_str_eq(rig_say("ZCARD dagline:{test}:z:tombs"), ":1"); /* of the batch */
    ck_assert_str_eq(rig_say("DBSIZE"), ":7"); /* epoch fence version seq stats z:tombs and one t: */
    rig_end(r);
}
END_TEST

START_TEST(lockstep_takes_one_version_in_slot_and_counter_order)
{
    struct replay_options o = rig_options();
    struct replay *r = rig_begin(&o);
    struct trajectory *out[4];
    struct err e = {0};
    static const uint64_t order[] = {3, 0, 2, 1};
    for (size_t i = 0; i < 4; i++) {
        rig_admit(r, 2, order[i], 7);
        rig_admit(r, 1, order[i], i < 2 ? 7 : 6);
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
    rig_free(out, 4);
    /* handed out once: two of version 7 are left */
    const struct replay_batch_request more = {.step = 2, .count = 4, .policy_version = 7, .exact_version = true};
    rig_refused(replay_batch(r, &more, out, &e), &e, ERR_TIMEOUT);
    rig_end(r);
}
END_TEST

START_TEST(rank_selection_follows_the_trained_delta)
{
    struct replay_options o = rig_options();
    o.uses_max = 0;
    struct replay *r = rig_begin(&o);
    struct err e = {0};
    struct trajectory *out[1];
    uint8_t ids[40][TRAJECTORY_ID_BYTES];
    double delta[40];
    for (uint64_t i = 0; i < 40; i++) {
        rig_admit(r, 1, i, 0);
        trajectory_id(ids[i], TRAJECTORIES_RUN, 1, i);
        delta[i] = (double)i;
    }
    ck_assert_int_eq(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 40, &e), 0);
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
        rig_free(out, 1);
    }
    ck_assert_uint_gt(high, 40); /* 5 of 40 by |delta|; about 50 of 100 draws by 1/(0.4+rank) */
    delta[3] = -1.0;
    rig_refused(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 40, &e), &e, ERR_NONFINITE);
    rig_end(r);
}
END_TEST

START_TEST(a_priority_brings_nothing_back_that_is_used_up)
{
    struct replay *r = rig_begin(NULL);
    struct trajectory *out[2];
    struct err e = {0};
    uint8_t ids[2][TRAJECTORY_ID_BYTES];
    const double delta[2] = {1.0, 2.0};
    for (uint64_t i = 0; i < 2; i++) {
        rig_admit(r, 1, i, 0);
        trajectory_id(ids[i], TRAJECTORIES_RUN, 1, i);
    }
    rig_take_by(r, 1, 2, REPLAY_RANK_DELTA, 0);
    ck_assert_int_eq(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 2, &e), 0);
    rig_refused(rig_batch_by(r, 2, 1, REPLAY_RANK_DELTA, 0, out, &e), &e, ERR_TIMEOUT);
    rig_commit(r, 1);
    ck_assert_int_eq(replay_prioritise(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])ids, delta, 2, &e), 0);
    rig_refused(rig_batch_by(r, 2, 1, REPLAY_RANK_DELTA, 0, out, &e), &e, ERR_TIMEOUT);
    rig_end(r);
}
END_TEST

START_TEST(a_fence_that_redis_lost_is_back_with_the_next_batch)
{
    rig_start(NULL);
    const struct replay_options o = rig_options();
    struct replay *old = rig_open(&o), *new = rig_open(&o);
    struct trajectory *out[1];
    struct err e = {0};
    rig_fence(old, 4);
    rig_fence(new, 5);
    rig_say("FLUSHALL");
    rig_admit(new, 1, 1, 0);
    rig_admit(new, 1, 2, 0);
    rig_take(new, 1, 1);
    rig_refused(rig_batch(old, 2, 1, out, &e), &e, ERR_STALE);
    replay_close(old);
    replay_close(new);
    rig_stop();
}
END_TEST

START_TEST(an_older_token_is_fenced_out_of_every_call)
{
    rig_start(NULL);
    const struct replay_options o = rig_options();
    struct replay *old = rig_open(&o), *new = rig_open(&o);
    struct trajectory *out[1];
    struct err e = {0};
    rig_fence(old, 4);
    rig_admit(old, 1, 1, 0);
    rig_fence(new, 5);
    rig_refused(rig_batch(old, 1, 1, out, &e), &e, ERR_STALE);
    uint8_t id[1][TRAJECTORY_ID_BYTES] = {{0}};
    const double delta = 1.0;
    rig_refused(replay_prioritise(old, (const uint8_t(*)[TRAJECTORY_ID_BYTES])id, &delta, 1, &e), &e, ERR_STALE);
    rig_refused(replay_commit(old, 1, &e), &e, ERR_STALE);
    rig_refused(replay_fence(old, 4, &e), &e, ERR_STALE);
    rig_take(new, 1, 1);
    replay_close(old);
    replay_close(new);
    rig_stop();
}
END_TEST

SUITE("system/replay", 120, a_trajectory_is_stored_once_whatever_is_resent,
      a_consumed_trajectory_leaves_a_tombstone_with_its_checksum,
      a_commit_covers_any_number_of_batches,
      a_trainer_may_go_on_from_a_checkpoint_before_the_committed_one,
      a_logged_batch_comes_back_to_a_trainer_that_starts_again,
      nothing_is_answered_before_it_is_asked_for_whether_the_disk_has_it,
      too_few_is_a_timeout_that_lets_the_missing_ones_in,
      eviction_keeps_the_bound_takes_the_oldest_and_spares_logged_batches,
      items_that_fill_the_bound_exactly_make_one_go_for_each_that_comes,
      what_a_logged_batch_names_ages_out_of_the_selection_and_stays_until_the_commit,
      a_commit_spares_what_a_later_batch_names_and_never_goes_back,
      age_is_counted_in_policy_versions_at_both_doors,
      without_age_max_what_tombstones_no_longer_guard_is_evicted,
      tombstones_go_by_version_and_what_they_guarded_is_then_too_old,
      a_tombstone_is_as_old_as_its_eviction_not_as_its_trajectory,
      one_commit_drops_every_tombstone_that_is_due,
      lockstep_takes_one_version_in_slot_and_counter_order,
      rank_selection_follows_the_trained_delta,
      a_priority_brings_nothing_back_that_is_used_up,
      a_fence_that_redis_lost_is_back_with_the_next_batch,
      an_older_token_is_fenced_out_of_every_call)
