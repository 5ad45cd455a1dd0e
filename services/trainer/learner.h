/* One update of policy and flow network from a batch of scored trajectories, and the state that has to
 * survive a crash: policy, flow, both optimisers, the number of updates.  Knows nothing of sockets.
 *
 * An update is a function of (state, batch, settings) alone, bit for bit for a given number of threads: the trajectories
 * are worked through in the order given, in micro-batches of whole trajectories, and every sum has a fixed order.
 * Equations: docs/numerics.md.
 * Thread rule: one thread; the engine's workers are inside. */
#ifndef DAGLINE_TRAINER_LEARNER_H
#define DAGLINE_TRAINER_LEARNER_H

#include "base/err.h"
#include "diffusion/pipeline.h"
#include "diffusion/schedule.h"
#include "rollout/trajectory.h"
#include "objective/objective.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LEARNER_FLOW_LEVELS_MAX 6
#define LEARNER_QUARTERS 4
#define LEARNER_KL_STATES_MAX 256

/* What the forward-looking reward of a state is worth: psi = beta * weight(t) * r. */
enum learner_psi {
    PSI_BEHAVIOUR, /* 1: as the behaviour policy predicted it at rollout (cached per state) */
    PSI_ABAR,      /* abar_t */
    PSI_NONE,      /* 0: plain detailed balance */
};

struct learner_options {
    const char *model_folder;
    int threads;
    size_t lora_rank;
    uint64_t seed;            /* of run: noise addresses, initial flow */
    double guidance;
    uint32_t latent_height, latent_width; /* 0: sample_size of the model */
    const struct transition_kernel *kernels; /* [steps]; borrowed, read by updates only */
    uint32_t steps;

    /* scale 0: 1/D; beta: reached after beta_warmup of the updates; clip 0: 1.64 nats in the unit of scale, which is
     * 1e-4 for a latent of Stable Diffusion */
    struct objective_settings objective;
    double beta_warmup;
    uint64_t updates_total;
    enum learner_psi psi;
    double proximal;          /* lambda of lambda mean (out - out_rollout)^2 */
    double anchor;            /* the same against the base model's output */

    double lr, flow_lr;
    double lr_final;          /* share of both at the last update; falls over the second half */
    double beta1, beta2, eps, weight_decay;
    double grad_norm_max;     /* of policy and flow separately; 0: off */
    uint32_t flow_levels, flow_channels[LEARNER_FLOW_LEVELS_MAX];
    double flow_scale;        /* log F~ = flow_scale * the network's output */
    uint32_t micro_batch;     /* states of a pass at most, whole trajectories; 0: as many as memory allows */
    uint32_t kl_states;       /* states on which the distance to the base model is measured, at most a micro-batch; 0: never */
};

struct learner_stats {
    double loss, delta_mean, delta_abs, delta_rms;
    double log_pf, log_pb;             /* scaled by S, mean over transitions */
    double log_ratio;                  /* mean of S (log p_F - log p_F at rollout) */
    double flow_mean;
    double grad_norm, flow_grad_norm;
    double beta;
    double reward_mean, reward_sd;     /* of the final images of the batch */
    double spread;                     /* mean pairwise distance of final latents within a prompt */
    double path_kl;                    /* of whole chain to the base model, nats; NaN where not measured */
    double weight_mean, weight_ess;    /* of the objective's ratios: 1 and 1 without any; ess as a share of the transitions */
    double clipped;                    /* share of transitions whose gradient was cut off */
    struct {
        double delta_abs, clipped;     /* NaN where the batch has no transition there */
    } quarter[LEARNER_QUARTERS];       /* of the chain, from noise on */
    uint64_t transitions;
};

struct learner;

int learner_open(struct learner **out, const struct learner_options *o, struct err *e) MUST_USE;
void learner_close(struct learner *l);

const struct schedule *learner_schedule(const struct learner *l);
/* Weights, gradients, optimiser state and work memory; and one state's latent. */
uint64_t learner_bytes(const struct learner *l);
uint64_t learner_latent_bytes(const struct learner *l);

/* Number of updates made. */
uint64_t learner_step(const struct learner *l);

/* One update.  delta_abs [n], unless NULL, gets each trajectory's mean |delta|.  `poll`, unless NULL, is called
 * between micro-batches; its error ends the update and leaves the learner as it was before.
 * ERR_NONFINITE names the step and the quantity; the weights are then as before. */
int learner_update(struct learner *l, struct trajectory *const *batch, size_t n,
                   struct learner_stats *stats, double *delta_abs, int (*poll)(void *, struct err *),
                   void *arg, struct err *e) MUST_USE;

/* The policy as safetensors bytes (mem_free). */
int learner_policy(const struct learner *l, uint8_t **bytes, size_t *n, struct err *e) MUST_USE;

/* Everything that resuming needs, as named safetensors blobs; restoring them and repeating the same
 * batches gives the same state, bit for bit. */
#define LEARNER_BLOBS 3 /* the optimizer's holds what else the objective remembers, too */
struct learner_blob {
    const char *name; /* "policy", "flow", "optimizer" */
    uint8_t *bytes;   /* mem_free */
    size_t n;
};
int learner_save(const struct learner *l, struct learner_blob out[LEARNER_BLOBS],
                 struct err *e) MUST_USE;
int learner_restore(struct learner *l, const struct learner_blob in[LEARNER_BLOBS],
                    struct err *e) MUST_USE;

#endif
