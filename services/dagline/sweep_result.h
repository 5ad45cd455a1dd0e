/* What a finished run of a sweep left behind: report.json and metrics.jsonl of its directory, as numbers and curves.
 * Threads: any. */
#ifndef DAGLINE_DAGLINE_SWEEP_RESULT_H
#define DAGLINE_DAGLINE_SWEEP_RESULT_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SWEEP_WINDOW 10 /* updates that a point of a curve is the mean of: a batch holds few prompts */

/* Of held-out prompts; the shares in 0..1. */
struct sweep_quality {
    double single, hard, soft, diversity_bits;
};

/* After each update, means of up to SWEEP_WINDOW updates before; [points] each. */
struct sweep_curves {
    size_t points;
    double *trajectories, *seconds; /* made so far; of the trainer, waiting and training */
    double *reward, *spread, *path_kl, *staleness; /* NaN where not measured */
};

struct sweep_result {
    int64_t updates, updates_wanted;
    double trajectories, seconds, reward_first, reward_last;
    char version[16]; /* the commit of the program that made it, or "" */
    bool evaluated;
    struct sweep_quality before, after;
    struct sweep_curves curves;
};

/* Whether the run in that directory made all of its updates. */
bool sweep_result_complete(const char *dir);

int sweep_result_read(struct sweep_result *out, const char *dir, struct err *e) MUST_USE;
void sweep_result_done(struct sweep_result *r);

/* Trajectories until the smoothed reward first was `level`, linear between points; NaN where it never was. */
double sweep_result_reach(const struct sweep_result *r, double level);

#endif
