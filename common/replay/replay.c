#include "replay/replay.h"

#include "base/clock.h"
#include "base/entropy.h"
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

#define EVICT_WINDOW 256 /* items looked at in one round trip for one that is not pinned */
#define TIMEOUT_MS 5000  /* where the options give none */
#define SETTLE_WAIT_NS (CLOCK_NS_PER_MS / 2)
/* Of Redis's maxmemory.  Between the two lie what the allocator rounds up and the tombstones:
 * eviction, which an admission makes, must come before credit ends. */
#define BYTES_MAX_RATIO 0.7   /* at most for our own bound */
#define MEMORY_FULL_RATIO 0.9 /* no more credit beyond */
#define MEMORY_WELL_RATIO 0.8 /* below it the next time is told again */

struct replay_key replay_key(const struct replay *r, const char *suffix)
{
    struct replay_key k;
    snprintf(k.text, sizeof k.text, "%s%s", r->prefix, suffix);
    return k;
}

struct replay_key replay_key_id(const struct replay *r, const char *suffix, const char *id_hex)
{
    struct replay_key k;
    snprintf(k.text, sizeof k.text, "%s%s%s", r->prefix, suffix, id_hex);
    return k;
}

struct replay_key replay_key_step(const struct replay *r, const char *suffix, uint64_t step)
{
    struct replay_key k;
    snprintf(k.text, sizeof k.text, "%s%s%" PRIu64, r->prefix, suffix, step);
    return k;
}

uint64_t replay_age_max(const struct replay *r)
{
    return r->o.age_max > 0 && r->o.age_max < REPLAY_TOMBSTONE_VERSIONS ? r->o.age_max
                                                                        : REPLAY_TOMBSTONE_VERSIONS;
}

/* ---- opening ---- */

static int check_options(const struct replay_options *o, struct err *e)
{
    const size_t run = strlen(o->run_id);
    if (run == 0 || run > REPLAY_RUN_BYTES_MAX)
        return err_set(e, ERR_INVALID, "replay: run id of %zu bytes, wanted 1 to %d", run,
                       REPLAY_RUN_BYTES_MAX);
    for (const char *p = o->run_id; *p != 0; p++)
        if (*p <= ' ' || *p > '~' || *p == '{' || *p == '}')
            return err_set(e, ERR_INVALID, "replay: run id %s holds a byte that a key may not",
                           o->run_id);
    if (o->bytes_max == 0)
        return err_set(e, ERR_INVALID,
                       "replay: bytes_max is 0; give it a bound below Redis's maxmemory");
    if (!isfinite(o->samples_per_insert) || o->samples_per_insert < 0.0)
        return err_set(e, ERR_INVALID, "replay: samples_per_insert %g is not a number >= 0",
                       o->samples_per_insert);
    return 0;
}

/* "name:value\r\n" in INFO's text. */
static bool info_field(const struct redis_value *info, const char *name, char *out, size_t bytes)
{
    const size_t name_bytes = strlen(name);
    for (const char *p = info->text; p != NULL && *p != 0;) {
        if (strncmp(p, name, name_bytes) == 0 && p[name_bytes] == ':') {
            const char *value = p + name_bytes + 1;
            snprintf(out, bytes, "%.*s", (int)strcspn(value, "\r\n"), value);
            return true;
        }
        p = strchr(p, '\n');
        if (p != NULL)
            p++;
    }
    return false;
}

static int check_policy(struct replay *r, struct err *e)
{
    redis_begin(r->redis);
    redis_add(r->redis, "INFO memory");
    if (redis_run_checked(r->redis, e) < 0)
        return err_wrap(e, "replay: INFO memory (the Redis user needs +info)");
    char policy[64], limit[32];
    const struct redis_value *info = redis_reply(r->redis, 0);
    if (!info_field(info, "maxmemory_policy", policy, sizeof policy) ||
        !info_field(info, "maxmemory", limit, sizeof limit))
        return err_set(e, ERR_INVALID, "replay: Redis does not tell its maxmemory-policy");
    if (strcmp(policy, "noeviction") != 0)
        return err_set(e, ERR_INVALID,
                       "replay: Redis runs maxmemory-policy %s, which tears items apart; set "
                       "maxmemory-policy noeviction",
                       policy);
    const unsigned long long maxmemory = strtoull(limit, NULL, 10);
    if (maxmemory > 0 && (double)r->o.bytes_max > BYTES_MAX_RATIO * (double)maxmemory)
        return err_set(e, ERR_INVALID,
                       "replay: bytes_max %" PRIu64
                       " is above %.0f %% of Redis's maxmemory %llu; lower it or "
                       "raise maxmemory",
                       r->o.bytes_max, BYTES_MAX_RATIO * 100.0, maxmemory);
    return 0;
}

