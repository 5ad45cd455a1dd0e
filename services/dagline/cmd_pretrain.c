#include "dagline/cmd_pretrain.h"

#include "base/config.h"
#include "dagline/pretrain.h"

#include <stdio.h>

#define PRETRAIN_PARAMS(P, S)                                                                        \
    P(S, text, work, "build/pretrain", "", "", "", "folder of the run: state, log, sample grids")    \
    P(S, text, out, "build/pretrain/shapes", "", "", "", "folder of the finished model")             \
    P(S, integer, seed, "1", "0", "", "", "pictures, captions, noise, first weights")                \
    P(S, integer, threads, "0", "0", "256", "", "0: as many as the machine has")                     \
    P(S, integer, vae_steps, "8000", "0", "", "steps", "of the autoencoder")                         \
    P(S, integer, vae_batch, "16", "1", "4096", "pictures", "of one step")                           \
    P(S, real, vae_lr, "2e-3", "0", "1", "1/step", "highest learning rate")                          \
    P(S, integer, unet_steps, "7000", "0", "", "steps", "of UNet and text encoder")                  \
    P(S, integer, unet_batch, "64", "1", "4096", "pictures", "of one step")                          \
    P(S, real, unet_lr, "1e-3", "0", "1", "1/step", "highest learning rate")                         \
    P(S, real, kl_weight, "1e-6", "0", "1", "", "of the autoencoder's divergence from the standard normal")  \
    P(S, real, snr_gamma, "0", "0", "1000", "", "loss weight min(SNR, gamma) / SNR of a noise level; 0: 1")  \
    P(S, duration, save, "60s", "1s", "1h", "", "between saves of the state")                        \
    P(S, integer, look_every, "1000", "1", "", "steps", "between evaluations with a grid")
CONFIG_STRUCT(pretrain_params, PRETRAIN_PARAMS);
CONFIG_TABLE_OPTIONS(pretrain_table, "pretrain", "training of the embedded model", pretrain_params, PRETRAIN_PARAMS);

int cmd_pretrain(int argc, char **argv)
{
    struct pretrain_params p;
    const struct config_binding bindings[] = {{&pretrain_table, &p}};
    const struct config_app app = {.name = "dagline pretrain",
                                   .about = "trains the embedded model from scratch; a killed run goes on where it was",
                                   .foreign = config_sections};
    struct config *c = config_new(&app, bindings, 1);
    int status = config_main(c, argc, argv);
    if (status < 0) {
        const struct pretrain_options o = {
            .work = p.work,
            .out = p.out,
            .seed = (uint64_t)p.seed,
            .threads = (int)p.threads,
            .vae_steps = (uint64_t)p.vae_steps,
            .vae_batch = (uint32_t)p.vae_batch,
            .vae_lr = p.vae_lr,
            .unet_steps = (uint64_t)p.unet_steps,
            .unet_batch = (uint32_t)p.unet_batch,
            .unet_lr = p.unet_lr,
            .kl_weight = p.kl_weight,
            .snr_gamma = p.snr_gamma,
            .save_seconds = (uint32_t)(p.save_ms / 1000),
            .look_every = (uint64_t)p.look_every,
        };
        struct err e = {0};
        status = pretrain(&o, &e) < 0;
        if (status != 0)
            fprintf(stderr, "dagline pretrain: %s\n", e.text);
    }
    config_free(c);
    return status;
}
