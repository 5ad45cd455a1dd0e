/* CLIPModel of transformers: pictures and texts as vectors that can be compared, for rewards.  A folder with
 * config.json, the weights (model.safetensors, or its shards), the tokenizer's files and perhaps
 * preprocessor_config.json.  Inference alone.
 *
 *   picture: shortest side to image_size by bicubic (image.h), centre crop, (rgb / 255 - mean) / std per channel
 *            -> patches -> [class | patches] + positions -> pre_layrnorm -> layers -> post_layernorm of the class
 *            -> visual_projection
 *   text:    ids of all positions -> CLIPTextModel -> its hidden state at the first end-of-text -> text_projection
 *
 * Both are returned with unit length.  Source: transformers 4, models/clip/modeling_clip.py.
 * Thread rule: one thread at a time; it computes on threads of its own. */
#ifndef DAGLINE_DIFFUSION_CLIP_H
#define DAGLINE_DIFFUSION_CLIP_H

#include "base/err.h"
#include "diffusion/text_encoder.h"
#include "io/image.h"

#include <stdbool.h>
#include <stddef.h>

struct clip_vision_config {
    struct clip_layer layer;
    size_t layers, image_side, patch;
};

struct clip_config {
    struct text_config text;
    struct clip_vision_config vision;
    size_t projection; /* numbers of an embedding */
    float mean[3], std[3];
};

struct clip;

/* texts: load the text tower, too.  threads: 0 for one for each CPU that the process may use. */
int clip_open(struct clip **out, const char *folder, bool texts, int threads, struct err *e) MUST_USE;
void clip_close(struct clip *c); /* accepts NULL */

const struct clip_config *clip_config(const struct clip *c);
/* exp(logit_scale): what a cosine is multiplied by to become a logit. */
double clip_logit_scale(const struct clip *c);

/* Bytes of weights and graphs so far; the first passes make the graphs. */
size_t clip_bytes(const struct clip *c);

/* out: [n, projection] */
int clip_embed_pictures(struct clip *c, const struct image *pictures, size_t n, float *out, struct err *e) MUST_USE;
int clip_embed_texts(struct clip *c, const char *const *texts, size_t n, float *out, struct err *e) MUST_USE;

#endif
