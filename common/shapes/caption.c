#include "shapes/caption.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const caption_tag_names[TAG_COUNT] = {"single_object", "two_object", "counting",
                                                  "colors",        "position",   "color_attr"};

static const char *const plural_names[SHAPE_COUNT] = {"circles", "squares", "triangles", "diamonds",
                                                      "stars",   "crosses", "rings"};
static const char *const count_names[] = {"two", "three", "four"};
#define COUNT_NAMES ((int)(sizeof count_names / sizeof *count_names))

const struct caption_object *caption_object(const struct caption_spec *spec, int i)
{
    assert(i >= 0 && i < spec->count);
    return &spec->object[spec->kind == CAPTION_COUNTED ? 0 : i];
}

/* ---- spec to text
 * -------------------------------------------------------------------------------- */

struct out {
    char *text;
    size_t used;
};

static void say(struct out *o, const char *word)
{
    const size_t bytes = strlen(word), space = o->used > 0;
    assert(o->used + space + bytes < CAPTION_BYTES_MAX);
    if (space)
        o->text[o->used++] = ' ';
    memcpy(o->text + o->used, word, bytes + 1);
    o->used += bytes;
}

static void say_object(struct out *o, const struct caption_object *c)
{
    say(o, c->size == CAPTION_FREE && c->colour == COLOUR_ORANGE ? "an" : "a");
    if (c->size != CAPTION_FREE)
        say(o, world_size_names[c->size]);
    if (c->colour != CAPTION_FREE)
        say(o, world_colour_names[c->colour]);
    say(o, world_shape_names[c->shape]);
}

static void say_counted(struct out *o, const struct caption_spec *spec)
{
    const struct caption_object *c = &spec->object[0];
    say(o, count_names[spec->count - 2]);
    if (c->size != CAPTION_FREE)
        say(o, world_size_names[c->size]);
    if (c->colour != CAPTION_FREE)
        say(o, world_colour_names[c->colour]);
    say(o, plural_names[c->shape]);
}

void caption_write(char *text, const struct caption_spec *spec)
{
    struct out o = {text, 0};
    text[0] = '\0';
    if (spec->kind == CAPTION_EMPTY)
        return;
    if (spec->kind == CAPTION_COUNTED)
        say_counted(&o, spec);
    else
        say_object(&o, &spec->object[0]);
    if (spec->kind == CAPTION_PLACED) {
        say(&o, "in the");
        say(&o, world_place_names[spec->place]);
    }
    if (spec->kind == CAPTION_PAIR || spec->kind == CAPTION_RELATED) {
        say(&o, spec->kind == CAPTION_PAIR ? "and" : world_relation_names[spec->relation]);
        say_object(&o, &spec->object[1]);
    }
    if (spec->background != CAPTION_FREE) {
        say(&o, "on a");
        if (spec->texture != CAPTION_FREE)
            say(&o, world_texture_names[spec->texture]);
        say(&o, world_background_names[spec->background]);
        say(&o, "background");
    }
}

/* ---- text to spec
 * -------------------------------------------------------------------------------- */

struct words {
    char text[CAPTION_BYTES_MAX];
    const char *word[CAPTION_WORDS_MAX];
    int count, next;
    struct err *e;
};

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static int split(struct words *w, const char *text, struct err *e)
{
    size_t used = 0;
    w->count = w->next = 0;
    w->e = e;
    for (const char *p = text; *p != '\0';) {
        if (is_space(*p)) {
            p++;
            continue;
        }
        if (w->count == CAPTION_WORDS_MAX)
            return err_set(e, ERR_INVALID, "more than %d words: this model's captions are shorter",
                           CAPTION_WORDS_MAX);
        w->word[w->count++] = w->text + used;
        for (; *p != '\0' && !is_space(*p); p++) {
            if (used + 2 > sizeof w->text)
                return err_set(e, ERR_INVALID,
                               "longer than %d bytes: this model's captions are shorter",
                               CAPTION_BYTES_MAX - 1);
            w->text[used++] = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
        }
        w->text[used++] = '\0';
    }
    return 0;
}

static bool at_end(const struct words *w)
{
    return w->next == w->count;
}

static bool accept(struct words *w, const char *word)
{
    if (at_end(w) || strcmp(w->word[w->next], word) != 0)
        return false;
    w->next++;
    return true;
}

static int accept_one_of(struct words *w, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (accept(w, names[i]))
            return i;
    return CAPTION_FREE;
}

static bool listed(const char *word, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, names[i]) == 0)
            return true;
    return false;
}

