#include "shapes/world.h"

#include <assert.h>
#include <math.h>

const char *const world_shape_names[SHAPE_COUNT] = {"circle", "square", "triangle", "diamond",
                                                    "star",   "cross",  "ring"};
const char *const world_colour_names[COLOUR_COUNT] = {"red",  "orange", "yellow", "green",
                                                      "blue", "purple", "white",  "black"};
const char *const world_background_names[BACKGROUND_COUNT] = {"gray", "cream", "navy",
                                                              "teal", "sky",   "pink"};
const char *const world_texture_names[TEXTURE_COUNT] = {"plain", "gradient", "striped",
                                                        "checkered"};
const char *const world_size_names[SIZE_COUNT] = {"small", "large"};
const char *const world_place_names[PLACE_COUNT] = {"top left",    "top",    "top right",
                                                    "left",        "center", "right",
                                                    "bottom left", "bottom", "bottom right"};
const char *const world_relation_names[RELATION_COUNT] = {"left of", "right of", "above", "below"};

static const uint8_t colour_rgb[COLOUR_COUNT][3] = {
    {215, 38, 38}, {245, 135, 25}, {250, 222, 45},  {45, 160, 60},
    {40, 85, 220}, {160, 50, 165}, {250, 250, 250}, {18, 18, 18},
};
static const uint8_t background_rgb[BACKGROUND_COUNT][3] = {
    {116, 116, 116}, {224, 212, 180}, {36, 46, 100},
    {45, 145, 148},  {125, 172, 216}, {222, 152, 180},
};

/* Outlines of radius 1, chosen so that no two shapes cover each other by more than about 85 %. */
#define SQUARE_HALF 0.88
#define TRIANGLE_RADIUS 1.15 /* circumscribed circle of the equilateral triangle */
#define DIAMOND_SIDE 0.85
#define DIAMOND_UP 1.10
#define STAR_OUTER 1.15
#define STAR_INNER 0.48 /* radius of the five notches */
#define CROSS_HALF 0.34 /* half the width of an arm */
#define RING_INNER 0.55

#define COS18 0.95105651629515357
#define SIN36 0.58778525229247313
#define COS36 0.80901699437494742
#define SQRT3 1.73205080756887729
#define PI 3.14159265358979324

struct lab world_colour_lab(enum world_colour c)
{
    assert((unsigned)c < COLOUR_COUNT);
    return lab_from_rgb(colour_rgb[c][0], colour_rgb[c][1], colour_rgb[c][2]);
}

struct lab world_background_lab(enum world_background b)
{
    assert((unsigned)b < BACKGROUND_COUNT);
    return lab_from_rgb(background_rgb[b][0], background_rgb[b][1], background_rgb[b][2]);
}

bool world_colour_visible(enum world_colour c, enum world_background b)
{
    /* A few units of room, so that jitter seldom has to be drawn twice. */
    return lab_distance_range(world_colour_lab(c), world_background_lab(b), WORLD_TONE) >
           WORLD_CONTRAST_MIN + 4.0;
}

struct world_range world_size_range(int size)
{
    if (size == SIZE_SMALL)
        return (struct world_range){6.0, 8.0};
    if (size == SIZE_LARGE)
        return (struct world_range){13.0, 17.0};
    assert(size == -1);
    return (struct world_range){6.0, 17.0};
}

struct world_range world_cell_range(int column)
{
    assert(column >= 0 && column < 3);
    if (column == 0)
        return (struct world_range){0.0, 22.0};
    if (column == 1)
        return (struct world_range){27.0, WORLD_SIDE - 27.0};
    return (struct world_range){WORLD_SIDE - 22.0, WORLD_SIDE};
}

static double box(double x, double y, double half_x, double half_y)
{
    return fmax(fabs(x) - half_x, fabs(y) - half_y);
}

/* Five-pointed star, y up: fold the plane into one point's half, then the distance to one segment.
 */
