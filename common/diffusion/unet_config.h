/* unet/config.json: what UNet2DConditionModel of Stable Diffusion 1.x and 2.x is made of.  A value
 * that asks for something else is refused by field and value; an absent field has the class
 * default; unknown fields are ignored here (model.h keeps and writes them back). */
#ifndef DAGLINE_DIFFUSION_UNET_CONFIG_H
#define DAGLINE_DIFFUSION_UNET_CONFIG_H

#include "base/err.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

#define UNET_LEVELS_MAX 8
#define UNET_CHANNELS_MAX 16384
#define UNET_LAYERS_MAX 16

struct unet_config {
    size_t sample_size; /* latent height and width that the model was made for */
    size_t in_channels, out_channels;
    size_t levels;
    size_t channels[UNET_LEVELS_MAX];     /* block_out_channels */
    bool down_attention[UNET_LEVELS_MAX]; /* CrossAttnDownBlock2D or DownBlock2D */
    bool up_attention[UNET_LEVELS_MAX];   /* in the order of up_block_types */
    /* attention_head_dim: in spite of its name the NUMBER of heads of each down block; up blocks
     * read it backwards, the middle block takes the last */
    size_t heads[UNET_LEVELS_MAX];
    size_t depth[UNET_LEVELS_MAX];  /* transformer_layers_per_block */
    size_t layers[UNET_LEVELS_MAX]; /* layers_per_block; an up block has one more */
    size_t cross_attention_dim;
    size_t norm_groups;
    double norm_eps;
    bool flip_sin_to_cos;
    double freq_shift;
    bool linear_projection;
};

int unet_config_parse(struct unet_config *c, const struct json *config, struct err *e) MUST_USE;

#endif
