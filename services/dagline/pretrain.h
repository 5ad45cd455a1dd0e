/* Pretraining of the embedded model from scratch, on pictures that are drawn as they are needed: the autoencoder; its
 * decoder once more behind the finished encoder; UNet and text encoder together; both again towards their own guided
 * predictions (guidance distillation).  Resumable: the state is written every minute or so, whole or not at all, and a
 * run that was killed goes on from there and ends with the same weights as one that was not.
 *
 *   work folder: model/ (the averaged weights so far), teacher/, {vae,decoder,unet,distil}.state, log.jsonl,
 *                grid-STAGE-NNNNNN.png */
#ifndef DAGLINE_DAGLINE_PRETRAIN_H
#define DAGLINE_DAGLINE_PRETRAIN_H

#include "base/err.h"

#include <stdint.h>

struct pretrain_options {
    const char *work; /* folder of the run */
    const char *out;  /* folder of the finished model, float16 */
    const char *start; /* folder of a model whose weights it begins with; "": drawn at random */
    uint64_t seed;
    int threads;
    uint64_t vae_steps, decoder_steps, unet_steps, distil_steps;
    uint32_t vae_batch, unet_batch;
    double vae_lr, decoder_lr, unet_lr, distil_lr; /* highest, after the warm-up; cosine to a twentieth */
    double distil_guidance; /* of the teacher: the distilled model does without guidance what it does with this much */
    double kl_weight;       /* of the autoencoder's divergence from the standard normal */
    uint32_t save_seconds;
    uint64_t look_every; /* steps between evaluations with a grid */
};

int pretrain(const struct pretrain_options *o, struct err *e) MUST_USE;

#endif
