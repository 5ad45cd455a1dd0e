/* Sets of prompts over the embedded world, deterministic by seed: for training, for evaluation on
 * captions that training never saw, and under-specified ones for measures of diversity. */
#ifndef DAGLINE_SHAPES_PROMPTS_H
#define DAGLINE_SHAPES_PROMPTS_H

#include "shapes/caption.h"

#include <stddef.h>

#define PROMPTS_MAX 4096
#define PROMPTS_OPEN_MAX 42

/* Tags as a set: PROMPTS_TAG(TAG_COUNTING) | PROMPTS_TAG(TAG_POSITION). */
#define PROMPTS_TAG(tag) (1u << (tag))
#define PROMPTS_ALL ((1u << TAG_COUNT) - 1)
/* What one-object pictures do not answer: the headroom of a model that draws single objects well.
 */
#define PROMPTS_HARD                                                                               \
    (PROMPTS_TAG(TAG_TWO_OBJECT) | PROMPTS_TAG(TAG_COUNTING) | PROMPTS_TAG(TAG_POSITION) |         \
     PROMPTS_TAG(TAG_COLOR_ATTR))
#define PROMPTS_EASY (PROMPTS_ALL & ~PROMPTS_HARD)

struct prompt {
    char text[CAPTION_BYTES_MAX];
    struct caption_spec spec;
    enum caption_tag tag;
};

struct prompts_options {
    unsigned tags; /* not empty */
    bool held_out; /* only held-out captions (caption_held_out); else only the others */
    uint64_t seed;
};

/* n <= PROMPTS_MAX different prompts into out[n], the tags in turn.  ERR_FULL, with the number
 * found, where the grammar has not that many (single_object has some 60 held out). */
int prompts_draw(struct prompt *out, size_t n, const struct prompts_options *o,
                 struct err *e) MUST_USE;

/* The first n <= PROMPTS_OPEN_MAX prompts that leave nearly all free: "a circle" and its like, then
 * two, three and four of a shape, then with a size. Not part of either split. */
void prompts_open(struct prompt *out, size_t n);

#endif