static bool in_world(const char *word)
{
    static const char *const rest[] = {"a",    "an",    "in",     "on",    "the",
                                       "of",   "and",   "above",  "top",   "bottom",
                                       "left", "right", "center", "below", "background"};
    return listed(word, world_shape_names, SHAPE_COUNT) ||
           listed(word, plural_names, SHAPE_COUNT) ||
           listed(word, world_colour_names, COLOUR_COUNT) ||
           listed(word, world_background_names, BACKGROUND_COUNT) ||
           listed(word, world_texture_names, TEXTURE_COUNT) ||
           listed(word, world_size_names, SIZE_COUNT) || listed(word, count_names, COUNT_NAMES) ||
           listed(word, rest, (int)(sizeof rest / sizeof *rest));
}

/* The next word does not fit: says which words do. */
static int refuse(struct words *w, const char *what, const char *const *names, int n)
{
    char list[256] = "";
    size_t used = 0;
    for (int i = 0; i < n; i++) {
        const int added =
            snprintf(list + used, sizeof list - used, "%s%s", i > 0 ? ", " : "", names[i]);
        assert(added > 0 && used + (size_t)added < sizeof list);
        used += (size_t)added;
    }
    if (at_end(w))
        return err_set(w->e, ERR_INVALID, "the caption ends where %s must stand; try: %s", what,
                       list);
    if (!in_world(w->word[w->next]))
        return err_set(w->e, ERR_INVALID, "'%s' is not in this model's world; try: %s",
                       w->word[w->next], list);
    return err_set(w->e, ERR_INVALID, "'%s' (word %d) stands where %s must; try: %s",
                   w->word[w->next], w->next + 1, what, list);
}

static int demand(struct words *w, const char *word)
{
    return accept(w, word) ? 0 : refuse(w, "the next word of the phrase", &word, 1);
}

/* [size] [colour] shape */
static int parse_description(struct words *w, struct caption_object *o, bool plural)
{
    o->size = accept_one_of(w, world_size_names, SIZE_COUNT);
    o->colour = accept_one_of(w, world_colour_names, COLOUR_COUNT);
    const char *const *names = plural ? plural_names : world_shape_names;
    o->shape = accept_one_of(w, names, SHAPE_COUNT);
    if (o->shape == CAPTION_FREE)
        return refuse(w, plural ? "several shapes" : "a shape", names, SHAPE_COUNT);
    return 0;
}

static int parse_object(struct words *w, struct caption_object *o)
{
    static const char *const article[] = {"a", "an"};
    if (accept_one_of(w, article, 2) == CAPTION_FREE)
        return refuse(w, "an article", article, 2);
    return parse_description(w, o, false);
}

static int parse_place(struct words *w, struct caption_spec *spec)
{
    static const char *const places[] = {"center", "top", "bottom", "left", "right"};
    const int first = accept_one_of(w, places, 5);
    switch (first) {
    case 0:
        spec->place = PLACE_CENTER;
        return 0;
    case 1:
    case 2:
        spec->place = first == 1 ? PLACE_TOP : PLACE_BOTTOM;
        if (accept(w, "left"))
            spec->place--;
        else if (accept(w, "right"))
            spec->place++;
        return 0;
    case 3:
        spec->place = PLACE_LEFT;
        return 0;
    case 4:
        spec->place = PLACE_RIGHT;
        return 0;
    default:
        return refuse(w, "a place", places, 5);
    }
}

static int parse_background(struct words *w, struct caption_spec *spec)
{
    if (demand(w, "a") < 0)
        return -1;
    spec->texture = accept_one_of(w, world_texture_names, TEXTURE_COUNT);
    spec->background = accept_one_of(w, world_background_names, BACKGROUND_COUNT);
    if (spec->background == CAPTION_FREE)
        return refuse(w, "the background's colour", world_background_names, BACKGROUND_COUNT);
    return demand(w, "background");
}

/* What may follow the first object; leaves the words alone where nothing of it does. */
static int parse_companion(struct words *w, struct caption_spec *spec)
{
    static const char *const relations[RELATION_COUNT] = {"left", "right", "above", "below"};
    if (accept(w, "in")) {
        spec->kind = CAPTION_PLACED;
        return demand(w, "the") < 0 ? -1 : parse_place(w, spec);
    }
    if (accept(w, "and")) {
        spec->kind = CAPTION_PAIR;
    } else {
        spec->relation = accept_one_of(w, relations, RELATION_COUNT);
        if (spec->relation == CAPTION_FREE)
            return 0;
        spec->kind = CAPTION_RELATED;
        if (spec->relation <= RELATION_RIGHT && demand(w, "of") < 0)
            return -1;
    }
    spec->count = 2;
    return parse_object(w, &spec->object[1]);
}

