#include "scorer/backend.h"

#include "base/mem.h"
#include "rewards/rewards.h"
#include "shapes/judge.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Rewards computed in this process, at once: submit completes before it returns. */
struct builtin {
    struct judge *judge; /* NULL: `kind` */
    bool colour;         /* the judge's reward of a colour alone */
    enum reward_kind kind;
    double score_min, score_max;
    backend_done *done;
    void *arg;
    struct backend_counters counters;
    struct backend_score scores[BACKEND_BATCH_MAX];
};

static void add_component(struct backend_score *s, const char *name, double value)
{
    struct trajectory_component *c = &s->components[s->component_count++];
    snprintf(c->name, sizeof c->name, "%s", name);
    c->value = value;
}

static int score_shapes(struct builtin *b, struct backend_score *s, const struct backend_item *item,
                        struct err *e)
{
    struct caption_spec spec;
    struct judge_view view;
    struct judge_verdict v;
    if (item->height != WORLD_SIDE || item->width != WORLD_SIDE)
        return err_set(e, ERR_INVALID, "the shapes judge reads %dx%d pictures, not %ux%u",
                       WORLD_SIDE, WORLD_SIDE, item->width, item->height);
    if (b->colour) {
        judge_look(b->judge, &view, item->rgb);
        s->value = judge_colour_reward(&view);
        return 0;
    }
    if (caption_parse(&spec, item->prompt, e) < 0)
        return err_wrap(e, "prompt is no caption of the shapes world");
    judge_look(b->judge, &view, item->rgb);
    judge_score(&v, &view, &spec);
    s->value = v.soft;
    add_component(s, "strict", v.strict);
    add_component(s, "count", v.count);
    add_component(s, "shape", v.shape);
    add_component(s, "colour", v.colour);
    add_component(s, "size", v.size);
    add_component(s, "position", v.position);
    add_component(s, "background", v.background);
    return 0;
}

static int score_one(struct builtin *b, struct backend_score *s, const struct backend_item *item,
                     struct err *e)
{
    *s = (struct backend_score){0};
    if (b->judge != NULL)
        return score_shapes(b, s, item, e);
    const struct image image = {.width = (int)item->width,
                                .height = (int)item->height,
                                .rgb = (uint8_t *)(uintptr_t)item->rgb}; /* read only */
    return reward_of(&s->value, b->kind, &image, e);
}

static int builtin_submit(void *self, uint64_t batch, const struct backend_item *items, size_t n,
                          struct err *e)
{
    struct builtin *b = self;
    struct backend_result result = {.batch = batch, .scores = b->scores, .count = n};
    (void)e;
    b->counters.calls++;
    for (size_t i = 0; i < n && result.failure == BACKEND_OK; i++) {
        struct err why = {0};
        struct backend_score *s = &b->scores[i];
        if (score_one(b, s, &items[i], &why) < 0) {
            result.failure = BACKEND_INPUT;
            snprintf(result.reason, sizeof result.reason, "%.180s", why.text);
        } else {
            backend_bound_score(&result, s->value, b->score_min, b->score_max);
        }
    }
    b->counters.failures[result.failure]++;
    b->done(b->arg, &result);
    return 0;
}

static size_t builtin_room(void *self)
{
    (void)self;
    return 1;
}

static bool builtin_ready(void *self)
{
    (void)self;
    return true;
}

static uint64_t builtin_bytes(void *self, size_t image_bytes)
{
    (void)image_bytes;
    (void)self;
    return sizeof(struct builtin) + (256u << 10);
}

static void builtin_counters(void *self, struct backend_counters *out)
{
    *out = ((struct builtin *)self)->counters;
}

static void builtin_close(void *self)
{
    struct builtin *b = self;
    judge_free(b->judge);
    mem_free(b);
}

int backend_open_builtin(struct backend *out, const struct reward_params *p, backend_done *done,
                         void *arg, struct err *e)
{
    const char *name = p->backend + strlen(BACKEND_BUILTIN_PREFIX);
    struct builtin *b = mem_new(1, sizeof *b);
    b->score_min = p->score_min;
    b->score_max = p->score_max;
    b->done = done;
    b->arg = arg;
    b->colour = strcmp(name, "shapes_colour") == 0;
    if (b->colour || strcmp(name, "shapes") == 0) {
        b->judge = judge_new();
    } else if (reward_kind_of(&b->kind, name, e) < 0) {
        mem_free(b);
        return err_wrap(e,
                        "reward.backend %s (more: builtin:shapes, builtin:shapes_colour; with reward.clip builtin:aesthetic, "
                        "builtin:clipscore, builtin:pickscore, builtin:hpsv2)",
                        p->backend);
    }
    *out = (struct backend){.self = b,
                            .submit = builtin_submit,
                            .items_max = BACKEND_BATCH_MAX,
                            .batches_max = 1,
                            .room = builtin_room,
                            .ready = builtin_ready,
                            .bytes_bound = builtin_bytes,
                            .counters = builtin_counters,
                            .close = builtin_close};
    return 0;
}
