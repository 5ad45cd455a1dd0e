/* Low-rank adapters on the attention projections of a UNet (Hu et al., arXiv 2106.09685):
 * y = x W^T + (x A^T) B^T, A [r,in] drawn from N(0, 1/r^2), B [out,r] zero, alpha == r.
 *
 * In the registry the pair of module M is M.lora_A.weight and M.lora_B.weight; the graph runs it as
 * a branch of the dense node (graph.h).  Files: three namings are read, all with or without alpha
 * (another scale than 1 is folded into B):
 *   PEFT       unet.M.lora_A.weight, unet.M.lora_B.weight   (also without "unet.", or behind
 *              "base_model.model.")
 *   diffusers  unet.M.lora.down.weight, unet.M.lora.up.weight
 *   kohya      lora_unet_M-with-underscores.lora_down.weight, .lora_up.weight, .alpha
 * and written: diffusers', PEFT's and kohya's (the one that loads in every tool). */
#ifndef DAGLINE_DIFFUSION_LORA_H
#define DAGLINE_DIFFUSION_LORA_H

#include "base/err.h"
#include "io/safetensors.h"
#include "nn/graph.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LORA_RANK_MAX 1024

enum lora_naming { LORA_PEFT, LORA_DIFFUSERS, LORA_KOHYA };

/* to_q, to_k, to_v and to_out.0 of attn1 and attn2. */
bool lora_selects(const char *module);

struct graph_adapter lora_adapter(size_t rank);

/* The filter of weights.h for lora_A and lora_B parameters, and its opposite. */
bool lora_is_adapter(const struct param *a);
bool lora_is_base(const struct param *a);

/* The rank of the adapters in a file, of whatever naming; ERR_NOT_FOUND where there are none, ERR_INVALID where they
 * differ. */
int lora_file_rank(const struct safetensors *f, size_t *rank, struct err *e) MUST_USE;

/* Fills every adapter of the registry, or changes nothing and fails: a pair that is missing or has
 * another shape, a tensor that belongs to no pair. */
int lora_load(struct params *p, const struct safetensors *f, struct err *e) MUST_USE;

int lora_save(const struct params *p, const char *path, enum lora_naming naming, enum dtype dtype,
              struct err *e) MUST_USE;
int lora_encode(const struct params *p, enum lora_naming naming, enum dtype dtype, uint8_t **bytes,
                size_t *size, struct err *e) MUST_USE;

/* W += sign B A for every pair, sign 1 or -1; the adapter keeps its values, so a merged model must
 * be run on graphs without the adapter. */
void lora_merge(struct params *p, int sign);

#endif
