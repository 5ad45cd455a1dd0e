/* The flow network log F(x_t, t, c) of the detailed balance objective: the encoder half of a UNet
 * over the latent with cross-attention to the text condition, pooled to one number a sample
 * (algorithm: DAG, arXiv 2406.00633).  Channels are a setting; every level halves the resolution;
 * all levels but the last attend to the context; a linear head with the default (non-zero)
 * initialisation. */
#ifndef DAGLINE_DIFFUSION_LOGFLOW_H
#define DAGLINE_DIFFUSION_LOGFLOW_H

#include "nn/graph.h"

#include <stddef.h>

#define LOGFLOW_LEVELS_MAX 8

struct logflow_config {
    size_t in_channels;
    size_t levels;
    size_t channels[LOGFLOW_LEVELS_MAX]; /* 64, 128, 256, 256 for latents of 64x64 */
    size_t heads;                        /* divides every channel count */
    size_t norm_groups;                  /* divides every channel count */
    size_t cross_attention_dim;
};

enum { LOGFLOW_SAMPLE, LOGFLOW_TIMES, LOGFLOW_CONTEXT }; /* inputs, as the UNet's */

struct logflow_shape {
    const struct logflow_config *config;
    size_t H, W, L;
};

/* Builder for runner.h; arg: struct logflow_shape.  Output 0: [B,1]. */
void logflow_build(struct graph *g, const void *arg);

void logflow_declare(struct params *p, const struct logflow_config *c);

#endif
