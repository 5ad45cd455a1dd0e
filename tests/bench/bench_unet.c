/* The embedded model's UNet, a batch of 32: one forward pass, and one training step (forward,
 * backward, gradient norm, AdamW, all weights), on one thread and on all.  The rate counts the
 * multiplications and additions of the products, convolutions and attention as they are defined,
 * so an algorithm that saves some of them (Winograd) may exceed 100 % of the matrix product's. */
#include "base/cpu.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/unet.h"
#include "nn/optim.h"
#include "nn/runner.h"
#include "support/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 32
#define SIDE 16
#define TOKENS 32
#define SECONDS_MIN 4.0
#define RUNS_MIN 5

static const char config_text[] =
    "{\"in_channels\": 4, \"out_channels\": 4, \"flip_sin_to_cos\": true, \"freq_shift\": 0,"
    " \"act_fn\": \"silu\", \"norm_eps\": 1e-5, \"sample_size\": 16,"
    " \"block_out_channels\": [32, 64, 96], \"layers_per_block\": 1,"
    " \"down_block_types\": [\"DownBlock2D\", \"CrossAttnDownBlock2D\", \"CrossAttnDownBlock2D\"],"
    " \"up_block_types\": [\"CrossAttnUpBlock2D\", \"CrossAttnUpBlock2D\", \"UpBlock2D\"],"
    " \"cross_attention_dim\": 96, \"attention_head_dim\": 4, \"norm_num_groups\": 8}";

#define LEVELS 3

struct unet {
    struct unet_config config;
    struct unet_shape shape;
    struct params *params;
    struct optim optim;
    struct runner *runner;
    real *x, *c, *out, *d_out;
    double t[BATCH];
    uint64_t step;
};

/* The level that a parameter works on, by its diffusers name; resampling convolutions belong to the
 * level that they lead to. */
static int level_of(const char *name)
{
    int block;
    if (sscanf(name, "down_blocks.%d.", &block) == 1)
        return block + (strstr(name, "downsamplers") != NULL);
    if (sscanf(name, "up_blocks.%d.", &block) == 1)
        return LEVELS - 1 - block - (strstr(name, "upsamplers") != NULL);
    return strncmp(name, "mid_block", 9) == 0 ? LEVELS - 1 : 0;
}

/* Multiplications and additions of one sample's forward pass: each weight once for every place that
 * it is used at, and 4 Lq Lk d for an attention, told by its query's weight. */
static void count_flop(const struct params *p, double *weights, double *attention)
{
    *weights = *attention = 0.0;
    for (size_t i = 0; i < params_length(p); i++) {
        const struct param *w = params_at(p, (int)i);
        const int side = SIDE >> level_of(w->name), places = side * side;
        const bool timed = strncmp(w->name, "time_", 5) == 0 || strstr(w->name, "time_emb") != NULL;
        const bool text =
            strstr(w->name, "attn2.to_k") != NULL || strstr(w->name, "attn2.to_v") != NULL;
        if (w->dims < 2)
            continue;
        *weights += 2.0 * (double)w->count * (timed ? 1 : text ? TOKENS : places);
        if (strstr(w->name, ".to_q.") != NULL) {
            const int keys = strstr(w->name, "attn2") != NULL ? TOKENS : places;
            *attention += 4.0 * places * keys * (double)w->dim[0];
        }
    }
}

static void fill(real *v, size_t n, uint32_t step)
{
    const struct rng g = rng_stream(0, 0, step);
    for (size_t i = 0; i < n; i++)
        v[i] = (real)rng_normal_at(&g, i);
}

static int open_unet(struct unet *u, struct pool *pool, struct err *e)
{
    struct json *j = NULL;
    if (json_parse(&j, config_text, sizeof config_text - 1, sizeof config_text, e) < 0)
        return -1;
    const int rc = unet_config_parse(&u->config, j, e);
    json_free(j);
    if (rc < 0)
        return -1;
    u->shape = (struct unet_shape){&u->config, SIDE, SIDE, TOKENS, 0};
    u->params = params_new();
    unet_declare(u->params, &u->config, (struct graph_adapter){0});
    if (params_seal(u->params, e) < 0)
        return -1;
    params_init(u->params, 0, 0);
    params_touch_all(u->params);
    if (optim_open(&u->optim, u->params, pool, false, e) < 0)
        return -1;
    u->runner = runner_new((struct runner_options){
        .pool = pool, .params = u->params, .build = unet_build, .arg = &u->shape});
    const size_t n = BATCH * SIDE * SIDE * 4, nc = (size_t)BATCH * TOKENS * 96;
    u->x = mem_new(n, sizeof *u->x);
    u->out = mem_new(n, sizeof *u->out);
    u->d_out = mem_new(n, sizeof *u->d_out);
    u->c = mem_new(nc, sizeof *u->c);
    fill(u->x, n, 0);
    fill(u->c, nc, 1);
    for (int i = 0; i < BATCH; i++)
        u->t[i] = i * 37 % 1000;
    return 0;
}

