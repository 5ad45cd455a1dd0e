#include "shapes/scene.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static double between(struct rng *g, double low, double high)
{
    return low + (high - low) * rng_uniform(g);
}

static int below(struct rng *g, int n)
{
    return (int)rng_below(g, (uint64_t)n);
}

/* ---- colours
 * ------------------------------------------------------------------------------------- */

static struct lab jittered(struct lab c, struct rng *g)
{
    c.l += (float)between(g, -WORLD_JITTER, WORLD_JITTER);
    c.a += (float)between(g, -WORLD_JITTER, WORLD_JITTER);
    c.b += (float)between(g, -WORLD_JITTER, WORLD_JITTER);
    return c;
}

/* A background on which every colour that the caption says can be seen. */
static enum world_background background_draw(const struct caption_spec *spec, struct rng *g)
{
    struct caption_spec tried = *spec;
    if (spec->background == CAPTION_FREE)
        do
            tried.background = below(g, BACKGROUND_COUNT);
        while (caption_check(&tried, NULL) < 0);
    return (enum world_background)tried.background;
}

static void draw_backdrop(struct scene *s, const struct caption_spec *spec, struct rng *g)
{
    s->background = background_draw(spec, g);
    s->texture =
        spec->texture != CAPTION_FREE ? (enum world_texture)spec->texture : caption_draw_texture(g);
    s->back = jittered(world_background_lab(s->background), g);
    s->direction = below(g, s->texture == TEXTURE_GRADIENT ? 4 : 2);
    s->phase_x = below(g, 2 * (s->texture == TEXTURE_STRIPED ? WORLD_STRIPE_PX : WORLD_CHECK_PX));
    s->phase_y = below(g, 2 * WORLD_CHECK_PX);
}

static enum world_colour colour_draw(const struct scene *s, struct rng *g)
{
    enum world_colour c;
    do
        c = (enum world_colour)below(g, COLOUR_COUNT);
    while (!world_colour_visible(c, s->background));
    return c;
}

static void draw_colour(struct world_object *o, const struct scene *s, struct rng *g)
{
    do
        o->lab = jittered(world_colour_lab(o->colour), g);
    while (lab_distance_range(o->lab, s->back, WORLD_TONE) < WORLD_CONTRAST_MIN);
}

/* ---- places
 * -------------------------------------------------------------------------------------- */

/* Where the centroid may be for the whole object to stay inside the frame. */
static struct world_range range_x(const struct world_object *o)
{
    const double reach = world_shape_extent(o->shape).side * o->radius + SCENE_MARGIN_PX;
    return (struct world_range){reach, WORLD_SIDE - reach};
}

static struct world_range range_y(const struct world_object *o)
{
    const struct world_extent e = world_shape_extent(o->shape);
    return (struct world_range){e.up * o->radius + SCENE_MARGIN_PX,
                                WORLD_SIDE - e.down * o->radius - SCENE_MARGIN_PX};
}

static bool apart(const struct world_object *p, const struct world_object *q)
{
    const struct world_extent a = world_shape_extent(p->shape), b = world_shape_extent(q->shape);
    const double dx = q->x - p->x, dy = q->y - p->y, gap = SCENE_GAP_PX - 1e-9;
    if (fabs(dx) >= a.side * p->radius + b.side * q->radius + gap)
        return true;
    if ((dy > 0.0 ? a.down * p->radius + b.up * q->radius : a.up * p->radius + b.down * q->radius) +
            gap <=
        fabs(dy))
        return true;
    return sqrt(dx * dx + dy * dy) >= a.around * p->radius + b.around * q->radius + gap;
}

static void place_one(struct world_object *o, int place, struct rng *g)
{
    struct world_range x = range_x(o), y = range_y(o);
    if (place != CAPTION_FREE) {
        const struct world_range cx = world_cell_range(place % 3), cy = world_cell_range(place / 3);
        x = (struct world_range){fmax(x.low, cx.low), fmin(x.high, cx.high)};
        y = (struct world_range){fmax(y.low, cy.low), fmin(y.high, cy.high)};
        assert(x.low <= x.high && y.low <= y.high);
    }
    o->x = between(g, x.low, x.high);
    o->y = between(g, y.low, y.high);
}

/* Draws radii towards the low end of their class; used where the objects do not fit. */
static void shrink(struct scene *s, const struct caption_spec *spec)
{
    for (int i = 0; i < s->count; i++) {
        const double low = world_size_range(caption_object(spec, i)->size).low;
        s->object[i].radius = low + 0.7 * (s->object[i].radius - low);
    }
}

static bool place_at_random(struct scene *s, struct rng *g)
{
    for (int i = 0; i < s->count; i++) {
        place_one(&s->object[i], CAPTION_FREE, g);
        for (int k = 0; k < i; k++)
            if (!apart(&s->object[k], &s->object[i]))
                return false;
    }
    return true;
}

/* One object to a quarter of the frame: the way out where chance finds no room for three or four.
 */
