#include "dagline/cmd_bench.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "diffusion/lora.h"
#include "diffusion/unet.h"
#include "nn/runner.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_BYTES_MAX (1u << 20)
#define REPEATS_MAX 1000
#define LORA_RANK 4 /* as the PyTorch script that this is held against */

static const char usage[] =
    "usage: dagline bench unet --config FILE [--batch B] [--latent N] [--tokens L] [--threads K]\n"
    "                          [--repeats R] [--chunk C] [--reference] [--only forward|full|lora]\n"
    "  --config FILE  unet/config.json of a model folder; weights are drawn at random\n"
    "  --batch B      samples (default 32)        --latent N   height and width (default 16)\n"
    "  --tokens L     of the condition (32)       --threads K  workers (1)\n"
    "  --repeats R    timed passes (5)            --chunk C    samples a worker runs at once\n"
    "  --reference    BLAS and im2col instead of the fast kernels\n"
    "Prints one JSON line: seconds, minimum and median.\n";

struct bench {
    const char *config;
    size_t batch, latent, tokens, threads, repeats, chunk;
    bool reference;
    const char *only;
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

static int parse_size(size_t *out, const char *name, const char *text, size_t max, struct err *e)
{
    char *end;
    errno = 0;
    const unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || v < 1 || v > max || text[0] == '-')
        return err_set(e, ERR_USAGE, "--%s is '%s'; give a whole number from 1 to %zu", name, text,
                       max);
    *out = (size_t)v;
    return 0;
}

static int parse_args(struct bench *b, int argc, char **argv, struct err *e)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},  {"batch", required_argument, NULL, 'b'},
        {"latent", required_argument, NULL, 'n'},  {"tokens", required_argument, NULL, 'l'},
        {"threads", required_argument, NULL, 't'}, {"repeats", required_argument, NULL, 'r'},
        {"chunk", required_argument, NULL, 'k'},   {"reference", no_argument, NULL, 'f'},
        {"only", required_argument, NULL, 'o'},    {NULL, 0, NULL, 0}};
    int rc = 0;
    optind = 1;
    opterr = 0;
    for (int o; rc == 0 && (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        switch (o) {
        case 'c':
            b->config = optarg;
            break;
        case 'b':
            rc = parse_size(&b->batch, "batch", optarg, 4096, e);
            break;
        case 'n':
            rc = parse_size(&b->latent, "latent", optarg, 512, e);
            break;
        case 'l':
            rc = parse_size(&b->tokens, "tokens", optarg, 1024, e);
            break;
        case 't':
            rc = parse_size(&b->threads, "threads", optarg, POOL_THREADS_MAX, e);
            break;
        case 'r':
            rc = parse_size(&b->repeats, "repeats", optarg, REPEATS_MAX, e);
            break;
        case 'k':
            rc = parse_size(&b->chunk, "chunk", optarg, 4096, e);
            break;
        case 'f':
            b->reference = true;
            break;
        case 'o':
            b->only = optarg;
            break;
        default:
            rc = err_set(e, ERR_USAGE, "unknown or incomplete option '%s'", argv[optind - 1]);
        }
    if (rc == 0 && (optind != argc || b->config == NULL))
        rc = err_set(e, ERR_USAGE, b->config == NULL ? "--config is missing" : "unexpected '%s'",
                     optind < argc ? argv[optind] : "");
    return rc;
}

static void fill(real *v, size_t n, uint32_t step)
{
    const struct rng g = rng_stream(0, 0, step);
    for (size_t i = 0; i < n; i++)
        v[i] = (real)rng_normal_at(&g, i);
}

static int open_bench(struct bench *b, struct err *e)
{
    struct json *j = NULL;
    if (json_read_file(&j, b->config, CONFIG_BYTES_MAX, e) < 0)
        return -1;
    const int rc = unet_config_parse(&b->unet, j, e);
    json_free(j);
    if (rc < 0)
        return err_wrap(e, "%s", b->config);
    b->shape = (struct unet_shape){&b->unet, b->latent, b->latent, b->tokens, 0};
    b->params = params_new();
    unet_declare(b->params, &b->unet, (struct graph_adapter){0});
    if (params_seal(b->params, e) < 0 || pool_new(&b->pool, b->threads, e) < 0)
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
                                              .chunk = b->chunk,
                                              .reference = b->reference,
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

static bool asked(const struct bench *b, const char *name)
{
    return b->only == NULL || strcmp(b->only, name) == 0;
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
           params_count(b->params, false), b->batch, b->latent, b->threads);
    if ((asked(b, "forward") &&
         timed(b, "forward", (struct graph_adapter){0}, pass_forward, e) < 0) ||
        (asked(b, "full") && timed(b, "full", (struct graph_adapter){0}, pass_train, e) < 0) ||
        (asked(b, "lora") && bench_lora(b, e) < 0))
        return -1;
    printf("}\n");
    return 0;
}

int cmd_bench(int argc, char **argv)
{
    struct bench b = {.batch = 32, .latent = 16, .tokens = 32, .threads = 1, .repeats = 5};
    struct err e;
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (argc < 2 || strcmp(argv[1], "unet") != 0) {
        fputs(usage, stderr);
        return 2;
    }
    if (parse_args(&b, argc - 1, argv + 1, &e) < 0) {
        fprintf(stderr, "dagline bench: %s\n%s", e.text, usage);
        return 2;
    }
    const int rc = bench_unet(&b, &e);
    close_bench(&b);
    if (rc < 0)
        fprintf(stderr, "\ndagline bench: %s\n", e.text);
    return rc < 0 ? 1 : 0;
}
