/* Rules between settings of the run and settings of the trainer, which two services own.  The trainer holds them when it
 * has the run, `dagline run` before anything starts. */
#ifndef DAGLINE_RUN_RUN_RULES_H
#define DAGLINE_RUN_RUN_RULES_H

#include "base/err.h"
#include "objective/objective.h"
#include "wire/codec.h"

/* Whether the run gives the objective what it reads.  ERR_INVALID says which setting to change. */
int run_rules_objective(const struct run_spec *run, enum objective_kind kind, struct err *e) MUST_USE;

/* batch: trajectories of one update. */
int run_rules_batch(const struct run_spec *run, uint32_t batch, struct err *e) MUST_USE;

#endif
