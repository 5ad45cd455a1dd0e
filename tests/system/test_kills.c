/* The delivery guarantee: every class of process of a running ring is killed with SIGKILL, KILLS
 * times (3; `make kills`: 20), at random times under load. Nothing acknowledged is lost, nothing is
 * stored or trained twice, the newest checkpoint loads, no step goes back, the run goes on within
 * RECOVERY_MS, and it ends. SEED=n gives other times. */
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "support/checker.h"
#include "support/ring.h"
#include "support/suite.h"
#include "support/wire_sampler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 4
#define SAMPLERS 2
#define RECOVERY_MS 10000
#define START_MS 60000
#define END_MS 60000
#define PAUSE_MS_MAX 600 /* between a recovery and the next kill */
#define LOOK_MS 20
#define STATUS_EVERY_MS 50
#define BLOB_BYTES_MAX ((size_t)64 << 20)
#define LAST_STEPS 5

struct trial {
    struct ring ring;
    struct checker checker;
    struct wire_sampler sampler;
    struct rng rng;
    int64_t look_ms, status_ms;
    uint64_t policy_version, policy_token; /* newest that the store told */
    uint64_t checkpoint_step;
    size_t answers; /* of our own sampler */
};

static long setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text == NULL || *text == 0 ? otherwise : strtol(text, NULL, 10);
}

static void on_acked(void *arg, const uint8_t id[TRAJECTORY_ID_BYTES])
{
    struct trial *t = arg;
    checker_acked(&t->checker, id);
    t->answers++;
}

/* What the store says: no step goes back. */
static void look_at_store(struct trial *t)
{
    struct status s;
    if (!ring_status(&t->ring, &s))
        return;
    ck_assert_msg(s.policy.token >= t->policy_token, "token went back from %llu to %llu",
                  (unsigned long long)t->policy_token, (unsigned long long)s.policy.token);
    ck_assert_msg(s.checkpoint.step >= t->checkpoint_step, "checkpoint went back from %llu to %llu",
                  (unsigned long long)t->checkpoint_step, (unsigned long long)s.checkpoint.step);
    t->policy_token = s.policy.token;
    t->policy_version = s.policy.version;
    t->checkpoint_step = s.checkpoint.step;
    status_done(&s);
}

static void turn(struct trial *t)
{
    const int64_t now = ring_now_ms();
    ring_watch(&t->ring);
    wire_sampler_turn(&t->sampler);
    if (now - t->look_ms >= LOOK_MS) {
        t->look_ms = now;
        checker_look(&t->checker);
    }
    if (now - t->status_ms >= STATUS_EVERY_MS) {
        look_at_store(t);
        t->status_ms = ring_now_ms();
    }
    ring_nap(2);
}

static void turns_for(struct trial *t, int ms)
{
    const int64_t end = ring_now_ms() + ms;
    while (ring_now_ms() < end)
        turn(t);
}

/* What has to be surpassed for the run to have gone on. */
struct mark {
    uint64_t version, token;
    size_t answers, sessions;
};

static struct mark mark_now(struct trial *t)
{
    look_at_store(t);
    return (struct mark){.version = t->policy_version,
                         .token = t->policy_token,
                         .answers = t->answers,
                         .sessions = t->sampler.sessions};
}

/* Two more updates (one may have been under way), and more answers than were under way; from a new
 * trainer or scorer where that was killed. */
static bool gone_on(const struct trial *t, const struct mark *from, enum ring_part killed)
{
    return t->policy_version >= from->version + 2 &&
           t->answers > from->answers + WIRE_SAMPLER_FLIGHT &&
           (killed != RING_TRAINER || t->policy_token > from->token) &&
           (killed != RING_SCORER || t->sampler.sessions > from->sessions);
}

