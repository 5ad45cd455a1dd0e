/* The trainer's side of the replay: fencing, batches and their log, priorities, commits. */
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "replay/replay_codec.h"
#include "replay/replay_internal.h"
#include "replay/replay_select.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_ITEMS 8   /* payloads asked for in one round trip */
#define SWEEP_ITEMS 256 /* removals looked at in one round trip */
#define TOMBS_A_ROUND 16384
#define BATCHES_A_ROUND 16384

/* ---- fencing: every transaction of the trainer watches the fence ---- */

/* Adds WATCH fence and GET fence to the pipeline that is being filled. */
static void add_fence_watch(struct replay *r)
{
    const struct replay_key fence = replay_key(r, KEY_FENCE);
    redis_add(r->redis, "WATCH %s", fence.text);
    redis_add(r->redis, "GET %s", fence.text);
}

static int check_fence(struct replay *r, const struct redis_value *fence, struct err *e)
{
    const uint64_t seen = redis_u64(fence, 0);
    if (seen > r->token)
        return err_set(e, ERR_STALE,
                       "replay: token %" PRIu64 " is not the newest, %" PRIu64
                       " was seen: another trainer runs",
                       r->token, seen);
    return 0;
}

int replay_fence(struct replay *r, uint64_t token, struct err *e)
{
    assert(token > 0);
    if (replay_begin(r, e) < 0)
        return -1;
    const uint64_t before = r->token;
    r->token = token;
    const struct replay_key fence = replay_key(r, KEY_FENCE);
    for (int tries = 0; tries < REPLAY_TRIES_MAX; tries++) {
        bool committed;
        redis_begin(r->redis);
        add_fence_watch(r);
        if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
            goto fail;
        redis_multi_begin(r->redis);
        redis_add(r->redis, "SET %s %llu", fence.text, (unsigned long long)token);
        if (redis_multi_exec(r->redis, &committed, e) < 0)
            goto fail;
        if (committed && replay_settle(r, e) < 0)
            goto fail;
        if (committed)
            return 0;
    }
    err_set(e, ERR_UNAVAILABLE, "replay: the fence lost %d races", REPLAY_TRIES_MAX);
fail:
    r->token = before;
    return -1;
}

/* ---- id lists ---- */

static int reserve_ids(struct replay *r, size_t n, struct err *e)
{
    if (n <= r->ids_capacity)
        return 0;
    mem_free(r->ids);
    r->ids_capacity = 0;
    r->ids = mem_slab(n * sizeof *r->ids, "the replay's index", e);
    if (r->ids == NULL)
        return -1;
    r->ids_capacity = n;
    return 0;
}

/* The members of a list reply into r->ids. */
static int take_ids(struct replay *r, const struct redis_value *list, size_t *n, struct err *e)
{
    *n = list->type == REDIS_LIST ? list->count : 0;
    if (reserve_ids(r, *n, e) < 0)
        return -1;
    for (size_t i = 0; i < *n; i++)
        if (hash_unhex(r->ids[i], TRAJECTORY_ID_BYTES, list->items[i].text, e) < 0)
            return err_wrap(e, "replay: an index holds what is no id");
    return 0;
}

/* ids as words for redis_add_words; the block is one allocation that the caller frees. */
static const char **id_words(const uint8_t (*ids)[TRAJECTORY_ID_BYTES], size_t n)
{
    const size_t head = n * sizeof(char *);
    char *block = mem_new(head + n * REPLAY_ID_HEX_BYTES, 1);
    const char **words = (const char **)(void *)block;
    for (size_t i = 0; i < n; i++) {
        char *hex = block + head + i * REPLAY_ID_HEX_BYTES;
        hash_hex(hex, ids[i], TRAJECTORY_ID_BYTES);
        words[i] = hex;
    }
    return words;
}

/* ---- age ---- */

/* Tells Redis the version that age is counted from, and evicts what is older than age_max.  Items
 * that a logged batch still names only leave the selection: they go when that batch is committed.
 */
