/* AutoencoderKL as two graphs.  Encoder: image [B,H,W,3] in [-1,1] -> moments [B,h,w,2Z], mean then
 * log-variance (loss.h clamps and samples).  Decoder: latent [B,h,w,Z], already divided by the
 * scaling factor, -> image [B,H,W,3], nominally in [-1,1], not clamped.  H = h * vae_factor.
 *
 * Parameters have the names of current diffusers; the older query/key/value/proj_attn of the middle
 * attention are mapped where files are read (model.h). */
#ifndef DAGLINE_DIFFUSION_VAE_H
#define DAGLINE_DIFFUSION_VAE_H

#include "base/err.h"
#include "base/json.h"
#include "nn/graph.h"

#include <stdbool.h>
#include <stddef.h>

#define VAE_LEVELS_MAX 8

struct vae_config {
    size_t in_channels, out_channels, latent_channels;
    size_t levels;
    size_t channels[VAE_LEVELS_MAX];
    size_t layers; /* resnets of a level on the way down; one more on the way up */
    size_t norm_groups;
    size_t sample_size;    /* image height and width that the model was made for */
    double scaling_factor; /* latents of the UNet = latents of the VAE * this */
    bool mid_attention;
    bool quant_conv, post_quant_conv;
};

int vae_config_parse(struct vae_config *c, const struct json *config, struct err *e) MUST_USE;

/* Image pixels per latent pixel, in each direction. */
size_t vae_factor(const struct vae_config *c);

struct vae_shape {
    const struct vae_config *config;
    size_t H, W; /* of the graph's input: pixels for the encoder, latent pixels for the decoder */
    unsigned
        flags; /* GRAPH_PLANAR for input and output, GRAPH_GRAD for the gradient of the input */
};

/* Builders for runner.h; arg: struct vae_shape.  One input and one output each. */
void vae_encoder_build(struct graph *g, const void *arg);
void vae_decoder_build(struct graph *g, const void *arg);

/* Registers every parameter of both (not yet sealed). */
void vae_declare(struct params *p, const struct vae_config *c);

#endif
