/* Several rewards as one: every item goes to each reward that applies to its tag, and what they say
 * is combined once all have answered.  One that fails, fails the batch: a sum without one of its
 * terms would be another reward.
 *
 *   v_k = offset_k + scale_k score_k
 *   sum      sum of weight_k v_k
 *   product  product of v_k
 *   min      least of weight_k v_k
 *
 * v_k may be taken against the last values of its own reward, this batch's included: as a z-score, or as the share of
 * them that it is not below (ties count half).  Rewards of different units then count alike; what is trained towards
 * moves with the policy, and begins anew with the process.
 *
 * A reward of weight 0 is asked and kept as a component, and takes no part.  Where some v_k is
 * below its gate, the result is that reward's `gated` at most. */
#include "base/mem.h"
#include "base/utf8.h"
#include "scorer/backend.h"
#include "scorer/window.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct combined;

enum { NORMALISE_NONE, NORMALISE_ZSCORE, NORMALISE_PERCENTILE }; /* rewards.NAME.normalise */

struct part {
    struct combined *whole;
    const char *name;
    const struct reward_params *p;
    struct backend backend;
    struct window window; /* of v, where it is normalised */
    bool open;
};

/* A batch under way. */
struct slot {
    bool used, abandoned; /* abandoned: its submission failed half way, answers are dropped */
    uint64_t batch;
    size_t n, missing;            /* parts that have not answered */
    struct backend_score *scores; /* owned [parts][n] */
    uint16_t *place;              /* owned [parts][n]: which item the part's i-th is */
    size_t *count;                /* owned [parts] */
    bool *asked;                  /* owned [parts][n] */
    double seconds; /* of the slowest part */
    enum backend_failure failure;
    char reason[BACKEND_REASON_BYTES_MAX];
};

struct combined {
    enum backend_combination how;
    size_t parts;
    struct part part[CONFIG_COPIES_MAX];
    size_t slots;
    struct slot *slot; /* [slots] */
    struct backend_score out[BACKEND_BATCH_MAX];
    backend_done *done;
    void *arg;
};

static bool applies(const struct reward_params *p, const char *tag)
{
    char item[CONFIG_TEXT_BYTES_MAX];
    if (p->tags[0] == 0)
        return true;
    for (const char *at = p->tags; config_list_next(&at, item, sizeof item);)
        if (strcmp(item, tag) == 0)
            return true;
    return false;
}

static void add_component(struct backend_score *s, const char *part, const char *name, double value)
{
    if (s->component_count == BACKEND_COMPONENTS_MAX)
        return;
    struct trajectory_component *c = &s->components[s->component_count++];
    snprintf(c->name, sizeof c->name, "%.20s%s%.*s", part, name[0] != 0 ? "." : "", (int)utf8_fit(name, 24), name);
    c->value = value;
}

static double value_of(const struct reward_params *p, const struct backend_score *s)
{
    return p->offset + p->scale * s->value;
}

/* The values of a slot into the windows of their rewards, before any of them is taken against them. */
static void fill_windows(struct combined *c, const struct slot *x)
{
    for (size_t k = 0; k < c->parts; k++)
        for (size_t i = 0; c->part[k].p->normalise != NORMALISE_NONE && i < x->n; i++)
            if (x->asked[k * x->n + i])
                window_add(&c->part[k].window, value_of(c->part[k].p, &x->scores[k * x->n + i]));
}

/* Item i of a slot whose parts have all answered. */
static void combine(struct backend_score *out, const struct combined *c, const struct slot *x,
                    size_t i)
{
    double total = c->how == COMBINE_PRODUCT ? 1.0 : c->how == COMBINE_MIN ? HUGE_VAL : 0.0;
    double bound = HUGE_VAL;
    *out = (struct backend_score){0};
    for (size_t k = 0; k < c->parts; k++) {
        const struct reward_params *p = c->part[k].p;
        const struct backend_score *s = &x->scores[k * x->n + i];
        if (!x->asked[k * x->n + i])
            continue;
        const double v = value_of(p, s);
        const double w = p->normalise == NORMALISE_ZSCORE       ? window_zscore(&c->part[k].window, v)
                         : p->normalise == NORMALISE_PERCENTILE ? window_share(&c->part[k].window, v)
                                                                : v;
        add_component(out, c->part[k].name, "", v);
        for (uint32_t m = 0; m < s->component_count; m++)
            add_component(out, c->part[k].name, s->components[m].name, s->components[m].value);
        if (v < p->gate)
            bound = fmin(bound, p->gated);
        if (p->weight == 0.0)
            continue;
        switch (c->how) {
        case COMBINE_SUM:
            total += p->weight * w;
            break;
        case COMBINE_PRODUCT:
            total *= w;
            break;
        case COMBINE_MIN:
            total = fmin(total, p->weight * w);
            break;
        }
    }
    out->value = fmin(total, bound);
}

static void slot_free(struct slot *x)
{
    mem_free(x->scores);
    mem_free(x->place);
    mem_free(x->count);
    mem_free(x->asked);
    *x = (struct slot){0};
}

