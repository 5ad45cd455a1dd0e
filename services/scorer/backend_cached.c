/* A reward whose answers are remembered: what the service said about a picture, its prompt and its metadata is taken
 * from the replay's Redis (replay_memo.h) where it is known, after a restart too; only the rest is asked.  Raw scores
 * are kept, under a key of everything that decides them: the picture's bytes, the texts, and the reward's own settings
 * (form_digest).  A Redis that is away costs calls, not answers. */
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "replay/replay_memo.h"
#include "scorer/backend.h"
#include "scorer/form.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* A batch under way. */
struct slot {
    bool used;
    uint64_t batch;
    size_t n, missing;
    struct backend_score *scores; /* owned [n] */
    struct replay_memo_key *keys; /* owned [n] */
    uint16_t *place;              /* owned [missing]: which item was asked */
};

struct cached {
    struct backend inner;
    bool open;
    struct replay *replay;
    uint64_t items_max;
    uint8_t reward[HASH_SHA256_BYTES]; /* form_digest */
    size_t slots;
    struct slot *slot; /* [slots] */
    uint64_t hits;
    bool away; /* Redis, already told */
    backend_done *done;
    void *arg;
};

/* ---- keys and texts ---- */

static void item_key(struct replay_memo_key *out, const struct cached *c, const struct backend_item *item)
{
    uint8_t digest[HASH_SHA256_BYTES];
    struct hash_sha256 h;
    hash_sha256_begin(&h);
    hash_sha256_add(&h, c->reward, sizeof c->reward);
    backend_hash_item(&h, item);
    hash_sha256_end(&h, digest);
    memcpy(out->bytes, digest, REPLAY_MEMO_KEY_BYTES);
}

static char *score_text(const struct backend_score *s)
{
    struct json *v = json_new_object(), *components = json_new_object();
    json_set_number(v, "score", s->value);
    for (uint32_t i = 0; i < s->component_count; i++)
        json_set_number(components, s->components[i].name, s->components[i].value);
    json_set(v, "components", &components);
    char *text = json_print(v, JSON_LINE, NULL);
    json_free(v);
    return text;
}

/* False for what is no such text: it is asked for again. */
static bool read_score(struct backend_score *out, const char *text)
{
    struct json *v = NULL;
    const struct json *components, *value;
    const char *name;
    struct err ignored;
    *out = (struct backend_score){0};
    bool good = json_parse(&v, text, strlen(text), REPLAY_MEMO_TEXT_BYTES_MAX, &ignored) == 0 && json_is_object(v) &&
                json_get_number(v, "score", -HUGE_VAL, HUGE_VAL, &out->value, &ignored) == 0 &&
                json_get_object(v, "components", &components, &ignored) == 0 &&
                json_count(components) <= BACKEND_COMPONENTS_MAX;
    for (void *at = NULL; good && json_next(components, &at, &name, &value);) {
        struct trajectory_component *k = &out->components[out->component_count++];
        good =
            strlen(name) < sizeof k->name && json_as_number(value, name, -HUGE_VAL, HUGE_VAL, &k->value, &ignored) == 0;
        if (good)
            memcpy(k->name, name, strlen(name) + 1);
    }
    json_free(v);
    return good;
}

/* ---- Redis ---- */

static void tell(struct cached *c, int rc, const struct err *e)
{
    if (rc < 0 && !c->away)
        log_err("score_cache_away", e);
    c->away = rc < 0;
}

static void look_up(struct cached *c, struct slot *x, bool *known)
{
    struct err e;
    char **texts = mem_new(x->n, sizeof *texts);
    const int rc = replay_memo_get(c->replay, x->keys, x->n, texts, &e);
    tell(c, rc, &e);
    for (size_t i = 0; i < x->n; i++) {
        known[i] = texts[i] != NULL && read_score(&x->scores[i], texts[i]);
        mem_free(texts[i]);
    }
    mem_free(texts);
}

static void remember(struct cached *c, const struct slot *x)
{
    struct err e;
    struct replay_memo_key *keys = mem_new(x->missing, sizeof *keys);
    char **texts = mem_new(x->missing, sizeof *texts);
    for (size_t i = 0; i < x->missing; i++) {
        keys[i] = x->keys[x->place[i]];
        texts[i] = score_text(&x->scores[x->place[i]]);
    }
    const int rc = replay_memo_put(c->replay, keys, (const char *const *)texts, x->missing, c->items_max, &e);
    tell(c, rc, &e);
    for (size_t i = 0; i < x->missing; i++)
        mem_free(texts[i]);
    mem_free(texts);
    mem_free(keys);
}

/* ---- batches ---- */

static void slot_free(struct slot *x)
{
    mem_free(x->scores);
    mem_free(x->keys);
    mem_free(x->place);
    *x = (struct slot){0};
}

