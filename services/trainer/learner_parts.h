/* The learner from inside: what learner.c (life and update), micro_batch.c (a part of a batch through the networks) and
 * learner_state.c (what survives) share.  Others include learner.h. */
#ifndef DAGLINE_TRAINER_LEARNER_PARTS_H
#define DAGLINE_TRAINER_LEARNER_PARTS_H

#include "diffusion/logflow.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "trainer/advantage.h"
#include "trainer/learner.h"

struct learner {
    struct learner_options o;
    const struct pipeline_shape *shape;
    struct pipeline *pipeline;
    struct optim policy, flow;
    struct params *flow_params;
    struct logflow_config flow_config;
    struct logflow_shape flow_shape;
    struct runner *flow_runner;
    uint64_t step;
    size_t states_max; /* of a micro-batch */

    /* the micro-batch under way, [states_max] each */
    size_t n_states, n_policy, n_transitions;
    uint32_t *place;                  /* of each trajectory's states among `states` */
    const struct trajectory **states; /* whose state it is */
    real *x, *out, *d_out;     /* [.,D] */
    double *times;
    const real **conditions;
    real *contexts;            /* [.,L,d], gathered for the flow network */
    real *flow_out, *d_flow;   /* [.,1] */
    real *base;                /* [.,D] the base model's output, where the objective wants it */
    /* its transitions */
    const struct trajectory_transition **transition;
    uint32_t *from, *to;       /* indices into states */
    real *noise;               /* [D] */
    /* RATIO_RESAMPLED, else NULL: the actions that the current policy draws in place of the stored ones */
    size_t n_fresh;
    uint32_t *fresh_row;                /* of each transition, or NO_ROW */
    real *fresh, *fresh_contexts, *fresh_flow; /* [.,D], [.,L,d], [.,1] */
    double *fresh_times;

    /* the whole update */
    struct objective_needs needs;
    struct advantage *advantage, *advantage_next; /* DDPO alone, else NULL; with the update under way */
    struct objective_transition *in;         /* [transitions_room] */
    struct objective_cotangent *cotangent;   /* [transitions_room] */
    struct objective_chain *chain;           /* [chains_room] */
    size_t transitions_room, chains_room;
};

/* ---- a micro-batch: whole trajectories, whose states and transitions stand in the arrays above ---- */

/* Memory for so many states at one time; micro_batch_bytes: what it takes. */
int micro_batch_open(struct learner *l, size_t states_max, struct err *e) MUST_USE;
void micro_batch_close(struct learner *l);
uint64_t micro_batch_bytes(const struct learner *l);

/* Lists the states of trajectories [first, last) of the batch, those that a transition starts from first, and every
 * transition over them. */
void micro_batch_gather(struct learner *l, struct trajectory *const *batch, size_t first, size_t last);

/* Policy and flow at the gathered states; `train`: kept for a backward pass. */
int micro_batch_forward(struct learner *l, bool train, struct err *e) MUST_USE;

/* What an objective sees of transition i, after a forward pass. */
struct objective_transition micro_batch_transition(const struct learner *l, size_t i);

/* Sets dL/d out of transition i and adds dL/d flow of its ends, which the caller has zeroed; returns the value of the pulls
 * towards the rollout's and the base model's output. `count`: transitions of the whole update. */
double micro_batch_cotangent(struct learner *l, size_t i, const struct objective_cotangent *c, bool terminal, size_t count);

/* Adds to the gradients of policy and flow. */
int micro_batch_backward(struct learner *l, struct err *e) MUST_USE;

#endif