static int sweep_age(struct replay *r, uint64_t version, struct err *e)
{
    const struct replay_key version_key = replay_key(r, KEY_VERSION);
    const struct replay_key by_version = replay_key(r, KEY_BY_VERSION),
                            ready = replay_key(r, KEY_READY);
    const struct replay_key by_delta = replay_key(r, KEY_BY_DELTA),
                            by_reward = replay_key(r, KEY_BY_REWARD);
    redis_begin(r->redis);
    redis_add(r->redis, "GET %s", version_key.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    /* Admissions watch this key: written where it changes, not at every asking. */
    if (redis_u64(redis_reply(r->redis, 0), UINT64_MAX) != version) {
        redis_begin(r->redis);
        redis_add(r->redis, "SET %s %llu", version_key.text, (unsigned long long)version);
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
    }
    const uint64_t age_max = replay_age_max(r);
    if (version <= age_max)
        return 0;
    size_t kept = 0; /* pinned: still there, no longer eligible */
    for (;;) {
        redis_begin(r->redis);
        redis_add(r->redis, "ZRANGEBYSCORE %s -inf (%llu LIMIT %llu %d", by_version.text,
                  (unsigned long long)(version - age_max), (unsigned long long)kept,
                  SWEEP_ITEMS);
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
        const struct redis_value *old = redis_reply(r->redis, 0);
        const size_t n = old->count;
        if (old->type != REDIS_LIST || n == 0)
            return 0;
        char(*ids)[REPLAY_ID_HEX_BYTES] = mem_new(n, sizeof *ids);
        for (size_t i = 0; i < n; i++)
            snprintf(ids[i], sizeof ids[i], "%s", old->items[i].text);
        for (size_t i = 0; i < n; i++) {
            bool removed;
            if (replay_evict(r, ids[i], version, "evicted_age", &removed, e) < 0) {
                mem_free(ids);
                return -1;
            }
            if (removed)
                continue;
            kept++;
            redis_begin(r->redis);
            redis_add(r->redis, "ZREM %s %s", ready.text, ids[i]);
            redis_add(r->redis, "ZREM %s %s", by_delta.text, ids[i]);
            redis_add(r->redis, "ZREM %s %s", by_reward.text, ids[i]);
            if (redis_run_checked(r->redis, e) < 0) {
                mem_free(ids);
                return -1;
            }
        }
        mem_free(ids);
    }
}

/* ---- choosing ---- */

static const char *index_of(enum replay_selector selector)
{
    switch (selector) {
    case REPLAY_RANK_DELTA:
        return KEY_BY_DELTA;
    case REPLAY_RANK_REWARD:
        return KEY_BY_REWARD;
    case REPLAY_UNIFORM:
    case REPLAY_FIFO:
    case REPLAY_LIFO:
    case REPLAY_RECENT:
    default:
        return KEY_READY;
    }
}

/* The trainer waits for more than there is: the pace must let at least so many in. */
static int wait_for(struct replay *r, uint64_t have, uint64_t want, struct err *e)
{
    const struct replay_key stats = replay_key(r, KEY_STATS), need = replay_key(r, KEY_NEED);
    redis_begin(r->redis);
    redis_add(r->redis, "UNWATCH");
    redis_add(r->redis, "HGET %s inserted", stats.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const uint64_t inserted = redis_u64(redis_reply(r->redis, 1), 0);
    redis_begin(r->redis);
    redis_add(r->redis, "SET %s %llu", need.text, (unsigned long long)(inserted + want - have));
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    return err_set(e, ERR_TIMEOUT,
                   "replay: %" PRIu64 " trajectories are eligible, %" PRIu64 " are needed", have,
                   want);
}

static int choose_by_selector(struct replay *r, const struct replay_batch_request *q,
                              uint8_t (*chosen)[TRAJECTORY_ID_BYTES], struct err *e)
{
    const bool newest_first = q->selector == REPLAY_LIFO || q->selector == REPLAY_RECENT;
    const bool ranked = q->selector == REPLAY_RANK_DELTA || q->selector == REPLAY_RANK_REWARD;
    const struct replay_key index = replay_key(r, index_of(q->selector));
    redis_begin(r->redis);
    redis_add(r->redis, newest_first || ranked ? "ZREVRANGE %s 0 -1" : "ZRANGE %s 0 -1",
              index.text);
    size_t n;
    if (redis_run_checked(r->redis, e) < 0 || take_ids(r, redis_reply(r->redis, 0), &n, e) < 0)
        return -1;
    const uint64_t want = q->count > r->o.items_min ? q->count : r->o.items_min;
    if (n < want)
        return wait_for(r, n, want, e);
    size_t *at = mem_new(q->count, sizeof *at);
    replay_select(at, q->count, (const uint8_t(*)[TRAJECTORY_ID_BYTES])r->ids, n, q->selector,
                  q->priority_k, q->seed, q->step);
    for (uint32_t i = 0; i < q->count; i++)
        memcpy(chosen[i], r->ids[at[i]], TRAJECTORY_ID_BYTES);
    mem_free(at);
    return 0;
}

struct place {
    uint64_t slot, counter;
    size_t index;
};

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    if (x->slot != y->slot)
        return x->slot < y->slot ? -1 : 1;
    return x->counter < y->counter ? -1 : x->counter > y->counter;
}

/* Lockstep: the trajectories of exactly this policy that were not handed out, in (slot, counter)
 * order. */
static int choose_exact(struct replay *r, const struct replay_batch_request *q,
                        uint8_t (*chosen)[TRAJECTORY_ID_BYTES], struct err *e)
{
    const struct replay_key by_version = replay_key(r, KEY_BY_VERSION);
    const unsigned long long v = q->policy_version;
    size_t n, places = 0;
    redis_begin(r->redis);
    redis_add(r->redis, "ZRANGEBYSCORE %s %llu %llu LIMIT 0 %d", by_version.text, v, v,
              REDIS_COMMANDS_MAX);
    if (redis_run_checked(r->redis, e) < 0 || take_ids(r, redis_reply(r->redis, 0), &n, e) < 0)
        return -1;
    if (n < q->count)
        return wait_for(r, n, q->count, e);
    struct place *all = mem_new(n, sizeof *all);
    redis_begin(r->redis);
    for (size_t i = 0; i < n; i++) {
        char id_hex[REPLAY_ID_HEX_BYTES];
        hash_hex(id_hex, r->ids[i], TRAJECTORY_ID_BYTES);
        const struct replay_key item = replay_key_id(r, KEY_ITEM, id_hex);
        redis_add(r->redis, "HMGET %s slot counter uses", item.text);
    }
    int rc = redis_run_checked(r->redis, e);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct redis_value *h = redis_reply(r->redis, i);
        if (h->count != 3 || redis_u64(&h->items[2], 1) != 0)
            continue;
        all[places++] = (struct place){redis_u64(&h->items[0], 0), redis_u64(&h->items[1], 0), i};
    }
    if (rc == 0 && places < q->count)
        rc = wait_for(r, places, q->count, e);
    if (rc == 0) {
        qsort(all, places, sizeof *all, by_place);
        for (uint32_t i = 0; i < q->count; i++)
            memcpy(chosen[i], r->ids[all[i].index], TRAJECTORY_ID_BYTES);
    }
    mem_free(all);
    return rc;
}

