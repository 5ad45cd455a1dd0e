#include "dagline/cmd_bench.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "dagline/cmd_bench_target.h"
#include "dagline/cmd_bench_tempered.h"
#include "dagline/command.h"
#include "diffusion/lora.h"
#include "diffusion/unet.h"
#include "nn/runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define REPEATS_MAX 1000
#define LORA_RANK 4 /* as the PyTorch script that this is held against */

#define BENCH_PARAMS(P, S)                                                                         \
    P(S, text, unet, "", "", "1000", "",                                                           \
      "unet/config.json of a model folder; weights are drawn at random")                           \
    P(S, integer, batch, "32", "1", "4096", "samples", "of a pass")                                \
    P(S, integer, latent, "16", "1", "512", "", "height and width")                                \
    P(S, integer, tokens, "32", "1", "1024", "", "of the condition")                               \
    P(S, integer, threads, "1", "1", "256", "", "workers")                                         \
    P(S, integer, repeats, "5", "1", "1000", "passes", "that are timed")                           \
    P(S, integer, chunk, "0", "0", "4096", "samples",                                              \
      "a worker runs at once; 0: as the engine chooses")                                           \
    P(S, flag, reference, "no", "", "", "", "BLAS and im2col instead of the fast kernels")         \
    P(S, choice, only, "all", "all|forward|full|lora", "", "", "which passes")
CONFIG_STRUCT(bench_params, BENCH_PARAMS);
CONFIG_TABLE_OPTIONS(bench_table, "bench", "the UNet to time", bench_params, BENCH_PARAMS);
enum only { ONLY_ALL, ONLY_FORWARD, ONLY_FULL, ONLY_LORA };

struct bench {
    const struct bench_params *o;
    size_t batch, latent, tokens, repeats;
    struct unet_config unet;
    struct unet_shape shape;
    struct pool *pool;
    struct params *params;
    size_t count_x, count_c;
    real *x, *out, *d_out, *grads;
    real *c[2]; /* two conditions in turn, so that nothing is found in a cache */
    double *t;
    size_t turn;
};

static void fill(real *v, size_t n, uint32_t step)
{
    const struct rng g = rng_stream(0, 0, step);
    for (size_t i = 0; i < n; i++)
        v[i] = (real)rng_normal_at(&g, i);
}

