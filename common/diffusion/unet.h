/* UNet2DConditionModel as a graph: sample [B,H,W,in], times [B], context [B,L,d] -> [B,H,W,out].
 * Inputs 0, 1, 2 and output 0 in this order.  H and W may be odd at any level: the way up resizes
 * to the skip's size. */
#ifndef DAGLINE_DIFFUSION_UNET_H
#define DAGLINE_DIFFUSION_UNET_H

#include "diffusion/unet_config.h"
#include "nn/graph.h"

enum { UNET_SAMPLE, UNET_TIMES, UNET_CONTEXT }; /* inputs */

struct unet_shape {
    const struct unet_config *config;
    size_t H, W, L;
    /* of graph.h: GRAPH_PLANAR for sample and output, GRAPH_GRAD for the gradient of sample and
     * context */
    unsigned flags;
};

/* Adds the whole network to the graph. arg: struct unet_shape, for runner.h. */
void unet_build(struct graph *g, const void *arg);

/* Registers every parameter (not yet sealed). */
void unet_declare(struct params *p, const struct unet_config *c, struct graph_adapter adapter);

#endif