static int parse_words(struct words *w, struct caption_spec *spec)
{
    static const char *const follow[] = {
        "and", "in the", "left of", "right of", "above", "below", "on a ... background"};
    const int count = accept_one_of(w, count_names, COUNT_NAMES);
    if (count != CAPTION_FREE) {
        spec->kind = CAPTION_COUNTED;
        spec->count = count + 2;
        if (parse_description(w, &spec->object[0], true) < 0)
            return -1;
    } else {
        static const char *const start[] = {"a", "an", "two", "three", "four"};
        if (!listed(w->word[w->next], start, 5))
            return refuse(w, "the beginning of a caption", start, 5);
        spec->kind = CAPTION_SINGLE;
        spec->count = 1;
        if (parse_object(w, &spec->object[0]) < 0 || parse_companion(w, spec) < 0)
            return -1;
    }
    if (accept(w, "on") && parse_background(w, spec) < 0)
        return -1;
    if (at_end(w))
        return 0;
    const bool more = spec->kind == CAPTION_SINGLE && spec->background == CAPTION_FREE;
    if (more || (spec->kind != CAPTION_SINGLE && spec->background == CAPTION_FREE))
        return refuse(w, "the rest of the caption", more ? follow : follow + 6, more ? 7 : 1);
    return err_set(w->e, ERR_INVALID,
                   "'%s' (word %d) comes after the end of the caption; leave it out",
                   w->word[w->next], w->next + 1);
}

static const struct caption_object free_object = {CAPTION_FREE, CAPTION_FREE, CAPTION_FREE};

static void spec_clear(struct caption_spec *spec)
{
    *spec = (struct caption_spec){
        .kind = CAPTION_EMPTY,
        .object = {free_object, free_object},
        .place = CAPTION_FREE,
        .relation = CAPTION_FREE,
        .background = CAPTION_FREE,
        .texture = CAPTION_FREE,
    };
}

int caption_parse(struct caption_spec *spec, const char *text, struct err *e)
{
    struct words w;
    spec_clear(spec);
    if (split(&w, text, e) < 0)
        return -1;
    if (w.count == 0)
        return 0;
    return parse_words(&w, spec) < 0 ? -1 : caption_check(spec, e);
}

/* ---- what a caption is
 * ----------------------------------------------------------------------------- */

int caption_check(const struct caption_spec *spec, struct err *e)
{
    for (int i = 0; i < spec->count && spec->background != CAPTION_FREE; i++) {
        const int colour = caption_object(spec, i)->colour;
        if (colour != CAPTION_FREE &&
            !world_colour_visible((enum world_colour)colour,
                                  (enum world_background)spec->background))
            return err_set(e, ERR_INVALID,
                           "%s cannot be told from a %s background; choose another of the two",
                           world_colour_names[colour], world_background_names[spec->background]);
    }
    return 0;
}

enum caption_tag caption_tag(const struct caption_spec *spec)
{
    const bool first = spec->object[0].colour != CAPTION_FREE;
    const bool second = spec->object[1].colour != CAPTION_FREE;
    switch (spec->kind) {
    case CAPTION_SINGLE:
        return first ? TAG_COLORS : TAG_SINGLE_OBJECT;
    case CAPTION_PLACED:
    case CAPTION_RELATED:
        return TAG_POSITION;
    case CAPTION_COUNTED:
        return TAG_COUNTING;
    case CAPTION_PAIR:
        return first || second ? TAG_COLOR_ATTR : TAG_TWO_OBJECT;
    case CAPTION_EMPTY:
    case CAPTION_KIND_COUNT:
        break;
    }
    return TAG_COUNT;
}

/* One in ten, by FNV-1a: a fixed property, so it must never change. */
static bool tenth(const void *data, size_t bytes)
{
    const uint8_t *p = data;
    uint64_t h = 14695981039346656037ull;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ p[i]) * 1099511628211ull;
    return (h ^ h >> 32) % 10 == 3;
}

bool caption_held_out(const struct caption_spec *spec)
{
    static const uint8_t inverse[RELATION_COUNT] = {RELATION_RIGHT, RELATION_LEFT, RELATION_BELOW,
                                                    RELATION_ABOVE};
    bool combination = false;
    for (int i = 0; i < 2 && i < spec->count; i++) {
        const struct caption_object *o = caption_object(spec, i);
        if (o->colour == CAPTION_FREE && spec->relation == CAPTION_FREE)
            continue;
        const int relation = spec->relation == CAPTION_FREE ? 255
                             : i == 0                       ? spec->relation
                                                            : inverse[spec->relation];
        const uint8_t key[3] = {(uint8_t)o->shape, (uint8_t)o->colour, (uint8_t)relation};
        combination = true;
        if (tenth(key, sizeof key))
            return true;
    }
    char text[CAPTION_BYTES_MAX];
    caption_write(text, spec);
    return !combination && spec->kind != CAPTION_EMPTY && tenth(text, strlen(text));
}