static void finish(struct combined *c, struct slot *x)
{
    struct backend_result r = {.batch = x->batch,
                               .failure = x->failure,
                               .scores = c->out,
                               .count = x->n,
                               .seconds = x->seconds};
    memcpy(r.reason, x->reason, sizeof r.reason);
    if (r.failure == BACKEND_OK)
        fill_windows(c, x);
    for (size_t i = 0; r.failure == BACKEND_OK && i < x->n; i++) {
        combine(&c->out[i], c, x, i);
        if (!isfinite(c->out[i].value)) {
            r.failure = BACKEND_ANSWER;
            snprintf(r.reason, sizeof r.reason, "the combined reward is %g", c->out[i].value);
        }
    }
    const bool abandoned = x->abandoned;
    slot_free(x);
    if (!abandoned)
        c->done(c->arg, &r);
}

static void on_part(void *arg, const struct backend_result *r)
{
    struct part *part = arg;
    struct combined *c = part->whole;
    const size_t k = (size_t)(part - c->part);
    size_t at = 0;
    while (at < c->slots && !(c->slot[at].used && c->slot[at].batch == r->batch))
        at++;
    assert(at < c->slots);
    struct slot *x = &c->slot[at];
    x->seconds = fmax(x->seconds, r->seconds);
    if (r->failure == BACKEND_OK) {
        assert(r->count == x->count[k]);
        for (size_t i = 0; i < r->count; i++)
            x->scores[k * x->n + x->place[k * x->n + i]] = r->scores[i];
    } else if (x->failure == BACKEND_OK) {
        x->failure = r->failure;
        snprintf(x->reason, sizeof x->reason, "%.60s: %.130s", part->name, r->reason);
    }
    if (--x->missing == 0)
        finish(c, x);
}

static struct slot *free_slot(struct combined *c)
{
    for (size_t i = 0; i < c->slots; i++)
        if (!c->slot[i].used)
            return &c->slot[i];
    return NULL;
}

/* Which items part k is asked about. */
static void choose(const struct combined *c, struct slot *x, size_t k,
                   const struct backend_item *items)
{
    for (size_t i = 0; i < x->n; i++)
        if (applies(c->part[k].p, items[i].tag)) {
            x->asked[k * x->n + i] = true;
            x->place[k * x->n + x->count[k]++] = (uint16_t)i;
        }
}

/* Every item needs a reward that counts. */
static int check_covered(const struct combined *c, const struct slot *x,
                         const struct backend_item *items, struct err *e)
{
    for (size_t i = 0; i < x->n; i++) {
        bool covered = false;
        for (size_t k = 0; k < c->parts; k++)
            covered |= x->asked[k * x->n + i] && c->part[k].p->weight != 0.0;
        if (!covered)
            return err_set(e, ERR_INVALID, "no reward is meant for prompts of the tag '%.32s'",
                           items[i].tag);
    }
    return 0;
}

static int combined_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n,
                           struct err *e)
{
    struct combined *c = self;
    struct slot *x = free_slot(c);
    struct backend_item chosen[BACKEND_BATCH_MAX];
    assert(x != NULL && n > 0 && n <= BACKEND_BATCH_MAX);
    *x = (struct slot){.used = true,
                       .batch = batch,
                       .n = n,
                       .missing = c->parts + 1, /* this submission is one of them */
                       .scores = mem_new(c->parts * n, sizeof *x->scores),
                       .place = mem_new(c->parts * n, sizeof *x->place),
                       .count = mem_new(c->parts, sizeof *x->count),
                       .asked = mem_new(c->parts * n, sizeof *x->asked)};
    for (size_t k = 0; k < c->parts; k++)
        choose(c, x, k, items);
    int rc = check_covered(c, x, items, e);
    for (size_t k = 0; k < c->parts; k++) {
        const struct part *part = &c->part[k];
        const size_t count = x->count[k];
        if (rc == 0 && count > 0) {
            for (size_t i = 0; i < count; i++)
                chosen[i] = items[x->place[k * n + i]];
            rc = part->backend.submit(part->backend.self, batch, chosen, count, e);
            if (rc == 0)
                continue; /* it will answer, or has */
            err_wrap(e, "%s", part->name);
        }
        x->missing--;
    }
    x->abandoned = rc < 0;
    if (--x->missing == 0)
        finish(c, x);
    return rc;
}

static size_t combined_room(void *self)
{
    struct combined *c = self;
    size_t room = 0;
    for (size_t i = 0; i < c->slots; i++)
        room += !c->slot[i].used;
    for (size_t k = 0; k < c->parts; k++) {
        const size_t of_part = c->part[k].backend.room(c->part[k].backend.self);
        room = of_part < room ? of_part : room;
    }
    return room;
}

static bool combined_ready(void *self)
{
    struct combined *c = self;
    for (size_t k = 0; k < c->parts; k++)
        if (!c->part[k].backend.ready(c->part[k].backend.self))
            return false;
    return true;
}

