/* A sheet of samples: fixed prompts as rows, fixed seeds as columns, the prompt and the judge's scores beside them. */
#ifndef DAGLINE_DAGLINE_GRID_H
#define DAGLINE_DAGLINE_GRID_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"

#include <stdint.h>

/* Eight prompts that go from easy to hard, with eight pictures each. */
int grid_of_prompts(const char *path, struct pipeline *p, const struct transition_kernel *kernels, int steps,
                    double guidance, uint64_t seed, struct err *e) MUST_USE;

#endif
