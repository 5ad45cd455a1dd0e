/* The optimiser of one registry: AdamW (adamw.h) over everything that is trainable, with its gradient slab, its moments
 * and, if asked for, an exponential moving average of the values.  All slabs have the layout of
 * params_grad_count, so that saving the state is saving them and the number of steps.
 * Thread rule: one thread, while no graph of the registry runs. */
#ifndef DAGLINE_NN_OPTIM_H
#define DAGLINE_NN_OPTIM_H

#include "base/err.h"
#include "nn/adamw.h"
#include "nn/param.h"
#include "nn/pool.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct optim {
    struct params *params; /* borrowed */
    struct pool *pool;     /* borrowed; NULL: all on the calling thread */
    size_t count;          /* numbers in each slab */
    real *grads, *m, *v;   /* owned [count] */
    real *average;         /* owned [count], or NULL */
};

/* What is trainable must not change afterwards.  The average starts at the current values. */
int optim_open(struct optim *o, struct params *params, struct pool *pool, bool average, struct err *e) MUST_USE;
/* Accepts zeroed memory. */
void optim_done(struct optim *o);

void optim_zero_grads(struct optim *o);

/* ERR_NONFINITE names the parameter. */
int optim_grad_norm(const struct optim *o, double *norm, struct err *e) MUST_USE;

/* One step from the gradients times grad_factor; `step` counts from 1.  Touches the registry.  The same bits
 * whatever the number of threads. */
void optim_step(struct optim *o, const struct adamw_settings *s, uint64_t step, double grad_factor);

/* average += (1 - decay)(value - average) */
void optim_average(struct optim *o, double decay);
/* Exchanges values and averages (to save or try the averaged model, and back). */
void optim_swap_average(struct optim *o);

#endif