/* ---- logging ---- */

/* Uses of each chosen item; *intact is false where one is gone since it was chosen. */
static int watch_items(struct replay *r, const char *const *words, size_t n, uint64_t *uses,
                       bool *intact, struct err *e)
{
    redis_begin(r->redis);
    for (size_t i = 0; i < n; i++) {
        const struct replay_key item = replay_key_id(r, KEY_ITEM, words[i]);
        redis_add(r->redis, "WATCH %s", item.text);
        redis_add(r->redis, "HGET %s uses", item.text);
    }
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    *intact = true;
    for (size_t i = 0; i < n; i++) {
        const struct redis_value *v = redis_reply(r->redis, 2 * i + 1);
        if (v->type == REDIS_NIL)
            *intact = false;
        uses[i] = redis_u64(v, 0);
    }
    return 0;
}

static int log_batch(struct replay *r, uint64_t step, const char *const *words, size_t n,
                     const uint64_t *uses, bool *committed, struct err *e)
{
    struct redis *c = r->redis;
    const struct replay_key fence = replay_key(r, KEY_FENCE), stats = replay_key(r, KEY_STATS);
    const struct replay_key batch = replay_key_step(r, KEY_BATCH, step);
    const struct replay_key batches = replay_key(r, KEY_BATCHES), pins = replay_key(r, KEY_PINS);
    const struct replay_key need = replay_key(r, KEY_NEED), ready = replay_key(r, KEY_READY);
    const struct replay_key by_delta = replay_key(r, KEY_BY_DELTA),
                            by_reward = replay_key(r, KEY_BY_REWARD);
    const unsigned long long s = step;
    redis_multi_begin(c);
    redis_add(c, "SET %s %llu", fence.text, (unsigned long long)r->token);
    redis_add_words(c, "RPUSH", batch.text, words, n);
    redis_add(c, "ZADD %s %llu %llu", batches.text, s, s);
    redis_add(c, "HSET %s batch_step %llu", stats.text, s);
    redis_add(c, "HINCRBY %s sampled %llu", stats.text, (unsigned long long)n);
    redis_add(c, "DEL %s", need.text);
    for (size_t i = 0; i < n; i++) {
        const struct replay_key item = replay_key_id(r, KEY_ITEM, words[i]);
        redis_add(c, "HINCRBY %s uses 1", item.text);
        /* never down: after a rewind a batch of a later step may still be logged with it */
        redis_add(c, "ZADD %s GT %llu %s", pins.text, s, words[i]);
        if (r->o.uses_max == 0 || uses[i] + 1 < r->o.uses_max)
            continue;
        redis_add(c, "ZREM %s %s", ready.text, words[i]);
        redis_add(c, "ZREM %s %s", by_delta.text, words[i]);
        redis_add(c, "ZREM %s %s", by_reward.text, words[i]);
    }
    return redis_multi_exec(c, committed, e);
}