static void close_unet(struct unet *u)
{
    runner_free(u->runner);
    optim_done(&u->optim);
    params_free(u->params);
    mem_free(u->x);
    mem_free(u->c);
    mem_free(u->out);
    mem_free(u->d_out);
}

static int forward(struct unet *u, struct err *e)
{
    u->c[0] += 1; /* another condition each time, so that nothing is found in a cache */
    return runner_infer(u->runner, (const void *const[]){u->x, u->t, u->c}, &u->out, BATCH, e);
}

static int train(struct unet *u, struct err *e)
{
    const struct adamw_settings s = {1e-6, 0.9, 0.999, 1e-8, 1e-4};
    const size_t n = BATCH * SIDE * SIDE * 4;
    double norm;
    u->c[0] += 1;
    optim_zero_grads(&u->optim);
    if (runner_forward(u->runner, (const void *const[]){u->x, u->t, u->c}, &u->out, BATCH, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        u->d_out[i] = 2 * u->out[i] / (real)n;
    if (runner_backward(u->runner, (const real *const[]){u->d_out}, NULL, u->optim.grads, e) < 0 ||
        optim_grad_norm(&u->optim, &norm, e) < 0)
        return -1;
    optim_step(&u->optim, &s, ++u->step, adamw_clip_factor(norm, 1.0));
    return 0;
}

static int timed(struct unet *u, const char *name, int (*pass)(struct unet *, struct err *),
                 double gflop, size_t threads, double floor, struct err *e)
{
    double best = 1e9;
    int runs = 0;
    if (pass(u, e) < 0) /* plans its memory */
        return -1;
    for (const double start = bench_wall_s();
         runs < RUNS_MIN || bench_wall_s() - start < SECONDS_MIN; runs++) {
        const double from = bench_wall_s();
        if (pass(u, e) < 0)
            return -1;
        const double took = bench_wall_s() - from;
        best = took < best ? took : best;
    }
    char what[64], more[64];
    snprintf(what, sizeof what, "%s, batch %d, threads %zu", name, BATCH, threads);
    snprintf(more, sizeof more, ",\"ms\":%.1f,\"samples_per_s\":%.0f", best * 1e3, BATCH / best);
    bench_print(&(struct bench_figure){.bench = "unet",
                                       .what = what,
                                       .figure = gflop / best,
                                       .unit = "GFLOP/s",
                                       .floor = floor,
                                       .floor_name = "sgemm",
                                       .more = more});
    return 0;
}

static int bench(size_t threads, struct err *e)
{
    struct unet u = {0};
    struct pool *pool = NULL;
    double weights, attention;
    int rc = -1;
    if (pool_new(&pool, threads, e) < 0 || open_unet(&u, pool, e) < 0)
        goto out;
    count_flop(u.params, &weights, &attention);
    const double floor = bench_gemm_gflops(pool);
    if (timed(&u, "forward", forward, 1e-9 * BATCH * (weights + attention), threads, floor, e) < 0)
        goto out;
    /* backward: two products for each forward one, and two and a half times the attention */
    rc = timed(&u, "training step", train, 1e-9 * BATCH * (3 * weights + 3.5 * attention), threads,
               floor, e);
out:
    close_unet(&u);
    pool_free(pool);
    return rc;
}

int main(void)
{
    struct err e;
    const size_t cores = cpu_count(), all = cores > POOL_THREADS_MAX ? POOL_THREADS_MAX : cores;
    if (bench(1, &e) < 0 || (all > 1 && bench(all, &e) < 0)) {
        fprintf(stderr, "bench_unet: %s\n", e.text);
        return 1;
    }
    return 0;
}
