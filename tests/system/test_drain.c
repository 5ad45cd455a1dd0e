/* SIGTERM: each service finishes what it has begun and ends with status 0, within DRAIN_MS; a
 * second SIGTERM ends it at once.  And one that cannot do its work ends by itself, with one line. */
#include "base/hash.h"
#include "base/mem.h"
#include "support/ring.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define START_MS 60000
#define DRAIN_MS 20000
#define AT_ONCE_MS 2000
#define STORE_AWAY_MS 6000 /* the whole request would take 30 s */

static void begin(struct ring *r, const char *const *settings)
{
    struct status s = {0};
    ring_open(r, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start_all(r);
    const int64_t end = ring_now_ms() + START_MS;
    for (uint64_t version = 0; version < 2; status_done(&s), memset(&s, 0, sizeof s)) {
        ring_watch(r);
        ring_nap(10);
        if (ring_status(r, &s))
            version = s.policy.version;
        ck_assert_msg(ring_now_ms() < end, "the run does not start: see %s/log", r->folder);
    }
}

static uint64_t checkpoint_step(struct ring *r, uint64_t *policy_version)
{
    struct status s;
    ck_assert(ring_status(r, &s));
    const uint64_t step = s.checkpoint.step;
    *policy_version = s.policy.version;
    status_done(&s);
    return step;
}

/* As after its last update: everybody ends. */
START_TEST(a_run_that_has_gone_too_far_ends_with_a_checkpoint)
{
    static const char *const settings[] = {"trainer.kl_states=4", "trainer.path_kl_max=1e-9", NULL};
    static const enum ring_part parts[] = {RING_TRAINER, RING_SAMPLER, RING_SCORER};
    static struct ring r;
    uint64_t version;
    ring_open(&r, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start_all(&r);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        ck_assert_msg(ring_wait_end(&r, parts[i], 0, START_MS) == 0, "%s: see %s/log", ring_part_name(parts[i]), r.folder);
    ck_assert_uint_eq(ring_log_count(&r, RING_TRAINER, 0, "\"event\":\"update\""), 10);
    ck_assert_uint_eq(ring_log_count(&r, RING_TRAINER, 0, "\"path_kl_reached\",\"step\":10"), 1);
    ck_assert_uint_eq(checkpoint_step(&r, &version), 10);
    ck_assert_uint_eq(version, 10);
    ring_close(&r);
}
END_TEST

START_TEST(each_service_finishes_its_work_and_ends_with_0)
{
    static struct ring r;
    uint64_t version;
    begin(&r, NULL);
    /* a sampler ends when its last trajectory is acknowledged */
    ck_assert_int_eq(ring_end(&r, RING_SAMPLER, 0, DRAIN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&r, RING_SAMPLER, 0, "\"unacknowledged\":0"), 1);
    /* a trainer leaves a checkpoint of its last update */
    ck_assert_int_eq(ring_end(&r, RING_TRAINER, 0, DRAIN_MS), 0);
    ck_assert_uint_eq(checkpoint_step(&r, &version), version);
    ck_assert_uint_ge(version, 2);
    ck_assert_int_eq(ring_end(&r, RING_SCORER, 0, DRAIN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&r, RING_SCORER, 0, "\"left\":0"), 1);
    ck_assert_int_eq(ring_end(&r, RING_JUDGE, 0, DRAIN_MS), 0);
    ck_assert_int_eq(ring_end(&r, RING_STORE, 0, DRAIN_MS), 0);
    ring_close(&r);
}
END_TEST

START_TEST(a_scorer_asked_to_end_answers_what_it_has_in_hand)
{
    static struct ring r;
    begin(&r, NULL);
    ck_assert_int_eq(ring_end(&r, RING_SCORER, 0, DRAIN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&r, RING_SCORER, 0, "\"left\":0"), 1);
    ring_close(&r);
}
END_TEST

/* What is in hand comes again from the samplers. */
START_TEST(a_scorer_asked_to_end_does_not_wait_for_a_service_that_is_away)
{
    static struct ring r;
    begin(&r, (const char *const[]){"reward.deadline=60s", "replay.samples_per_insert=0", NULL});
    process_end(ring_process(&r, RING_JUDGE, 0));
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_SCORER, 0, "\"state\":\"open\"") == 0) {
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it asks no service: see %s/log", r.folder);
    }
    ck_assert_int_eq(ring_end(&r, RING_SCORER, 0, DRAIN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&r, RING_SCORER, 0, "\"event\":\"stopped\""), 1);
    ck_assert_uint_eq(ring_log_count(&r, RING_SCORER, 0, "\"left\":0"), 0);
    ring_close(&r);
}
END_TEST