/* The logged batch of the step into chosen; *found is false where there is none.  Leaves the fence
 * and the batch's key watched. */
static int find_logged(struct replay *r, const struct replay_batch_request *q,
                       uint8_t (*chosen)[TRAJECTORY_ID_BYTES], bool *found, struct err *e)
{
    const struct replay_key batch = replay_key_step(r, KEY_BATCH, q->step),
                            stats = replay_key(r, KEY_STATS);
    redis_begin(r->redis);
    add_fence_watch(r);
    redis_add(r->redis, "WATCH %s", batch.text);
    redis_add(r->redis, "LRANGE %s 0 -1", batch.text);
    redis_add(r->redis, "HGET %s commit_step", stats.text);
    if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
        return -1;
    const uint64_t committed = redis_u64(redis_reply(r->redis, 4), 0);
    if (q->step <= committed)
        return err_set(e, ERR_STALE,
                       "replay: the batch of step %" PRIu64 " was asked for, %" PRIu64
                       " is committed already",
                       q->step, committed);
    size_t n;
    if (take_ids(r, redis_reply(r->redis, 3), &n, e) < 0)
        return -1;
    *found = n > 0;
    if (n > 0 && n != q->count)
        return err_set(e, ERR_CONFLICT,
                       "replay: the logged batch of step %" PRIu64 " has %zu trajectories, "
                       "%u are asked for; keep the batch size of the run",
                       q->step, n, q->count);
    if (n > 0)
        memcpy(chosen, r->ids, n * sizeof *chosen);
    return 0;
}

