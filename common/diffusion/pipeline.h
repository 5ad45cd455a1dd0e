/* A model folder ready to use: text encoder, UNet, VAE and schedule, each behind its data-parallel runner.
 * What the sampler, the trainer, `dagline generate` and the evaluation share.
 *
 * Latents are [B,H,W,C] in the engine's order (C fastest), in the unit that the UNet works in (already
 * multiplied by the VAE's scaling factor).  Conditions are the text encoder's last hidden states [L,d],
 * encoded once per prompt and cached (the text encoder is frozen here).  Guidance w: out = u + w (c - u)
 * with u at the empty prompt; w = 1 runs the conditional branch alone.
 *
 * A policy is the UNet's trained part as safetensors bytes: all weights (diffusers names), or low-rank adapters
 * (PEFT names lora_A / lora_B).  The base model is the policy without bytes.
 *
 * Errors: a folder or policy that does not fit, by name of field or weight; ERR_NONFINITE from predict
 * and decode.  Thread rule: one thread at a time. */
#ifndef DAGLINE_DIFFUSION_PIPELINE_H
#define DAGLINE_DIFFUSION_PIPELINE_H

#include "base/err.h"
#include "diffusion/schedule.h"
#include "nn/param.h"
#include "nn/pool.h"
#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Conditions kept; the least recently used ones go. */
#define PIPELINE_PROMPTS_MAX 4096

struct pipeline_options {
    int threads;     /* workers; 0: one for each CPU that the process may use */
    size_t chunk;    /* samples of one worker at a time; 0: chosen by the latent's size */
    bool train;      /* pipeline_train_* will be called */
    size_t lora_rank; /* 0: all weights of the UNet are the policy; else adapters on the attention projections */
    uint32_t latent_height, latent_width; /* 0: sample_size of the UNet; else multiples of 2^(levels - 1) */
};

struct pipeline;

struct pipeline_shape {
    size_t latent_channels, latent_height, latent_width; /* the config's sample size */
    size_t latent_elements;
    size_t image_height, image_width;
    size_t tokens, condition_width; /* L, d */
};

int pipeline_open(struct pipeline **out, const char *folder, const struct pipeline_options *o,
                  struct err *e) MUST_USE;
/* Accepts NULL. */
void pipeline_close(struct pipeline *p);

const struct pipeline_shape *pipeline_shape(const struct pipeline *p);
const struct schedule *pipeline_schedule(const struct pipeline *p);
/* The workers, for other networks that take turns with this one. */
struct pool *pipeline_pool(struct pipeline *p);
/* Bytes of weights, prepared forms and the work memory planned so far. */
size_t pipeline_bytes(const struct pipeline *p);

/* The condition of a prompt, [tokens,condition_width]; valid until PIPELINE_PROMPTS_MAX other prompts were
 * asked for since. *truncated (may be NULL): the prompt had more tokens than fit. */
int pipeline_condition(struct pipeline *p, const char *prompt, const real **condition,
                       bool *truncated, struct err *e) MUST_USE;

/* out [B, latent_elements] (guided) at latents x, timesteps t [B] and conditions c [B] (pointers from
 * pipeline_condition; repeated pointers are welcome).  out_cond, unless NULL, gets the conditional
 * branch alone, which forward-looking rewards are predicted from. */
int pipeline_predict(struct pipeline *p, real *out, real *out_cond, const real *x, const double *t,
                     const real *const *c, size_t B, double guidance, struct err *e) MUST_USE;

/* pipeline_predict of the base model, whatever the policy is (not during a train_forward/backward pair). */
int pipeline_predict_base(struct pipeline *p, real *out, const real *x, const double *t,
                          const real *const *c, size_t B, double guidance, struct err *e) MUST_USE;

/* Images from latents [B, latent_elements]: rgb [B, image_height, image_width, 3]. */
int pipeline_decode(struct pipeline *p, uint8_t *rgb, const real *latents, size_t B,
                    struct err *e) MUST_USE;

/* ---- the policy ---- */

/* Puts the policy in place of the current one; n == 0: back to the base model. On an error the old one stays. */
int pipeline_policy_set(struct pipeline *p, const void *bytes, size_t n, struct err *e) MUST_USE;
/* The same from a file. */
int pipeline_policy_load(struct pipeline *p, const char *path, struct err *e) MUST_USE;
/* The current one as safetensors bytes (float32, mem_free). The same weights give the same bytes. */
int pipeline_policy_get(const struct pipeline *p, uint8_t **bytes, size_t *n,
                        struct err *e) MUST_USE;

/* ---- training (options.train) ---- */

/* The UNet's registry: trainable parameters are the policy.  After changing values: pipeline_touch. */
struct params *pipeline_params(struct pipeline *p);
int pipeline_touch(struct pipeline *p, struct err *e) MUST_USE;

/* Largest B that one train_forward takes. */
size_t pipeline_train_batch_max(const struct pipeline *p);

/* pipeline_predict that keeps what the backward pass needs ... */
int pipeline_train_forward(struct pipeline *p, real *out, const real *x, const double *t,
                           const real *const *c, size_t B, double guidance,
                           struct err *e) MUST_USE;
/* ... and that pass, once per forward: adds dL/d(parameters) into grads [params_grad_count]. */
int pipeline_train_backward(struct pipeline *p, real *grads, const real *d_out,
                            struct err *e) MUST_USE;

#endif
