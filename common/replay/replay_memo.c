#include "replay/replay_memo.h"

#include "base/hash.h"
#include "base/mem.h"
#include "replay/replay_internal.h"

#include <stdio.h>
#include <string.h>

#define KEY_HEX_BYTES (2 * REPLAY_MEMO_KEY_BYTES + 1)
#define FIELDS_MAX 1024 /* of one command */

/* The newest generation; 0 where there is none yet. */
static int generation(struct replay *r, uint64_t *out, struct err *e)
{
    redis_begin(r->redis);
    redis_add(r->redis, "GET %s", replay_key(r, KEY_MEMO_NEWEST).text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    *out = redis_u64(redis_reply(r->redis, 0), 0);
    return 0;
}

static void take(const struct redis_value *list, char **texts, size_t n)
{
    for (size_t i = 0; i < n && i < list->count; i++) {
        const struct redis_value *v = &list->items[i];
        if (texts[i] == NULL && v->type == REDIS_TEXT && v->bytes <= REPLAY_MEMO_TEXT_BYTES_MAX) {
            texts[i] = mem_new(v->bytes + 1, 1);
            memcpy(texts[i], v->text, v->bytes);
        }
    }
}

static int get_some(struct replay *r, uint64_t newest, const struct replay_memo_key *keys, size_t n, char **texts,
                    struct err *e)
{
    char hex[FIELDS_MAX][KEY_HEX_BYTES];
    const char *words[FIELDS_MAX];
    for (size_t i = 0; i < n; i++) {
        hash_hex(hex[i], keys[i].bytes, REPLAY_MEMO_KEY_BYTES);
        words[i] = hex[i];
    }
    const uint64_t older = newest > 0 ? newest - 1 : 0;
    redis_begin(r->redis);
    redis_add_words(r->redis, "HMGET", replay_key_step(r, KEY_MEMO, newest).text, words, n);
    redis_add_words(r->redis, "HMGET", replay_key_step(r, KEY_MEMO, older).text, words, n);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    take(redis_reply(r->redis, 0), texts, n);
    take(redis_reply(r->redis, 1), texts, n);
    return 0;
}

int replay_memo_get(struct replay *r, const struct replay_memo_key *keys, size_t n, char **texts, struct err *e)
{
    uint64_t newest = 0;
    for (size_t i = 0; i < n; i++)
        texts[i] = NULL;
    int rc = replay_begin(r, e) < 0 ? -1 : generation(r, &newest, e);
    for (size_t at = 0; rc == 0 && at < n; at += FIELDS_MAX)
        rc = get_some(r, newest, keys + at, n - at < FIELDS_MAX ? n - at : FIELDS_MAX, texts + at, e);
    for (size_t i = 0; rc < 0 && i < n; i++) {
        mem_free(texts[i]);
        texts[i] = NULL;
    }
    return rc;
}

int replay_memo_put(struct replay *r, const struct replay_memo_key *keys, const char *const *texts, size_t n,
                    uint64_t items_max, struct err *e)
{
    uint64_t newest = 0;
    if (replay_begin(r, e) < 0 || generation(r, &newest, e) < 0)
        return -1;
    const struct replay_key key = replay_key_step(r, KEY_MEMO, newest);
    redis_begin(r->redis);
    for (size_t i = 0; i < n; i++) {
        char hex[KEY_HEX_BYTES];
        hash_hex(hex, keys[i].bytes, REPLAY_MEMO_KEY_BYTES);
        redis_add(r->redis, "HSET %s %s %s", key.text, hex, texts[i]);
    }
    redis_add(r->redis, "HLEN %s", key.text);
    if (redis_run_checked(r->redis, e) < 0)
        return -1;
    if (redis_u64(redis_reply(r->redis, n), 0) < items_max / 2)
        return 0;
    /* another writer may do the same at the same moment: the same values, so once is enough */
    redis_begin(r->redis);
    if (newest > 0)
        redis_add(r->redis, "DEL %s", replay_key_step(r, KEY_MEMO, newest - 1).text);
    redis_add(r->redis, "SET %s %llu", replay_key(r, KEY_MEMO_NEWEST).text, (unsigned long long)(newest + 1));
    return redis_run_checked(r->redis, e);
}
