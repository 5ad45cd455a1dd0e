/* The replay under racing writers, beside a redis-server that is killed, emptied, full or not what it should be. */
#include "support/replay_rig.h"

#include "base/log.h"
#include "base/mem.h"
#include "replay/replay_memo.h"
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

/* ---- races ---- */

#define RACE_ITEMS 200

struct racer {
    uint64_t stored, duplicate, other;
};

static void *race(void *arg)
{
    struct racer *me = arg;
    const struct replay_options o = rig_options();
    struct replay *r = rig_open(&o);
    for (uint64_t i = 0; i < RACE_ITEMS; i++) {
        const enum replay_outcome outcome = rig_admit(r, 1, i, 0);
        me->stored += outcome == REPLAY_STORED;
        me->duplicate += outcome == REPLAY_DUPLICATE;
        me->other += outcome != REPLAY_STORED && outcome != REPLAY_DUPLICATE;
    }
    replay_close(r);
    return NULL;
}

START_TEST(of_racing_writers_exactly_one_stores_each_trajectory)
{
    rig_start(NULL);
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
    const struct replay_options o = rig_options();
    struct replay *r = rig_open(&o);
    ck_assert_uint_eq(rig_stats(r).items, RACE_ITEMS);
    ck_assert_uint_eq(rig_stats(r).inserted, RACE_ITEMS);
    rig_end(r);
}
END_TEST

#define RACE_EVICTIONS 1500
#define RACE_HELD 12 /* trajectories that the bound lets in */

static struct replay_options crowded;

static void *crowd(void *arg)
{
    struct replay *r = rig_open(&crowded);
    (void)arg;
    for (uint64_t i = 100; i < 100 + RACE_EVICTIONS; i++)
        ck_assert_int_eq(rig_admit(r, 1, i, 0), REPLAY_STORED);
    replay_close(r);
    return NULL;
}

START_TEST(of_a_batch_nothing_is_evicted_while_it_is_chosen)
{
    rig_start(NULL);
    struct trajectory *out[2];
    struct err e = {0};
    pthread_t thread;
    crowded = rig_options();
    struct replay *r = rig_open(&crowded);
    rig_admit(r, 9, 1, 0);
    crowded.bytes_max = RACE_HELD * rig_stats(r).bytes;
    replay_close(r);
    r = rig_open(&crowded);
    rig_fence(r, 1);
    for (uint64_t i = 1; i <= RACE_HELD; i++)
        rig_admit(r, 1, i, 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, crowd, NULL), 0);
    for (uint64_t step = 1; rig_stats(r).inserted < RACE_EVICTIONS; step++) {
        /* the oldest, which go next */
        const int rc = rig_batch_by(r, step, 2, REPLAY_FIFO, 0, out, &e);
        ck_assert_msg(rc == 0 || e.code == ERR_TIMEOUT, "step %llu: %s", (unsigned long long)step, e.text);
        if (rc == 0)
            rig_free(out, 2);
        rig_commit(r, step);
    }
    pthread_join(thread, NULL);
    rig_end(r);
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
    struct replay *r = rig_open(&l->o);
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
    rig_start(NULL);
    struct load *l = mem_new(1, sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    l->o = rig_options();
    l->o.bytes_max = 1 << 30;
    pthread_t writer;
    ck_assert_int_eq(pthread_create(&writer, NULL, admit_under_kills, l), 0);
    for (int k = 0; k < KILLS; k++) {
        wait_for_acks(l, acks(l) + 20 + (uint64_t)(k * 13 % 40));
        proc_redis_kill(&rig_redis);
        proc_redis_again(&rig_redis, NULL);
    }
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_mutex_unlock(&l->lock);
    pthread_join(writer, NULL);
    struct replay *r = rig_open(&l->o);
    const struct replay_stats s = rig_stats(r);
    ck_assert_uint_eq(s.items, l->acks);
    ck_assert_uint_eq(s.inserted, l->acks);
    /* Each is there, whole, once: all of them in batches. */
    rig_fence(r, 1);
    uint64_t seen = 0;
    struct trajectory *out[64];
    for (uint64_t step = 1; seen < l->acks; step++) {
        const uint32_t n = l->acks - seen < 64 ? (uint32_t)(l->acks - seen) : 64;
        struct err e = {0};
        ck_assert_msg(rig_batch(r, step, n, out, &e) == 0, "%s", e.text);
        for (uint32_t i = 0; i < n; i++) {
            ck_assert_msg(l->acked[out[i]->counter] == 1,
                          "trajectory %llu twice or never acknowledged",
                          (unsigned long long)out[i]->counter);
            l->acked[out[i]->counter] = 2;
        }
        rig_free(out, n);
        seen += n;
    }
    printf("%d kills: %llu acknowledged, 0 lost, 0 twice\n", KILLS, (unsigned long long)l->acks);
    replay_close(r);
    mem_free(l);
    rig_stop();
}
END_TEST

