/* The embedded world: 64x64 pictures of coloured shapes on a coloured, perhaps textured background.
 * This file knows what a picture is made of and draws it; caption.h has the words, scene.h draws
 * scenes by chance, judge.h reads pictures back.
 *
 * Coordinates are pixels: x to the right, y down, pixel (i,j) covers [i,i+1)x[j,j+1).  An object's
 * (x,y) is the centroid of its area, so that the place of a triangle means the same as the place of
 * a circle.  `radius` scales the shape's outline, which is given for radius 1 (world_shape_sdf).
 * Everything is a pure function of its arguments; no allocation; any thread. */
#ifndef DAGLINE_SHAPES_WORLD_H
#define DAGLINE_SHAPES_WORLD_H

#include "shapes/lab.h"

#include <stdbool.h>
#include <stdint.h>

#define WORLD_SIDE 64
#define WORLD_RGB_BYTES (WORLD_SIDE * WORLD_SIDE * 3)
#define WORLD_OBJECTS_MAX 4

/* Half the lightness difference between the two tones of a textured background. */
#define WORLD_TONE 8.0
#define WORLD_STRIPE_PX 6 /* width of one stripe */
#define WORLD_CHECK_PX 8  /* side of one check */
/* An object's colour is at least this far (delta E) from every tone of its background. */
#define WORLD_CONTRAST_MIN 25.0
#define WORLD_JITTER 4.0 /* each Lab coordinate is moved by at most 4 % of the lightness range */

enum world_shape {
    SHAPE_CIRCLE,
    SHAPE_SQUARE,
    SHAPE_TRIANGLE,
    SHAPE_DIAMOND,
    SHAPE_STAR,
    SHAPE_CROSS,
    SHAPE_RING,
    SHAPE_COUNT
};
enum world_colour {
    COLOUR_RED,
    COLOUR_ORANGE,
    COLOUR_YELLOW,
    COLOUR_GREEN,
    COLOUR_BLUE,
    COLOUR_PURPLE,
    COLOUR_WHITE,
    COLOUR_BLACK,
    COLOUR_COUNT
};
enum world_background {
    BACKGROUND_GRAY,
    BACKGROUND_CREAM,
    BACKGROUND_NAVY,
    BACKGROUND_TEAL,
    BACKGROUND_SKY,
    BACKGROUND_PINK,
    BACKGROUND_COUNT
};
enum world_texture {
    TEXTURE_PLAIN,
    TEXTURE_GRADIENT,
    TEXTURE_STRIPED,
    TEXTURE_CHECKERED,
    TEXTURE_COUNT
};
/* Small: radius 6-8 px, large: 13-17 px; what lies between has no word. */
enum world_size { SIZE_SMALL, SIZE_LARGE, SIZE_COUNT };
/* The nine cells of the frame, row by row: place / 3 is the row, place % 3 the column. */
enum world_place {
    PLACE_TOP_LEFT,
    PLACE_TOP,
    PLACE_TOP_RIGHT,
    PLACE_LEFT,
    PLACE_CENTER,
    PLACE_RIGHT,
    PLACE_BOTTOM_LEFT,
    PLACE_BOTTOM,
    PLACE_BOTTOM_RIGHT,
    PLACE_COUNT
};
/* The first object stands in this relation to the second. */
enum world_relation {
    RELATION_LEFT,
    RELATION_RIGHT,
    RELATION_ABOVE,
    RELATION_BELOW,
    RELATION_COUNT
};

/* The words, indexed by the enums above. */
extern const char *const world_shape_names[SHAPE_COUNT];
extern const char *const world_colour_names[COLOUR_COUNT];
extern const char *const world_background_names[BACKGROUND_COUNT];
extern const char *const world_texture_names[TEXTURE_COUNT];
extern const char *const world_size_names[SIZE_COUNT];
extern const char *const world_place_names[PLACE_COUNT];
extern const char *const world_relation_names[RELATION_COUNT];

/* Radii in pixels of a size class; size -1 means any. */
struct world_range {
    double low, high;
};
struct world_range world_size_range(int size);

/* A third of the frame: where the centroid of an object "in the left" etc. may lie.  column 0..2 as
 * in enum world_place (or the row, for y).  WORLD_SIDE/3 apart with a gap on either side of each
 * border, so that a picture is never on the line. */
struct world_range world_cell_range(int column);
/* The border between cells 0 and 1; the one between 1 and 2 is its mirror image. */
#define WORLD_CELL_BORDER 24.5

struct world_object {
    enum world_shape shape;
    enum world_colour colour;
    double x, y, radius;
    struct lab lab; /* the colour with its jitter */
};

struct scene {
    int count; /* objects, 0..WORLD_OBJECTS_MAX */
    struct world_object object[WORLD_OBJECTS_MAX];
    enum world_background background;
    enum world_texture texture;
    struct lab back; /* the background's middle tone with its jitter */
    int direction;   /* gradient: 0..3 lighter to the right, down, left, up; striped: 0 upright, 1
                        lying */
    int phase_x, phase_y; /* of stripes (phase_x) and checks, in pixels */
};

/* The palettes before jitter. */
struct lab world_colour_lab(enum world_colour c);
struct lab world_background_lab(enum world_background b);

/* Whether objects of this colour may stand on this background, whatever the jitter draws. */
bool world_colour_visible(enum world_colour c, enum world_background b);

/* Signed distance to the outline of the shape of radius 1 whose centroid is (0,0), y down: negative
 * inside, exact along the edges, never more than the true distance elsewhere. */
double world_shape_sdf(enum world_shape s, double x, double y);
/* Area of the shape of radius 1. */
double world_shape_area(enum world_shape s);
/* How far the outline of radius 1 reaches from the centroid. */
struct world_extent {
    double side, up, down, around; /* left and right alike; around: the bounding circle */
};
struct world_extent world_shape_extent(enum world_shape s);

/* Lightness offset of the background at pixel (i,j), in [-WORLD_TONE, WORLD_TONE]. */
double world_texture_tone(const struct scene *s, int i, int j);

/* Draws the scene, 3x3 samples a pixel along the outlines, later objects over earlier ones.
 * Overwrites rgb[WORLD_RGB_BYTES], rows from the top. */
void world_render(uint8_t *rgb, const struct scene *s);

#endif