/* Chooses and logs; *committed is false where somebody changed what was chosen. */
static int choose_and_log(struct replay *r, const struct replay_batch_request *q,
                          uint8_t (*chosen)[TRAJECTORY_ID_BYTES], bool *committed, struct err *e)
{
    *committed = false;
    if ((q->exact_version ? choose_exact(r, q, chosen, e) : choose_by_selector(r, q, chosen, e)) <
        0)
        return -1;
    const char **words = id_words((const uint8_t(*)[TRAJECTORY_ID_BYTES])chosen, q->count);
    uint64_t *uses = mem_new(q->count, sizeof *uses);
    bool intact;
    int rc = watch_items(r, words, q->count, uses, &intact, e);
    if (rc == 0 && intact)
        rc = log_batch(r, q->step, words, q->count, uses, committed, e);
    mem_free(uses);
    mem_free((void *)(uintptr_t)words);
    return rc;
}

/* ---- reading ---- */

static int fetch(struct replay *r, const uint8_t (*ids)[TRAJECTORY_ID_BYTES], size_t n,
                 struct trajectory **out, struct err *e)
{
    redis_begin(r->redis);
    for (size_t i = 0; i < n; i++) {
        char id_hex[REPLAY_ID_HEX_BYTES];
        hash_hex(id_hex, ids[i], TRAJECTORY_ID_BYTES);
        const struct replay_key meta = replay_key_id(r, KEY_META, id_hex);
        const struct replay_key latents = replay_key_id(r, KEY_LATENTS, id_hex);
        redis_add(r->redis, "MGET %s %s", meta.text, latents.text);
    }
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        const struct redis_value *v = redis_reply(r->redis, i);
        char id_hex[REPLAY_ID_HEX_BYTES];
        hash_hex(id_hex, ids[i], TRAJECTORY_ID_BYTES);
        if (v->count != 2 || v->items[0].type != REDIS_TEXT || v->items[1].type != REDIS_TEXT)
            return err_set(e, ERR_NOT_FOUND, "replay: trajectory %s of a logged batch is gone",
                           id_hex);
        if (replay_decode((const uint8_t *)v->items[0].text, v->items[0].bytes,
                          (const uint8_t *)v->items[1].text, v->items[1].bytes, &out[i], e) < 0)
            return err_wrap(e, "trajectory %s", id_hex);
        if (memcmp(out[i]->id, ids[i], TRAJECTORY_ID_BYTES) != 0)
            return err_set(e, ERR_INVALID, "replay: the key of trajectory %s holds another one",
                           id_hex);
    }
    return 0;
}

static int fetch_all(struct replay *r, const uint8_t (*ids)[TRAJECTORY_ID_BYTES], size_t n,
                     struct trajectory **out, struct err *e)
{
    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < n; i += FETCH_ITEMS)
        if (fetch(r, ids + i, n - i < FETCH_ITEMS ? n - i : FETCH_ITEMS, out + i, e) < 0) {
            for (size_t k = 0; k < n; k++) {
                trajectory_free(out[k]);
                out[k] = NULL;
            }
            return -1;
        }
    return 0;
}

static int check_request(const struct replay *r, const struct replay_batch_request *q,
                         struct err *e)
{
    if (r->token == 0)
        return err_set(e, ERR_INVALID, "replay: no fencing token was taken");
    if (q->count == 0 || q->count > REPLAY_BATCH_MAX || q->step == 0)
        return err_set(e, ERR_INVALID,
                       "replay: batch of %u for step %" PRIu64 ", wanted 1 to %d for a step from 1",
                       q->count, q->step, REPLAY_BATCH_MAX);
    if ((q->selector == REPLAY_RANK_DELTA || q->selector == REPLAY_RANK_REWARD) &&
        !(q->priority_k > 0.0))
        return err_set(e, ERR_INVALID, "replay: priority_k %g, wanted a number above 0",
                       q->priority_k);
    return 0;
}

