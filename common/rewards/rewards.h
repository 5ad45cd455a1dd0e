/* The built-in rewards: functions of one 8-bit RGB picture, of any size, that need no model.
 *
 *   jpeg_incompressibility   size in kB (1000 bytes) as JPEG of quality 95, 4:2:0
 *   jpeg_compressibility     minus the same (Black et al. 2023, "Training Diffusion Models with RL")
 *   colourfulness            Hasler and Suesstrunk 2003, M / 100
 *   hue_warm                 (mean red - mean blue) / 255, in [-1,1]
 *   brightness               mean luma of Rec. 601 / 255, in [0,1]
 *
 * Thread rule: no state; any thread. */
#ifndef DAGLINE_REWARDS_REWARDS_H
#define DAGLINE_REWARDS_REWARDS_H

#include "base/err.h"
#include "io/image.h"

enum reward_kind {
    REWARD_JPEG_INCOMPRESSIBILITY,
    REWARD_JPEG_COMPRESSIBILITY,
    REWARD_COLOURFULNESS,
    REWARD_HUE_WARM,
    REWARD_BRIGHTNESS,
    REWARD_KIND_COUNT
};

extern const char *const reward_names[REWARD_KIND_COUNT];

/* ERR_INVALID lists the names there are. */
int reward_kind_of(enum reward_kind *kind, const char *name, struct err *e) MUST_USE;

/* Fails only where there is no memory for the JPEG. */
int reward_of(double *value, enum reward_kind kind, const struct image *image,
              struct err *e) MUST_USE;

/* sqrt(s_rg^2 + s_yb^2) + 0.3 sqrt(m_rg^2 + m_yb^2), rg = R - G, yb = (R + G) / 2 - B over 0..255,
 * s and m the population's standard deviation and mean; divided by 100. */
double reward_colourfulness(const struct image *image);

double reward_hue_warm(const struct image *image);
double reward_brightness(const struct image *image);

#endif
