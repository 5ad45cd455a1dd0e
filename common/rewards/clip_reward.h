/* Rewards of a CLIP model (diffusion/clip.h) over weights that the user supplies.
 *
 *   aesthetic   an affine head over the picture's embedding: LAION's predictor V1 (`weight`, `bias`) or V2 (`layers.N.*`,
 *               applied in order, as published without activations between them); about 1..10
 *   clipscore   2.5 max(cos, 0) of picture and prompt (Hessel et al. 2021)
 *   pickscore   exp(logit_scale) cos: PickScore v1 (Kirstain et al. 2023); about 15..25
 *   hpsv2       cos: HPS v2 and v2.1 (Wu et al. 2023); about 0.2..0.35
 *
 * Thread rule: as clip.h. */
#ifndef DAGLINE_REWARDS_CLIP_REWARD_H
#define DAGLINE_REWARDS_CLIP_REWARD_H

#include "base/err.h"
#include "io/image.h"

#include <stddef.h>

enum clip_reward_kind {
    CLIP_REWARD_AESTHETIC,
    CLIP_REWARD_CLIPSCORE,
    CLIP_REWARD_PICKSCORE,
    CLIP_REWARD_HPSV2,
    CLIP_REWARD_KINDS
};
extern const char *const clip_reward_names[CLIP_REWARD_KINDS];

struct clip_reward;

/* folder: the CLIP model's; head: a safetensors file, for CLIP_REWARD_AESTHETIC alone.  threads: 0 for as many as the
 * machine has. */
int clip_reward_open(struct clip_reward **out, enum clip_reward_kind kind, const char *folder, const char *head,
                     int threads, struct err *e) MUST_USE;
void clip_reward_close(struct clip_reward *r); /* accepts NULL */

/* Bytes of weights and of their work memory so far. */
size_t clip_reward_bytes(const struct clip_reward *r);

/* values: [n] */
int clip_reward_of(struct clip_reward *r, const struct image *pictures, const char *const *prompts, size_t n,
                   double *values, struct err *e) MUST_USE;

#endif
