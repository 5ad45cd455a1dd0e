/* CLIPTextModel as a graph: ids [B,L] -> hidden states [B,L,d] after the final layer norm, all L
 * positions, as Stable Diffusion conditions on.  Causal mask, no padding mask. */
#ifndef DAGLINE_DIFFUSION_TEXT_ENCODER_H
#define DAGLINE_DIFFUSION_TEXT_ENCODER_H

#include "base/err.h"
#include "base/json.h"
#include "nn/graph.h"

#include <stddef.h>

struct text_config {
    size_t vocabulary, width, intermediate, layers, heads, positions;
    enum act act; /* quick_gelu (SD 1.x) or gelu (SD 2.x) */
    double norm_eps;
};

int text_config_parse(struct text_config *c, const struct json *config, struct err *e) MUST_USE;

struct text_shape {
    const struct text_config *config;
    size_t L; /* <= positions */
};

/* One layer of CLIP's transformers, text or vision: h [B,L,width] -> the same. */
struct clip_layer {
    size_t width, intermediate, heads;
    enum act act;
    double norm_eps;
    bool causal;
};
/* hidden_size, intermediate_size, num_attention_heads, hidden_act and layer_norm_eps; *c holds what stands for a size
 * that is absent. */
int clip_layer_parse(struct clip_layer *c, const struct json *config, struct err *e) MUST_USE;
int clip_layer_build(struct graph *g, const struct clip_layer *c, int h);

/* The graph as far as the hidden states, for who goes on from them; returns their value. */
int text_encoder_hidden(struct graph *g, const struct text_shape *s);

/* Builder for runner.h; arg: struct text_shape.  Input 0: ids; output 0: hidden states. */
void text_encoder_build(struct graph *g, const void *arg);

void text_encoder_declare(struct params *p, const struct text_config *c);

#endif
