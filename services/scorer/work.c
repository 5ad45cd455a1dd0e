#include "scorer/work.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct ref { /* one image of one trajectory; NULL: that trajectory is gone */
    struct work_item *item;
    size_t image;
};

struct batch {
    uint64_t number;
    size_t count;
    struct ref *refs; /* owned [count] */
};

struct work {
    double scale, offset;
    size_t count, room;
    struct work_item **items; /* in order of arrival */
    uint64_t batch_next;
    size_t batch_count, batch_room;
    struct batch *batches;
};

struct work *work_new(double scale, double offset)
{
    struct work *w = mem_new(1, sizeof *w);
    w->scale = scale;
    w->offset = offset;
    w->batch_next = 1;
    return w;
}

static void item_free(struct work_item *item)
{
    trajectory_free(item->trajectory);
    mem_free(item->scores);
    mem_free(item);
}

void work_free(struct work *w)
{
    if (w == NULL)
        return;
    for (size_t i = 0; i < w->count; i++)
        item_free(w->items[i]);
    for (size_t i = 0; i < w->batch_count; i++)
        mem_free(w->batches[i].refs);
    mem_free(w->items);
    mem_free(w->batches);
    mem_free(w);
}

size_t work_count(const struct work *w)
{
    return w->count;
}

struct work_item *work_at(struct work *w, size_t i)
{
    assert(i < w->count);
    return w->items[i];
}

struct work_item *work_find(struct work *w, const uint8_t id[TRAJECTORY_ID_BYTES])
{
    for (size_t i = 0; i < w->count; i++)
        if (memcmp(w->items[i]->trajectory->id, id, TRAJECTORY_ID_BYTES) == 0)
            return w->items[i];
    return NULL;
}

struct work_item *work_add(struct work *w, struct trajectory **t, enum work_state state)
{
    if (w->count == w->room) {
        w->room = w->room == 0 ? 64 : 2 * w->room;
        w->items = mem_grow(w->items, w->room, sizeof *w->items);
    }
    struct work_item *item = mem_new(1, sizeof *item);
    item->state = state;
    item->trajectory = *t;
    item->images = trajectory_image_count(*t) + 1;
    item->scores = mem_new(item->images, sizeof *item->scores);
    w->items[w->count++] = item;
    *t = NULL;
    return item;
}

void work_remove(struct work *w, size_t i)
{
    assert(i < w->count);
    struct work_item *item = w->items[i];
    for (size_t b = 0; b < w->batch_count; b++)
        for (size_t k = 0; k < w->batches[b].count; k++)
            if (w->batches[b].refs[k].item == item)
                w->batches[b].refs[k].item = NULL;
    item_free(item);
    memmove(&w->items[i], &w->items[i + 1], (w->count - i - 1) * sizeof *w->items);
    w->count--;
}

size_t work_waiting(const struct work *w)
{
    size_t n = 0;
    for (size_t i = 0; i < w->count; i++)
        if (w->items[i]->state == WORK_SCORING)
            n += w->items[i]->images - w->items[i]->submitted;
    return n;
}

/* ---- batches ---- */

static const uint8_t *image_of(const struct trajectory *t, size_t image)
{
    const size_t bytes = trajectory_image_bytes(t);
    return image == trajectory_image_count(t) ? t->final_image : t->images + image * bytes;
}

static bool same_size(const struct trajectory *a, const struct trajectory *b)
{
    return a->undecoded == b->undecoded && a->image_height == b->image_height && a->image_width == b->image_width &&
           a->latent_height == b->latent_height && a->latent_width == b->latent_width &&
           a->latent_channels == b->latent_channels;
}

size_t work_batch(struct work *w, struct backend_item *items, size_t max, uint64_t bytes_max,
                  uint64_t *batch)
{
    const struct work_item *first = NULL;
    struct ref *refs = mem_new(max, sizeof *refs);
    size_t n = 0;
    for (size_t i = 0; i < w->count && n < max; i++) {
        struct work_item *item = w->items[i];
        const struct trajectory *t = item->trajectory;
        if (item->state != WORK_SCORING || item->submitted == item->images)
            continue;
        if (first != NULL && (first->alone || item->alone || !same_size(first->trajectory, t)))
            continue;
        if (first == NULL) {
            const uint64_t bytes = trajectory_image_bytes(t);
            first = item;
            if (max > bytes_max / bytes)
                max = bytes_max >= bytes ? (size_t)(bytes_max / bytes) : 1;
        }
        for (; item->submitted < item->images && n < max; n++) {
            const uint8_t *const image = image_of(t, item->submitted);
            items[n] = (struct backend_item){.rgb = t->undecoded ? NULL : image,
                                             .height = t->image_height,
                                             .width = t->image_width,
                                             .latent = t->undecoded ? image : NULL,
                                             .latent_height = t->latent_height,
                                             .latent_width = t->latent_width,
                                             .latent_channels = t->latent_channels,
                                             .prompt = t->prompt,
                                             .metadata = t->metadata,
                                             .tag = t->tag};
            refs[n] = (struct ref){item, item->submitted++};
        }
    }
    if (n == 0) {
        mem_free(refs);
        return 0;
    }
    if (w->batch_count == w->batch_room) {
        w->batch_room = w->batch_room == 0 ? 16 : 2 * w->batch_room;
        w->batches = mem_grow(w->batches, w->batch_room, sizeof *w->batches);
    }
    *batch = w->batch_next++;
    w->batches[w->batch_count++] = (struct batch){*batch, n, refs};
    return n;
}

