#include "nn/runner.h"

#include "diffusion/unet.h"
#include "support/gradcheck.h"
#include "support/graphcheck.h"
#include "support/near.h"
#include "support/suite.h"

#include <stdatomic.h>
#include <string.h>

#define BATCH 7

static const struct unet_config unet = {.sample_size = 4,
                                        .in_channels = 4,
                                        .out_channels = 4,
                                        .levels = 2,
                                        .channels = {8, 16},
                                        .down_attention = {true, false},
                                        .up_attention = {false, true},
                                        .heads = {2, 4},
                                        .depth = {1, 1},
                                        .layers = {1, 1},
                                        .cross_attention_dim = 6,
                                        .norm_groups = 4,
                                        .norm_eps = 1e-5,
                                        .flip_sin_to_cos = true};
static const struct unet_shape shape = {&unet, 4, 4, 3, GRAPH_GRAD};
static const struct graphcheck check = {.build = unet_build, .arg = &shape, .B = BATCH};

struct pass {
    real *out, *grads, *d_x;
    size_t n, count, n_x;
};

static struct params *params;
static void *inputs[8];

static void fixture(void)
{
    struct err e;
    params = graphcheck_params(&check);
    struct graph *const g = graph_new(params, BATCH, (struct graph_options){.mode = GRAPH_INFER});
    unet_build(g, &shape);
    ck_assert(graph_plan(g, &e) == 0);
    graphcheck_inputs(g, inputs);
    graph_free(g);
}

static struct pass run(size_t threads, size_t chunk)
{
    struct err e;
    struct pool *pool;
    struct pass p = {
        .n = (size_t)BATCH * 64, .count = params_grad_count(params), .n_x = (size_t)BATCH * 64};
    real *const d_out = gradcheck_new(p.n);
    p.out = gradcheck_new(p.n);
    p.grads = gradcheck_new(p.count);
    p.d_x = gradcheck_new(p.n_x);
    gradcheck_fill(d_out, p.n, 9, 1.0);
    ck_assert_msg(pool_new(&pool, threads, &e) == 0, "%s", e.text);
    struct runner *const r = runner_new((struct runner_options){
        .pool = pool, .params = params, .build = unet_build, .arg = &shape, .chunk = chunk});
    const void *const in[] = {inputs[0], inputs[1], inputs[2]};
    ck_assert_msg(runner_forward(r, in, (real *const[]){p.out}, BATCH, &e) == 0, "%s", e.text);
    ck_assert(runner_backward(r, (const real *const[]){d_out}, (real *const[]){p.d_x, NULL, NULL},
                              p.grads, &e) == 0);
    runner_free(r);
    pool_free(pool);
    return p;
}

static double worst(const real *a, const real *b, size_t n)
{
#ifdef DAGLINE_REAL_DOUBLE
    return near_worst_double(a, b, n, NULL);
#else
    return near_worst_float(a, b, n, NULL);
#endif
}

START_TEST(any_cut_of_the_batch_gives_the_same_numbers)
{
    static const size_t cases[][2] = {{1, 1}, {1, 3}, {1, 0}, {2, 0}, {2, 2}, {3, 1}, {8, 0}};
    fixture();
    const struct pass whole = run(1, BATCH);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct pass p = run(cases[i][0], cases[i][1]);
        ck_assert_msg(worst(p.out, whole.out, p.n) < 1e-6, "out, case %zu", i);
        ck_assert_msg(worst(p.d_x, whole.d_x, p.n_x) < 1e-5, "d_x, case %zu", i);
        ck_assert_msg(worst(p.grads, whole.grads, p.count) < 1e-5, "grads, case %zu", i);
    }
}
END_TEST

START_TEST(the_same_threads_give_the_same_bits)
{
    fixture();
    for (size_t threads = 1; threads <= 4; threads++) {
        const struct pass a = run(threads, 2), b = run(threads, 2);
        ck_assert(memcmp(a.out, b.out, a.n * sizeof(real)) == 0);
        ck_assert(memcmp(a.grads, b.grads, a.count * sizeof(real)) == 0);
    }
}
END_TEST

