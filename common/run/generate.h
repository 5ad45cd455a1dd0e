/* Pictures from prompts: the chain without its bookkeeping. What `dagline generate`, the evaluation and
 * the sample grids share. */
#ifndef DAGLINE_RUN_GENERATE_H
#define DAGLINE_RUN_GENERATE_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"

#include <stddef.h>
#include <stdint.h>

struct generate_request {
    const struct transition_kernel *kernels; /* [steps] */
    int steps;
    double guidance;
    uint64_t seed;
    const char *const *prompts; /* [count] */
    const uint64_t *streams;    /* [count]: picture i is a function of (seed, streams[i], prompt, weights) */
    size_t count;
};

/* rgb [count, image_height, image_width, 3].  Works in batches of GENERATE_BATCH, which changes nothing in the
 * pictures.  `poll` (may be NULL) is called between steps; its error ends the work. */
#define GENERATE_BATCH 64
int generate(uint8_t *rgb, struct pipeline *p, const struct generate_request *q,
             int (*poll)(void *, struct err *), void *arg, struct err *e) MUST_USE;

#endif