/* Another process than before, without an append-only file, has at best an old snapshot, in which
 * the epoch is the same. */
static int know_server(struct replay *r, struct err *e)
{
    redis_begin(r->redis);
    redis_add(r->redis, "INFO server");
    redis_add(r->redis, "INFO persistence");
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    char server[sizeof r->server] = "", on[8] = "";
    if (!info_field(redis_reply(r->redis, 0), "run_id", server, sizeof server))
        return err_set(e, ERR_INVALID, "replay: Redis does not tell its run_id");
    const bool durable = info_field(redis_reply(r->redis, 1), "aof_enabled", on, sizeof on) &&
                         strcmp(on, "1") == 0;
    if (r->server[0] == 0 && !durable)
        log_event(LOG_WARN, "replay_not_durable", "server=%s mend=%s", server,
                  "a Redis that dies loses acknowledged trajectories; set appendonly yes");
    if (r->server[0] != 0 && strcmp(r->server, server) != 0 && !durable) {
        log_event(LOG_ERROR, "replay_lost", "server=%s before=%s mend=%s", server, r->server,
                  "Redis was started again without an append-only file; the run goes on with its "
                  "last snapshot");
        r->epoch[0] = 0; /* said already */
    }
    memcpy(r->server, server, sizeof r->server);
    return 0;
}

/* The epoch is made by whoever finds none; another one than before means that Redis lost
 * everything. */