static int lost_lines, not_durable_lines;

static void count_losses(const char *line, void *arg)
{
    (void)arg;
    lost_lines += strstr(line, "replay_lost") != NULL;
    not_durable_lines += strstr(line, "replay_not_durable") != NULL;
}

START_TEST(an_emptied_redis_is_noticed_by_its_epoch)
{
    struct replay_options o = rig_options();
    struct replay *r = rig_begin(&o);
    rig_admit(r, 1, 1, 0);
    const struct replay_stats before = rig_stats(r);
    log_sink(count_losses, NULL);
    rig_say("FLUSHALL");
    uint64_t room;
    ck_assert_int_eq(replay_room(r, &room, NULL), 0);
    ck_assert_int_eq(lost_lines, 1);
    const struct replay_stats after = rig_stats(r);
    ck_assert_str_ne(before.epoch, after.epoch);
    ck_assert_uint_eq(after.items, 0);
    ck_assert_int_eq(replay_room(r, &room, NULL), 0);
    ck_assert_int_eq(lost_lines, 1); /* once */
    ck_assert_int_eq(rig_admit(r, 1, 2, 0), REPLAY_STORED);
    rig_say("FLUSHALL");
    ck_assert_int_eq(rig_admit(r, 1, 3, 0), REPLAY_STORED); /* a writer notices too */
    ck_assert_int_eq(lost_lines, 2);
    log_sink(NULL, NULL);
    rig_end(r);
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
        log_sink(count_losses, NULL);
        rig_start(extra[durable]);
    const struct replay_options o = rig_options();
        struct replay *r = rig_open(&o);
        rig_admit(r, 1, 1, 0);
        rig_say("SAVE");
        rig_admit(r, 1, 2, 0);
        for (int kill = 1; kill <= 2; kill++) {
            proc_redis_kill(&rig_redis);
            proc_redis_again(&rig_redis, extra[durable]);
            wait_for_redis(r);
            ck_assert_int_eq(lost_lines, durable ? 0 : kill);
        }
        ck_assert_uint_eq(rig_stats(r).items, durable ? 2 : 1);
        ck_assert_int_eq(not_durable_lines, !durable); /* once */
        /* one that has no snapshot either is one loss, not two */
        char snapshot[PROC_PATH_BYTES + 16];
        snprintf(snapshot, sizeof snapshot, "%s/dump.rdb", rig_redis.folder);
        rig_say("FLUSHALL");
        proc_redis_kill(&rig_redis);
        ck_assert_int_eq(unlink(snapshot), 0);
        proc_redis_again(&rig_redis, extra[durable]);
        lost_lines = 0;
        wait_for_redis(r);
        ck_assert_int_eq(lost_lines, 1);
        log_sink(NULL, NULL);
        rig_end(r);
    }
}
END_TEST

START_TEST(a_redis_that_evicts_by_itself_is_refused)
{
    rig_start(
        (const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", NULL});
    struct replay_options o = rig_options();
    struct replay *r = NULL;
    struct err e = {0};
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "noeviction"));
    rig_say("CONFIG SET maxmemory-policy noeviction");
    o.bytes_max = 71 << 20;
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "maxmemory"));
    o.bytes_max = 50 << 20;
    ck_assert_int_eq(replay_open(&r, &o, &e), 0);
    rig_end(r);
}
END_TEST

START_TEST(a_redis_that_came_back_evicting_is_refused_by_every_call_until_it_is_mended)
{
    struct replay *r = rig_begin(NULL);
    struct err e = {0};
    uint64_t room;
    proc_redis_kill(&rig_redis);
    proc_redis_again(
        &rig_redis, (const char *const[]){"--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", NULL});
    while (replay_room(r, &room, &e) < 0 && e.code == ERR_UNAVAILABLE)
        ;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(replay_room(r, &room, &e), -1);
        ck_assert_msg(e.code == ERR_INVALID && strstr(e.text, "noeviction") != NULL, "%s", e.text);
    }
    rig_say("CONFIG SET maxmemory-policy noeviction");
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    rig_end(r);
}
END_TEST

