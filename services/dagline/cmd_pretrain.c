#include "dagline/cmd_pretrain.h"

#include "dagline/command.h"
#include "dagline/pretrain.h"

#define PRETRAIN_PARAMS(P, S)                                                                      \
    P(S, text, work, "build/pretrain", "", "", "", "folder of the run: state, log, sample grids")  \
    P(S, text, out, "build/pretrain/shapes", "", "", "", "folder of the finished model")           \
    P(S, text, start, "", "", "", "", "a model of the same form to go on from (take another seed); empty: from scratch") \
    P(S, integer, seed, "1", "0", "", "", "pictures, captions, noise, first weights")              \
    P(S, integer, threads, "0", "0", "256", "", "0: one for each CPU it may use")                   \
    P(S, integer, vae_steps, "10000", "0", "", "steps", "of the autoencoder")                      \
    P(S, integer, vae_batch, "8", "1", "4096", "pictures", "of one step")                          \
    P(S, real, vae_lr, "1.5e-3", "0", "1", "1/step", "highest learning rate")                      \
    P(S, integer, decoder_steps, "4000", "0", "", "steps",                                         \
      "of the decoder alone, behind the finished encoder")                                         \
    P(S, real, decoder_lr, "1e-3", "0", "1", "1/step", "highest learning rate")                    \
    P(S, integer, unet_steps, "8000", "0", "", "steps", "of UNet and text encoder")                \
    P(S, integer, unet_batch, "64", "2", "4096", "pictures", "of one step")                        \
    P(S, real, unet_lr, "1e-3", "0", "1", "1/step", "highest learning rate")                       \
    P(S, integer, distil_steps, "0"   , "0", "", "steps",                                          \
      "of UNet and text encoder towards their own guided predictions")                             \
    P(S, real, distil_guidance, "3", "1", "100", "",                                               \
      "classifier-free guidance of what is imitated")                                              \
    P(S, real, distil_lr, "3e-4", "0", "1", "1/step", "highest learning rate")                     \
    P(S, real, kl_weight, "3e-6", "0", "1", "",                                                    \
      "of the autoencoder's divergence from the standard normal")                                  \
    P(S, duration, save, "60s", "1s", "1h", "", "between saves of the state")                      \
    P(S, integer, look_every, "1000", "1", "", "steps", "between evaluations with a grid")
CONFIG_STRUCT(pretrain_params, PRETRAIN_PARAMS);
CONFIG_TABLE_OPTIONS(pretrain_table, "pretrain", "training of the embedded model", pretrain_params,
                     PRETRAIN_PARAMS);

static int work(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct pretrain_params *o = params;
    (void)arguments, (void)count;
    const struct pretrain_options options = {
        .work = o->work,
        .out = o->out,
        .start = o->start,
        .seed = (uint64_t)o->seed,
        .threads = (int)o->threads,
        .vae_steps = (uint64_t)o->vae_steps,
        .vae_batch = (uint32_t)o->vae_batch,
        .vae_lr = o->vae_lr,
        .decoder_steps = (uint64_t)o->decoder_steps,
        .decoder_lr = o->decoder_lr,
        .unet_steps = (uint64_t)o->unet_steps,
        .unet_batch = (uint32_t)o->unet_batch,
        .unet_lr = o->unet_lr,
        .distil_steps = (uint64_t)o->distil_steps,
        .distil_guidance = o->distil_guidance,
        .distil_lr = o->distil_lr,
        .kl_weight = o->kl_weight,
        .save_seconds = (uint32_t)(o->save_ms / 1000),
        .look_every = (uint64_t)o->look_every,
    };
    return pretrain(&options, e);
}

int cmd_pretrain(int argc, char **argv)
{
    struct pretrain_params p;
    const struct command command = {
        .name = "dagline pretrain",
        .about = "trains the embedded model from scratch; a killed run goes on where it was",
        .table = &pretrain_table,
        .params = &p,
        .work = work,
    };
    return command_main(&command, argc, argv);
}