static int know_epoch(struct replay *r, struct err *e)
{
    uint8_t bytes[16];
    char mine[2 * sizeof bytes + 1];
    if (entropy_fill(bytes, sizeof bytes, e) < 0)
        return err_wrap(e, "replay");
    hash_hex(mine, bytes, sizeof bytes);
    const struct replay_key key = replay_key(r, KEY_EPOCH);
    redis_begin(r->redis);
    redis_add(r->redis, "SET %s %s NX", key.text, mine);
    redis_add(r->redis, "GET %s", key.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const struct redis_value *v = redis_reply(r->redis, 1);
    if (v->type != REDIS_TEXT || v->bytes != 32)
        return err_set(e, ERR_INVALID, "replay: %s is not 32 hex digits", key.text);
    if (r->epoch[0] != 0 && strcmp(r->epoch, v->text) != 0)
        log_event(LOG_ERROR, "replay_lost", "epoch=%s before=%s mend=%s", v->text, r->epoch,
                  "Redis was emptied; the run goes on with an empty replay");
    memcpy(r->epoch, v->text, sizeof r->epoch);
    return 0;
}

int replay_begin(struct replay *r, struct err *e)
{
    bool fresh;
    if (redis_ready(r->redis, &fresh, e) < 0)
        return err_wrap(e, "replay");
    r->checked = r->checked && !fresh;
    if (!r->checked && (check_policy(r, e) < 0 || know_server(r, e) < 0 || know_epoch(r, e) < 0))
        return -1;
    r->checked = true;
    return 0;
}

int replay_open(struct replay **out, const struct replay_options *o, struct err *e)
{
    if (check_options(o, e) < 0)
        return -1;
    struct replay *r = mem_new(1, sizeof *r);
    r->o = *o;
    r->o.timeout_ms = o->timeout_ms > 0 ? o->timeout_ms : TIMEOUT_MS;
    snprintf(r->run, sizeof r->run, "%s", o->run_id);
    snprintf(r->prefix, sizeof r->prefix, "dagline:{%s}:", r->run);
    /* The strings of the caller need not outlive this call. */
    r->o.run_id = r->run;
    r->o.address = r->o.user = r->o.password = NULL;
    const struct redis_options ro = {
        .address = o->address,
        .user = o->user,
        .password = o->password,
        .timeout_ms = r->o.timeout_ms,
        .reply_bytes_max = REPLAY_LATENTS_BYTES_MAX + (1u << 20),
    };
    if (redis_open(&r->redis, &ro, e) < 0 || replay_begin(r, e) < 0) {
        replay_close(r);
        return -1;
    }
    *out = r;
    return 0;
}

void replay_close(struct replay *r)
{
    if (r == NULL)
        return;
    redis_close(r->redis);
    mem_free(r->ids);
    mem_free(r);
}

/* With `appendfsync everysec` Redis answers before it writes the append-only file whenever a
 * background fsync is running: what it holds back in its own memory dies with its process.  While
 * INFO says that no fsync is pending (or nothing is held back), all that was executed before it is
 * written before its own answer is sent, and a killed Redis finds it again. */
int replay_settle(struct replay *r, struct err *e)
{
    const int64_t end_ms = clock_mono_ms(NULL) + r->o.timeout_ms;
    for (;;) {
        redis_begin(r->redis);
        redis_add(r->redis, "INFO persistence");
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
        const struct redis_value *info = redis_reply(r->redis, 0);
        char on[8] = "", pending[24] = "", held[24] = "", status[16] = "";
        if (!info_field(info, "aof_enabled", on, sizeof on) || strcmp(on, "1") != 0)
            return 0;
        if (info_field(info, "aof_last_write_status", status, sizeof status) &&
            strcmp(status, "ok") != 0)
            return err_set(e, ERR_UNAVAILABLE, "replay: Redis cannot write its append-only file");
        if (!info_field(info, "aof_pending_bio_fsync", pending, sizeof pending) ||
            strcmp(pending, "0") == 0)
            return 0;
        if (info_field(info, "aof_buffer_length", held, sizeof held) && strcmp(held, "0") == 0)
            return 0;
        if (clock_mono_ms(NULL) > end_ms)
            return err_set(e, ERR_UNAVAILABLE,
                           "replay: Redis's disk took more than %u ms for one fsync",
                           r->o.timeout_ms);
        clock_sleep_ns(NULL, SETTLE_WAIT_NS);
    }
}

/* ---- removing ---- */

void replay_add_removal(struct replay *r, const char *id_hex, uint32_t crc, uint64_t bytes,
                        uint64_t version, const char *counter, bool unused)
{
    struct redis *c = r->redis;
    const struct replay_key item = replay_key_id(r, KEY_ITEM, id_hex);
    const struct replay_key meta = replay_key_id(r, KEY_META, id_hex);
    const struct replay_key latents = replay_key_id(r, KEY_LATENTS, id_hex);
    const struct replay_key tomb = replay_key_id(r, KEY_TOMB, id_hex);
    const struct replay_key tombs = replay_key(r, KEY_TOMBS), stats = replay_key(r, KEY_STATS);
    static const char *const indexes[] = {KEY_BY_INSERT, KEY_BY_VERSION, KEY_READY,
                                          KEY_BY_DELTA,  KEY_BY_REWARD,  KEY_PINS};
    redis_add(c, "SET %s %u", tomb.text, crc);
    redis_add(c, "ZADD %s %llu %s", tombs.text, (unsigned long long)version, id_hex);
    redis_add(c, "DEL %s %s %s", item.text, meta.text, latents.text);
    for (size_t i = 0; i < sizeof indexes / sizeof *indexes; i++) {
        const struct replay_key index = replay_key(r, indexes[i]);
        redis_add(c, "ZREM %s %s", index.text, id_hex);
    }
    redis_add(c, "HINCRBY %s bytes -%llu", stats.text, (unsigned long long)bytes);
    redis_add(c, "HINCRBY %s %s 1", stats.text, counter);
    if (unused)
        redis_add(c, "HINCRBY %s evicted_unused 1", stats.text);
}

static int unwatch(struct replay *r, struct err *e)
{
    redis_begin(r->redis);
    redis_add(r->redis, "UNWATCH");
    return redis_run_checked(r->redis, e);
}

int replay_evict(struct replay *r, const char *id_hex, uint64_t version_now, const char *counter,
                 bool *removed, struct err *e)
{
    const struct replay_key item = replay_key_id(r, KEY_ITEM, id_hex),
                            pins = replay_key(r, KEY_PINS);
    *removed = false;
    /* The hash is touched by every batch that takes the item, so watching it is watching its pin.
     */
    redis_begin(r->redis);
    redis_add(r->redis, "WATCH %s", item.text);
    redis_add(r->redis, "HMGET %s crc bytes version uses", item.text);
    redis_add(r->redis, "ZSCORE %s %s", pins.text, id_hex);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const struct redis_value *h = redis_reply(r->redis, 1);
    const bool gone = h->type != REDIS_LIST || h->count != 4 || h->items[0].type == REDIS_NIL;
    if (gone || redis_reply(r->redis, 2)->type != REDIS_NIL)
        return unwatch(r, e);
    const uint32_t crc = (uint32_t)redis_u64(&h->items[0], 0);
    const uint64_t bytes = redis_u64(&h->items[1], 0), version = redis_u64(&h->items[2], 0);
    const bool unused = redis_u64(&h->items[3], 0) == 0;
    redis_multi_begin(r->redis);
    replay_add_removal(r, id_hex, crc, bytes, version > version_now ? version : version_now,
                       counter, unused);
    return redis_multi_exec(r->redis, removed, e);
}

/* The oldest item that no logged batch names; id_hex "" where there is none. */
static int oldest_unpinned(struct replay *r, char id_hex[REPLAY_ID_HEX_BYTES], struct err *e)
{
    const struct replay_key by_insert = replay_key(r, KEY_BY_INSERT),
                            pins = replay_key(r, KEY_PINS);
    char ids[EVICT_WINDOW][REPLAY_ID_HEX_BYTES];
    id_hex[0] = 0;
    for (size_t from = 0;; from += EVICT_WINDOW) {
        redis_begin(r->redis);
        redis_add(r->redis, "ZRANGE %s %llu %llu", by_insert.text, (unsigned long long)from,
                  (unsigned long long)(from + EVICT_WINDOW - 1));
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
        const struct redis_value *window = redis_reply(r->redis, 0);
        const size_t n = window->count < EVICT_WINDOW ? window->count : EVICT_WINDOW;
        if (n == 0)
            return 0;
        const char *words[EVICT_WINDOW];
        for (size_t i = 0; i < n; i++) {
            snprintf(ids[i], sizeof ids[i], "%s", window->items[i].text);
            words[i] = ids[i];
        }
        redis_begin(r->redis);
        redis_add_words(r->redis, "ZMSCORE", pins.text, words, n);
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
        const struct redis_value *pinned = redis_reply(r->redis, 0);
        for (size_t i = 0; i < n && i < pinned->count; i++)
            if (pinned->items[i].type == REDIS_NIL) {
                memcpy(id_hex, ids[i], REPLAY_ID_HEX_BYTES);
                return 0;
            }
    }
}

/* Evicts the oldest until `bytes` more fit.  *fits is false where all that is left is pinned. */
static int make_room(struct replay *r, uint64_t bytes, uint64_t version_now, bool *fits,
                     struct err *e)
{
    const struct replay_key stats = replay_key(r, KEY_STATS);
    for (;;) {
        redis_begin(r->redis);
        redis_add(r->redis, "HGET %s bytes", stats.text);
        if (redis_run_checked(r->redis, e) < 0)
            return -1;
        *fits = redis_u64(redis_reply(r->redis, 0), 0) + bytes <= r->o.bytes_max;
        if (*fits)
            return 0;
        char id_hex[REPLAY_ID_HEX_BYTES];
        bool removed;
        if (oldest_unpinned(r, id_hex, e) < 0)
            return -1;
        if (id_hex[0] == 0)
            return 0;
        if (replay_evict(r, id_hex, version_now, "evicted_bytes", &removed, e) < 0)
            return -1;
    }
}

/* ---- admission ---- */

struct admission {
    const struct trajectory *t;
    char id_hex[REPLAY_ID_HEX_BYTES];
    uint8_t *meta; /* owned */
    size_t meta_bytes, latents_bytes;
    uint32_t crc;
    uint64_t bytes; /* as counted against bytes_max */
};

static int count_one(struct replay *r, const char *counter, struct err *e)
{
    const struct replay_key stats = replay_key(r, KEY_STATS);
    redis_begin(r->redis);
    redis_add(r->redis, "UNWATCH");
    redis_add(r->redis, "HINCRBY %s %s 1", stats.text, counter);
    return redis_run_checked(r->redis, e);
}

/* Watches all that the decision rests on, and decides.  *decided: *outcome is final. */
static int admission_look(struct replay *r, const struct admission *a, bool *decided,
                          enum replay_outcome *outcome, uint64_t *version_now, uint64_t *held,
                          uint64_t *seq, struct err *e)
{
    const struct replay_key item = replay_key_id(r, KEY_ITEM, a->id_hex);
    const struct replay_key tomb = replay_key_id(r, KEY_TOMB, a->id_hex);
    const struct replay_key version = replay_key(r, KEY_VERSION), stats = replay_key(r, KEY_STATS);
    const struct replay_key seq_key = replay_key(r, KEY_SEQ), epoch = replay_key(r, KEY_EPOCH);
    redis_begin(r->redis);
    redis_add(r->redis, "WATCH %s %s %s %s", item.text, tomb.text, version.text, epoch.text);
    redis_add(r->redis, "HGET %s crc", item.text);
    redis_add(r->redis, "GET %s", tomb.text);
    redis_add(r->redis, "GET %s", version.text);
    redis_add(r->redis, "HGET %s bytes", stats.text);
    redis_add(r->redis, "GET %s", epoch.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const struct redis_value *here = redis_reply(r->redis, 1), *gone = redis_reply(r->redis, 2);
    const struct redis_value *known = here->type != REDIS_NIL ? here : gone;
    const struct redis_value *epoch_now = redis_reply(r->redis, 5);
    *version_now = redis_u64(redis_reply(r->redis, 3), 0);
    *held = redis_u64(redis_reply(r->redis, 4), 0);
    *decided = true;
    if (known->type != REDIS_NIL) {
        const bool same = redis_u64(known, UINT64_MAX) == a->crc;
        *outcome = same ? REPLAY_DUPLICATE : REPLAY_CONFLICT;
        return count_one(r, same ? "duplicates" : "conflicts", e);
    }
    if (a->t->policy_version + replay_age_max(r) < *version_now) {
        *outcome = REPLAY_TOO_OLD;
        return count_one(r, "refused_age", e);
    }
    *decided = false;
    if (epoch_now->type != REDIS_TEXT || strcmp(epoch_now->text, r->epoch) != 0) {
        if (know_epoch(r, e) < 0) /* its SET breaks our WATCH: the attempt is made again */
            return -1;
    }
    redis_begin(r->redis);
    redis_add(r->redis, "INCR %s", seq_key.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    *seq = redis_u64(redis_reply(r->redis, 0), 0);
    return 0;
}

static int admission_commit(struct replay *r, const struct admission *a, uint64_t seq,
                            bool *committed, struct err *e)
{
    const struct trajectory *t = a->t;
    struct redis *c = r->redis;
    const struct replay_key item = replay_key_id(r, KEY_ITEM, a->id_hex);
    const struct replay_key meta = replay_key_id(r, KEY_META, a->id_hex);
    const struct replay_key latents = replay_key_id(r, KEY_LATENTS, a->id_hex);
    const struct replay_key stats = replay_key(r, KEY_STATS);
    const struct replay_key by_insert = replay_key(r, KEY_BY_INSERT),
                            ready = replay_key(r, KEY_READY);
    const struct replay_key by_version = replay_key(r, KEY_BY_VERSION);
    const struct replay_key by_delta = replay_key(r, KEY_BY_DELTA),
                            by_reward = replay_key(r, KEY_BY_REWARD);
    redis_multi_begin(c);
    redis_add(c, "SET %s %b NX", meta.text, a->meta, a->meta_bytes);
    redis_add(c, "SET %s %b NX", latents.text, t->latents, a->latents_bytes);
    redis_add(c, "HSET %s crc %u bytes %llu version %llu slot %u counter %llu uses 0", item.text,
              a->crc, (unsigned long long)a->bytes, (unsigned long long)t->policy_version, t->slot,
              (unsigned long long)t->counter);
    redis_add(c, "ZADD %s %llu %s", by_insert.text, (unsigned long long)seq, a->id_hex);
    redis_add(c, "ZADD %s %llu %s", ready.text, (unsigned long long)seq, a->id_hex);
    redis_add(c, "ZADD %s %llu %s", by_version.text, (unsigned long long)t->policy_version,
              a->id_hex);
    redis_add(c, "ZADD %s +inf %s", by_delta.text, a->id_hex);
    char reward[40];
    snprintf(reward, sizeof reward, "%.17g", t->reward);
    redis_add(c, "ZADD %s %s %s", by_reward.text, reward, a->id_hex);
    redis_add(c, "HINCRBY %s inserted 1", stats.text);
    redis_add(c, "HINCRBY %s bytes %llu", stats.text, (unsigned long long)a->bytes);
    return redis_multi_exec(c, committed, e);
}

static int admit_once(struct replay *r, const struct admission *a, bool *decided,
                      enum replay_outcome *outcome, struct err *e)
{
    uint64_t version_now, held, seq;
    if (admission_look(r, a, decided, outcome, &version_now, &held, &seq, e) < 0)
        return -1;
    if (*decided)
        return 0;
    if (held + a->bytes > r->o.bytes_max) {
        bool fits;
        /* Evicting ends the watch, so look again afterwards. */
        if (unwatch(r, e) < 0 || make_room(r, a->bytes, version_now, &fits, e) < 0)
            return -1;
        return fits ? 0
                    : err_set(e, ERR_FULL,
                              "replay: %" PRIu64 " of %" PRIu64
                              " bytes are held by batches that wait for a checkpoint",
                              held, r->o.bytes_max);
    }
    if (admission_commit(r, a, seq, decided, e) < 0)
        return -1;
    if (*decided)
        *outcome = REPLAY_STORED;
    return 0;
}

int replay_admit(struct replay *r, const struct trajectory *t, enum replay_outcome *out,
                 struct err *e)
{
    struct admission a = {.t = t};
    if (trajectory_check(t, true, e) < 0 || replay_encode(t, &a.meta, &a.meta_bytes, &a.crc, e) < 0)
        return err_wrap(e, "replay: not admitted");
    hash_hex(a.id_hex, t->id, sizeof t->id);
    a.latents_bytes = replay_latents_bytes(t);
    a.bytes = a.meta_bytes + a.latents_bytes + REPLAY_ITEM_OVERHEAD_BYTES;
    int rc = -1;
    if (a.bytes > r->o.bytes_max) {
        err_set(e, ERR_INVALID,
                "replay: one trajectory is %" PRIu64 " bytes, bytes_max is %" PRIu64, a.bytes,
                r->o.bytes_max);
        goto out;
    }
    if (replay_begin(r, e) < 0)
        goto out;
    bool decided = false;
    for (int tries = 0; !decided; tries++) {
        if (tries == REPLAY_TRIES_MAX) {
            err_set(e, ERR_UNAVAILABLE, "replay: item %s lost %d races", a.id_hex, tries);
            goto out;
        }
        if (admit_once(r, &a, &decided, out, e) < 0)
            goto out;
    }
    rc = replay_settle(r, e);
out:
    mem_free(a.meta);
    return rc;
}

/* ---- pacing and statistics ---- */

static uint64_t field(const struct redis_value *list, size_t i)
{
    return list->type == REDIS_LIST && i < list->count ? redis_u64(&list->items[i], 0) : 0;
}

/* Whether Redis has no memory for more; said once: samplers without credit only fall silent. */
static bool memory_full(struct replay *r, const struct redis_value *info)
{
    char used[32] = "", limit[32] = "";
    if (!info_field(info, "used_memory", used, sizeof used) ||
        !info_field(info, "maxmemory", limit, sizeof limit))
        return false;
    const double share = strtod(limit, NULL) > 0.0 ? strtod(used, NULL) / strtod(limit, NULL) : 0.0;
    if (share > MEMORY_FULL_RATIO && !r->told_full)
        log_event(LOG_WARN, "replay_memory_full", "used_memory=%s maxmemory=%s mend=%s", used, limit,
                  "no trajectories are asked for; raise Redis's maxmemory, or lower "
                  "replay.bytes_max or reward.cache");
    r->told_full = share > (r->told_full ? MEMORY_WELL_RATIO : MEMORY_FULL_RATIO);
    return share > MEMORY_FULL_RATIO;
}

int replay_room(struct replay *r, uint64_t *items, struct err *e)
{
    if (replay_begin(r, e) < 0)
        return -1;
    const struct replay_key stats = replay_key(r, KEY_STATS), need = replay_key(r, KEY_NEED);
    const struct replay_key epoch = replay_key(r, KEY_EPOCH);
    redis_begin(r->redis);
    redis_add(r->redis, "HMGET %s inserted sampled evicted_unused", stats.text);
    redis_add(r->redis, "GET %s", need.text);
    redis_add(r->redis, "GET %s", epoch.text);
    redis_add(r->redis, "INFO memory");
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const struct redis_value *h = redis_reply(r->redis, 0), *info = redis_reply(r->redis, 3);
    const struct replay_pace pace = {
        .samples_per_insert = r->o.samples_per_insert,
        .items_min = r->o.items_min,
        .ahead = r->o.ahead_max,
        .inserted = field(h, 0),
        .sampled = field(h, 1),
        .evicted_unused = field(h, 2),
        .need = redis_u64(redis_reply(r->redis, 1), 0),
    };
    *items = memory_full(r, info) ? 0 : replay_pace_room(&pace);
    const struct redis_value *epoch_now = redis_reply(r->redis, 2);
    if (epoch_now->type != REDIS_TEXT || strcmp(epoch_now->text, r->epoch) != 0)
        return know_epoch(r, e);
    return 0;
}

int replay_stats(struct replay *r, struct replay_stats *out, struct err *e)
{
    if (replay_begin(r, e) < 0 || know_epoch(r, e) < 0)
        return -1;
    const struct replay_key stats = replay_key(r, KEY_STATS), version = replay_key(r, KEY_VERSION);
    const struct replay_key by_insert = replay_key(r, KEY_BY_INSERT),
                            ready = replay_key(r, KEY_READY), pins = replay_key(r, KEY_PINS);
    redis_begin(r->redis);
    redis_add(
        r->redis,
        "HMGET %s bytes inserted sampled evicted_bytes evicted_age consumed duplicates conflicts "
        "evicted_unused refused_age batch_step commit_step",
        stats.text);
    redis_add(r->redis, "ZCARD %s", by_insert.text);
    redis_add(r->redis, "ZCARD %s", ready.text);
    redis_add(r->redis, "GET %s", version.text);
    redis_add(r->redis, "ZCARD %s", pins.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    const struct redis_value *h = redis_reply(r->redis, 0);
    *out = (struct replay_stats){
        .items = redis_u64(redis_reply(r->redis, 1), 0),
        .items_eligible = redis_u64(redis_reply(r->redis, 2), 0),
        .policy_version = redis_u64(redis_reply(r->redis, 3), 0),
        .items_pinned = redis_u64(redis_reply(r->redis, 4), 0),
        .bytes = field(h, 0),
        .inserted = field(h, 1),
        .sampled = field(h, 2),
        .evicted_bytes = field(h, 3),
        .evicted_age = field(h, 4),
        .consumed = field(h, 5),
        .duplicates = field(h, 6),
        .conflicts = field(h, 7),
        .evicted_unused = field(h, 8),
        .refused_age = field(h, 9),
        .batch_step = field(h, 10),
        .commit_step = field(h, 11),
    };
    memcpy(out->epoch, r->epoch, sizeof out->epoch);
    return 0;
}
