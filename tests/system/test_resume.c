/* Bitwise resume: 2N updates at once give the same policies and the same checkpoint as a trainer
 * that is killed with SIGKILL at random points (KILLS of them; 2) and goes on from its checkpoint
 * and the logged batches. And of two trainers the older one is shut out. */
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "support/ring.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define UPDATES 14
#define BATCH "4"
#define ITEMS (4 * (UPDATES + 2))
#define START_MS 60000
#define RUN_MS 120000

/* As much of everything as it takes to be a run; no pacing, no trainer. */
static const char *const settings[] = {"run.iterations=14",           "replay.samples_per_insert=0",
                                       "trainer.batch=" BATCH,        "trainer.checkpoint_every=4",
                                       "replay.items_min=4",          "replay.ahead_max=1000000",
                                       "trainer.selector=rank_delta", NULL};

static uint64_t trajectories_in(const struct ring *r, const char *run_id)
{
    struct proc_redis redis = {0};
    char command[128], reply[64];
    snprintf(redis.socket, sizeof redis.socket, "%s", r->redis_socket);
    snprintf(command, sizeof command, "ZCARD dagline:{%s}:z:insert", run_id);
    proc_redis_say(&redis, command, reply, sizeof reply);
    return strtoull(reply + 1, NULL, 10);
}

/* A ring whose replay is full and which nobody trained yet; all its services have ended. */
static void fill(struct ring *r)
{
    struct status s;
    ring_open(r, &(struct ring_options){.samplers = 1, .settings = settings});
    for (int part = 0; part < RING_PARTS; part++)
        if (part != RING_TRAINER)
            ring_start(r, (enum ring_part)part, 0);
    const int64_t end = ring_now_ms() + START_MS;
    ck_assert(ring_status(r, &s));
    while (trajectories_in(r, s.run_id) < ITEMS) {
        ring_watch(r);
        ring_nap(10);
        ck_assert_msg(ring_now_ms() < end, "the replay does not fill: see %s/log", r->folder);
    }
    status_done(&s);
    static const enum ring_part order[] = {RING_SAMPLER, RING_SCORER, RING_JUDGE, RING_STORE,
                                           RING_REDIS};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        ck_assert_msg(ring_end(r, order[i], 0, START_MS) == 0, "%s", ring_part_name(order[i]));
}

/* Redis and store on a copy of the filled ring's data. */
static void reopen(struct ring *r, const struct ring *filled, const char *threads)
{
    ring_open(r,
              &(struct ring_options){.samplers = 0, .settings = settings, .data = filled->folder});
    ring_set(r, threads);
    ring_start(r, RING_REDIS, 0);
    ring_start(r, RING_STORE, 0);
}

struct outcome {
    char digest[UPDATES + 1][16];
    struct checkpoint_ref checkpoint;
    size_t repeated; /* policies published again after a resume */
};

/* The policies of every version and the last checkpoint. */
static void collect(struct ring *r, struct outcome *o)
{
    struct err e;
    size_t n;
    memset(o, 0, sizeof *o);
    struct ring_policy *p = ring_policies(r, &n);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_le(p[i].version, UPDATES);
        char *mine = o->digest[p[i].version];
        ck_assert_msg(mine[0] == 0 || strcmp(mine, p[i].digest) == 0,
                      "policy %llu was %s and is %s after a resume",
                      (unsigned long long)p[i].version, mine, p[i].digest);
        o->repeated += mine[0] != 0;
        memcpy(mine, p[i].digest, sizeof p[i].digest);
    }
    mem_free(p);
    store_client_timeout(r->client, START_MS);
    ck_assert_msg(store_client_checkpoint_get(r->client, &o->checkpoint, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(o->checkpoint.step, UPDATES);
}

static void compare(const struct outcome *a, const struct outcome *b, const char *what)
{
    for (int v = 1; v <= UPDATES; v++)
        ck_assert_msg(a->digest[v][0] != 0 && strcmp(a->digest[v], b->digest[v]) == 0,
                      "%s: policy %d is %s and %s", what, v, a->digest[v], b->digest[v]);
    ck_assert_uint_eq(a->checkpoint.blob_count, b->checkpoint.blob_count);
    for (uint32_t i = 0; i < a->checkpoint.blob_count; i++)
        ck_assert_msg(memcmp(a->checkpoint.blobs[i].digest, b->checkpoint.blobs[i].digest,
                             CODEC_DIGEST_BYTES) == 0,
                      "%s: blob %s of the checkpoint differs", what, a->checkpoint.blobs[i].name);
}

static void train_at_once(struct ring *r, struct outcome *o)
{
    ring_start(r, RING_TRAINER, 0);
    ck_assert_int_eq(ring_wait_end(r, RING_TRAINER, 0, RUN_MS), 0);
    collect(r, o);
}

static uint64_t published(struct ring *r)
{
    return ring_log_count(r, RING_STORE, 0, "\"policy_published\"");
}

static void train_with_kills(struct ring *r, struct rng *rng, int kills, struct outcome *o)
{
    ring_start(r, RING_TRAINER, 0);
    for (int i = 0; i < kills; i++) {
        /* some way into an update behind the one just published */
        const uint64_t seen = published(r), wait = 1 + rng_below(rng, 3);
        const int64_t end = ring_now_ms() + RUN_MS;
        while (published(r) < seen + wait && ring_process(r, RING_TRAINER, 0)->wanted) {
            ring_watch(r);
            ring_nap(5);
            ck_assert_msg(ring_now_ms() < end, "the trainer is stuck: see %s/log", r->folder);
        }
        ring_nap((int)rng_below(rng, 200));
        ring_kill(r, RING_TRAINER, 0);
    }
    const int64_t end = ring_now_ms() + RUN_MS;
    while (ring_process(r, RING_TRAINER, 0)->wanted) {
        ring_watch(r);
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "the trainer does not end: see %s/log", r->folder);
    }
    collect(r, o);
}