/* Milliseconds until it has. */
static int wait_progress(struct trial *t, const struct mark *from, enum ring_part killed,
                         int timeout_ms)
{
    const int64_t begun = ring_now_ms();
    while (!gone_on(t, from, killed)) {
        turn(t);
        ck_assert_msg(ring_now_ms() - begun < timeout_ms,
                      "%d ms after %s: policy %llu of token %llu, was %llu of %llu; %zu answers "
                      "since; %s/log",
                      timeout_ms, killed == RING_PARTS ? "the start" : ring_part_name(killed),
                      (unsigned long long)t->policy_version, (unsigned long long)t->policy_token,
                      (unsigned long long)from->version, (unsigned long long)from->token,
                      t->answers - from->answers, t->ring.folder);
    }
    return (int)(ring_now_ms() - begun);
}

static int kill_and_wait(struct trial *t, enum ring_part part, int index)
{
    const struct mark from = mark_now(t);
    ring_kill(&t->ring, part, index);
    return wait_progress(t, &from, part, RECOVERY_MS);
}

/* The newest checkpoint comes whole: each blob has its digest. */
static void load_checkpoint(struct trial *t)
{
    struct checkpoint_ref ck;
    struct err e;
    store_client_timeout(t->ring.client, START_MS);
    ck_assert_msg(store_client_checkpoint_get(t->ring.client, &ck, &e) == 0, "%s", e.text);
    for (uint32_t i = 0; i < ck.blob_count; i++) {
        uint8_t *bytes;
        size_t n;
        const int rc = store_client_blob_get(t->ring.client, ck.blobs[i].digest, BLOB_BYTES_MAX,
                                             &bytes, &n, &e);
        if (rc < 0 && e.code == ERR_NOT_FOUND) { /* a newer checkpoint replaced it meanwhile */
            load_checkpoint(t);
            return;
        }
        ck_assert_msg(rc == 0 && n == ck.blobs[i].bytes, "checkpoint %llu: %s",
                      (unsigned long long)ck.step, e.text);
        mem_free(bytes);
    }
}

static void open_trial(struct trial *t, const char *const *settings)
{
    char journal[PROC_PATH_BYTES + 16];
    memset(t, 0, sizeof *t);
    t->rng = rng_stream((uint64_t)setting("SEED", 1), 0, 0);
    ring_open(&t->ring, &(struct ring_options){.samplers = SAMPLERS, .settings = settings});
    ring_start_all(&t->ring);
    wire_sampler_open(&t->sampler, t->ring.store, t->ring.news, t->ring.scorer, on_acked, t);
    snprintf(journal, sizeof journal, "%s/journal", t->ring.folder);
    checker_open(&t->checker, t->ring.redis_socket, t->sampler.run.run_id, journal);
    wait_progress(t, &(struct mark){.version = 1}, RING_PARTS, START_MS);
}

/* The real samplers' acknowledgements, from their logs. */
static void read_sampler_logs(struct trial *t)
{
    for (int i = 0; i < SAMPLERS; i++) {
        char *log = ring_log(&t->ring, RING_SAMPLER, i);
        for (const char *at = log; (at = strstr(at, "\"acknowledged\"")) != NULL; at++) {
            const char *end = strchr(at, '\n'), *id = strstr(at, "\"trajectory\":\"");
            const char *outcome = strstr(at, "\"outcome\":\"");
            if (end == NULL || id == NULL || outcome == NULL || id > end || outcome > end)
                continue; /* the last line of one that was killed */
            if (strncmp(outcome + 11, "stored", 6) == 0 ||
                strncmp(outcome + 11, "duplicate", 9) == 0)
                checker_acked_hex(&t->checker, id + 14);
        }
        mem_free(log);
    }
}

/* The run is brought to its end by a last update near at hand; all services end by themselves with
 * status 0. */
