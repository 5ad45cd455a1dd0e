/* What the reward of a run says about a model, whatever the reward is: prompts are drawn, and `dagline-scorer score` asks
 * for each of them with the settings of the run.  Picture j of prompt i has the same starting noise whatever the weights,
 * so that before and after are paired. */
#ifndef DAGLINE_DAGLINE_SCORED_H
#define DAGLINE_DAGLINE_SCORED_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"
#include "run/prompt_set.h"

#include <stddef.h>
#include <stdint.h>

struct scored_options {
    const struct transition_kernel *kernels; /* [steps] */
    int steps;
    double guidance;
    uint64_t seed; /* of the pictures */
    const struct prompt_set *prompts;
    size_t count;    /* of the prompts, evenly over the set; at most prompts->count */
    size_t pictures; /* of each */
    const char *binaries, *config; /* folder of dagline-scorer; the settings that it reads */
};

/* score [count]: the mean reward of each prompt's pictures, which stay in `folder` (made) as PROMPT-PICTURE.png.
 * ERR_UNAVAILABLE, with what the scorer said, where the reward cannot be had; ERR_CLOSED when a signal to end waits. */
int scored(double *score, struct pipeline *p, const struct scored_options *o, const char *folder, struct err *e) MUST_USE;

#endif
