/* Lockstep: the same seed and one sampler give the same numbers twice, over the whole ring. */
#include "base/mem.h"
#include "support/ring.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define UPDATES 6
#define RUN_MS 120000

static const char *const settings[] = {
    "run.lockstep=yes", "run.lockstep_batch=4",  "trainer.batch=4",
    "run.iterations=6", "trainer.psi=behaviour", "run.forward_looking=yes",
    "sampler.batch=4",  "trainer.kl_states=4",   NULL};

struct outcome {
    char digest[UPDATES + 1][16];
    struct checkpoint_ref checkpoint;
};

static void run(struct outcome *o)
{
    static struct ring ring;
    struct err e;
    size_t n;
    ring_open(&ring, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start_all(&ring);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ck_assert_int_eq(ring_wait_end(&ring, RING_SAMPLER, 0, RUN_MS),
                     0); /* the stop reaches everybody */
    ck_assert_int_eq(ring_wait_end(&ring, RING_SCORER, 0, RUN_MS), 0);
    memset(o, 0, sizeof *o);
    struct ring_policy *p = ring_policies(&ring, &n);
    ck_assert_uint_eq(n, UPDATES);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(p[i].version, i + 1);
        memcpy(o->digest[i + 1], p[i].digest, sizeof p[i].digest);
    }
    mem_free(p);
    ck_assert_uint_eq(ring_log_count(&ring, RING_TRAINER, 0, "\"event\":\"update\""), UPDATES);
    ck_assert_msg(store_client_checkpoint_get(ring.client, &o->checkpoint, &e) == 0, "%s", e.text);
    ring_close(&ring);
}

START_TEST(the_same_seed_gives_the_same_policies_twice)
{
    static struct outcome a, b;
    run(&a);
    run(&b);
    for (int v = 1; v <= UPDATES; v++)
        ck_assert_msg(strcmp(a.digest[v], b.digest[v]) == 0, "policy %d is %s and %s", v,
                      a.digest[v], b.digest[v]);
    ck_assert_uint_eq(a.checkpoint.step, UPDATES);
    for (uint32_t i = 0; i < a.checkpoint.blob_count; i++)
        ck_assert_mem_eq(a.checkpoint.blobs[i].digest, b.checkpoint.blobs[i].digest,
                         CODEC_DIGEST_BYTES);
}
END_TEST

/* Its batch waits for every trajectory of the policy. */
START_TEST(a_reward_that_failed_is_asked_for_again)
{
    static struct ring ring;
    ring_open(&ring, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_set(&ring, "reward.deadline=300ms");
    ring_set(&ring, "sampler.resend=500ms");
    ring_start_all(&ring);
    const int64_t end = ring_now_ms() + RUN_MS;
    while (ring_log_count(&ring, RING_STORE, 0, "\"policy_published\"") == 0)
        ring_nap(1);
    kill(ring_process(&ring, RING_JUDGE, 0)->pid, SIGSTOP);
    while (ring_log_count(&ring, RING_SAMPLER, 0, "\"reward_failed\"") == 0) {
        ck_assert_msg(ring_now_ms() < end, "no reward fails: see %s/log", ring.folder);
        ring_nap(5);
    }
    kill(ring_process(&ring, RING_JUDGE, 0)->pid, SIGCONT);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ring_close(&ring);
}
END_TEST

START_TEST(what_an_emptied_redis_had_acknowledged_is_made_again)
{
    static struct ring ring;
    struct proc_redis redis = {0};
    char reply[64];
    ring_open(&ring, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_set(&ring, "sampler.resend=200ms");
    snprintf(redis.socket, sizeof redis.socket, "%s", ring.redis_socket);
    ring_start_all(&ring);
    const int64_t end = ring_now_ms() + RUN_MS;
    while (ring_log_count(&ring, RING_STORE, 0, "\"policy_published\"") < 2)
        ring_nap(1);
    kill(ring_process(&ring, RING_TRAINER, 0)->pid, SIGSTOP);
    while (ring_log_count(&ring, RING_SAMPLER, 0, "\"acknowledged\"") <
           4 * (1 + ring_log_count(&ring, RING_STORE, 0, "\"policy_published\""))) {
        ck_assert_msg(ring_now_ms() < end, "the batch does not arrive: see %s/log", ring.folder);
        ring_nap(5);
    }
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    kill(ring_process(&ring, RING_TRAINER, 0)->pid, SIGCONT);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&ring, RING_SAMPLER, 0, "\"batch_again\""), 1);
    ring_close(&ring);
}
END_TEST

/* What it would have made first is not waited for any more. */
START_TEST(a_sampler_that_comes_late_makes_what_is_waited_for)
{
    static struct ring ring;
    size_t from;
    ring_open(&ring, &(struct ring_options){.samplers = 2, .settings = settings});
    ring_set(&ring, "run.iterations=40");
    for (int part = RING_REDIS; part <= RING_SAMPLER; part++)
        ring_start(&ring, (enum ring_part)part, 0);
    const int64_t end = ring_now_ms() + RUN_MS;
    while ((from = ring_log_count(&ring, RING_STORE, 0, "\"policy_published\"")) == 0)
        ring_nap(1);
    ring_start(&ring, RING_SAMPLER, 1);
    while (ring_log_count(&ring, RING_STORE, 0, "\"slot_taken\"") < 2)
        ring_nap(1);
    kill(ring_process(&ring, RING_SAMPLER, 1)->pid, SIGSTOP);
    while (ring_log_count(&ring, RING_STORE, 0, "\"policy_published\"") < from + 3) {
        ck_assert_msg(ring_now_ms() < end, "the run does not go on: see %s/log", ring.folder);
        ring_nap(5);
    }
    ring_end(&ring, RING_SAMPLER, 0, RUN_MS);
    kill(ring_process(&ring, RING_SAMPLER, 1)->pid, SIGCONT);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ring_close(&ring);
}
END_TEST

SUITE("system/lockstep", 300, a_reward_that_failed_is_asked_for_again, a_sampler_that_comes_late_makes_what_is_waited_for,
      what_an_emptied_redis_had_acknowledged_is_made_again, the_same_seed_gives_the_same_policies_twice)
