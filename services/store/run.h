/* Making a Run (protos/run.proto) from settings, a model folder and a prompts file. */
#ifndef DAGLINE_STORE_RUN_H
#define DAGLINE_STORE_RUN_H

#include "base/err.h"
#include "store/blobs.h"
#include "wire/codec.h"
#include "wire/run_params.h"

/* The files of a diffusers folder that describe or hold a model: *.json, *.txt, *.safetensors, at
 * most two folders deep; variants (.fp16., non_ema) and what a run never reads (safety_checker,
 * feature_extractor) are left out. */
int run_import_model(struct run_spec *r, struct blobs *b, const char *folder,
                     struct err *e) MUST_USE;

/* A file of prompts (run/prompt_file.h), stored as its JSON lines. */
int run_import_prompts(struct run_spec *r, struct blobs *b, const char *path, const char *column,
                       struct err *e) MUST_USE;

/* Whether there is a model in that folder, and prompts that can be read in that file. */
int run_check(const char *model, const char *prompts, const char *column, struct err *e) MUST_USE;

/* latent_height and latent_width where they are 0: sample_size of the folder's unet/config.json. */
int run_latent_size(struct run_spec *r, const char *folder, struct err *e) MUST_USE;

/* Everything that makes a run what it is, one "key=value" line each; freed with mem_free.
 * iterations is not part of it: a run may be made longer. */
char *run_identity(const struct run_spec *r);

/* run_id of a folder that holds no run yet: 16 hex digits of the SHA-256 of the identity, on which the ids of
 * trajectories and with them all noise depend, and 16 random ones, by which a replay that has seen another folder's
 * run of the same settings (of another reward, say) keeps the two apart. */
int run_id_new(char out[CODEC_RUN_ID_BYTES], const char *identity, struct err *e) MUST_USE;

#endif
