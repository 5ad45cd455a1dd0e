/* The parts of pretraining: pretrain.c (order of the stages), pretrain_stage.c (one stage: state on disk, optimiser, log),
 * pretrain_vae.c and pretrain_unet.c (what a stage learns from a batch). */
#ifndef DAGLINE_DAGLINE_PRETRAIN_PRIVATE_H
#define DAGLINE_DAGLINE_PRETRAIN_PRIVATE_H

#include "base/file.h"
#include "base/json.h"
#include "dagline/pretrain.h"
#include "diffusion/model.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "shapes/caption.h"
#include "shapes/scene.h"

#include <stdbool.h>
#include <stddef.h>

#define PRETRAIN_PIXELS (WORLD_SIDE * WORLD_SIDE * 3)
#define PRETRAIN_Z_SIDE 16
#define PRETRAIN_Z_CHANNELS 4
#define PRETRAIN_Z (PRETRAIN_Z_SIDE * PRETRAIN_Z_SIDE * PRETRAIN_Z_CHANNELS)
#define PRETRAIN_TOKENS 32
#define PRETRAIN_USES 2 /* of a picture in one batch of the UNet: drawing and encoding it costs a quarter of learning from it */
#define PRETRAIN_PART_MAX 32 /* samples between two sums of gradients: small enough to stay in the caches */

/* Streams of random numbers: which pictures, and the draws of each step. */
enum { STREAM_VAE = 101, STREAM_UNET, STREAM_SCALE, STREAM_DECODER };

struct pretraining {
    const struct pretrain_options *o;
    char model_folder[FILE_PATH_BYTES_MAX]; /* the averaged model as it is looked at */
    struct pool *pool;
    struct model *model;
    struct runner *encoder, *decoder, *unet, *text;
    struct vae_shape encoder_shape, decoder_shape;
    struct unet_shape unet_shape;
    struct text_shape text_shape;
    struct schedule schedule;

    /* The guided model that distillation imitates; NULL before. */
    struct model *teacher;
    struct runner *teacher_unet, *teacher_text;
    struct unet_shape teacher_unet_shape;
    struct text_shape teacher_text_shape;

    /* one part of a batch, [PRETRAIN_PART_MAX, ...] */
    real *image, *weight /* [.,H,W] of the loss */, *recon, *d_recon;
    real *moments, *d_moments, *z, *d_z, *noise, *noised, *predicted, *target, *d_predicted;
    real *context, *d_context;
    int32_t *ids;
    double *times;
};

/* ---- one stage ---- */

struct stage;

/* Adds the gradients of samples first.. of n to the stage's, weighted by share, and their loss to *loss. */
typedef int stage_part(struct pretraining *t, struct stage *s, uint64_t first, size_t n, double share, double *loss,
                       struct err *e);

struct stage {
    const char *name; /* of the state file */
    size_t networks;
    struct optim optim[2];
    uint64_t step, steps;
    uint32_t batch;
    double lr_max;
    double loss; /* running mean of what is reported */
    int64_t started_ns, saved_ns;
    stage_part *part;
    /* Every look_every steps and at the end: logs what the model can do and writes a note of it.  May be NULL. */
    int (*look)(struct pretraining *t, struct stage *s, char note[96], struct err *e);
};

/* Everything trainable in the n registries learns: from the state on disk, where there is one, to the last step;
 * afterwards the registries hold the averaged weights, frozen. */
int stage_train(struct stage *s, struct pretraining *t, struct params *const *params, size_t n, struct err *e) MUST_USE;

/* The registries hold the averages until the next call, and so on in turn. */
void stage_swap_average(struct stage *s);

/* Appends the record, with the stage's step, loss and rate, to the log; frees it. */
int stage_log(struct stage *s, const struct pretraining *t, struct json *record, struct err *e) MUST_USE;

/* ---- what a stage learns ---- */

/* Sample `index` of a seed: never one whose caption is held out, so that what was learnt can be told from what was
 * memorised. */
void pretrain_draw_pair(struct scene *scene, struct caption_spec *spec, uint64_t seed, uint64_t index);
/* Samples first.. of n into t->image and t->weight. */
void pretrain_draw(struct pretraining *t, uint64_t seed, uint64_t first, size_t n);
void pretrain_noise(real *out, uint64_t seed, uint64_t stream, uint64_t step, size_t n);

stage_part pretrain_vae_part, pretrain_decoder_part, pretrain_unet_part, pretrain_distil_part;
int pretrain_measure_scale(struct pretraining *t, struct err *e) MUST_USE;
int pretrain_look(struct pretraining *t, struct stage *s, char note[96], struct err *e) MUST_USE;
/* The teacher: the model as it is now. */
int pretrain_open_teacher(struct pretraining *t, struct err *e) MUST_USE;

#endif
