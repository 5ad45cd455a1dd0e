/* A whole ring for tests: a private redis-server (unix socket, AOF everysec), and the real store,
 * judge, scorer, trainer and samplers, over ipc in a temp folder, on the tiny model of
 * tests/golden. What dies is started again (dagline/process.h), as `dagline run` does it.
 *
 *     ring_open(&r, &(struct ring_options){.samplers = 2});
 *     ring_start_all(&r);
 *     while (...) { ring_watch(&r); ... ring_kill(&r, RING_SCORER, 0); }
 *     ring_close(&r);
 *
 * The folder (settings, data, log/NAME.log) is removed by ring_close, and stays where the test
 * failed before it; its name is printed by ring_open.
 * Thread rule: one thread, the one that opened it (children are told when it dies). */
#ifndef DAGLINE_TESTS_RING_H
#define DAGLINE_TESTS_RING_H

#include "dagline/process.h"
#include "support/proc.h"
#include "wire/store_client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_SAMPLERS_MAX 4
#define RING_SETTINGS_MAX 32

/* In the order in which they are started. */
enum ring_part {
    RING_REDIS,
    RING_STORE,
    RING_JUDGE,
    RING_SCORER,
    RING_TRAINER,
    RING_SAMPLER, /* the first of them */
    RING_PARTS
};

struct ring_options {
    int samplers;
    const char *const *settings; /* NULL-ended "section.key=value" over ring.c's own, or NULL */
    const char *data; /* NULL, or the folder of another ring whose store and replay are copied */
};

struct ring {
    char folder[PROC_PATH_BYTES];
    char redis_socket[PROC_PATH_BYTES];
    char store[PROC_PATH_BYTES], news[PROC_PATH_BYTES], scorer[PROC_PATH_BYTES]; /* endpoints */
    struct process process[RING_PARTS - 1 + RING_SAMPLERS_MAX];
    int samplers;
    char settings[RING_SETTINGS_MAX][128]; /* "section.key=value"; the last one of a key counts */
    size_t setting_count;
    struct wire_net *net;
    struct store_client *client;
};

/* Folder, settings and processes; nothing runs. */
void ring_open(struct ring *r, const struct ring_options *o);
/* Kills what runs; removes the folder. */
void ring_close(struct ring *r);

/* Writes the setting; services started from now on see it. */
void ring_set(struct ring *r, const char *setting);

/* index: of the sampler; 0 for all other parts. */
struct process *ring_process(struct ring *r, enum ring_part part, int index);
const char *ring_part_name(enum ring_part part);

/* Started and kept running.  The store and Redis are waited for; ring_client opens with the store.
 */
void ring_start(struct ring *r, enum ring_part part, int index);
void ring_start_all(struct ring *r);

/* Ends are noticed and mended: to be called every few milliseconds.  A service that ended with
 * status 0 is not started again. */
void ring_watch(struct ring *r);

/* SIGKILL; ring_watch starts it again. */
void ring_kill(struct ring *r, enum ring_part part, int index);

/* SIGTERM and no restart; the exit status, or 128 + signal; the test fails after timeout_ms. */
int ring_end(struct ring *r, enum ring_part part, int index, int timeout_ms);

/* Waits for a process to end by itself: its status. The test fails after timeout_ms. */
int ring_wait_end(struct ring *r, enum ring_part part, int index, int timeout_ms);

/* The store's answer, asked once with a short timeout; false while it is away. status_done. */
bool ring_status(struct ring *r, struct status *out);

/* The whole log of a part; the caller frees with mem_free. */
char *ring_log(struct ring *r, enum ring_part part, int index);
/* How often `text` stands in it. */
size_t ring_log_count(struct ring *r, enum ring_part part, int index, const char *text);

/* Every "policy_published" of the store's log, in order. */
struct ring_policy {
    uint64_t version, token;
    char digest[16]; /* its first 12 hex digits */
};
/* The caller frees with mem_free. */
struct ring_policy *ring_policies(struct ring *r, size_t *count);

/* Milliseconds on the monotonic clock; a short nap of the test's own loop. */
int64_t ring_now_ms(void);
void ring_nap(int ms);

#endif
