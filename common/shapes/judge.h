/* Reads a picture of the embedded world back, without anything learnt: which objects it shows
 * (shape, colour, size, place), on which background, and how well that agrees with a caption.
 *
 * Looking (judge_look): the picture is smoothed a little and taken to Lab; the background's colour
 * is the border's median, with a range of lightness for textures; what differs from it falls into
 * 8-connected components, which are split where two colours touch; each component's soft coverage
 * is held against the seven outlines, its core's mean colour against the eight colours. Half-formed
 * pictures (blurred, pale, noisy) give graded likenesses, so the score is a learning signal from
 * the first denoising steps on.
 *
 * Scoring (judge_score) is a pure function of what was seen and of the caption:
 *   soft    in [0,1]: mean over the caption's objects (best assignment; a missing one counts 0) of
 *           shape x colour x size x place, times the gates of relation, background, texture,
 * surplus objects and a clean border.  Gates, not sums: a flat picture, noise, a speck or a frame
 *           full of colour scores near 0 whatever else is right.
 *   strict  all clauses hold and nothing else is in the picture, as GenEval's tags ask.
 *
 * A struct judge is tables and work memory, about 200 kB, for one thread; looking allocates
 * nothing. */
#ifndef DAGLINE_SHAPES_JUDGE_H
#define DAGLINE_SHAPES_JUDGE_H

#include "shapes/caption.h"

#define JUDGE_OBJECTS_MAX 8
#define JUDGE_TUPLE_MAX                                                                            \
    (SHAPE_COUNT * COLOUR_COUNT * 3 * PLACE_COUNT * BACKGROUND_COUNT * TEXTURE_COUNT)

struct judge;

/* Ends the process where there is no memory (mem_new). */
struct judge *judge_new(void) MUST_USE;
void judge_free(struct judge *j); /* accepts NULL */

struct judge_object {
    enum world_shape shape;          /* the outline that fits best */
    enum world_colour colour;        /* the nearest colour */
    double x, y;                     /* centroid, pixels */
    double left, right, top, bottom; /* extent, pixels */
    double radius;                   /* as `shape` */
    double presence;                 /* 0..1: large and contrasting enough to be an object at all */
    double colour_distance;          /* delta E to `colour` */
    float fit[SHAPE_COUNT];          /* soft IoU with each outline of the same area, 0..1 */
    float likeness[COLOUR_COUNT];    /* probability of each colour, less where none is near */
};

struct judge_view {
    int count; /* objects seen, the largest first; no more than JUDGE_OBJECTS_MAX are kept */
    struct judge_object object[JUDGE_OBJECTS_MAX];
    enum world_background background;
    enum world_texture texture;
    float background_likeness[BACKGROUND_COUNT];
    float texture_likeness[TEXTURE_COUNT];
    double backing;   /* 0..1: how much of the border is one background */
    double roughness; /* mean delta E from the background's range, outside the objects */
};

/* rgb: WORLD_RGB_BYTES, any picture.  Overwrites *view. */
void judge_look(struct judge *j, struct judge_view *view, const uint8_t *rgb);

/* The clauses, each over the best assignment of objects to the caption. */
struct judge_verdict {
    double soft;
    bool strict;              /* all below */
    bool count;               /* as many objects as said, no more */
    bool shape, colour, size; /* of every object; true where the caption is silent */
    bool position;            /* place or relation */
    bool background;          /* colour and texture, and a clean border */
};

/* The empty caption asks for one to four objects of any kind on a clean background. */
void judge_score(struct judge_verdict *v, const struct judge_view *view,
                 const struct caption_spec *spec);

/* What a picture of one object shows, for measures of diversity: the largest object's attributes.
 */
struct judge_attributes {
    int shape, colour, size /* 0 small, 1 between, 2 large */, place, background, texture;
};
/* False where no object is seen. */
bool judge_attributes(struct judge_attributes *a, const struct judge_view *view);

/* A reward of one free attribute, for tests of tempering: the largest object's colour by its place in the list of colours,
 * 0 for the first and 1 for the last; 0 where no object is seen. */
double judge_colour_reward(const struct judge_view *view);

#endif
