/* A diffusers model folder of Stable Diffusion 1.x or 2.x: model_index.json, the configs and
 * weights of unet/, vae/ and text_encoder/, scheduler/, tokenizer/.  Opening reads what is asked
 * for and checks everything: classes and fields that are not implemented are refused by name and
 * value, and every missing, misshapen or extra weight is listed.
 *
 * Weights: NAME.safetensors, NAME.fp16.safetensors or NAME.safetensors.index.json (shards), NAME
 * being diffusion_pytorch_model or model.  Pickled .bin files are refused with a hint.
 *
 * Configs are kept as they were read and written back by model_save, unknown fields included.
 *
 * Thread rule: as params.h; the struct's fields are read-only for all but the owner. */
#ifndef DAGLINE_DIFFUSION_MODEL_H
#define DAGLINE_DIFFUSION_MODEL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "diffusion/lora.h"
#include "diffusion/schedule.h"
#include "diffusion/text_encoder.h"
#include "diffusion/tokenizer.h"
#include "diffusion/unet.h"
#include "diffusion/vae.h"
#include "io/safetensors.h"

enum model_part { MODEL_UNET, MODEL_VAE, MODEL_TEXT, MODEL_PARTS };

/* Bits of model_options.parts. */
#define MODEL_HAS_UNET (1u << MODEL_UNET)
#define MODEL_HAS_VAE (1u << MODEL_VAE)
#define MODEL_HAS_TEXT (1u << MODEL_TEXT)
#define MODEL_HAS_TOKENIZER (1u << MODEL_PARTS)
#define MODEL_HAS_SCHEDULE (2u << MODEL_PARTS)
#define MODEL_HAS_ALL                                                                              \
    (MODEL_HAS_UNET | MODEL_HAS_VAE | MODEL_HAS_TEXT | MODEL_HAS_TOKENIZER | MODEL_HAS_SCHEDULE)

struct model_options {
    unsigned parts; /* MODEL_HAS_* */
    bool fresh;     /* draw all weights by PyTorch's default initialisers instead of reading them */
    uint64_t seed;  /* of fresh weights and of fresh adapters */
    size_t lora_rank; /* 0: none; else adapters on the UNet's attention, which alone is trainable */
    struct buf *report; /* may be NULL: one line for each weight that does not fit */
};

struct model {
    char *folder;
    struct params *params[MODEL_PARTS]; /* NULL where not asked for */
    struct json *config[MODEL_PARTS];
    struct unet_config unet;
    struct vae_config vae;
    struct text_config text;
    struct schedule_config schedule; /* as StableDiffusionPipeline changes it (diffusion/schedule.h) */
    struct tokenizer *tokenizer;
    struct graph_adapter adapter; /* of the UNet; rank 0: none */
    struct json *index;           /* model_index.json */
};

int model_open(struct model **out, const char *folder, struct model_options o,
               struct err *e) MUST_USE;
void model_close(struct model *m);

/* Writes the folder in the same layout: configs, weights (adapters left out; merge them first), and
 * copies of the scheduler and tokenizer files; what is not copied (a safety checker) is none in the
 * index.  dtype: DTYPE_F32 or DTYPE_F16.  `folder` may be the one it was opened from.  A folder that
 * was written in part has no model_index.json. */
int model_save(const struct model *m, const char *folder, enum dtype dtype, struct err *e) MUST_USE;

#endif