/* Of the first that is not ready. */
static const char *combined_waiting(void *self)
{
    struct combined *c = self;
    for (size_t k = 0; k < c->parts; k++) {
        const struct backend *b = &c->part[k].backend;
        if (!b->ready(b->self))
            return b->waiting(b->self);
    }
    return "";
}

static uint64_t combined_bytes(void *self, size_t image_bytes)
{
    struct combined *c = self;
    uint64_t bytes =
        sizeof *c + c->slots * BACKEND_BATCH_MAX * c->parts * sizeof(struct backend_score);
    for (size_t k = 0; k < c->parts; k++)
        bytes += c->part[k].backend.bytes_bound(c->part[k].backend.self, image_bytes) +
                 c->part[k].window.room * sizeof(double);
    return bytes;
}

static void combined_counters(void *self, struct backend_counters *out)
{
    struct combined *c = self;
    *out = (struct backend_counters){0};
    for (size_t k = 0; k < c->parts; k++) {
        struct backend_counters one;
        c->part[k].backend.counters(c->part[k].backend.self, &one);
        out->calls += one.calls;
        out->retries += one.retries;
        out->hedges += one.hedges;
        out->cache_hits += one.cache_hits;
        for (int i = 0; i < BACKEND_FAILURES; i++)
            out->failures[i] += one.failures[i];
    }
}

static size_t combined_endpoints(void *self, struct backend_endpoint *out, size_t max)
{
    struct combined *c = self;
    size_t n = 0;
    for (size_t k = 0; k < c->parts; k++) {
        const struct backend *b = &c->part[k].backend;
        const size_t from = n;
        n += b->endpoints != NULL ? b->endpoints(b->self, out + n, max - n) : 0;
        for (size_t i = from; i < n; i++)
            out[i].reward = c->part[k].name;
    }
    return n;
}

static void combined_close(void *self)
{
    struct combined *c = self;
    for (size_t k = 0; k < c->parts; k++) {
        if (c->part[k].open)
            c->part[k].backend.close(c->part[k].backend.self);
        window_done(&c->part[k].window);
    }
    for (size_t i = 0; c->slot != NULL && i < c->slots; i++)
        slot_free(&c->slot[i]);
    mem_free(c->slot);
    mem_free(c);
}

static int check_weight(const struct reward_params *p, enum backend_combination how, struct err *e)
{
    return how != COMBINE_PRODUCT || p->weight == 0.0 || p->weight == 1.0
               ? 0
               : err_set(e, ERR_INVALID, "weight %g means nothing in a product: 1 or 0", p->weight);
}

int backend_check_combined(const struct config_copies *rewards, enum backend_combination how, struct err *e)
{
    const struct reward_params *p = rewards->items;
    for (size_t k = 0; k < rewards->count; k++)
        if (check_weight(&p[k], how, e) < 0 || backend_check(&p[k], e) < 0)
            return err_wrap(e, "rewards.%s", rewards->names[k]);
    return 0;
}

int backend_open_combined(struct backend *out, const struct config_copies *rewards,
                          enum backend_combination how, const struct backend_context *context,
                          backend_done *done, void *arg, struct err *e)
{
    struct combined *c = mem_new(1, sizeof *c);
    const struct reward_params *p = rewards->items;
    size_t items_max = BACKEND_BATCH_MAX;
    bool computes = false;
    c->how = how;
    c->done = done;
    c->arg = arg;
    for (size_t k = 0; k < rewards->count; k++) {
        struct part *part = &c->part[c->parts++];
        *part = (struct part){.whole = c, .name = rewards->names[k], .p = &p[k]};
        if (check_weight(&p[k], how, e) < 0)
            goto fail;
        if (backend_open(&part->backend, &p[k], context, on_part, part, e) < 0)
            goto fail;
        part->open = true;
        if (part->backend.takes_latents != c->part[0].backend.takes_latents) {
            err_set(e, ERR_INVALID, "it takes %s and rewards.%s does not: all rewards of a run take the same",
                    part->backend.takes_latents ? "latents" : "pictures", rewards->names[0]);
            goto fail;
        }
        if (p[k].normalise != NORMALISE_NONE)
            window_init(&part->window, (size_t)p[k].window);
        items_max = part->backend.items_max < items_max ? part->backend.items_max : items_max;
        c->slots += part->backend.batches_max;
        computes = computes || part->backend.endpoints == NULL;
    }
    c->slot = mem_new(c->slots, sizeof *c->slot);
    *out = (struct backend){.self = c,
                            .submit = combined_submit,
                            .takes_latents = rewards->count > 0 && c->part[0].backend.takes_latents,
                            .computes = computes,
                            .items_max = items_max,
                            .batches_max = c->slots,
                            .room = combined_room,
                            .ready = combined_ready,
                            .waiting = combined_waiting,
                            .bytes_bound = combined_bytes,
                            .counters = combined_counters,
                            .endpoints = combined_endpoints,
                            .close = combined_close};
    return 0;
fail:
    err_wrap(e, "rewards.%s", rewards->names[c->parts - 1]);
    combined_close(c);
    return -1;
}
