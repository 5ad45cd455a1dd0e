/* The two blocks that Stable Diffusion's networks are made of, as graph builders.  Parameter names
 * are diffusers' (ResnetBlock2D, Transformer2DModel), relative to the graph's scope. */
#ifndef DAGLINE_DIFFUSION_UNET_BLOCK_H
#define DAGLINE_DIFFUSION_UNET_BLOCK_H

#include "nn/graph.h"

struct resnet_options {
    size_t out;    /* channels; where they differ from x's there is a conv_shortcut */
    size_t groups; /* of both group norms */
    double eps;
    int time; /* silu(time embedding) [B,1,1,C], or 0: no time_emb_proj */
};

/* h = conv1(silu(norm1(x))) + time_emb_proj(time);  y = shortcut(x) + conv2(silu(norm2(h))). */
int resnet_block(struct graph *g, int x, struct resnet_options o);

struct transformer_options {
    size_t heads, groups;
    bool linear_projection; /* proj_in, proj_out are [c,c] (SD 2.x) or 1x1 convolutions (SD 1.x) */
    size_t depth;           /* transformer_blocks */
};

/* y = x + proj_out(blocks(proj_in(norm(x)))), a block being self attention, cross attention to
 * context [B,L,d] and a GEGLU feed-forward, each behind a layer norm and inside a residual.  The
 * group norm's eps is 1e-6 whatever the model's norm_eps says. */
int transformer_block(struct graph *g, int x, int context, struct transformer_options o);

#endif
