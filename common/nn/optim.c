#include "nn/optim.h"

#include "base/mem.h"

#include <string.h>

#define SLICES_AT_ONCE 64

int optim_open(struct optim *o, struct params *params, struct pool *pool, bool average, struct err *e)
{
    memset(o, 0, sizeof *o);
    o->params = params;
    o->pool = pool;
    o->count = params_grad_count(params);
    real **const slab[] = {&o->grads, &o->m, &o->v, &o->average};
    for (int i = 0; i < (average ? 4 : 3); i++) {
        *slab[i] = mem_slab(o->count * sizeof(real), "an optimiser", e);
        if (*slab[i] == NULL) {
            optim_done(o);
            return -1;
        }
    }
    if (average)
        optim_average(o, 0.0);
    return 0;
}

void optim_done(struct optim *o)
{
    mem_free(o->grads);
    mem_free(o->m);
    mem_free(o->v);
    mem_free(o->average);
    memset(o, 0, sizeof *o);
}

void optim_zero_grads(struct optim *o)
{
    memset(o->grads, 0, o->count * sizeof *o->grads);
}

/* The next stretches of values as slices, at most SLICES_AT_ONCE; *at as for params_next_run. */
static size_t next_slices(const struct optim *o, size_t *at, struct adamw_slice slice[SLICES_AT_ONCE])
{
    struct param_run run;
    size_t n = 0;
    while (n < SLICES_AT_ONCE && params_next_run(o->params, at, &run))
        slice[n++] =
            (struct adamw_slice){run.value, o->grads + run.grad, o->m + run.grad, o->v + run.grad, run.count, false};
    return n;
}

static const char *parameter_of(const struct optim *o, size_t grad)
{
    const char *name = "";
    for (size_t i = 0; i < params_length(o->params); i++) {
        const struct param *p = params_at(o->params, (int)i);
        if (p->trainable && p->grad <= grad && grad < p->grad + p->count)
            name = p->name;
    }
    return name;
}

int optim_grad_norm(const struct optim *o, double *norm, struct err *e)
{
    /* the padding between parameters is zero, so the slab is one tensor */
    const struct adamw_slice all = {NULL, o->grads, NULL, NULL, o->count, false};
    size_t bad;
    if (adamw_grad_norm(norm, &bad, &all, 1) == 0)
        return 0;
    for (size_t i = 0; i < o->count; i++)
        if (o->grads[i] - o->grads[i] != 0)
            return err_set(e, ERR_NONFINITE, "the gradient of %s is not finite", parameter_of(o, i));
    return err_set(e, ERR_NONFINITE, "the gradient's norm is not finite");
}

/* Elementwise work on stretches of values, every one cut between the workers at whole cache lines. */
struct sweep {
    const struct optim *o;
    const struct adamw_slice *slice; /* [n] */
    size_t n, threads;
    const struct adamw_settings *settings; /* NULL: the average moves by decay */
    uint64_t step;
    double grad_factor, decay;
};

static void sweep_worker(void *arg, size_t worker)
{
    const struct sweep *const w = arg;
    const size_t line = MEM_ALIGN_BYTES / sizeof(real);
    for (size_t i = 0; i < w->n; i++) {
        struct adamw_slice part = w->slice[i];
        const size_t lines = (part.n + line - 1) / line;
        const size_t from = lines * worker / w->threads * line, to = lines * (worker + 1) / w->threads * line;
        part.n = (to < part.n ? to : part.n) - from;
        part.value += from;
        part.grad += from;
        part.m += from;
        part.v += from;
        if (part.n == 0)
            continue;
        if (w->settings != NULL)
            adamw_step(&part, 1, w->settings, w->step, w->grad_factor);
        else
            adamw_ema(w->o->average + (part.grad - w->o->grads), part.value, part.n, w->decay);
    }
}

static void sweep(struct sweep *w)
{
    const struct optim *const o = w->o;
    struct adamw_slice slice[SLICES_AT_ONCE];
    w->slice = slice;
    w->threads = o->pool == NULL ? 1 : pool_threads(o->pool);
    for (size_t at = 0; (w->n = next_slices(o, &at, slice)) > 0;)
        if (o->pool == NULL)
            sweep_worker(w, 0);
        else
            pool_run(o->pool, sweep_worker, w);
}

void optim_step(struct optim *o, const struct adamw_settings *s, uint64_t step, double grad_factor)
{
    sweep(&(struct sweep){.o = o, .settings = s, .step = step, .grad_factor = grad_factor});
    params_touch_trainable(o->params);
}

void optim_average(struct optim *o, double decay)
{
    sweep(&(struct sweep){.o = o, .decay = decay});
}

void optim_swap_average(struct optim *o)
{
    struct param_run run;
    for (size_t at = 0; params_next_run(o->params, &at, &run);) {
        real *a = run.value, *b = o->average + run.grad;
        for (size_t i = 0; i < run.count; i++) {
            const real v = a[i];
            a[i] = b[i];
            b[i] = v;
        }
    }
    params_touch_trainable(o->params);
}
