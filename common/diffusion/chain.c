#include "diffusion/chain.h"

#include "diffusion/step.h"

#include <assert.h>
#include <string.h>

#define NOISE_BLOCK 512

void chain_noise(real *z, uint64_t seed, const uint8_t id[RNG_ID_BYTES], uint32_t draw,
                 size_t elements)
{
    const struct rng g = rng_stream_id(seed, id, draw);
    float block[NOISE_BLOCK];
    for (size_t at = 0; at < elements; at += NOISE_BLOCK) {
        const size_t n = elements - at < NOISE_BLOCK ? elements - at : NOISE_BLOCK;
        rng_normal_fill(&g, at, block, n);
        for (size_t i = 0; i < n; i++)
            z[at + i] = (real)block[i];
    }
}

void chain_start(const struct chain *c, real *x)
{
    for (size_t i = 0; i < c->count; i++)
        chain_noise(x + i * c->elements, c->seed, c->ids[i], 0, c->elements);
}

int chain_run(const struct chain *c, int first, real *x, real *work, chain_predict *predict,
              chain_visit *visit, void *arg, struct err *e)
{
    assert(first >= 0 && first <= c->steps);
    const size_t total = c->count * c->elements;
    real *out = work, *x_s = work + total;
    for (int k = first; k < c->steps; k++) {
        const struct transition_kernel *kernel = &c->kernels[k];
        if (predict(arg, out, x, kernel->t, e) < 0)
            return -1;
        for (size_t i = 0; i < c->count; i++) {
            const size_t at = i * c->elements;
            if (kernel->stochastic)
                chain_noise(x_s + at, c->seed, c->ids[i], (uint32_t)k + 1, c->elements);
            step_sample(x_s + at, kernel, x + at, out + at, x_s + at, c->elements);
        }
        if (visit != NULL && visit(arg, k, x, out, x_s, e) < 0)
            return -1;
        memcpy(x, x_s, total * sizeof *x);
    }
    return 0;
}