static void end_run(struct trial *t)
{
    char last[64];
    ck_assert_int_eq(ring_end(&t->ring, RING_TRAINER, 0, END_MS), 0);
    look_at_store(t);
    ck_assert_int_eq(ring_end(&t->ring, RING_STORE, 0, END_MS), 0);
    snprintf(last, sizeof last, "run.iterations=%llu",
             (unsigned long long)(t->policy_version + LAST_STEPS));
    ring_set(&t->ring, last);
    ring_start(&t->ring, RING_STORE, 0);
    ring_start(&t->ring, RING_TRAINER, 0);
    const int64_t end = ring_now_ms() + END_MS;
    while (!t->sampler.stopped) {
        turn(t);
        ck_assert_msg(ring_now_ms() < end, "the run does not end: see %s/log", t->ring.folder);
    }
    t->sampler.drained = true;
    ck_assert_int_eq(ring_wait_end(&t->ring, RING_TRAINER, 0, END_MS), 0);
    for (int i = 0; i < SAMPLERS; i++)
        ck_assert_int_eq(ring_wait_end(&t->ring, RING_SAMPLER, i, END_MS), 0);
    ck_assert_int_eq(ring_wait_end(&t->ring, RING_SCORER, 0, END_MS), 0);
    look_at_store(t);
    ck_assert_uint_eq(t->checkpoint_step, t->policy_version);
    load_checkpoint(t);
}

/* One version has one policy for ever, however often a trainer was killed and repeated its step. */
static size_t audit_policies(struct trial *t)
{
    size_t n, repeated = 0;
    struct ring_policy *p = ring_policies(&t->ring, &n);
    const char **digest = mem_new((size_t)t->policy_version + 2, sizeof *digest);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_le(p[i].version, t->policy_version + 1);
        if (digest[p[i].version] == NULL)
            digest[p[i].version] = p[i].digest;
        else
            repeated++;
        ck_assert_msg(strcmp(digest[p[i].version], p[i].digest) == 0,
                      "policy %llu was %s and is %s after a resume",
                      (unsigned long long)p[i].version, digest[p[i].version], p[i].digest);
    }
    mem_free(digest);
    mem_free(p);
    return repeated;
}

static void close_trial(struct trial *t)
{
    checker_close(&t->checker);
    wire_sampler_close(&t->sampler);
    ring_close(&t->ring);
}

/* ---- claims ---- */

static void shuffle(struct trial *t, int *order, int n)
{
    for (int i = n - 1; i > 0; i--) {
        const int j = (int)rng_below(&t->rng, (uint64_t)i + 1), x = order[i];
        order[i] = order[j];
        order[j] = x;
    }
}

START_TEST(kills_of_every_class_lose_nothing_and_train_nothing_twice)
{
    static struct trial t;
    const int kills = (int)setting("KILLS", 3), total = RING_PARTS * kills;
    int *order = mem_new((size_t)total, sizeof *order), worst[RING_PARTS] = {0};
    double sum[RING_PARTS] = {0};
    /* four made for one trained, in little room: most are evicted */
    open_trial(
        &t, (const char *const[]){"replay.samples_per_insert=0.25", "replay.bytes_max=2MiB", NULL});
    for (int i = 0; i < total; i++)
        order[i] = i % RING_PARTS;
    shuffle(&t, order, total);
    const int64_t begun = ring_now_ms();
    for (int i = 0; i < total; i++) {
        turns_for(&t, (int)rng_below(&t.rng, PAUSE_MS_MAX));
        const enum ring_part part = (enum ring_part)order[i];
        const int ms =
            kill_and_wait(&t, part, part == RING_SAMPLER ? (int)rng_below(&t.rng, SAMPLERS) : 0);
        worst[part] = ms > worst[part] ? ms : worst[part];
        sum[part] += ms;
        if (part == RING_STORE || part == RING_TRAINER)
            load_checkpoint(&t);
    }
    const double seconds = (double)(ring_now_ms() - begun) / 1000.0;
    end_run(&t);
    read_sampler_logs(&t);
    struct checker_found f;
    const size_t violations = checker_audit(&t.checker, BATCH, &f);
    const size_t repeated = audit_policies(&t);
    printf("%d kills in %.0f s, seed %ld; %zu updates seen of %llu, %zu of them repeated after a "
           "kill\n",
           total, seconds, setting("SEED", 1), f.batches, (unsigned long long)t.policy_version,
           repeated);
    printf("| killed | times | goes on after, mean | worst |\n|---|---|---|---|\n");
    for (int i = 0; i < RING_PARTS; i++)
        printf("| %s | %d | %.1f s | %.1f s |\n", ring_part_name((enum ring_part)i), kills,
               sum[i] / kills / 1000.0, worst[i] / 1000.0);
    printf("acknowledged %zu, at the end %zu present and %zu used up or evicted: lost %zu, torn "
           "%zu; stored twice %zu; trained twice %zu; batches changed %zu; "
           "miscounted %zu\n",
           f.acked, f.present, f.tombstones, f.lost, f.torn, f.both, f.doubled, f.changed,
           f.uncounted);
    fflush(stdout);
    ck_assert_msg(violations == 0, "%zu violations: see above", violations);
    ck_assert_uint_ge(100 * f.batches, 95 * t.policy_version); /* the checker saw what it judges */
    ck_assert_msg(t.sampler.failed == 0, "%zu failed: %s", t.sampler.failed, t.sampler.reason);
    mem_free(order);
    close_trial(&t);
}
END_TEST

