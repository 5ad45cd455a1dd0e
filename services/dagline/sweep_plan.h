/* The runs of a sweep, from its command line.  Arguments are, in any order:
 *
 *     KEY=V1,V2,...   an axis: every value with every value of the other axes; run.seed among them makes repetitions
 *     NAME.yaml       a variant: a file of settings that go together; with several, each axis is run with each
 *
 * Runs that differ in run.seed alone are one group, a row of the table.  Pure.  Threads: any. */
#ifndef DAGLINE_DAGLINE_SWEEP_PLAN_H
#define DAGLINE_DAGLINE_SWEEP_PLAN_H

#include "base/err.h"

#include <stddef.h>

#define SWEEP_AXES_MAX 16
#define SWEEP_VALUES_MAX 64 /* of an axis; as many variants */
#define SWEEP_RUNS_MAX 4096
#define SWEEP_LABEL_BYTES_MAX 256

struct sweep_run {
    size_t group;
    const char *variant;                /* path, borrowed from the arguments; NULL: none was given */
    size_t settings;
    const char *key[SWEEP_AXES_MAX + 1];  /* owned by the plan */
    const char *value[SWEEP_AXES_MAX + 1];
};

struct sweep_plan {
    size_t runs, groups;
    struct sweep_run *run;                /* [runs], the first seed of every group before the second of any */
    char (*label)[SWEEP_LABEL_BYTES_MAX]; /* [groups]: "dag_kl lr=1e-4"; "as given" where nothing varies */
    char *text;                           /* of keys and values */
};

/* ERR_USAGE for an argument that is neither, an axis given twice, an empty value, or more than the limits. */
int sweep_plan_read(struct sweep_plan *out, const char *const *arguments, size_t count, struct err *e) MUST_USE;
void sweep_plan_done(struct sweep_plan *p);

#endif
