/* The section `trainer`. */
#ifndef DAGLINE_TRAINER_PARAMS_H
#define DAGLINE_TRAINER_PARAMS_H

#include "base/config.h"
#include "objective/objective.h"

/* Choices are in the order of enum replay_selector, objective_ratio and learner_psi. */
#define TRAINER_PARAMS(P, S)                                                                              \
    P(S, text, cache, "data/cache", "", "1000", "", "folder for the model's files, fetched from the store") \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")                          \
    P(S, integer, batch, "64", "1", "4096", "items", "trajectories of one update")                        \
    P(S, choice, selector, "fifo", "uniform|fifo|lifo|recent|rank_delta|rank_reward", "", "",             \
      "which trajectories of the replay an update takes")                                                 \
    P(S, real, priority_k, "0.01", "1e-6", "1000", "", "k of the rank selectors: p ~ 1 / (k N + rank)")   \
    P(S, integer, checkpoint_every, "5", "1", "1000000", "updates", "between checkpoints")                \
    P(S, choice, objective, "dag_db", OBJECTIVE_NAMES, "", "", "what is trained towards (docs/numerics.md)") \
    P(S, real, scale, "0", "0", "1", "", "S on log-densities: 0 = 1/D (mean over elements), 1 = nats")    \
    P(S, real, beta, "50", "0", "1e9", "", "log R = beta * reward, in the unit of scale")                 \
    P(S, real, beta_warmup, "0.5", "0", "1", "share", "beta grows linearly over this share of the updates") \
    P(S, choice, psi, "behaviour", "behaviour|abar|none", "", "",                                         \
      "weight of the forward-looking reward: 1, abar_t, or 0 (plain detailed balance)")                   \
    P(S, real, delta_max, "0", "0", "1e9", "", "Huber threshold on the residual; 0: squared everywhere")  \
    P(S, real, lambda, "0.9", "1e-6", "1e6", "", "dag_subtb: weight lambda^length of a stretch")            \
    P(S, real, policy_weight, "1", "0", "1e9", "", "dag_kl: of the policy's part beside the flow's")      \
    P(S, choice, ratio, "clipped", "none|clipped|truncated|resampled", "", "",                            \
      "dag_kl: how the actions of an older policy count; dag_db, residual_db: truncated alone; resampled: new ones") \
    P(S, real, clip, "0", "0", "1e9", "", "ddpo, dag_kl: half-width of the log-ratio, in the unit of scale; 0: 1.64 nats") \
    P(S, real, weight_max, "2", "1", "1e9", "", "bound of a truncated weight")                            \
    P(S, real, advantage_max, "5", "0", "1e9", "", "ddpo, dag_kl: bound of an advantage; 0: none")        \
    P(S, flag, standardise, "yes", "", "", "", "dag_kl: advantages over their deviation at the same step") \
    P(S, real, anchor, "0", "0", "1e9", "", "weight of mean (eps - eps of the base model)^2")             \
    P(S, real, proximal, "0", "0", "1e9", "", "weight of mean (eps - eps at rollout)^2")                  \
    P(S, integer, lora_rank, "0", "0", "1024", "", "0: all weights; else adapters on the attention projections") \
    P(S, real, lr, "6e-5", "0", "1", "1/step", "AdamW learning rate of the policy")                       \
    P(S, real, flow_lr, "2e-3", "0", "1", "1/step", "AdamW learning rate of the flow network")            \
    P(S, real, lr_final, "0.1", "0", "1", "share", "of both at the last update; they fall over the second half") \
    P(S, real, beta1, "0.9", "0", "1", "", "AdamW")                                                       \
    P(S, real, beta2, "0.999", "0", "1", "", "AdamW")                                                     \
    P(S, real, eps, "1e-8", "1e-30", "1", "", "AdamW")                                                    \
    P(S, real, weight_decay, "1e-4", "0", "1", "", "AdamW")                                               \
    P(S, real, grad_norm_max, "1", "0", "1e9", "", "gradient clipping, policy and flow apart; 0: off")    \
    P(S, text, flow_channels, "16,32,48", "", "100", "", "levels of the flow network, multiples of 8")    \
    P(S, real, flow_scale, "10", "1e-6", "1e6", "", "log F = flow_scale * the flow network's output")     \
    P(S, integer, micro_batch, "0", "0", "65536", "states", "of one pass at most; 0: as many as memory allows") \
    P(S, integer, kl_states, "16", "0", "256", "states", "on which the path-KL to the base model is measured; 0: never") \
    P(S, real, path_kl_max, "0", "0", "1e9", "nats",                                                      \
      "the run ends once the mean path-KL of ten updates is above: farther from the base model pictures fall apart; 0: never") \
    P(S, text, listen, "127.0.0.1:7714", "", "255", "", "/healthz and /metrics; empty: none")

CONFIG_STRUCT(trainer_params, TRAINER_PARAMS);
extern const struct config_table trainer_table;

struct trainer_options;
struct err;

/* Everything of `o` that is a setting of this section. */
int trainer_params_apply(struct trainer_options *o, const struct trainer_params *p, struct err *e);

#endif