/* Until the sampler reports trajectories that wait for their acknowledgement. */
static void wait_in_flight(struct ring *r)
{
    const int64_t end = ring_now_ms() + START_MS;
    for (double waiting = 0.0; waiting == 0.0; ring_nap(50)) {
        struct status s;
        ck_assert_msg(ring_now_ms() < end, "nothing is in flight: see %s/log", r->folder);
        if (!ring_status(r, &s))
            continue;
        for (uint32_t i = 0; i < s.service_count; i++)
            for (uint32_t j = 0; j < s.services[i].metric_count; j++)
                if (strcmp(s.services[i].metrics[j].name, "in_flight") == 0 &&
                    s.age_seconds[i] < 1.0)
                    waiting = s.services[i].metrics[j].value;
        status_done(&s);
    }
}

/* Without a scorer a sampler would wait for its acknowledgements. */
START_TEST(a_second_signal_ends_it_at_once)
{
    static struct ring r;
    begin(&r, (const char *const[]){"replay.samples_per_insert=0", NULL});
    kill(ring_process(&r, RING_SCORER, 0)->pid, SIGSTOP);
    wait_in_flight(&r);
    process_end(ring_process(&r, RING_SAMPLER, 0));
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_SAMPLER, 0, "\"draining\"") == 0) {
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it does not hear the signal: see %s/log", r.folder);
    }
    kill(ring_process(&r, RING_SAMPLER, 0)->pid, SIGTERM);
    ck_assert_int_eq(ring_wait_end(&r, RING_SAMPLER, 0, AT_ONCE_MS), 128 + SIGTERM);
    ring_close(&r);
}
END_TEST

/* A service that waits for a store which is not there hears the signal all the same. */
START_TEST(one_that_waits_for_the_store_ends_soon)
{
    static struct ring r;
    ring_open(&r, &(struct ring_options){.samplers = 1});
    ring_start(&r, RING_SAMPLER, 0);
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_SAMPLER, 0, "\"store_away\"") == 0) {
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it does not ask the store: see %s/log", r.folder);
    }
    ck_assert_int_eq(ring_end(&r, RING_SAMPLER, 0, STORE_AWAY_MS), 1);
    ck_assert_uint_eq(ring_log_count(&r, RING_SAMPLER, 0, "asked to end"), 1);
    ring_close(&r);
}
END_TEST

