/* Trajectories of the embedded model into the replay and out of it again in batches, against plain
 * SET and GET of the same number of bytes: all on one private redis-server with an append-only
 * file, over a unix socket. */
#include "base/file.h"
#include "base/mem.h"
#include "dagline/process.h"
#include "replay/replay.h"
#include "replay/replay_codec.h"
#include "replay/replay_redis.h"
#include "support/bench.h"
#include "support/proc.h"
#include "support/trajectories.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BLOCK 32 /* trajectories timed together: one batch of the trainer */
#define BLOCKS 16

#define READY_S 5.0

static char folder[] = "/tmp/dagline-bench-XXXXXX";
static char address[80]; /* of the server, "unix:..." */

static const struct trajectory_shape shape = {.states = 20, .latent_side = 16};

static double least(double a, double b)
{
    return a < b ? a : b;
}

/* Seconds for each of a block of trajectories admitted one after the other; the least so far. */
static int insert(struct replay *r, uint64_t block, double *best, struct err *e)
{
    struct trajectory *t[BLOCK];
    enum replay_outcome outcome;
    int rc = 0;
    for (uint64_t i = 0; i < BLOCK; i++)
        t[i] = trajectories_make_scored(0, block * BLOCK + i, &shape);
    const double from = bench_wall_s();
    for (int i = 0; rc == 0 && i < BLOCK; i++)
        rc = replay_admit(r, t[i], &outcome, e);
    *best = least(*best, (bench_wall_s() - from) / BLOCK);
    for (int i = 0; i < BLOCK; i++)
        trajectory_free(t[i]);
    return rc;
}

static int set(struct redis *c, uint64_t block, const char *value, size_t bytes, double *best,
               struct err *e)
{
    int rc = 0;
    const double from = bench_wall_s();
    for (uint64_t i = 0; rc == 0 && i < BLOCK; i++) {
        redis_begin(c);
        redis_add(c, "SET plain:%llu %b", (unsigned long long)(block * BLOCK + i), value, bytes);
        rc = redis_run_checked(c, e);
    }
    *best = least(*best, (bench_wall_s() - from) / BLOCK);
    return rc;
}

/* A whole batch, as the trainer takes it. */
static int sample(struct replay *r, uint64_t step, double *best, struct err *e)
{
    struct trajectory *t[BLOCK];
    const struct replay_batch_request q = {
        .step = step, .count = BLOCK, .selector = REPLAY_FIFO, .seed = 1};
    const double from = bench_wall_s();
    if (replay_batch(r, &q, t, e) < 0)
        return -1;
    *best = least(*best, (bench_wall_s() - from) / BLOCK);
    for (int i = 0; i < BLOCK; i++)
        trajectory_free(t[i]);
    return replay_commit(r, step, e);
}

static int get(struct redis *c, uint64_t block, double *best, struct err *e)
{
    const double from = bench_wall_s();
    redis_begin(c);
    for (uint64_t i = 0; i < BLOCK; i++)
        redis_add(c, "GET plain:%llu", (unsigned long long)(block * BLOCK + i));
    const int rc = redis_run_checked(c, e);
    *best = least(*best, (bench_wall_s() - from) / BLOCK);
    return rc;
}

static int connect_redis(struct redis **c, struct err *e)
{
    const struct redis_options o = {.address = address,
                                    .user = "",
                                    .password = "",
                                    .timeout_ms = 5000,
                                    .reply_bytes_max = 64 << 20};
    const struct timespec pause = {.tv_nsec = 10000000};
    bool fresh;
    if (redis_open(c, &o, e) < 0)
        return -1;
    for (const double end = bench_wall_s() + READY_S; redis_ready(*c, &fresh, e) < 0;) {
        if (bench_wall_s() > end)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

static int stored_bytes(size_t *bytes, struct err *e)
{
    struct trajectory *t = trajectories_make_scored(0, 0, &shape);
    uint8_t *meta = NULL;
    size_t meta_bytes = 0;
    uint32_t identity;
    const int rc = replay_encode(t, &meta, &meta_bytes, &identity, e);
    *bytes = meta_bytes + replay_latents_bytes(t);
    mem_free(meta);
    trajectory_free(t);
    return rc;
}

static void print(const char *what, const char *floor_name, double seconds, double floor_s,
                  size_t bytes)
{
    char more[64];
    snprintf(more, sizeof more, ",\"us\":%.0f,\"bytes\":%zu", seconds * 1e6, bytes);
    bench_print(&(struct bench_figure){.bench = "replay",
                                       .what = what,
                                       .figure = 1.0 / seconds,
                                       .unit = "trajectories/s",
                                       .floor = 1.0 / floor_s,
                                       .floor_name = floor_name,
                                       .more = more});
}

static int bench(struct err *e)
{
    const struct replay_options o = {.address = address,
                                     .user = "",
                                     .password = "",
                                     .run_id = "bench",
                                     .bytes_max = 256 << 20,
                                     .items_min = 1,
                                     .uses_max = 1,
                                     .timeout_ms = 5000};
    struct replay *r = NULL;
    struct redis *c = NULL;
    size_t bytes = 0;
    double insert_s = 1e9, sample_s = 1e9, set_s = 1e9, get_s = 1e9;
    int rc = stored_bytes(&bytes, e) < 0 || connect_redis(&c, e) < 0 ||
                     replay_open(&r, &o, e) < 0 || replay_fence(r, 1, e) < 0
                 ? -1
                 : 0;
    char *value = mem_new(bytes, 1);
    memset(value, 7, bytes);
    /* in turn, so that both see the same machine */
    for (uint64_t i = 0; rc == 0 && i < BLOCKS; i++)
        rc = insert(r, i, &insert_s, e) < 0 || set(c, i, value, bytes, &set_s, e) < 0 ? -1 : 0;
    for (uint64_t i = 0; rc == 0 && i < BLOCKS; i++)
        rc = sample(r, i + 1, &sample_s, e) < 0 || get(c, i, &get_s, e) < 0 ? -1 : 0;
    mem_free(value);
    redis_close(c);
    replay_close(r);
    if (rc < 0)
        return -1;
    print("insert, 20 states 16x16x4", "SET, one by one", insert_s, set_s, bytes);
    print("sample, in batches of 32", "GET, 32 at once", sample_s, get_s, bytes);
    return 0;
}

int main(void)
{
    struct process server;
    struct err e, ignored;
    char path[64], log[64];
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    snprintf(path, sizeof path, "%s/redis.sock", folder);
    snprintf(log, sizeof log, "%s/redis.log", folder);
    snprintf(address, sizeof address, "unix:%s", path);
    const char *const arguments[] = {PROC_REDIS_ARGUMENTS(path, folder), NULL};
    process_init(&server, "redis", log, arguments);
    int rc = process_start(&server, &e);
    if (rc == 0)
        rc = bench(&e);
    process_end(&server);
    process_wait_gone(&server, 5000);
    process_done(&server);
    if (file_remove_tree(folder, &ignored) < 0)
        fprintf(stderr, "bench_replay: %s\n", ignored.text);
    if (rc < 0)
        fprintf(stderr, "bench_replay: %s\n", e.text);
    return rc < 0;
}
