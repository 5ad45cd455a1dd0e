#include "run/generate.h"

#include "base/hash.h"
#include "base/mem.h"
#include "diffusion/chain.h"

struct generation {
    struct pipeline *p;
    const struct generate_request *q;
    const real *conditions[GENERATE_BATCH];
    double times[GENERATE_BATCH];
    uint8_t ids[GENERATE_BATCH][RNG_ID_BYTES];
    size_t count;
    int (*poll)(void *, struct err *);
    void *poll_arg;
};

static int predict(void *arg, real *out, const real *x, int t, struct err *e)
{
    struct generation *g = arg;
    for (size_t i = 0; i < g->count; i++)
        g->times[i] = (double)t;
    if (g->poll != NULL && g->poll(g->poll_arg, e) < 0)
        return -1;
    return pipeline_predict(g->p, out, NULL, x, g->times, g->conditions, g->count, g->q->guidance, e);
}

static int generate_batch(struct generation *g, uint8_t *rgb, size_t first, real *x, real *work, struct err *e)
{
    const struct generate_request *q = g->q;
    for (size_t i = 0; i < g->count; i++) {
        const struct hash_part parts[] = {{"generate", 8}, {&q->streams[first + i], sizeof q->streams[0]}};
        hash_id128(g->ids[i], parts, 2);
        if (pipeline_condition(g->p, q->prompts[first + i], &g->conditions[i], NULL, e) < 0)
            return -1;
    }
    const struct chain chain = {.kernels = q->kernels,
                                .steps = q->steps,
                                .count = g->count,
                                .elements = pipeline_shape(g->p)->latent_elements,
                                .seed = q->seed,
                                .ids = (const uint8_t(*)[RNG_ID_BYTES])g->ids};
    chain_start(&chain, x);
    return chain_run(&chain, 0, x, work, predict, NULL, g, e) < 0 ? -1 : pipeline_decode(g->p, rgb, x, g->count, e);
}

int generate(uint8_t *rgb, struct pipeline *p, const struct generate_request *q,
             int (*poll)(void *, struct err *), void *arg, struct err *e)
{
    const struct pipeline_shape *s = pipeline_shape(p);
    const size_t most = q->count < GENERATE_BATCH ? q->count : GENERATE_BATCH;
    struct generation g = {.p = p, .q = q, .poll = poll, .poll_arg = arg};
    real *x = mem_new(most * s->latent_elements, sizeof *x);
    real *work = mem_new(2 * most * s->latent_elements, sizeof *work);
    int rc = 0;
    for (size_t first = 0; rc == 0 && first < q->count; first += g.count) {
        g.count = q->count - first < most ? q->count - first : most;
        rc = generate_batch(&g, rgb + first * s->image_height * s->image_width * 3, first, x, work, e);
    }
    mem_free(work);
    mem_free(x);
    return rc;
}