/* The sampler of these settings ends with status 1 and these words. */
static void sampler_refuses(const char *const *settings, const char *words)
{
    static struct ring r;
    ring_open(&r, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start(&r, RING_REDIS, 0);
    ring_start(&r, RING_STORE, 0);
    ring_start(&r, RING_SAMPLER, 0);
    ck_assert_int_eq(ring_wait_end(&r, RING_SAMPLER, 0, START_MS), 1);
    char line[1024];
    process_last_line(ring_process(&r, RING_SAMPLER, 0), line, sizeof line);
    ck_assert_msg(strstr(line, words) != NULL, "%s", line);
    ring_close(&r);
}

START_TEST(a_sampler_whose_trajectories_are_too_large_says_what_to_set)
{
    static const char *const settings[] = {"run.steps=8", "run.forward_looking=yes", "net.trajectory_max=64KiB", NULL};
    sampler_refuses(settings, "net.trajectory_max is 65536: set it to 1MiB or more");
}
END_TEST

START_TEST(a_sampler_whose_chains_are_too_long_says_what_to_set)
{
    static const char *const settings[] = {"run.steps=300", NULL};
    sampler_refuses(settings, "lower run.transition_fraction to 0.42");
}
END_TEST

/* A policy may be superseded and swept before a slow sampler has it: a newer one is there then. */
START_TEST(a_sampler_whose_policy_is_gone_waits_for_a_newer_one)
{
    static struct ring r;
    struct status s;
    char hex[HASH_SHA256_HEX_BYTES], path[PROC_PATH_BYTES + 128];
    ring_open(&r, &(struct ring_options){.samplers = 2, .settings = (const char *const[]){"trainer.checkpoint_every=1000", NULL}});
    for (int part = RING_REDIS; part <= RING_SAMPLER; part++)
        ring_start(&r, (enum ring_part)part, 0);
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_STORE, 0, "\"policy_published\"") < 2) {
        ring_nap(10);
        ck_assert_msg(ring_now_ms() < end, "the run does not start: see %s/log", r.folder);
    }
    ring_kill(&r, RING_TRAINER, 0);
    ring_wait_end(&r, RING_TRAINER, 0, DRAIN_MS);
    ck_assert(ring_status(&r, &s));
    hash_hex(hex, s.policy.digest, sizeof s.policy.digest);
    status_done(&s);
    snprintf(path, sizeof path, "%s/store/blobs/%.2s/%s", r.folder, hex, hex);
    ck_assert_int_eq(unlink(path), 0);
    ring_start(&r, RING_SAMPLER, 1);
    while (ring_log_count(&r, RING_SAMPLER, 1, "no blob") == 0) {
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it fetches no policy: see %s/log", r.folder);
    }
    ring_start(&r, RING_TRAINER, 0);
    while (ring_log_count(&r, RING_SAMPLER, 1, "\"policy_applied\"") == 0) {
        ring_watch(&r);
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it applies no policy: see %s/log", r.folder);
    }
    ck_assert_uint_eq(ring_process(&r, RING_SAMPLER, 1)->restarts, 0);
    ring_close(&r);
}
END_TEST

/* The scorer's socket hangs up on what is larger than its own limit, again and again. */
START_TEST(a_scorer_that_takes_less_than_samplers_send_says_what_to_set)
{
    static const char *const settings[] = {"run.steps=8", "run.forward_looking=yes", "net.trajectory_max=64KiB", NULL};
    static struct ring r;
    ring_open(&r, &(struct ring_options){.samplers = 1, .settings = settings});
    for (int part = RING_REDIS; part <= RING_SCORER; part++)
        ring_start(&r, (enum ring_part)part, 0);
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_SCORER, 0, "\"ready\"") == 0)
        ring_nap(5);
    ring_set(&r, "net.trajectory_max=16MiB");
    ring_start(&r, RING_SAMPLER, 0);
    while (ring_log_count(&r, RING_SCORER, 0, "\"sampler_too_large\"") == 0) {
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "it does not say so: see %s/log", r.folder);
    }
    ring_close(&r);
}
END_TEST

SUITE("system/drain", 180, a_sampler_whose_trajectories_are_too_large_says_what_to_set,
      a_sampler_whose_chains_are_too_long_says_what_to_set,
      a_sampler_whose_policy_is_gone_waits_for_a_newer_one,
      a_scorer_that_takes_less_than_samplers_send_says_what_to_set,
      a_run_that_has_gone_too_far_ends_with_a_checkpoint, each_service_finishes_its_work_and_ends_with_0,
      a_scorer_asked_to_end_answers_what_it_has_in_hand, a_scorer_asked_to_end_does_not_wait_for_a_service_that_is_away,
      a_second_signal_ends_it_at_once, one_that_waits_for_the_store_ends_soon)