static double star(double x, double y)
{
    x = fabs(x);
    const double d1 = fmax(COS36 * x - SIN36 * y, 0.0);
    x -= 2.0 * d1 * COS36;
    y += 2.0 * d1 * SIN36;
    const double d2 = fmax(-COS36 * x - SIN36 * y, 0.0);
    x += 2.0 * d2 * COS36;
    y += 2.0 * d2 * SIN36;
    x = fabs(x);
    y -= STAR_OUTER;
    const double bx = STAR_INNER * SIN36, by = STAR_INNER * COS36 - STAR_OUTER;
    const double t = fmin(fmax((x * bx + y * by) / (bx * bx + by * by), 0.0), 1.0);
    const double dx = x - bx * t, dy = y - by * t;
    const double d = sqrt(dx * dx + dy * dy);
    return y * bx - x * by > 0.0 ? d : -d;
}

double world_shape_sdf(enum world_shape s, double x, double y)
{
    assert((unsigned)s < SHAPE_COUNT);
    switch (s) {
    case SHAPE_CIRCLE:
        return sqrt(x * x + y * y) - 1.0;
    case SHAPE_SQUARE:
        return box(x, y, SQUARE_HALF, SQUARE_HALF);
    case SHAPE_TRIANGLE: /* point up: the base, and one of two mirrored sides */
        return fmax(y, SQRT3 / 2.0 * fabs(x) - 0.5 * y) - TRIANGLE_RADIUS / 2.0;
    case SHAPE_DIAMOND: {
        const double norm = sqrt(DIAMOND_SIDE * DIAMOND_SIDE + DIAMOND_UP * DIAMOND_UP);
        return (DIAMOND_UP * fabs(x) + DIAMOND_SIDE * fabs(y) - DIAMOND_SIDE * DIAMOND_UP) / norm;
    }
    case SHAPE_STAR:
        return star(x, -y);
    case SHAPE_CROSS:
        return fmin(box(x, y, 1.0, CROSS_HALF), box(x, y, CROSS_HALF, 1.0));
    case SHAPE_RING:
        return fabs(sqrt(x * x + y * y) - (1.0 + RING_INNER) / 2.0) - (1.0 - RING_INNER) / 2.0;
    case SHAPE_COUNT:
        break;
    }
    return 0.0;
}

double world_shape_area(enum world_shape s)
{
    static const double area[SHAPE_COUNT] = {
        [SHAPE_CIRCLE] = PI,
        [SHAPE_SQUARE] = 4.0 * SQUARE_HALF * SQUARE_HALF,
        [SHAPE_TRIANGLE] = 0.75 * SQRT3 * TRIANGLE_RADIUS * TRIANGLE_RADIUS,
        [SHAPE_DIAMOND] = 2.0 * DIAMOND_SIDE * DIAMOND_UP,
        [SHAPE_STAR] = 5.0 * STAR_OUTER * STAR_INNER * SIN36,
        [SHAPE_CROSS] = 8.0 * CROSS_HALF - 4.0 * CROSS_HALF * CROSS_HALF,
        [SHAPE_RING] = PI * (1.0 - RING_INNER * RING_INNER),
    };
    assert((unsigned)s < SHAPE_COUNT);
    return area[s];
}

struct world_extent world_shape_extent(enum world_shape s)
{
    static const struct world_extent extent[SHAPE_COUNT] = {
        [SHAPE_CIRCLE] = {1.0, 1.0, 1.0, 1.0},
        [SHAPE_SQUARE] = {SQUARE_HALF, SQUARE_HALF, SQUARE_HALF, SQUARE_HALF * 1.4142135623730951},
        [SHAPE_TRIANGLE] = {TRIANGLE_RADIUS * SQRT3 / 2.0, TRIANGLE_RADIUS, TRIANGLE_RADIUS / 2.0,
                            TRIANGLE_RADIUS},
        [SHAPE_DIAMOND] = {DIAMOND_SIDE, DIAMOND_UP, DIAMOND_UP, DIAMOND_UP},
        [SHAPE_STAR] = {STAR_OUTER * COS18, STAR_OUTER, STAR_OUTER * COS36, STAR_OUTER},
        [SHAPE_CROSS] = {1.0, 1.0, 1.0, 1.0562197},
        [SHAPE_RING] = {1.0, 1.0, 1.0, 1.0},
    };
    assert((unsigned)s < SHAPE_COUNT);
    return extent[s];
}

