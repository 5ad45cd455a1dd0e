/* A small network trained towards a target of known answer by the objectives of the trainer: a diffusion sampler whose
 * noising process is a Brownian bridge to the origin (Sendera et al. 2024, arXiv 2402.05098).
 *
 *   x_0 = 0, T steps of dt = 1/T: x_{k+1} = x_k + dt u(x_k, t_k) + sqrt(sigma2 dt) z
 *   q(x_k | x_{k+1}) = N(t_k / t_{k+1} x_{k+1}, sigma2 dt t_k / t_{k+1})
 *
 * u is a network with a zero last layer, and with `langevin` a gain for each step and dimension, 0 at first,
 * times grad log R(x) beside it (the target's; every element at most 100); so is log F~ where the objective wants one; log Z is one number.
 * Where the target has a prior, u is the prior's drift and the network's beside it, and the objectives that keep the prior
 * have R = target / prior as their reward.
 * Forward-looking: psi(x, t) = t log R(x) + (1 - t) log N(x; 0, sigma2 t), without the second part where the prior is
 * kept; only objectives with a flow at every state read it.
 * Replay keeps final states alone; chains are made from them by q, in every other update. */
#ifndef DAGLINE_DAGLINE_TARGET_TRAIN_H
#define DAGLINE_DAGLINE_TARGET_TRAIN_H

#include "dagline/target.h"
#include "objective/objective.h"

#include <stdbool.h>
#include <stdint.h>

enum target_replay {
    TARGET_REPLAY_NONE,
    TARGET_REPLAY_UNIFORM,
    TARGET_REPLAY_RANK,  /* p ~ 1 / (0.01 N + rank by log R) */
    TARGET_REPLAY_PRIOR, /* none: every other update's chains are the prior's own, which the target must have */
    TARGET_REPLAY_LOCAL, /* RANK over what Metropolis-adjusted Langevin chains find from it, every 100 updates */
    TARGET_REPLAY_LOCAL_UNIFORM, /* ranks for where those chains start alone; what they find is taken without any, since by
                                  * log R the deepest modes would crowd out the others */
};

struct target_options {
    const struct target *target;
    enum objective_kind objective; /* one that keeps the prior wants a target that has one; DAG_KL no other actions */
    bool forward_looking, langevin;
    double lambda;                 /* OBJECTIVE_DAG_SUBTB */
    double exploration;            /* standard deviation of noise that rollouts add to every step; falls to 0 ... */
    uint64_t exploration_steps;    /* ... linearly within so many updates */
    enum target_replay replay;
    uint64_t iterations, seed;
    size_t batch, steps, samples;  /* chains of an update, T, samples of the evaluation */
    size_t width;                  /* of the networks' hidden layers */
    double lr, flow_lr, log_z_lr;
    double lr_final;               /* share of all three at the last update; they fall over the second half */
    int threads;
};

struct target_result {
    double dlogz;    /* log Z - lower bound */
    double dlogz_rw; /* |log Z - importance-weighted estimate| */
    double w2;       /* 2-Wasserstein distance to as many exact samples */
    double modes_chi2; /* of a mixture: sum (n_i - N p_i)^2 / (N p_i) over its parts, samples counted by the nearest mean */
    double far;        /* of a mixture: share of the samples more than 5 standard deviations from every mean */
    double seconds;
    uint64_t updates;  /* made; the figures above are there where it is all of them */
};

/* ERR_INVALID for options that do not go together, ERR_NONFINITE for a run that diverges (out->updates says when).  `tell`, unless NULL, hears of the evaluation every `tell_every` updates. */
int target_train(struct target_result *out, const struct target_options *o,
                 void (*tell)(void *arg, uint64_t iteration, double loss, const struct target_result *r), void *arg,
                 uint64_t tell_every, struct err *e) MUST_USE;

#endif
