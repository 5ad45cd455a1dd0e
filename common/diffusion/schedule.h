/* The noise schedule and the chain of transitions that follows from it.
 *
 * schedule_config is scheduler_config.json (diffusers DDIMScheduler, or PNDMScheduler taken as the
 * configuration of a DDIM sampler); schedule holds abar = alphas_cumprod; schedule_plan works out
 * one transition_kernel per sampling step, and everything after that (diffusion/step.h) is linear
 * algebra on it.
 *
 * Notation: abar_t in [0,1], x_t = sqrt(abar_t) x0 + sqrt(1-abar_t) eps, a = abar_t/abar_s for a
 * step t -> s (s is the cleaner end), out = what the network returns (eps, v or x0 by
 * prediction_type). Sources: DDIM (arXiv 2010.02502) eq. 12 and 16; diffusers scheduling_ddim.py;
 * zero terminal SNR arXiv 2305.08891 algorithm 1.
 *
 * Pure: no allocation, no I/O, no clock.  Doubles throughout.  A filled struct may be shared by
 * threads. */
#ifndef DAGLINE_DIFFUSION_SCHEDULE_H
#define DAGLINE_DIFFUSION_SCHEDULE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define SCHEDULE_TRAIN_STEPS_MAX 4096

enum beta_schedule { BETA_LINEAR, BETA_SCALED_LINEAR, BETA_SQUAREDCOS_CAP_V2 };
enum prediction_type { PREDICTION_EPSILON, PREDICTION_V, PREDICTION_SAMPLE };
enum timestep_spacing { SPACING_LEADING, SPACING_TRAILING, SPACING_LINSPACE };

struct schedule_config {
    int num_train_timesteps;
    double beta_start, beta_end;
    enum beta_schedule beta_schedule;
    enum prediction_type prediction_type;
    enum timestep_spacing timestep_spacing;
    int steps_offset;
    bool clip_sample;
    bool set_alpha_to_one;
    bool rescale_betas_zero_snr;
};

/* What DDIMScheduler takes for absent keys. */
struct schedule_config schedule_config_default(void);

/* Reads the text of a scheduler_config.json (`where` names it in messages).  A value that this
 * engine does not implement is refused by field and value, never ignored. */
int schedule_config_parse(struct schedule_config *c, const char *json, size_t n, const char *where,
                          struct err *e) MUST_USE;

/* What StableDiffusionPipeline does to the scheduler it is built with: steps_offset 1, clip_sample
 * false. True where it changed something (worth a log line). */
bool schedule_config_as_pipeline(struct schedule_config *c);

struct schedule {
    struct schedule_config config;
    double abar[SCHEDULE_TRAIN_STEPS_MAX]; /* [config.num_train_timesteps], falling */
};

/* ERR_INVALID where the numbers make no schedule (betas outside (0,1), too many steps). */
int schedule_init(struct schedule *s, const struct schedule_config *c, struct err *e) MUST_USE;

/* timesteps[0..steps-1], falling.  1 <= steps <= num_train_timesteps, and every step inside the
 * schedule. */
int schedule_timesteps(const struct schedule *s, int steps, int *timesteps, struct err *e) MUST_USE;

/* ---- transitions --------------------------------------------------------------------------------
 */

/* The variance v of P_F(x_s | x_t) = N(mean, v I), with Q = 1 - a and
 * v_small = (1-abar_s)/(1-abar_t) Q, the posterior variance of a known x0. */
enum variance_mode {
    VARIANCE_SMALL,  /* v = eta^2 v_small: DDIM(eta); eta 1 is DDPM's ancestral sampler */
    VARIANCE_LARGE,  /* v = Q: exact for unit-variance data */
    VARIANCE_FLOOR,  /* v = max(v_small, kappa Q): keeps the last steps from dominating the score */
    VARIANCE_CUSTOM, /* v = custom[k] */
};

struct plan_options {
    int steps;
    double eta; /* in [0,1]; modes other than SMALL keep the eta=1 mean and need 1 */
    enum variance_mode variance;
    double floor_kappa;   /* VARIANCE_FLOOR: in (0,1] */
    const double *custom; /* VARIANCE_CUSTOM: [steps], each > 0 */
    bool last_step_mean;  /* the last step takes its mean, has no density, is not trained */
    bool clamp_last;      /* the step below 0 ends at abar[0] even where set_alpha_to_one says 1:
                           * the published training rule, which keeps the last variance positive */
};

/* One step t -> s: mean = mean_x x_t + mean_out out, predicted x0 = x0_x x_t + x0_out out.
 * mean_out is d(mean)/d(out): the c_eps of the equations where the network predicts eps. */
struct transition_kernel {
    int t, s; /* timesteps; s < 0 is the clean end */
    double abar_t, abar_s;
    double mean_x, mean_out;
    double x0_x, x0_out;
    double var;           /* v per element; 0 is a deterministic step */
    double q_gain, q_var; /* q(x_t|x_s) = N(q_gain x_s, q_var I): sqrt(a), 1-a; 0 is no density */
    bool stochastic; /* sampled with noise and trainable: v > 0, Q > 0 and not last_step_mean's */
};

/* One kernel from its two ends; abar_s >= abar_t.  v by mode with o->eta, o->floor_kappa, `custom`.
 */
int transition_kernel_init(struct transition_kernel *k, double abar_t, double abar_s,
                           enum prediction_type prediction, const struct plan_options *o,
                           double custom, struct err *e) MUST_USE;

/* kernels[o->steps], from noise to image; s of each is t - num_train_timesteps/steps.  Refuses
 * clip_sample (its mean is not linear in the output) and an unusable combination of options. */
int schedule_plan(struct transition_kernel *kernels, const struct schedule *s,
                  const struct plan_options *o, struct err *e) MUST_USE;

/* True where diffusers' own DDIM would end elsewhere than this plan: set_alpha_to_one with
 * clamp_last. */
bool schedule_plan_departs(const struct schedule *s, const struct plan_options *o);

#endif