int replay_batch(struct replay *r, const struct replay_batch_request *q, struct trajectory **out,
                 struct err *e)
{
    if (check_request(r, q, e) < 0 || replay_begin(r, e) < 0)
        return -1;
    uint8_t(*chosen)[TRAJECTORY_ID_BYTES] = mem_new(q->count, sizeof *chosen);
    int rc = -1;
    for (int tries = 0; tries < REPLAY_TRIES_MAX; tries++) {
        bool found, committed = false;
        if (find_logged(r, q, chosen, &found, e) < 0)
            goto out;
        if (!found && tries == 0) {
            if (sweep_age(r, q->policy_version, e) < 0)
                goto out;
            continue; /* its transactions ended the watch */
        }
        if (!found && choose_and_log(r, q, chosen, &committed, e) < 0)
            goto out;
        if (found || committed) {
            if (replay_settle(r, e) < 0)
                goto out;
            rc = fetch_all(r, (const uint8_t(*)[TRAJECTORY_ID_BYTES])chosen, q->count, out, e);
            goto out;
        }
    }
    err_set(e, ERR_UNAVAILABLE, "replay: batch of step %" PRIu64 " lost %d races", q->step,
            REPLAY_TRIES_MAX);
out:
    mem_free(chosen);
    return rc;
}

/* ---- after the update ---- */

int replay_prioritise(struct replay *r, const uint8_t (*ids)[TRAJECTORY_ID_BYTES],
                      const double *delta, size_t n, struct err *e)
{
    assert(n <= REPLAY_BATCH_MAX && r->token > 0);
    for (size_t i = 0; i < n; i++)
        if (!isfinite(delta[i]) || delta[i] < 0.0)
            return err_set(e, ERR_NONFINITE, "replay: |delta| of trajectory %zu is %g", i,
                           delta[i]);
    if (n == 0)
        return 0;
    if (replay_begin(r, e) < 0)
        return -1;
    const struct replay_key by_delta = replay_key(r, KEY_BY_DELTA);
    for (int tries = 0; tries < REPLAY_TRIES_MAX; tries++) {
        bool committed;
        redis_begin(r->redis);
        add_fence_watch(r);
        if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
            return -1;
        redis_multi_begin(r->redis);
        for (size_t i = 0; i < n; i++) {
            char id_hex[REPLAY_ID_HEX_BYTES], score[40];
            hash_hex(id_hex, ids[i], TRAJECTORY_ID_BYTES);
            snprintf(score, sizeof score, "%.17g", delta[i]);
            redis_add(r->redis, "ZADD %s XX %s %s", by_delta.text, score, id_hex);
        }
        if (redis_multi_exec(r->redis, &committed, e) < 0)
            return -1;
        if (committed)
            return 0;
    }
    return err_set(e, ERR_UNAVAILABLE, "replay: priorities lost %d races", REPLAY_TRIES_MAX);
}

/* Of up to SWEEP_ITEMS pinned ids (words), those used up become tombstones and all lose their pin.
 */
static int release_some(struct replay *r, const char *const *words, size_t n, uint64_t version_now,
                        bool *committed, struct err *e)
{
    const struct replay_key pins = replay_key(r, KEY_PINS);
    *committed = false;
    redis_begin(r->redis);
    add_fence_watch(r);
    for (size_t i = 0; i < n; i++) {
        const struct replay_key item = replay_key_id(r, KEY_ITEM, words[i]);
        redis_add(r->redis, "HMGET %s crc bytes version uses", item.text);
    }
    if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
        return -1;
    struct {
        uint32_t crc;
        uint64_t bytes, version, uses;
        bool here;
    } items[SWEEP_ITEMS];
    for (size_t i = 0; i < n; i++) {
        const struct redis_value *h = redis_reply(r->redis, i + 2);
        items[i].here = h->count == 4 && h->items[0].type != REDIS_NIL;
        if (!items[i].here)
            continue;
        items[i].crc = (uint32_t)redis_u64(&h->items[0], 0);
        items[i].bytes = redis_u64(&h->items[1], 0);
        items[i].version = redis_u64(&h->items[2], 0);
        items[i].uses = redis_u64(&h->items[3], 0);
    }
    redis_multi_begin(r->redis);
    for (size_t i = 0; i < n; i++)
        if (items[i].here && r->o.uses_max > 0 && items[i].uses >= r->o.uses_max)
            replay_add_removal(r, words[i], items[i].crc, items[i].bytes,
                               items[i].version > version_now ? items[i].version : version_now,
                               "consumed", false);
    redis_add_words(r->redis, "ZREM", pins.text, words, n);
    return redis_multi_exec(r->redis, committed, e);
}