double world_texture_tone(const struct scene *s, int i, int j)
{
    const double slope = 2.0 * WORLD_TONE / (WORLD_SIDE - 1);
    assert((unsigned)s->texture < TEXTURE_COUNT);
    switch (s->texture) {
    case TEXTURE_PLAIN:
        return 0.0;
    case TEXTURE_GRADIENT: {
        const double t = slope * (s->direction % 2 == 0 ? i : j) - WORLD_TONE;
        return s->direction < 2 ? t : -t;
    }
    case TEXTURE_STRIPED: {
        const int at = (s->direction == 0 ? i : j) + s->phase_x;
        return at / WORLD_STRIPE_PX % 2 == 0 ? WORLD_TONE : -WORLD_TONE;
    }
    case TEXTURE_CHECKERED: {
        const int cell = (i + s->phase_x) / WORLD_CHECK_PX + (j + s->phase_y) / WORLD_CHECK_PX;
        return cell % 2 == 0 ? WORLD_TONE : -WORLD_TONE;
    }
    case TEXTURE_COUNT:
        break;
    }
    return 0.0;
}

/* Fills canvas[WORLD_SIDE,WORLD_SIDE,3].  Tones repeat along rows or columns, so the costly Lab
 * conversion runs only where the tone changes from one pixel to the next. */
static void draw_background(float *canvas, const struct scene *s)
{
    double tone = 2.0 * WORLD_TONE, rgb[3] = {0.0, 0.0, 0.0};
    const bool by_column = s->texture == TEXTURE_GRADIENT && s->direction % 2 == 0;
    for (int outer = 0; outer < WORLD_SIDE; outer++)
        for (int inner = 0; inner < WORLD_SIDE; inner++) {
            const int i = by_column ? outer : inner, j = by_column ? inner : outer;
            const double t = world_texture_tone(s, i, j);
            if (t != tone) {
                tone = t;
                lab_to_rgb((struct lab){s->back.l + (float)t, s->back.a, s->back.b}, rgb);
            }
            for (int c = 0; c < 3; c++)
                canvas[(j * WORLD_SIDE + i) * 3 + c] = (float)rgb[c];
        }
}

/* The part of the pixel centred at (x,y), in pixels from the centroid, that lies inside. */
static double coverage(const struct world_object *o, double x, double y)
{
    const double scale = 1.0 / o->radius;
    const double d = world_shape_sdf(o->shape, x * scale, y * scale) * o->radius;
    if (d > 0.75) /* half a pixel's diagonal is 0.71 */
        return 0.0;
    if (d < -0.75)
        return 1.0;
    int inside = 0;
    for (int v = -1; v <= 1; v++)
        for (int u = -1; u <= 1; u++)
            inside += world_shape_sdf(o->shape, (x + u / 3.0) * scale, (y + v / 3.0) * scale) < 0.0;
    return inside / 9.0;
}

static int clip(double v)
{
    return v < 0.0 ? 0 : v > WORLD_SIDE - 1 ? WORLD_SIDE - 1 : (int)v;
}

static void draw_object(float *canvas, const struct world_object *o)
{
    const struct world_extent e = world_shape_extent(o->shape);
    double rgb[3];
    lab_to_rgb(o->lab, rgb);
    const int left = clip(o->x - e.side * o->radius - 1.0),
              right = clip(o->x + e.side * o->radius + 1.0);
    const int top = clip(o->y - e.up * o->radius - 1.0),
              bottom = clip(o->y + e.down * o->radius + 1.0);
    for (int j = top; j <= bottom; j++)
        for (int i = left; i <= right; i++) {
            const double part = coverage(o, i + 0.5 - o->x, j + 0.5 - o->y);
            float *p = canvas + (j * WORLD_SIDE + i) * 3;
            for (int c = 0; c < 3 && part > 0.0; c++)
                p[c] += (float)part * ((float)rgb[c] - p[c]);
        }
}

void world_render(uint8_t *rgb, const struct scene *s)
{
    float canvas[WORLD_RGB_BYTES];
    assert(s->count >= 0 && s->count <= WORLD_OBJECTS_MAX);
    draw_background(canvas, s);
    for (int k = 0; k < s->count; k++)
        draw_object(canvas, &s->object[k]);
    for (int i = 0; i < WORLD_RGB_BYTES; i++)
        rgb[i] = (uint8_t)(canvas[i] + 0.5f);
}