static void place_in_quarters(struct scene *s, struct rng *g)
{
    const double side = WORLD_SIDE / 2.0 - SCENE_MARGIN_PX - SCENE_GAP_PX / 2.0;
    uint32_t quarter[4];
    rng_permutation(g, quarter, 4);
    for (int i = 0; i < s->count; i++) {
        struct world_object *o = &s->object[i];
        const struct world_extent e = world_shape_extent(o->shape);
        o->radius = fmin(o->radius, side / fmax(2.0 * e.side, e.up + e.down));
        const double left =
            quarter[i] % 2 == 0 ? SCENE_MARGIN_PX : WORLD_SIDE - SCENE_MARGIN_PX - side;
        const double top =
            quarter[i] / 2 == 0 ? SCENE_MARGIN_PX : WORLD_SIDE - SCENE_MARGIN_PX - side;
        o->x = between(g, left + e.side * o->radius, left + side - e.side * o->radius);
        o->y = between(g, top + e.up * o->radius, top + side - e.down * o->radius);
    }
}

/* Along one axis: the first object before the second with a gap between them.  False: no room. */
static bool place_along(double *first, double *second, struct world_range a, struct world_range b,
                        double apart_by, struct rng *g)
{
    const double room = b.high - a.low - apart_by;
    if (room < 0.0)
        return false;
    double u = rng_uniform(g), v = rng_uniform(g);
    if (u > v) {
        const double t = u;
        u = v;
        v = t;
    }
    *first = a.low + u * room;
    *second = a.low + apart_by + v * room;
    return true;
}

/* The object `low` stands left of (or above) `high`, within 30 degrees of the axis. */
static bool place_related(struct world_object *low, struct world_object *high, bool upright,
                          struct rng *g)
{
    const struct world_extent a = world_shape_extent(low->shape),
                              b = world_shape_extent(high->shape);
    const double room = SCENE_GAP_PX + (upright ? a.down * low->radius + b.up * high->radius
                                                : a.side * low->radius + b.side * high->radius);
    if (upright ? !place_along(&low->y, &high->y, range_y(low), range_y(high), room, g)
                : !place_along(&low->x, &high->x, range_x(low), range_x(high), room, g))
        return false;
    const double step = upright ? high->y - low->y : high->x - low->x;
    const struct world_range r = upright ? range_x(low) : range_y(low);
    const struct world_range q = upright ? range_x(high) : range_y(high);
    const double at = between(g, r.low, r.high);
    const double least = fmax(q.low, at - 0.6 * step), most = fmin(q.high, at + 0.6 * step);
    if (least > most)
        return false;
    const double other = between(g, least, most);
    *(upright ? &low->x : &low->y) = at;
    *(upright ? &high->x : &high->y) = other;
    return true;
}

static void place_pair(struct scene *s, const struct caption_spec *spec, int relation,
                       struct rng *g)
{
    const bool first_low = relation == RELATION_LEFT || relation == RELATION_ABOVE;
    struct world_object *low = &s->object[first_low ? 0 : 1], *high = &s->object[first_low ? 1 : 0];
    for (int tries = 1; !place_related(low, high, relation >= RELATION_ABOVE, g); tries++) {
        assert(tries < 1000); /* at the low end of the large class there is room for any two */
        shrink(s, spec);
    }
}

static void place_group(struct scene *s, const struct caption_spec *spec, struct rng *g)
{
    for (int tries = 1; tries <= 60; tries++) {
        if (place_at_random(s, g))
            return;
        if (tries % 10 == 0)
            shrink(s, spec);
    }
    if (s->count == 2)
        place_pair(s, spec, below(g, RELATION_COUNT), g);
    else
        place_in_quarters(s, g);
}

/* ---- scenes
 * -------------------------------------------------------------------------------------- */

void scene_draw(struct scene *s, const struct caption_spec *spec, struct rng *g)
{
    struct caption_spec drawn = *spec;
    if (drawn.kind == CAPTION_EMPTY)
        caption_draw(&drawn, g);
    assert(caption_check(&drawn, NULL) == 0);
    memset(s, 0, sizeof *s);
    draw_backdrop(s, &drawn, g);
    s->count = drawn.count;
    for (int i = 0; i < s->count; i++) {
        const struct caption_object *c = caption_object(&drawn, i);
        struct world_object *o = &s->object[i];
        const struct world_range r = world_size_range(c->size);
        o->shape = (enum world_shape)c->shape;
        o->radius = between(g, r.low, r.high);
        if (c->colour != CAPTION_FREE)
            o->colour = (enum world_colour)c->colour;
        else if (drawn.kind == CAPTION_COUNTED && i > 0)
            o->colour = s->object[0].colour;
        else
            o->colour = colour_draw(s, g);
        draw_colour(o, s, g);
    }
    if (drawn.kind == CAPTION_RELATED)
        place_pair(s, &drawn, drawn.relation, g);
    else if (s->count == 1)
        place_one(&s->object[0], drawn.place, g);
    else
        place_group(s, &drawn, g);
}

void scene_pair(struct scene *s, struct caption_spec *spec, uint64_t seed, uint64_t index)
{
    struct rng g = rng_stream(seed, index, 0);
    caption_draw(spec, &g);
    scene_draw(s, spec, &g);
}
