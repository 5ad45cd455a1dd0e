/* The embedded model's folder before training: configs, scheduler and tokenizer of a Stable Diffusion in
 * miniature (64x64 pictures, latents of 16x16x4), in the diffusers layout. */
#ifndef DAGLINE_DAGLINE_SHAPES_MODEL_H
#define DAGLINE_DAGLINE_SHAPES_MODEL_H

#include "base/err.h"

/* Writes everything but weights; the folder is made. */
int shapes_model_write(const char *folder, double vae_scaling_factor, struct err *e) MUST_USE;

#endif
