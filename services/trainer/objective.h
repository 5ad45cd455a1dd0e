/* Training objectives: scalars of a transition in, coefficients out.  Pure: no I/O, no clock, no
 * random numbers, no allocation, no network.  Mathematics: "Improving GFlowNets for Text-to-Image
 * Diffusion Alignment" (arXiv 2406.00633); symbols as in docs/numerics.md.
 *
 * An objective never sees a tensor.  Every one of them reaches the policy through log p_F alone, and
 * d log p_F / d eps is closed-form (diffusion/step.h), so that dL/d(log p_F) is all it must say:
 *     dL/d eps_i = d_log_pf * c_eps * z_i / sqrt(v),   z = (x_s - mu)/sqrt(v).
 *
 * Units: log-densities come in as sums over the D latent elements, in nats.  Inside, they are
 * multiplied by `scale` (S): 1 = nats, 1/D = the published convention (mean over elements).  Rewards
 * are multiplied by `beta`, flows are the network's output as it is; both are in the scaled unit. */
#ifndef DAGLINE_TRAINER_OBJECTIVE_H
#define DAGLINE_TRAINER_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct objective_settings {
    double scale;      /* S */
    double beta;       /* of this step, annealed by the caller: log R = beta * r */
    double delta_max;  /* Huber threshold on |delta|; 0: squared loss everywhere */
};

/* One transition x_t -> x_s of the batch. */
struct objective_transition {
    double log_pf;    /* log p_F(x_s | x_t) under the current policy */
    double log_pb;    /* log q(x_t | x_s), the noising kernel */
    double flow_t;    /* log F~(x_t, t, c) */
    double flow_s;    /* log F~(x_s, s, c); not read where s is terminal */
    double psi_t;     /* forward-looking reward at t, weighted, before beta */
    double psi_s;     /* the same at s; where s is terminal, the final image's reward itself */
    bool terminal;    /* log F(x_s) := beta * psi_s, a constant */
};

struct objective_cotangent {
    double delta;     /* residual of the balance condition, scaled unit */
    double loss;      /* this transition's share of the mean */
    double d_log_pf;  /* dL / d log p_F (sum, nats) */
    double d_flow_t;  /* dL / d flow_t */
    double d_flow_s;  /* dL / d flow_s; 0 where s is terminal */
};

/* Forward-looking detailed balance (DAG-DB):
 *   delta = f_t + beta psi_t + S log p_F - S log q - (f_s + beta psi_s),   L = sum delta^2 / count.
 * `count` is the number of transitions of the whole update, so that micro-batches add up to its mean.
 * psi and log q are constants; gradient flows into f_t, f_s and log p_F (no target network).
 * With delta_max the loss beyond it is 2 delta_max |delta| - delta_max^2. */
void objective_dag_db(struct objective_cotangent *out, const struct objective_transition *in, size_t n,
                      size_t count, const struct objective_settings *o);

/* Linear warm-up of beta over the first `fraction` of `steps_total` updates; `step` counts from 0.
 * The published run starts at 0 and is full from half of the run on: fraction 0.5. */
double objective_beta(double beta, double fraction, uint64_t step, uint64_t steps_total);

/* The share of the learning rate at a step: 1 over the first half of the updates, then falling linearly to `last`
 * at the final one. */
double objective_decay(double last, uint64_t step, uint64_t steps_total);

#endif
