/* Pretraining of the embedded model from scratch: the autoencoder, its decoder once more behind the
 * finished encoder, then UNet and text encoder together, on
 * pictures that are drawn as they are needed.  Resumable: the state is written every minute or so, whole or not at
 * all, and a run that was killed goes on from there and ends with the same weights as one that was not.
 *
 *   work folder: model/ (the averaged weights so far), {vae,decoder,unet}.state, log.jsonl, grid-NNNNNN.png */
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
    uint64_t vae_steps, decoder_steps, unet_steps;
    uint32_t vae_batch, unet_batch;
    double vae_lr, decoder_lr, unet_lr; /* highest, after the warm-up; cosine to a twentieth */
    double kl_weight;       /* of the autoencoder's divergence from the standard normal */
    uint32_t save_seconds;
    uint64_t look_every; /* steps between evaluations with a grid */
};

int pretrain(const struct pretrain_options *o, struct err *e) MUST_USE;

#endif