/* At most `limit` ids of a sorted set, up to a score: "12", or "(12" for below it.  *words is the caller's to free, NULL
 * where there are none; it points into r->ids. */
static int ids_up_to(struct replay *r, const struct replay_key *set, const char *score, int limit, const char ***words,
                     size_t *n, struct err *e)
{
    *words = NULL;
    redis_begin(r->redis);
    redis_add(r->redis, "ZRANGEBYSCORE %s -inf %s LIMIT 0 %d", set->text, score, limit);
    if (redis_run_checked(r->redis, e) < 0 || take_ids(r, redis_reply(r->redis, 0), n, e) < 0)
        return -1;
    if (*n > 0)
        *words = id_words((const uint8_t(*)[TRAJECTORY_ID_BYTES])r->ids, *n);
    return 0;
}

/* Every pin at or below the step. */
static int release_pins(struct replay *r, uint64_t step, uint64_t version_now, struct err *e)
{
    const struct replay_key pins = replay_key(r, KEY_PINS);
    char score[32];
    snprintf(score, sizeof score, "%" PRIu64, step);
    for (;;) {
        const char **words;
        size_t n;
        bool committed;
        if (ids_up_to(r, &pins, score, SWEEP_ITEMS, &words, &n, e) < 0)
            return -1;
        if (n == 0)
            return 0;
        const int rc = release_some(r, words, n, version_now, &committed, e);
        mem_free((void *)(uintptr_t)words);
        if (rc < 0)
            return -1;
    }
}

/* The batch lists up to the step, then the step itself: last, so that a commit cut short is made
 * again. */
static int forget_batches(struct replay *r, uint64_t step, struct err *e)
{
    const struct replay_key batches = replay_key(r, KEY_BATCHES), stats = replay_key(r, KEY_STATS);
    const unsigned long long s = step;
    for (int tries = 0; tries < REPLAY_TRIES_MAX;) {
        bool committed;
        redis_begin(r->redis);
        add_fence_watch(r);
        redis_add(r->redis, "ZRANGEBYSCORE %s -inf %llu LIMIT 0 %d", batches.text, s,
                  BATCHES_A_ROUND);
        redis_add(r->redis, "HGET %s commit_step", stats.text);
        if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
            return -1;
        const struct redis_value *old = redis_reply(r->redis, 2);
        const uint64_t before = redis_u64(redis_reply(r->redis, 3), 0);
        const size_t n = old->type == REDIS_LIST ? old->count : 0;
        const bool last = n < BATCHES_A_ROUND;
        uint64_t *steps = mem_new(n, sizeof *steps);
        for (size_t i = 0; i < n; i++)
            steps[i] = redis_u64(&old->items[i], 0);
        const unsigned long long upto = last ? s : steps[n - 1];
        redis_multi_begin(r->redis);
        for (size_t i = 0; i < n; i++) {
            const struct replay_key batch = replay_key_step(r, KEY_BATCH, steps[i]);
            redis_add(r->redis, "DEL %s", batch.text);
        }
        mem_free(steps);
        redis_add(r->redis, "ZREMRANGEBYSCORE %s -inf %llu", batches.text, upto);
        if (last)
            redis_add(r->redis, "HSET %s commit_step %llu", stats.text,
                      (unsigned long long)(before > step ? before : step));
        if (redis_multi_exec(r->redis, &committed, e) < 0)
            return -1;
        if (committed && last)
            return 0;
        tries += !committed;
    }
    return err_set(e, ERR_UNAVAILABLE, "replay: the commit of step %" PRIu64 " lost %d races", step,
                   REPLAY_TRIES_MAX);
}