START_TEST(a_killed_trainer_repeats_every_bit)
{
    static struct ring filled, ring;
    static struct outcome whole[2], killed;
    static const char *const threads[] = {"trainer.threads=1", "trainer.threads=2"};
    const char *text = getenv("KILLS"), *seed = getenv("SEED");
    const int kills = text != NULL && *text != 0 ? (int)strtol(text, NULL, 10) : 2;
    struct rng rng = rng_stream(seed != NULL ? strtoull(seed, NULL, 10) : 1, 1, 0);
    fill(&filled);
    for (int i = 0; i < 2; i++) {
        reopen(&ring, &filled, threads[i]);
        train_at_once(&ring, &whole[i]);
        ring_close(&ring);
        reopen(&ring, &filled, threads[i]);
        train_with_kills(&ring, &rng, kills, &killed);
        ring_close(&ring);
        compare(&whole[i], &killed, threads[i]);
        printf("%s: %d kills, %zu of %d updates repeated, %d policies and %u blobs the same\n",
               threads[i], kills, killed.repeated, UPDATES, UPDATES, killed.checkpoint.blob_count);
    }
    ring_close(&filled);
}
END_TEST

START_TEST(of_two_trainers_the_older_ends_without_another_write)
{
    static struct ring filled, ring;
    static struct process second;
    struct err e;
    char log[PROC_PATH_BYTES + 32];
    fill(&filled);
    reopen(&ring, &filled, "trainer.threads=1");
    ring_start(&ring, RING_TRAINER, 0);
    struct process *first = ring_process(&ring, RING_TRAINER, 0);
    const int64_t end = ring_now_ms() + RUN_MS;
    while (published(&ring) < 3) {
        ring_nap(5);
        ck_assert(ring_now_ms() < end);
    }
    snprintf(log, sizeof log, "%s/log/second.log", ring.folder);
    process_init(&second, "second", log, (const char *const *)first->arguments);
    ck_assert_msg(process_start(&second, &e) == 0, "%s", e.text);
    const int status = ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS);
    ck_assert_int_eq(status, 1);
    ck_assert_uint_eq(ring_log_count(&ring, RING_TRAINER, 0, "\"code\":\"stale\""), 1);
    while (second.pid > 0) {
        process_watch(&second, ring_now_ms());
        second.wanted = false;
        ring_nap(5);
        ck_assert_msg(ring_now_ms() < end, "the second trainer does not end: see %s", log);
    }
    ck_assert_int_eq(second.exit_status, 0);
    process_done(&second);

    /* nothing under the first token behind the second's taking it; and all in all the policies of
     * one trainer */
    char *text = ring_log(&ring, RING_STORE, 0),
         *taken = strstr(text, "\"token_taken\",\"token\":2");
    ck_assert_ptr_nonnull(taken);
    for (char *at = taken; (at = strstr(at, "\"policy_published\"")) != NULL; at++) {
        char *line_end = strchr(at, '\n');
        *line_end = 0;
        ck_assert_msg(strstr(at, "\"token\":1") == NULL, "%s", at);
        *line_end = '\n';
    }
    mem_free(text);
    static struct outcome o;
    collect(&ring, &o);
    ring_close(&ring);
    ring_close(&filled);
}
END_TEST

