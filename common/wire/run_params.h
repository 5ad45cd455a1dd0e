/* The section `run`: what a run is (protos/run.proto Run, which has the meanings).  The store reads
 * it and hands the result to everyone else; `dagline run` shares the table. */
#ifndef DAGLINE_WIRE_RUN_PARAMS_H
#define DAGLINE_WIRE_RUN_PARAMS_H

#include "base/config.h"
#include "wire/codec.h"

#define RUN_PARAMS(P, S)                                                                           \
    P(S, integer, seed, "1", "0", "", "", "every random number of the run is a function of it")    \
    P(S, integer, steps, "20", "2", "1000", "steps", "length of the denoising chain")              \
    P(S, real, eta, "1", "0", "2", "", "noise of DDIM: 1 is DDPM's variance")                      \
    P(S, real, guidance, "1", "0", "100", "", "classifier-free guidance; 1 is none")               \
    P(S, choice, variance, "floor", "small|floor|large", "", "", "variance of a step")             \
    P(S, real, variance_floor, "0.25", "0", "1000", "", "kappa of the variance `floor`")           \
    P(S, flag, last_step_mean, "yes", "", "", "",                                                  \
      "take the last step by its mean and leave it untrained; the state before it is terminal")    \
    P(S, integer, latent_height, "0", "0", "512", "", "0: sample_size of the model's UNet")        \
    P(S, integer, latent_width, "0", "0", "512", "", "0: sample_size of the model's UNet")         \
    P(S, real, transition_fraction, "1", "0.001", "1", "",                                         \
      "share of the transitions of a chain that are sent and trained on")                          \
    P(S, integer, group_size, "1", "1", "65536", "",                                               \
      "consecutive trajectories of one sampler that share a prompt")                               \
    P(S, flag, forward_looking, "yes", "", "", "", "score predicted clean images on the way too")  \
    P(S, real, forward_looking_abar, "0", "0", "1", "",                                            \
      "only at states with abar_t of at least this; nearer to noise that reward counts as 0")      \
    P(S, flag, forward_looking_base, "no", "", "", "",                                             \
      "predict them by the base model: one potential for every policy; costs a pass of the UNet")  \
    P(S, flag, decode, "yes", "", "", "",                                                          \
      "no: rewards get clean latents and no pictures (reward.backend: latents)")                   \
    P(S, flag, lockstep, "no", "", "", "",                                                         \
      "strictly on-policy: trajectory n is made by policy n / lockstep_batch")                     \
    P(S, integer, lockstep_batch, "64", "1", "65536", "items", "trajectories of one iteration")    \
    P(S, integer, iterations, "100", "1", "1000000000", "updates",                                 \
      "the run ends after so many; may be raised on a later start of the same run")

CONFIG_STRUCT(run_params, RUN_PARAMS);
extern const struct config_table run_table;

/* The fields of r that are settings; the rest (run_id, model, prompts, settings) is left alone. */
void run_params_apply(struct run_spec *r, const struct run_params *p);

#endif