START_TEST(redis_at_its_limit_is_full_not_a_loss)
{
    rig_start((const char *const[]){"--maxmemory", "100mb", NULL});
    struct replay_options o = rig_options();
    struct replay *r = rig_open(&o);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_STORED);
    rig_say("CONFIG SET maxmemory 1000kb");
    uint64_t room = 1;
    struct err e = {0};
    ck_assert_int_eq(replay_room(r, &room, &e), 0);
    ck_assert_uint_eq(room, 0);
    struct trajectory *t = trajectories_make_scored(1, 2, NULL);
    enum replay_outcome outcome;
    rig_refused(replay_admit(r, t, &outcome, &e), &e, ERR_FULL);
    rig_say("CONFIG SET maxmemory 100mb");
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    trajectory_free(t);
    rig_end(r);
}
END_TEST

/* What passes by itself is waited for: a replica that lags behind, all of Redis's connections taken. */
START_TEST(a_redis_that_takes_nothing_now_is_away)
{
    rig_start(NULL);
    struct replay_options o = rig_options();
    struct replay *r = rig_open(&o), *more = NULL;
    struct trajectory *t = trajectories_make_scored(1, 1, NULL);
    enum replay_outcome outcome;
    struct err e = {0};
    rig_say("CONFIG SET min-replicas-to-write 1");
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), -1);
    ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
    rig_say("CONFIG SET min-replicas-to-write 0");
    ck_assert_int_eq(replay_admit(r, t, &outcome, &e), 0);
    ck_assert_int_eq(outcome, REPLAY_STORED);
    rig_say("CONFIG SET maxclients 1");
    ck_assert_int_eq(replay_open(&more, &o, &e), -1);
    ck_assert_msg(e.code == ERR_UNAVAILABLE, "%s", e.text);
    trajectory_free(t);
    rig_end(r);
}
END_TEST

/* Latents of 528 KiB, which the allocator rounds up to 640. */
START_TEST(at_the_largest_bound_eviction_comes_before_credit_ends)
{
    rig_start((const char *const[]){"--maxmemory", "40mb", NULL});
    struct replay_options o = rig_options();
    o.bytes_max = 28 << 20;
    struct replay *r = rig_open(&o);
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
    ck_assert_uint_gt(rig_stats(r).evicted_bytes, 20);
    rig_end(r);
}
END_TEST

START_TEST(a_password_is_needed_and_used)
{
    rig_start(
        (const char *const[]){"--user", "scorer", "on", ">secret", "~dagline:*", "+@all", NULL});
    struct replay_options o = rig_options();
    o.user = "scorer";
    o.password = "secret";
    struct replay *r = rig_open(&o);
    ck_assert_int_eq(rig_admit(r, 1, 1, 0), REPLAY_STORED);
    replay_close(r);
    o.password = "wrong";
    struct err e = {0};
    ck_assert_int_eq(replay_open(&r, &o, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "WRONGPASS"));
    ck_assert_ptr_null(strstr(e.text, "wrong"));
    rig_stop();
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
    proc_folder(rig_folder);
    char path[PROC_PATH_BYTES], address[PROC_PATH_BYTES + 8];
    snprintf(path, sizeof path, "%.200s/fake.sock", rig_folder);
    snprintf(address, sizeof address, "unix:%s", path);
    const pid_t server = fork();
    if (server == 0)
        endless_server(path);
    while (access(path, F_OK) != 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    struct replay_options o = rig_options();
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
    proc_folder_remove(rig_folder);
}
END_TEST

START_TEST(the_memo_keeps_the_last_texts_and_is_bounded)
{
    enum { N = 100, ROUNDS = 30, MAX = 1000 };
    rig_start(NULL);
    const struct replay_options o = rig_options();
    struct replay *r = rig_open(&o), *other = rig_open(&o);
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
    proc_redis_kill(&rig_redis);
    rig_refused(replay_memo_get(r, keys, N, found, &e), &e, ERR_UNAVAILABLE);
    replay_close(r);
    replay_close(other);
    proc_folder_remove(rig_folder);
}
END_TEST

SUITE("system/replay_faults", 120, of_racing_writers_exactly_one_stores_each_trajectory,
      of_a_batch_nothing_is_evicted_while_it_is_chosen,
      twenty_kills_of_redis_lose_nothing_acknowledged_and_store_nothing_twice,
      an_emptied_redis_is_noticed_by_its_epoch,
      a_redis_that_comes_back_with_an_old_snapshot_is_noticed,
      a_redis_that_evicts_by_itself_is_refused,
      a_redis_that_came_back_evicting_is_refused_by_every_call_until_it_is_mended,
      redis_at_its_limit_is_full_not_a_loss,
      a_redis_that_takes_nothing_now_is_away,
      at_the_largest_bound_eviction_comes_before_credit_ends,
      a_password_is_needed_and_used,
      an_endless_reply_ends_the_connection_not_the_process,
      the_memo_keeps_the_last_texts_and_is_bounded)
