#include "nn/embed.h"

#include "nn/elem.h"

#include <assert.h>
#include <math.h>

void embed_timestep(real *y, const double *t, size_t B, size_t dim, bool flip_sin_to_cos,
                    double freq_shift)
{
    const size_t half = dim / 2;
    assert(half > 0 && (double)half > freq_shift);
    for (size_t b = 0; b < B; b++, y += dim) {
        real *const sine = flip_sin_to_cos ? y + half : y;
        real *const cosine = flip_sin_to_cos ? y : y + half;
        for (size_t k = 0; k < half; k++) {
            const double f = exp(-log(10000.0) * (double)k / ((double)half - freq_shift));
            sine[k] = (real)sin(t[b] * f);
            cosine[k] = (real)cos(t[b] * f);
        }
        if (dim % 2 == 1)
            y[dim - 1] = 0;
    }
}

void embed_tokens_forward(real *y, const int32_t *ids, const real *token, const real *position,
                          size_t B, size_t L, size_t C, size_t vocabulary)
{
    for (size_t i = 0; i < B * L; i++) {
        assert(ids[i] >= 0 && (size_t)ids[i] < vocabulary);
        elem_add(y + i * C, token + (size_t)ids[i] * C, position + i % L * C, C);
    }
}

void embed_tokens_backward(real *d_token, real *d_position, const real *d_y, const int32_t *ids,
                           size_t B, size_t L, size_t C, size_t vocabulary)
{
    for (size_t i = 0; i < B * L; i++) {
        assert(ids[i] >= 0 && (size_t)ids[i] < vocabulary);
        if (d_token != NULL)
            elem_accumulate(d_token + (size_t)ids[i] * C, d_y + i * C, C);
        if (d_position != NULL)
            elem_accumulate(d_position + i % L * C, d_y + i * C, C);
    }
}