START_TEST(one_runner_serves_batches_of_any_size)
{
    struct err e;
    struct pool *pool;
    real out[BATCH * 64], again[BATCH * 64];
    fixture();
    ck_assert(pool_new(&pool, 2, &e) == 0);
    struct runner *const r = runner_new((struct runner_options){
        .pool = pool, .params = params, .build = unet_build, .arg = &shape, .chunk = 2});
    const void *const in[] = {inputs[0], inputs[1], inputs[2]};
    ck_assert(runner_infer(r, in, (real *const[]){out}, BATCH, &e) == 0);
    for (size_t n = 1; n < BATCH; n++) {
        memset(again, 0, sizeof again);
        ck_assert(runner_infer(r, in, (real *const[]){again}, n, &e) == 0);
        ck_assert_msg(worst(again, out, n * 64) < 1e-6, "batch of %zu", n);
        for (size_t i = n * 64; i < (size_t)BATCH * 64; i++)
            ck_assert(again[i] == 0);
    }
    const size_t bytes = runner_bytes(r);
    ck_assert(runner_infer(r, in, (real *const[]){out}, BATCH, &e) == 0);
    ck_assert_uint_eq(runner_bytes(r), bytes);
    runner_free(r);
    pool_free(pool);
}
END_TEST

/* Bytes of a runner that has served batches of these sizes. */
static size_t bytes_after(struct pool *pool, const size_t *sizes, size_t n)
{
    struct err e;
    real out[BATCH * 64];
    struct runner *const r = runner_new((struct runner_options){
        .pool = pool, .params = params, .build = unet_build, .arg = &shape, .chunk = BATCH});
    const void *const in[] = {inputs[0], inputs[1], inputs[2]};
    for (size_t i = 0; i < n; i++)
        ck_assert(runner_infer(r, in, (real *const[]){out}, sizes[i], &e) == 0);
    const size_t bytes = runner_bytes(r);
    runner_free(r);
    return bytes;
}

START_TEST(graphs_of_the_sizes_that_were_used_last_are_kept)
{
    static const size_t many[] = {5, 1, 2, 3, 4, 3, 2}, last[] = {1, 2, 3, 4}, renewed[] = {1, 2, 3, 4, 1, 5},
                        without[] = {1, 3, 4, 5};
    struct err e;
    struct pool *pool;
    fixture();
    ck_assert(pool_new(&pool, 1, &e) == 0);
    ck_assert_uint_eq(RUNNER_SIZES_MAX, 4);
    ck_assert_uint_ge(BATCH, 5);
    ck_assert_uint_eq(bytes_after(pool, many, 7), bytes_after(pool, last, 4));
    ck_assert_uint_eq(bytes_after(pool, renewed, 6), bytes_after(pool, without, 4));
    pool_free(pool);
}
END_TEST

static void count_worker(void *arg, size_t worker)
{
    atomic_fetch_add((atomic_int *)arg + worker, 1);
}

START_TEST(every_worker_is_called_once_a_round)
{
    struct err e;
    struct pool *pool;
    atomic_int calls[4] = {0};
    ck_assert(pool_new(&pool, 4, &e) == 0);
    for (int i = 0; i < 1000; i++)
        pool_run(pool, count_worker, calls);
    for (size_t w = 0; w < 4; w++)
        ck_assert_int_eq(atomic_load(&calls[w]), 1000);
    pool_free(pool);
}
END_TEST

SUITE("nn/runner", 60, any_cut_of_the_batch_gives_the_same_numbers,
      the_same_threads_give_the_same_bits, one_runner_serves_batches_of_any_size,
      graphs_of_the_sizes_that_were_used_last_are_kept,
      every_worker_is_called_once_a_round)