/* ---- captions by chance
 * --------------------------------------------------------------------------- */

static int below(struct rng *g, int n)
{
    return (int)rng_below(g, (uint64_t)n);
}

/* Two objects with one name ("a circle and a circle") are no caption. */
static bool alike(const struct caption_spec *spec)
{
    const struct caption_object *x = &spec->object[0], *y = &spec->object[1];
    return (spec->kind == CAPTION_PAIR || spec->kind == CAPTION_RELATED) && x->shape == y->shape &&
           (x->colour == y->colour || x->colour == CAPTION_FREE || y->colour == CAPTION_FREE);
}

/* Forgets fields of a full spec with the grammar's probabilities. */
static void forget(struct caption_spec *spec, struct rng *g)
{
    const struct caption_spec full = *spec;
    do {
        *spec = full;
        for (int i = 0; i < 2; i++) {
            if (rng_uniform(g) >= 0.6)
                spec->object[i].size = CAPTION_FREE;
            if (rng_uniform(g) >= 0.6)
                spec->object[i].colour = CAPTION_FREE;
        }
    } while (alike(spec));
    const bool background = rng_uniform(g) < 0.4, texture = rng_uniform(g) < 0.5;
    if (!background)
        spec->background = CAPTION_FREE;
    if (!background || !texture)
        spec->texture = CAPTION_FREE;
}

enum world_texture caption_draw_texture(struct rng *g)
{
    const double u = rng_uniform(g);
    return u < 0.55   ? TEXTURE_PLAIN
           : u < 0.70 ? TEXTURE_GRADIENT
           : u < 0.85 ? TEXTURE_STRIPED
                      : TEXTURE_CHECKERED;
}

static void draw_full(struct caption_spec *spec, struct rng *g)
{
    static const uint8_t kinds[20] = {
        CAPTION_SINGLE,  CAPTION_SINGLE,  CAPTION_SINGLE,  CAPTION_SINGLE,  CAPTION_SINGLE,
        CAPTION_SINGLE,  CAPTION_PLACED,  CAPTION_PLACED,  CAPTION_PLACED,  CAPTION_PLACED,
        CAPTION_COUNTED, CAPTION_COUNTED, CAPTION_COUNTED, CAPTION_COUNTED, CAPTION_PAIR,
        CAPTION_PAIR,    CAPTION_PAIR,    CAPTION_RELATED, CAPTION_RELATED, CAPTION_RELATED};
    spec_clear(spec);
    spec->kind = kinds[rng_below(g, 20)];
    spec->count = 1;
    if (spec->kind == CAPTION_PLACED)
        spec->place = below(g, PLACE_COUNT);
    if (spec->kind == CAPTION_COUNTED)
        spec->count = 2 + below(g, COUNT_NAMES);
    if (spec->kind == CAPTION_PAIR || spec->kind == CAPTION_RELATED)
        spec->count = 2;
    if (spec->kind == CAPTION_RELATED)
        spec->relation = below(g, RELATION_COUNT);
    const int named = spec->kind == CAPTION_COUNTED ? 1 : spec->count;
    do {
        for (int i = 0; i < named; i++)
            spec->object[i] = (struct caption_object){below(g, SHAPE_COUNT), below(g, COLOUR_COUNT),
                                                      below(g, SIZE_COUNT)};
    } while (alike(spec));
    spec->background = below(g, BACKGROUND_COUNT);
    spec->texture = caption_draw_texture(g);
}

void caption_draw(struct caption_spec *spec, struct rng *g)
{
    do {
        draw_full(spec, g);
        forget(spec, g);
    } while (caption_check(spec, NULL) < 0);
}

/* ---- captions and scenes
 * --------------------------------------------------------------------------- */

static int size_of_radius(double radius)
{
    for (int size = 0; size < SIZE_COUNT; size++) {
        const struct world_range r = world_size_range(size);
        if (radius >= r.low && radius <= r.high)
            return size;
    }
    return CAPTION_FREE;
}

static int cell_of(double v)
{
    for (int c = 0; c < 3; c++) {
        const struct world_range r = world_cell_range(c);
        if (v >= r.low && v <= r.high)
            return c;
    }
    return -1;
}