static int open_bench(struct bench *b, struct err *e)
{
    struct json *j = NULL;
    if (json_read_object(&j, b->o->unet, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    const int rc = unet_config_parse(&b->unet, j, e);
    json_free(j);
    if (rc < 0)
        return err_wrap(e, "%s", b->o->unet);
    b->shape = (struct unet_shape){&b->unet, b->latent, b->latent, b->tokens, 0};
    b->params = params_new();
    unet_declare(b->params, &b->unet, (struct graph_adapter){0});
    if (params_seal(b->params, e) < 0 || pool_new(&b->pool, (size_t)b->o->threads, e) < 0)
        return -1;
    params_init(b->params, 0, 0);
    b->count_x = b->batch * b->latent * b->latent * b->unet.in_channels;
    b->count_c = b->batch * b->tokens * b->unet.cross_attention_dim;
    const size_t out = b->batch * b->latent * b->latent * b->unet.out_channels;
    b->x = mem_new(b->count_x, sizeof *b->x);
    b->out = mem_new(out, sizeof *b->out);
    b->d_out = mem_new(out, sizeof *b->d_out);
    b->grads = mem_new(params_grad_count(b->params), sizeof *b->grads);
    b->t = mem_new(b->batch, sizeof *b->t);
    fill(b->x, b->count_x, 0);
    for (uint32_t k = 0; k < 2; k++) {
        b->c[k] = mem_new(b->count_c, sizeof *b->c[k]);
        fill(b->c[k], b->count_c, 1 + k);
    }
    for (size_t i = 0; i < b->batch; i++)
        b->t[i] = (double)(i * 37 % 1000);
    return 0;
}

static void close_bench(struct bench *b)
{
    pool_free(b->pool);
    params_free(b->params);
    mem_free(b->x);
    mem_free(b->out);
    mem_free(b->d_out);
    mem_free(b->grads);
    mem_free(b->c[0]);
    mem_free(b->c[1]);
    mem_free(b->t);
}

static struct runner *new_runner(const struct bench *b, struct graph_adapter adapter)
{
    return runner_new((struct runner_options){.pool = b->pool,
                                              .params = b->params,
                                              .build = unet_build,
                                              .arg = &b->shape,
                                              .chunk = (size_t)b->o->chunk,
                                              .reference = b->o->reference,
                                              .adapter = adapter});
}

static int pass_forward(struct bench *b, struct runner *r, struct err *e)
{
    const void *const inputs[] = {b->x, b->t, b->c[b->turn++ % 2]};
    return runner_infer(r, inputs, (real *const[]){b->out}, b->batch, e);
}

/* Loss = mean of the squared output, as the PyTorch script's; weights are as after an update. */
static int pass_train(struct bench *b, struct runner *r, struct err *e)
{
    const void *const inputs[] = {b->x, b->t, b->c[b->turn++ % 2]};
    const size_t n = b->batch * b->latent * b->latent * b->unet.out_channels;
    params_touch_trainable(b->params);
    memset(b->grads, 0, params_grad_count(b->params) * sizeof(real));
    if (runner_forward(r, inputs, (real *const[]){b->out}, b->batch, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        b->d_out[i] = 2 * b->out[i] / (real)n;
    return runner_backward(r, (const real *const[]){b->d_out}, NULL, b->grads, e);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int timed(struct bench *b, const char *name, struct graph_adapter adapter,
                 int (*pass)(struct bench *, struct runner *, struct err *), struct err *e)
{
    double seconds[REPEATS_MAX];
    struct runner *const r = new_runner(b, adapter);
    int rc = pass(b, r, e); /* plans, and warms the caches */
    for (size_t i = 0; rc == 0 && i < b->repeats; i++) {
        const int64_t from = clock_mono_ns(&clock_system);
        rc = pass(b, r, e);
        seconds[i] = (double)(clock_mono_ns(&clock_system) - from) * 1e-9;
    }
    if (rc == 0) {
        qsort(seconds, b->repeats, sizeof *seconds, ascending);
        printf(", \"%s\": {\"min\": %.4f, \"median\": %.4f}, \"%s_bytes\": %zu", name, seconds[0],
               seconds[b->repeats / 2], name, runner_bytes(r));
    }
    runner_free(r);
    return rc;
}

static bool asked(const struct bench *b, enum only pass)
{
    return b->o->only == ONLY_ALL || b->o->only == (int)pass;
}

static int bench_lora(struct bench *b, struct err *e)
{
    const struct graph_adapter adapter = lora_adapter(LORA_RANK);
    const int first = (int)params_length(b->params);
    params_set_trainable(b->params, "", "", false);
    unet_declare(b->params, &b->unet, adapter);
    if (params_seal(b->params, e) < 0)
        return -1;
    params_init(b->params, first, 0);
    printf(", \"lora_params\": %zu", params_count(b->params, true));
    return timed(b, "lora", adapter, pass_train, e);
}

static int bench_unet(struct bench *b, struct err *e)
{
    if (open_bench(b, e) < 0)
        return -1;
    printf("{\"params\": %zu, \"batch\": %zu, \"latent\": %zu, \"threads\": %zu",
           params_count(b->params, false), b->batch, b->latent, (size_t)b->o->threads);
    if ((asked(b, ONLY_FORWARD) &&
         timed(b, "forward", (struct graph_adapter){0}, pass_forward, e) < 0) ||
        (asked(b, ONLY_FULL) && timed(b, "full", (struct graph_adapter){0}, pass_train, e) < 0) ||
        (asked(b, ONLY_LORA) && bench_lora(b, e) < 0)) {
        printf("\n");
        return -1;
    }
    printf("}\n");
    return 0;
}

static int bench(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct bench_params *o = params;
    struct bench b = {.o = o,
                      .batch = (size_t)o->batch,
                      .latent = (size_t)o->latent,
                      .tokens = (size_t)o->tokens,
                      .repeats = (size_t)o->repeats};
    (void)count;
    if (strcmp(arguments[0], "unet") != 0)
        return err_set(e, ERR_USAGE, "'%.100s' cannot be timed; what can is: unet, target, tempered", arguments[0]);
    if (o->unet[0] == 0)
        return err_set(e, ERR_USAGE, "--unet unet/config.json is needed");
    const int rc = bench_unet(&b, e);
    close_bench(&b);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    struct bench_params p;
    if (argc > 1 && strcmp(argv[1], "target") == 0)
        return cmd_bench_target(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "tempered") == 0)
        return cmd_bench_tempered(argc - 1, argv + 1);
    const struct command command = {
        .name = "dagline bench",
        .about = "times a network on this machine; one JSON line of seconds, minimum and median",
        .arguments = "unet|target|tempered",
        .arguments_min = 1,
        .arguments_max = 1,
        .table = &bench_table,
        .params = &p,
        .work = bench,
    };
    return command_main(&command, argc, argv);
}