int replay_rewind(struct replay *r, uint64_t step, struct err *e)
{
    assert(r->token > 0);
    if (replay_begin(r, e) < 0)
        return -1;
    const struct replay_key fence = replay_key(r, KEY_FENCE), stats = replay_key(r, KEY_STATS);
    for (int tries = 0; tries < REPLAY_TRIES_MAX; tries++) {
        bool committed;
        redis_begin(r->redis);
        add_fence_watch(r);
        redis_add(r->redis, "HGET %s commit_step", stats.text);
        if (redis_run_checked(r->redis, e) < 0 || check_fence(r, redis_reply(r->redis, 1), e) < 0)
            return -1;
        const uint64_t before = redis_u64(redis_reply(r->redis, 2), 0);
        redis_multi_begin(r->redis);
        redis_add(r->redis, "SET %s %llu", fence.text, (unsigned long long)r->token);
        if (before > step)
            redis_add(r->redis, "HSET %s commit_step %llu", stats.text, (unsigned long long)step);
        if (redis_multi_exec(r->redis, &committed, e) < 0)
            return -1;
        if (!committed)
            continue;
        if (before > step)
            log_event(LOG_ERROR, "replay_rewound", "step=%llu before=%llu mend=%s",
                      (unsigned long long)step, (unsigned long long)before,
                      "the updates between are made again, of new trajectories");
        return replay_settle(r, e);
    }
    return err_set(e, ERR_UNAVAILABLE, "replay: going back to step %" PRIu64 " lost %d races", step,
                   REPLAY_TRIES_MAX);
}

/* Tombstones that no acceptable trajectory can meet any more. */
static int drop_tombstones(struct replay *r, uint64_t version_now, struct err *e)
{
    if (version_now <= REPLAY_TOMBSTONE_VERSIONS)
        return 0;
    const struct replay_key tombs = replay_key(r, KEY_TOMBS);
    char score[32];
    size_t n;
    snprintf(score, sizeof score, "(%" PRIu64, version_now - REPLAY_TOMBSTONE_VERSIONS);
    do {
        const char **words;
        bool committed;
        if (ids_up_to(r, &tombs, score, TOMBS_A_ROUND, &words, &n, e) < 0)
            return -1;
        if (n == 0)
            return 0;
        redis_multi_begin(r->redis);
        for (size_t i = 0; i < n; i++) {
            const struct replay_key tomb = replay_key_id(r, KEY_TOMB, words[i]);
            redis_add(r->redis, "DEL %s", tomb.text);
        }
        redis_add_words(r->redis, "ZREM", tombs.text, words, n);
        mem_free((void *)(uintptr_t)words);
        if (redis_multi_exec(r->redis, &committed, e) < 0)
            return -1;
    } while (n == TOMBS_A_ROUND);
    return 0;
}

int replay_commit(struct replay *r, uint64_t step, struct err *e)
{
    assert(r->token > 0);
    if (replay_begin(r, e) < 0)
        return -1;
    const struct replay_key version = replay_key(r, KEY_VERSION);
    redis_begin(r->redis);
    redis_add(r->redis, "GET %s", version.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const uint64_t version_now = redis_u64(redis_reply(r->redis, 0), 0);
    if (release_pins(r, step, version_now, e) < 0 || forget_batches(r, step, e) < 0 ||
        drop_tombstones(r, version_now, e) < 0)
        return -1;
    return replay_settle(r, e);
}