static void on_inner(void *arg, const struct backend_result *r)
{
    struct cached *c = arg;
    struct backend_result result = *r;
    size_t at = 0;
    while (at < c->slots && !(c->slot[at].used && c->slot[at].batch == r->batch))
        at++;
    assert(at < c->slots);
    struct slot x = c->slot[at];
    c->slot[at] = (struct slot){0};
    if (r->failure == BACKEND_OK) {
        for (size_t i = 0; i < r->count; i++)
            x.scores[x.place[i]] = r->scores[i];
        remember(c, &x);
    }
    result.scores = x.scores;
    result.count = x.n;
    c->done(c->arg, &result);
    slot_free(&x);
}

static struct slot *free_slot(struct cached *c)
{
    for (size_t i = 0; i < c->slots; i++)
        if (!c->slot[i].used)
            return &c->slot[i];
    return NULL;
}

static int cached_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n, struct err *e)
{
    struct cached *c = self;
    struct slot *x = free_slot(c);
    bool known[BACKEND_BATCH_MAX];
    struct backend_item unknown[BACKEND_BATCH_MAX];
    assert(x != NULL && n > 0 && n <= BACKEND_BATCH_MAX);
    *x = (struct slot){.used = true,
                       .batch = batch,
                       .n = n,
                       .scores = mem_new(n, sizeof *x->scores),
                       .keys = mem_new(n, sizeof *x->keys),
                       .place = mem_new(n, sizeof *x->place)};
    for (size_t i = 0; i < n; i++)
        item_key(&x->keys[i], c, &items[i]);
    look_up(c, x, known);
    for (size_t i = 0; i < n; i++)
        if (!known[i]) {
            unknown[x->missing] = items[i];
            x->place[x->missing++] = (uint16_t)i;
        }
    c->hits += n - x->missing;
    if (x->missing > 0) {
        const int rc = c->inner.submit(c->inner.self, batch, unknown, x->missing, e);
        if (rc < 0)
            slot_free(x);
        return rc;
    }
    struct slot whole = *x;
    *x = (struct slot){0};
    c->done(c->arg, &(struct backend_result){.batch = batch, .scores = whole.scores, .count = n});
    slot_free(&whole);
    return 0;
}

static size_t cached_room(void *self)
{
    struct cached *c = self;
    return c->inner.room(c->inner.self);
}

static bool cached_ready(void *self)
{
    struct cached *c = self;
    return c->inner.ready(c->inner.self);
}

static const char *cached_waiting(void *self)
{
    struct cached *c = self;
    return c->inner.waiting(c->inner.self);
}

static uint64_t cached_bytes(void *self, size_t image_bytes)
{
    struct cached *c = self;
    const uint64_t item = sizeof(struct backend_score) + REPLAY_MEMO_KEY_BYTES + REPLAY_MEMO_TEXT_BYTES_MAX;
    return c->inner.bytes_bound(c->inner.self, image_bytes) + c->slots * BACKEND_BATCH_MAX * item;
}

static void cached_counters(void *self, struct backend_counters *out)
{
    struct cached *c = self;
    c->inner.counters(c->inner.self, out);
    out->cache_hits += c->hits;
}

static size_t cached_endpoints(void *self, struct backend_endpoint *out, size_t max)
{
    struct cached *c = self;
    return c->inner.endpoints != NULL ? c->inner.endpoints(c->inner.self, out, max) : 0;
}

static void cached_close(void *self)
{
    struct cached *c = self;
    if (c->open)
        c->inner.close(c->inner.self);
    for (size_t i = 0; c->slot != NULL && i < c->slots; i++)
        slot_free(&c->slot[i]);
    mem_free(c->slot);
    mem_free(c);
}

int backend_open_cached(struct backend *out, const struct reward_params *p, const struct backend_context *context,
                        backend_done *done, void *arg, struct err *e)
{
    struct cached *c = mem_new(1, sizeof *c);
    c->replay = context->replay;
    c->items_max = (uint64_t)p->cache;
    c->done = done;
    c->arg = arg;
    if (form_digest(c->reward, p, e) < 0 || backend_open_http(&c->inner, p, context->loop, on_inner, c, e) < 0) {
        cached_close(c);
        return -1;
    }
    c->open = true;
    c->slots = c->inner.batches_max + 1;
    c->slot = mem_new(c->slots, sizeof *c->slot);
    *out = (struct backend){.self = c,
                            .submit = cached_submit,
                            .takes_latents = c->inner.takes_latents,
                            .items_max = c->inner.items_max,
                            .batches_max = c->inner.batches_max,
                            .room = cached_room,
                            .ready = cached_ready,
                            .waiting = cached_waiting,
                            .bytes_bound = cached_bytes,
                            .counters = cached_counters,
                            .endpoints = cached_endpoints,
                            .close = cached_close};
    return 0;
}
