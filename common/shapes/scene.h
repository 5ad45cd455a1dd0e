/* Scenes by chance: what a caption leaves free is drawn, the rest is as it says.
 * Objects stay inside the frame (1 px) and apart from each other (SCENE_GAP_PX between their
 * bounding boxes or circles), so they never overlap.  A scene is a function of (seed, index). */
#ifndef DAGLINE_SHAPES_SCENE_H
#define DAGLINE_SHAPES_SCENE_H

#include "shapes/caption.h"

#define SCENE_MARGIN_PX 1.0
#define SCENE_GAP_PX 4.0

/* Texture: plain 55 %, the others 15 % each.  Backgrounds and colours uniform among those that can
 * be told apart; objects of a counted caption share their colour.  The empty caption gives a scene
 * of a caption by chance.  The spec must pass caption_check (asserted). */
void scene_draw(struct scene *s, const struct caption_spec *spec, struct rng *g);

/* The index-th training pair of a seed: a caption by chance and a scene for it. */
void scene_pair(struct scene *s, struct caption_spec *spec, uint64_t seed, uint64_t index);

#endif