/* Writes over the first byte of a blob in the store's folder. */
static void damage(const struct ring *r, const struct named_blob *b)
{
    char hex[HASH_SHA256_HEX_BYTES], path[PROC_PATH_BYTES + 128];
    hash_hex(hex, b->digest, CODEC_DIGEST_BYTES);
    snprintf(path, sizeof path, "%s/store/blobs/%.2s/%s", r->folder, hex, hex);
    FILE *f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    fputc('X', f);
    fclose(f);
}

START_TEST(the_run_goes_on_from_the_checkpoint_before_a_damaged_one)
{
    static struct ring filled, ring;
    struct checkpoint_ref ck;
    struct err e;
    fill(&filled);
    reopen(&ring, &filled, "trainer.threads=1");
    ring_set(&ring, "run.iterations=8");
    ring_end(&ring, RING_STORE, 0, START_MS);
    ring_start(&ring, RING_STORE, 0);
    ring_start(&ring, RING_TRAINER, 0);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ck_assert_msg(store_client_checkpoint_get(ring.client, &ck, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(ck.step, 8);
    ring_end(&ring, RING_STORE, 0, START_MS);
    damage(&ring, &ck.blobs[0]);
    ring_set(&ring, "run.iterations=10");
    ring_start(&ring, RING_STORE, 0);
    ring_start(&ring, RING_TRAINER, 0);
    ck_assert_int_eq(ring_wait_end(&ring, RING_TRAINER, 0, RUN_MS), 0);
    ck_assert_uint_eq(ring_log_count(&ring, RING_STORE, 0, "\"checkpoint_damaged\""), 1);
    ck_assert_uint_eq(ring_log_count(&ring, RING_TRAINER, 0, "\"resumed\",\"step\":4"), 1);
    ck_assert_uint_eq(ring_log_count(&ring, RING_TRAINER, 0, "\"replay_rewound\""), 1);
    ck_assert_msg(store_client_checkpoint_get(ring.client, &ck, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(ck.step, 10);
    ring_close(&ring);
    ring_close(&filled);
}
END_TEST

/* Its data is gone, or is another folder: what Redis keeps of the run before is not its own. */
START_TEST(a_new_store_beside_a_used_redis_is_a_new_run)
{
    static struct ring ring;
    static const char *const first[] = {"run.iterations=5", "replay.items_min=4", NULL};
    char data[PROC_PATH_BYTES + 16];
    struct status before, after;
    struct err e;
    ring_open(&ring, &(struct ring_options){.samplers = 1, .settings = first});
    ring_start_all(&ring);
    for (int round = 0; round < 2; round++) {
        static const enum ring_part order[] = {RING_TRAINER, RING_SAMPLER, RING_SCORER};
        for (size_t i = 0; i < sizeof order / sizeof *order; i++)
            ck_assert_msg(ring_wait_end(&ring, order[i], 0, RUN_MS) == 0, "%s: see %s/log", ring_part_name(order[i]),
                          ring.folder);
        ck_assert(ring_status(&ring, round == 0 ? &before : &after));
        if (round == 1)
            break;
        ring_end(&ring, RING_STORE, 0, START_MS);
        snprintf(data, sizeof data, "%s/store", ring.folder);
        ck_assert_msg(file_remove_tree(data, &e) == 0, "%s", e.text);
        ring_start(&ring, RING_STORE, 0);
        for (size_t i = sizeof order / sizeof *order; i-- > 0;)
            ring_start(&ring, order[i], 0);
    }
    ck_assert_str_ne(before.run_id, after.run_id);
    ck_assert_uint_eq(ring_log_count(&ring, RING_TRAINER, 0, "\"event\":\"update\""), 10);
    status_done(&before);
    status_done(&after);
    ring_close(&ring);
}
END_TEST

SUITE("system/resume", 900, a_new_store_beside_a_used_redis_is_a_new_run, a_killed_trainer_repeats_every_bit,
      of_two_trainers_the_older_ends_without_another_write,
      the_run_goes_on_from_the_checkpoint_before_a_damaged_one)