/* Within about 30 degrees of the axis: clearly the relation, by GenEval's rule and by eye. */
static bool relation_clear(int relation, const struct world_object *x, const struct world_object *y)
{
    const double dx = x->x - y->x, dy = x->y - y->y;
    switch (relation) {
    case RELATION_LEFT:
        return dx < 0.0 && fabs(dy) <= 0.61 * -dx;
    case RELATION_RIGHT:
        return dx > 0.0 && fabs(dy) <= 0.61 * dx;
    case RELATION_ABOVE:
        return dy < 0.0 && fabs(dx) <= 0.61 * -dy;
    case RELATION_BELOW:
        return dy > 0.0 && fabs(dx) <= 0.61 * dy;
    default:
        return false;
    }
}

static bool uniform_shape(const struct scene *s)
{
    for (int i = 1; i < s->count; i++)
        if (s->object[i].shape != s->object[0].shape)
            return false;
    return true;
}

/* The fields that all objects share; the others free. */
static void describe_counted(struct caption_spec *spec, const struct scene *s)
{
    struct caption_object *o = &spec->object[0];
    spec->kind = CAPTION_COUNTED;
    spec->object[1] = free_object;
    for (int i = 1; i < s->count; i++) {
        if ((int)s->object[i].colour != o->colour)
            o->colour = CAPTION_FREE;
        if (size_of_radius(s->object[i].radius) != o->size)
            o->size = CAPTION_FREE;
    }
}

static void describe_pair(struct caption_spec *spec, const struct scene *s, bool related)
{
    spec->kind = CAPTION_PAIR;
    for (int r = 0; r < RELATION_COUNT && related; r++)
        if (relation_clear(r, &s->object[0], &s->object[1])) {
            spec->kind = CAPTION_RELATED;
            spec->relation = r;
        }
}

bool caption_of_scene(struct caption_spec *spec, const struct scene *s, struct rng *g)
{
    spec_clear(spec);
    if (s->count < 1 || (s->count > 2 && !uniform_shape(s)))
        return false;
    spec->count = s->count;
    for (int i = 0; i < 2 && i < s->count; i++)
        spec->object[i] = (struct caption_object){(int)s->object[i].shape, (int)s->object[i].colour,
                                                  size_of_radius(s->object[i].radius)};
    spec->background = (int)s->background;
    spec->texture = (int)s->texture;
    const double u = rng_uniform(g);
    if (s->count == 1) {
        const int column = cell_of(s->object[0].x), row = cell_of(s->object[0].y);
        spec->kind = CAPTION_SINGLE;
        if (u < 0.4 && column >= 0 && row >= 0) {
            spec->kind = CAPTION_PLACED;
            spec->place = row * 3 + column;
        }
    } else {
        describe_pair(spec, s, u < 0.5);
        if (s->count > 2 || alike(spec) || (uniform_shape(s) && u < 0.3)) {
            spec->relation = CAPTION_FREE;
            describe_counted(spec, s);
        }
    }
    forget(spec, g);
    return true;
}

static bool object_holds(const struct caption_object *c, const struct world_object *o)
{
    return c->shape == (int)o->shape &&
           (c->colour == CAPTION_FREE || c->colour == (int)o->colour) &&
           (c->size == CAPTION_FREE || c->size == size_of_radius(o->radius));
}

bool caption_holds(const struct caption_spec *spec, const struct scene *s)
{
    if (spec->kind == CAPTION_EMPTY)
        return true;
    if (s->count != spec->count ||
        (spec->background != CAPTION_FREE && spec->background != (int)s->background) ||
        (spec->texture != CAPTION_FREE && spec->texture != (int)s->texture))
        return false;
    const struct world_object *x = &s->object[0], *y = &s->object[1];
    if (spec->kind == CAPTION_PLACED)
        return object_holds(&spec->object[0], x) && cell_of(x->x) == spec->place % 3 &&
               cell_of(x->y) == spec->place / 3;
    if (spec->kind == CAPTION_PAIR || spec->kind == CAPTION_RELATED)
        for (int swap = 0; swap < 2; swap++) {
            if (object_holds(&spec->object[0], swap ? y : x) &&
                object_holds(&spec->object[1], swap ? x : y) &&
                (spec->kind == CAPTION_PAIR ||
                 relation_clear(spec->relation, swap ? y : x, swap ? x : y)))
                return true;
        }
    bool all = spec->kind == CAPTION_SINGLE || spec->kind == CAPTION_COUNTED;
    for (int i = 0; i < s->count && all; i++)
        all = object_holds(&spec->object[0], &s->object[i]);
    return all;
}