START_TEST(an_emptied_redis_is_reported_and_the_run_goes_on)
{
    static struct trial t;
    open_trial(&t, NULL);
    char reply[64];
    struct proc_redis redis = {0};
    snprintf(redis.socket, sizeof redis.socket, "%s", t.ring.redis_socket);
    ck_assert_uint_eq(ring_log_count(&t.ring, RING_SCORER, 0, "\"replay_lost\""), 0);
    const struct mark from = mark_now(&t);
    proc_redis_say(&redis, "FLUSHALL", reply, sizeof reply);
    ck_assert_str_eq(reply, "+OK");
    const int64_t begun = ring_now_ms();
    while (ring_log_count(&t.ring, RING_SCORER, 0, "\"replay_lost\"") == 0 &&
           ring_log_count(&t.ring, RING_TRAINER, 0, "\"replay_lost\"") == 0) {
        turn(&t);
        ck_assert_msg(ring_now_ms() - begun < 2000, "nobody noticed: see %s/log", t.ring.folder);
    }
    printf("noticed after %d ms\n", (int)(ring_now_ms() - begun));
    wait_progress(&t, &from, RING_REDIS, RECOVERY_MS);
    ck_assert_uint_eq(ring_process(&t.ring, RING_SCORER, 0)->restarts, 0);
    ck_assert_uint_eq(ring_process(&t.ring, RING_SAMPLER, 0)->restarts, 0);
    close_trial(&t);
}
END_TEST

START_TEST(while_redis_is_away_everybody_waits_and_nobody_ends)
{
    static struct trial t;
    open_trial(&t, NULL);
    struct process *redis = ring_process(&t.ring, RING_REDIS, 0);
    for (int i = 0; i < 3; i++) {
        redis->wanted = false;
        ring_kill(&t.ring, RING_REDIS, 0);
        turns_for(&t, 1500);
        redis->wanted = true;
        const struct mark from = mark_now(&t);
        wait_progress(&t, &from, RING_REDIS, RECOVERY_MS);
    }
    for (int part = RING_STORE; part < RING_PARTS; part++)
        ck_assert_msg(ring_process(&t.ring, (enum ring_part)part, 0)->restarts == 0,
                      "%s ended: see %s/log", ring_part_name((enum ring_part)part), t.ring.folder);
    close_trial(&t);
}
END_TEST

