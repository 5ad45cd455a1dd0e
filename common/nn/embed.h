/* Sinusoidal timestep embedding (diffusers get_timestep_embedding) and the lookup of token and
 * position vectors (CLIPTextEmbeddings).  Thread rule: pure. */
#ifndef DAGLINE_NN_EMBED_H
#define DAGLINE_NN_EMBED_H

#include "nn/real.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* y [B,dim] = [sin(t f), cos(t f)], f_k = exp(-ln(10000) k / (dim/2 - freq_shift)), k < dim/2; with
 * flip_sin_to_cos (Stable Diffusion) the halves are [cos | sin].  t: [B].  An odd dim ends in a
 * zero. Overwrites y.  Computed in double. */
void embed_timestep(real *y, const double *t, size_t B, size_t dim, bool flip_sin_to_cos,
                    double freq_shift);

/* y[b,l] = token[ids[b,l]] + position[l].  ids: [B,L], each in 0..vocabulary-1 (checked where they
 * enter, asserted here); token: [vocabulary,C]; position: [>=L,C].  Overwrites y [B,L,C]. */
void embed_tokens_forward(real *y, const int32_t *ids, const real *token, const real *position,
                          size_t B, size_t L, size_t C, size_t vocabulary);

/* ACCUMULATES into d_token [vocabulary,C] and d_position [>=L,C]; either may be NULL (frozen). */
void embed_tokens_backward(real *d_token, real *d_position, const real *d_y, const int32_t *ids,
                           size_t B, size_t L, size_t C, size_t vocabulary);

#endif