static void set_rewards(const struct work *w, struct work_item *item)
{
    struct trajectory *t = item->trajectory;
    const struct backend_score *final = &item->scores[item->images - 1];
    t->reward = w->offset + w->scale * final->value;
    t->component_count = 1 + final->component_count;
    snprintf(t->components[0].name, sizeof t->components[0].name, "raw");
    t->components[0].value = final->value;
    memcpy(&t->components[1], final->components,
           final->component_count * sizeof *final->components);
    size_t image = 0;
    for (uint32_t i = 0; i < t->state_count; i++) {
        struct trajectory_state *s = &t->states[i];
        if (s->terminal)
            s->reward = t->reward;
        else if (s->has_image)
            s->reward = w->offset + w->scale * item->scores[image].value;
        else
            s->reward = 0.0; /* no forward-looking term at this state: the objective's psi is 0 */
        image += s->has_image;
    }
    item->state = WORK_SCORED;
    /* A scale that is too large for the score is the settings' fault, and still no number. */
    bool finite = isfinite(t->reward);
    for (uint32_t i = 0; i < t->state_count; i++)
        finite = finite && isfinite(t->states[i].reward);
    if (!finite) {
        item->state = WORK_FAILED;
        item->failure = BACKEND_ANSWER;
        snprintf(item->reason, sizeof item->reason,
                 "reward.scale and reward.offset make it infinite");
    }
}

static void keep_scores(struct work *w, const struct batch *b, const struct backend_result *r)
{
    assert(r->count == b->count);
    for (size_t i = 0; i < b->count; i++) {
        struct work_item *item = b->refs[i].item;
        if (item == NULL || item->state != WORK_SCORING)
            continue;
        item->scores[b->refs[i].image] = r->scores[i];
        if (++item->scored == item->images)
            set_rewards(w, item);
    }
}

/* More than one trajectory in it, that could be at fault or not. */
static bool is_mixed(const struct batch *b)
{
    for (size_t i = 1; i < b->count; i++)
        if (b->refs[i].item != b->refs[0].item)
            return true;
    return false;
}

static void fail(const struct batch *b, const struct backend_result *r)
{
    const bool cut =
        is_mixed(b) && (r->failure == BACKEND_REFUSED || r->failure == BACKEND_ANSWER ||
                        r->failure == BACKEND_INPUT || r->failure == BACKEND_TOO_LARGE ||
                        r->failure == BACKEND_SERVER);
    for (size_t i = 0; i < b->count; i++) {
        struct work_item *item = b->refs[i].item;
        if (item == NULL || item->state != WORK_SCORING)
            continue;
        if (cut) {
            /* From the first image on: answers of other batches that are still out find it
             * restarted. */
            item->alone = true;
            item->submitted = item->scored = 0;
            continue;
        }
        item->state = WORK_FAILED;
        item->failure = r->failure;
        snprintf(item->reason, sizeof item->reason, "%s", r->reason);
    }
}

/* A restarted item takes nothing from batches made before. */
static void forget_restarted(struct work *w, const struct batch *b)
{
    for (size_t i = 0; i < b->count; i++) {
        const struct work_item *item = b->refs[i].item;
        if (item == NULL || !item->alone || item->submitted != 0)
            continue;
        for (size_t k = 0; k < w->batch_count; k++)
            for (size_t m = 0; m < w->batches[k].count; m++)
                if (w->batches[k].refs[m].item == item)
                    w->batches[k].refs[m].item = NULL;
    }
}

void work_done(struct work *w, const struct backend_result *r)
{
    size_t at = 0;
    while (at < w->batch_count && w->batches[at].number != r->batch)
        at++;
    assert(at < w->batch_count);
    const struct batch b = w->batches[at];
    memmove(&w->batches[at], &w->batches[at + 1], (w->batch_count - at - 1) * sizeof *w->batches);
    w->batch_count--;
    if (r->failure == BACKEND_OK) {
        keep_scores(w, &b, r);
    } else {
        fail(&b, r);
        forget_restarted(w, &b);
    }
    mem_free(b.refs);
}