/* Somebody else's data in the same Redis, say: what is there stays, and nothing can be written until there is room. */
START_TEST(while_redis_is_full_everybody_waits_and_nobody_ends)
{
    static struct trial t;
    char reply[64];
    open_trial(&t, (const char *const[]){"replay.bytes_max=2MiB", NULL});
    struct proc_redis redis = {0};
    snprintf(redis.socket, sizeof redis.socket, "%s", t.ring.redis_socket);
    proc_redis_say(&redis, "SETRANGE other 64000000 x", reply, sizeof reply);
    proc_redis_say(&redis, "CONFIG SET maxmemory 32mb", reply, sizeof reply);
    turns_for(&t, 1500);
    ring_kill(&t.ring, RING_TRAINER, 0); /* it waits at its start, too */
    turns_for(&t, 1500);
    proc_redis_say(&redis, "DEL other", reply, sizeof reply);
    ck_assert_uint_eq(ring_log_count(&t.ring, RING_SCORER, 0, "\"replay_memory_full\""), 1);
    const struct mark from = mark_now(&t);
    wait_progress(&t, &from, RING_REDIS, RECOVERY_MS);
    for (int part = RING_STORE; part < RING_PARTS; part++)
        ck_assert_msg(ring_process(&t.ring, (enum ring_part)part, 0)->restarts == (part == RING_TRAINER),
                      "%s ended: see %s/log", ring_part_name((enum ring_part)part), t.ring.folder);
    close_trial(&t);
}
END_TEST

/* With no slack at all in the pacing, what a dead sampler was granted is all that the trainer waits
 * for. */
START_TEST(the_credit_of_a_dead_sampler_is_granted_to_others)
{
    static struct trial t;
    open_trial(&t, (const char *const[]){"replay.ahead_max=0", NULL});
    for (int i = 0; i < 4; i++)
        kill_and_wait(&t, RING_SAMPLER, i % SAMPLERS);
    close_trial(&t);
}
END_TEST

/* Four batches of 16 fill the replay long before a checkpoint is due. */
START_TEST(a_replay_full_of_logged_batches_is_freed_by_an_early_checkpoint)
{
    static const char *const settings[] = {"trainer.batch=16", "trainer.checkpoint_every=1000",
                                           "replay.bytes_max=1MiB", NULL};
    static struct ring r;
    ring_open(&r, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start_all(&r);
    const int64_t end = ring_now_ms() + START_MS;
    while (ring_log_count(&r, RING_STORE, 0, "\"policy_published\"") < 8) {
        ring_watch(&r);
        ring_nap(20);
        ck_assert_msg(ring_now_ms() < end, "the trainer is stuck: see %s/log", r.folder);
    }
    ck_assert_uint_ge(ring_log_count(&r, RING_TRAINER, 0, "\"replay_full\""), 1);
    ck_assert_uint_le(ring_log_count(&r, RING_TRAINER, 0, "\"replay_full\""), 2);
    ring_close(&r);
}
END_TEST

/* Updates that change nothing (rewards all the same, say) give several versions the same bytes. */
START_TEST(a_restarted_scorer_takes_every_version_of_the_same_weights)
{
    static const char *const settings[] = {"trainer.lr=0", "replay.samples_per_insert=0", NULL};
    static struct ring r;
    ring_open(&r, &(struct ring_options){.samplers = 1, .settings = settings});
    ring_start_all(&r);
    const int64_t end = ring_now_ms() + START_MS;
    for (size_t kills = 1; kills <= 6; kills++) {
        while (ring_log_count(&r, RING_STORE, 0, "\"policy_published\"") < 2 * kills) {
            ring_watch(&r);
            ring_nap(5);
            ck_assert_msg(ring_now_ms() < end, "the run does not go on: see %s/log", r.folder);
        }
        ring_kill(&r, RING_SCORER, 0);
    }
    ck_assert_uint_eq(ring_log_count(&r, RING_SAMPLER, 0, "\"trajectory_rejected\""), 0);
    ring_close(&r);
}
END_TEST

SUITE("system/kills", 1800, kills_of_every_class_lose_nothing_and_train_nothing_twice,
      an_emptied_redis_is_reported_and_the_run_goes_on,
      while_redis_is_away_everybody_waits_and_nobody_ends,
      while_redis_is_full_everybody_waits_and_nobody_ends,
      a_restarted_scorer_takes_every_version_of_the_same_weights,
      the_credit_of_a_dead_sampler_is_granted_to_others,
      a_replay_full_of_logged_batches_is_freed_by_an_early_checkpoint)
