/* The picture of the improvement: fixed prompts and seeds, drawn by the base model and again along the run; below them the
 * curves of reward and diversity. */
#ifndef DAGLINE_DAGLINE_SHOWCASE_H
#define DAGLINE_DAGLINE_SHOWCASE_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"

#include <stdint.h>

#define SHOWCASE_ROWS 8
#define SHOWCASE_COLUMNS_MAX 6
#define SHOWCASE_POINTS_MAX 100000

struct showcase;

/* prompts: NULL for the built-in eight of the embedded world, else SHOWCASE_ROWS texts. judged: the
 * pictures are of the embedded world and get their alignment score beneath. */
struct showcase *showcase_new(struct pipeline *p, const struct transition_kernel *kernels, int steps, double guidance,
                              uint64_t seed, const char *const *prompts, bool judged);
void showcase_free(struct showcase *s);

/* Draws the next column with what the pipeline applies now; `title` as "base", "1/4", "end".  A column of an
 * existing title is replaced. Returns the mean score of the column in *score (NaN where not judged). */
int showcase_column(struct showcase *s, const char *title, double *score, struct err *e) MUST_USE;

/* One point of the curves; NaN leaves a gap. */
void showcase_point(struct showcase *s, double step, double reward, double reward_sd, double spread);

/* Reward and spread are drawn relative to the first points where the text says so. */
int showcase_write(const struct showcase *s, const char *path, const char *title, const char *subtitle,
                   struct err *e) MUST_USE;

#endif
