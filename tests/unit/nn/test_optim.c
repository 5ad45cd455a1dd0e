/* The optimiser over a registry: the same bits on any number of threads. */
#include "base/mem.h"
#include "base/rng.h"
#include "nn/optim.h"
#include "support/suite.h"

#include <stdio.h>
#include <string.h>

#define STEPS 3

static const int64_t counts[] = {1, 15, 16, 17, 1000, 33, 4097};
#define COUNTS (sizeof counts / sizeof *counts)

/* Values, then averages, of everything after STEPS steps with `threads` workers (0: no pool); the
 * fourth parameter is frozen, so there are two runs. */
static real *after_steps(size_t threads, size_t *n)
{
    const struct param_init init = {PARAM_INIT_NORMAL, 1.0};
    const struct adamw_settings s = {
        .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1};
    struct params *const p = params_new();
    struct pool *pool = NULL;
    struct optim o;
    struct err e;
    for (size_t i = 0; i < COUNTS; i++) {
        char name[8];
        snprintf(name, sizeof name, "p%zu", i);
        params_add(p, name, 1, &counts[i], i == 2, init);
    }
    ck_assert_msg(params_seal(p, &e) == 0, "%s", e.text);
    params_init(p, 0, 7);
    params_set_trainable(p, "p3", "", false);
    if (threads > 0)
        ck_assert_msg(pool_new(&pool, threads, &e) == 0, "%s", e.text);
    ck_assert_msg(optim_open(&o, p, pool, true, &e) == 0, "%s", e.text);
    for (uint32_t step = 1; step <= STEPS; step++) {
        const struct rng g = rng_stream(1, 2, step);
        rng_normal_fill(&g, 0, o.grads, o.count);
        optim_step(&o, &s, step, 0.5);
        optim_average(&o, 0.9);
    }
    *n = 2 * params_count(p, false);
    real *const out = mem_new(*n, sizeof *out);
    size_t at = 0;
    for (int swapped = 0; swapped < 2; swapped++, optim_swap_average(&o))
        for (int i = 0; i < (int)COUNTS; i++) {
            memcpy(out + at, params_at(p, i)->value, params_at(p, i)->count * sizeof *out);
            at += params_at(p, i)->count;
        }
    optim_done(&o);
    pool_free(pool);
    params_free(p);
    return out;
}

START_TEST(a_step_has_the_same_bits_on_any_number_of_threads)
{
    static const size_t threads[] = {1, 2, 3, 7};
    size_t n, m;
    real *const want = after_steps(0, &n);
    for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
        real *const got = after_steps(threads[k], &m);
        ck_assert_uint_eq(m, n);
        for (size_t i = 0; i < n; i++)
            ck_assert_msg(memcmp(&got[i], &want[i], sizeof *got) == 0,
                          "%zu threads: number %zu of %zu is %.9g, want %.9g", threads[k], i, n,
                          (double)got[i], (double)want[i]);
        mem_free(got);
    }
    mem_free(want);
}
END_TEST

SUITE("nn/optim", 20, a_step_has_the_same_bits_on_any_number_of_threads)
