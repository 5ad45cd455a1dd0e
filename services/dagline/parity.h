/* The engine against reference values of another implementation.  A folder holds
 *   model/                        a diffusers model folder
 *   reference.safetensors         text.ids -> text.hidden; unet.sample, unet.timestep,
 *                                 unet.encoder_hidden_states -> unet.out; with unet.cotangent,
 *                                 unet.grad.sample and unet.grad.encoder_hidden_states;
 *                                 vae.image -> vae.mean, vae.logvar; vae.latent -> vae.decoded;
 *                                 lora.out, the UNet with the adapter below
 *   unet_param_grads.safetensors  dL/d(parameter) of every UNet parameter
 *   lora/pytorch_lora_weights.safetensors
 * A group whose values are not in the file is left out; at least one must be there. */
#ifndef DAGLINE_PARITY_H
#define DAGLINE_PARITY_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

#define PARITY_LIMIT_OUTPUT 2e-5
#define PARITY_LIMIT_GRADIENT 2e-4

struct parity_line {
    const char *name;
    double error; /* largest |got - want| over largest |want|; infinite where got is not finite */
    double limit;
};

typedef void parity_each(void *arg, const struct parity_line *line);

/* reference: the BLAS path; otherwise the fast kernels. */
int parity_run(const char *folder, bool reference, parity_each *each, void *arg,
               struct err *e) MUST_USE;

#endif
