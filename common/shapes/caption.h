/* What can be said about a scene, as a struct and as text:
 *
 *   caption := scene [ " on a " [texture " "] background " background" ]
 *   scene   := obj | obj " in the " place | count " " [size " "] [colour " "] shapes
 *            | obj " and " obj | obj " " relation " " obj
 *   obj     := ("a"|"an") " " [size " "] [colour " "] shape
 *   size := small|large   texture := plain|gradient|striped|checkered   count := two|three|four
 *   place := center|top|bottom|left|right|top left|top right|bottom left|bottom right
 *   relation := left of|right of|above|below
 *
 * What a caption leaves out is free: "a circle" holds for any colour, size, place and background.
 * What it says is all there is: "a circle" holds for no scene with two objects.  The empty caption
 * says nothing and holds for every scene.
 * Pure functions of their arguments and of the random stream they are handed; any thread. */
#ifndef DAGLINE_SHAPES_CAPTION_H
#define DAGLINE_SHAPES_CAPTION_H

#include "base/err.h"
#include "base/rng.h"
#include "shapes/world.h"

#define CAPTION_BYTES_MAX 160 /* text with its terminator */
#define CAPTION_WORDS_MAX 24  /* the longest caption has 15 */
#define CAPTION_FREE (-1)     /* a field that the caption does not say */

enum caption_kind {
    CAPTION_EMPTY,
    CAPTION_SINGLE,
    CAPTION_PLACED,
    CAPTION_COUNTED,
    CAPTION_PAIR,
    CAPTION_RELATED,
    CAPTION_KIND_COUNT
};

/* GenEval's six tags (Ghosh et al. 2023).  A place or a relation is `position`. */
enum caption_tag {
    TAG_SINGLE_OBJECT,
    TAG_TWO_OBJECT,
    TAG_COUNTING,
    TAG_COLORS,
    TAG_POSITION,
    TAG_COLOR_ATTR,
    TAG_COUNT
};
extern const char *const caption_tag_names[TAG_COUNT];

struct caption_object {
    int shape;  /* enum world_shape, never free */
    int colour; /* enum world_colour or CAPTION_FREE */
    int size;   /* enum world_size or CAPTION_FREE */
};

struct caption_spec {
    enum caption_kind kind;
    struct caption_object object[2]; /* [1] only for PAIR and RELATED */
    int count; /* objects in the scene: 1 or 2; COUNTED: 2..WORLD_OBJECTS_MAX, all like object[0] */
    int place; /* enum world_place, PLACED only; else CAPTION_FREE */
    int relation;   /* enum world_relation, RELATED only; else CAPTION_FREE */
    int background; /* enum world_background or CAPTION_FREE */
    int texture;    /* enum world_texture or CAPTION_FREE; free where background is */
};

/* The spec of the i-th of spec->count objects. */
const struct caption_object *caption_object(const struct caption_spec *spec, int i);

/* Overwrites text[CAPTION_BYTES_MAX] with the caption; caption_parse gives the spec back. */
void caption_write(char *text, const struct caption_spec *spec);

/* Reads a caption: words in any case, any white space between them, "a" and "an" alike.  Only white
 * space is the empty caption.  ERR_INVALID names the word at fault and what could stand there, or
 * says which colours cannot be told apart (caption_check). */
int caption_parse(struct caption_spec *spec, const char *text, struct err *e) MUST_USE;

/* Whether a scene for it exists: every colour said must be visible on the background said. */
int caption_check(const struct caption_spec *spec, struct err *e) MUST_USE;

/* TAG_COUNT for the empty caption. */
enum caption_tag caption_tag(const struct caption_spec *spec);

/* Some captions are kept from training, so that what was learnt can be told from what was
 * memorised: all that say one of the held-out tenth of (shape, colour, relation) combinations, and
 * a tenth of the captions without such a combination, by their text.  A fixed property, whatever
 * the seed. */
bool caption_held_out(const struct caption_spec *spec);

/* A caption by chance: single 30 %, placed 20 %, counted 20 %, pair 15 %, relation 15 %; size and
 * colour said with probability 0.6 each, the background with 0.4 and then its texture with 0.5.
 * Never empty; passes caption_check. */
void caption_draw(struct caption_spec *spec, struct rng *g);

/* Plain 55 %, gradient, striped and checkered 15 % each. */
enum world_texture caption_draw_texture(struct rng *g);

/* Says something true about a scene, fields kept with the same probabilities.  False where the
 * grammar has no words for it: no object, or three and more that differ in shape. */
bool caption_of_scene(struct caption_spec *spec, const struct scene *s, struct rng *g);

/* Whether the caption is true of the scene, by its numbers, not by its picture. */
bool caption_holds(const struct caption_spec *spec, const struct scene *s);

#endif
