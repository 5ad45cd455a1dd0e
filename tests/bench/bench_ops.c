/* The other kernels at the embedded model's shapes, measured against memcpy of as many bytes as
 * they must read and write at least; attention, which is products, against the matrix product.
 * usage: bench_ops [part of "kernel shape"] */
#include "base/mem.h"
#include "nn/act.h"
#include "nn/adamw.h"
#include "nn/attention.h"
#include "nn/elem.h"
#include "nn/norm.h"
#include "nn/resample.h"
#include "support/bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REALS ((size_t)1 << 22)
#define SECONDS_MIN 0.02
#define SECONDS_PER_READING 2e-4
#define REPEATS 5

static const char *only;

static double sgemm_gflops;

/* Best of REPEATS means, each over at least SECONDS_MIN; the clock, a system call, is read seldom.
 */
static double seconds_of(void (*body)(const void *), const void *arg)
{
    double best = 1e30;
    body(arg);
    const double once = bench_thread_s();
    body(arg);
    const size_t calls = 1 + (size_t)(SECONDS_PER_READING / (bench_thread_s() - once));
    for (int r = 0; r < REPEATS; r++) {
        const double start = bench_thread_s();
        double spent = 0.0;
        size_t count = 0;
        for (; spent < SECONDS_MIN; spent = bench_thread_s() - start, count += calls)
            for (size_t i = 0; i < calls; i++)
                body(arg);
        best = spent / (double)count < best ? spent / (double)count : best;
    }
    return best;
}

static real *slab[10]; /* REALS each */

static void copy_body(const void *arg)
{
    memcpy(slab[1], slab[0], *(const size_t *)arg);
    __asm__ volatile("" ::: "memory");
}

/* bytes: read plus written at least once; flop: 0 where bandwidth is the measure. */
static void report(const char *name, const char *shape, void (*body)(const void *), const void *arg,
                   double bytes, double flop)
{
    char title[128];
    snprintf(title, sizeof title, "%s %s", name, shape);
    if (only != NULL && strstr(title, only) == NULL)
        return;
    const double t = seconds_of(body, arg);
    const size_t copied = (size_t)(bytes / 2.0);
    char more[64];
    snprintf(more, sizeof more, ",\"us\":%.2f", t * 1e6);
    bench_print(&(struct bench_figure){
        .bench = "ops",
        .what = title,
        .figure = 1e-9 * (flop > 0.0 ? flop : bytes) / t,
        .floor = flop > 0.0 ? sgemm_gflops : 1e-9 * bytes / seconds_of(copy_body, &copied),
        .unit = flop > 0.0 ? "GFLOP/s" : "GB/s",
        .floor_name = flop > 0.0 ? "sgemm" : "memcpy",
        .more = more});
}

/* ---- norms ---- */

struct norm_case {
    struct group_norm_shape s;
    bool silu;
    bool backward;
};

static void group_norm_body(const void *arg)
{
    const struct norm_case *c = arg;
    if (!c->backward)
        group_norm_forward(slab[1], slab[4], slab[5], slab[0], slab[2], slab[3], c->s, 1e-5,
                           c->silu, slab[9]);
    else
        group_norm_backward(slab[6], slab[7], slab[8], slab[1], slab[0], slab[2], slab[3], slab[4],
                            slab[5], c->s, c->silu, false, slab[9]);
}

static void layer_norm_body(const void *arg)
{
    const struct norm_case *c = arg;
    if (!c->backward)
        layer_norm_forward(slab[1], slab[4], slab[5], slab[0], slab[2], slab[3], c->s.B * c->s.HW,
                           c->s.C, 1e-5);
    else
        layer_norm_backward(slab[6], slab[7], slab[8], slab[1], slab[0], slab[2], slab[4], slab[5],
                            c->s.B * c->s.HW, c->s.C, false, slab[9]);
}

static void bench_norms(void)
{
    static const struct group_norm_shape shapes[] = {
        {16, 256, 32, 8}, {16, 64, 64, 8}, {16, 16, 96, 8}};
    for (size_t i = 0; i < 3; i++) {
        const struct group_norm_shape s = shapes[i];
        char text[64];
        snprintf(text, sizeof text, "%zux%zux%zu", s.B, s.HW, s.C);
        const double bytes = (double)(s.B * s.HW * s.C * sizeof(real));
        const struct norm_case plain = {s, false, false}, silu = {s, true, false};
        const struct norm_case back = {s, false, true}, silu_back = {s, true, true};
        report("group_norm", text, group_norm_body, &plain, 2 * bytes, 0.0);
        report("group_norm_backward", text, group_norm_body, &back, 3 * bytes, 0.0);
        report("group_norm_silu", text, group_norm_body, &silu, 2 * bytes, 0.0);
        report("group_norm_silu_backward", text, group_norm_body, &silu_back, 3 * bytes, 0.0);
        report("layer_norm", text, layer_norm_body, &plain, 2 * bytes, 0.0);
        report("layer_norm_backward", text, layer_norm_body, &back, 3 * bytes, 0.0);
    }
}

/* ---- activations ---- */

struct act_case {
    size_t rows, F;
    enum act kind;
};

static void act_body(const void *arg)
{
    const struct act_case *c = arg;
    act_forward(slab[1], slab[0], c->rows * c->F, c->kind);
}

static void act_backward_body(const void *arg)
{
    const struct act_case *c = arg;
    act_backward(slab[2], slab[1], slab[0], c->rows * c->F, c->kind, false);
}

static void geglu_body(const void *arg)
{
    const struct act_case *c = arg;
    geglu_forward(slab[1], slab[0], c->rows, c->F);
}

static void geglu_backward_body(const void *arg)
{
    const struct act_case *c = arg;
    geglu_backward(slab[2], slab[1], slab[0], c->rows, c->F, false);
}

static void bench_activations(void)
{
    static const struct act_case cases[] = {{1024, 256, ACT_SILU}, {256, 384, ACT_SILU}};
    for (size_t i = 0; i < 2; i++) {
        const struct act_case *c = &cases[i];
        char text[64];
        snprintf(text, sizeof text, "%zux%zu", c->rows, c->F);
        const double bytes = (double)(c->rows * c->F * sizeof(real));
        const struct act_case gelu = {c->rows, c->F, ACT_GELU};
        report("silu", text, act_body, c, 2 * bytes, 0.0);
        report("silu_backward", text, act_backward_body, c, 3 * bytes, 0.0);
        report("gelu", text, act_body, &gelu, 2 * bytes, 0.0);
        report("geglu", text, geglu_body, c, 3 * bytes, 0.0);
        report("geglu_backward", text, geglu_backward_body, c, 5 * bytes, 0.0);
    }
}

/* ---- attention ---- */

static void attention_body(const void *arg)
{
    attention_forward(slab[3], slab[4], slab[0], slab[1], slab[2],
                      *(const struct attention_shape *)arg, slab[9]);
}

static void attention_backward_body(const void *arg)
{
    attention_backward(slab[5], slab[6], slab[7], slab[8], slab[0], slab[1], slab[2], slab[3],
                       slab[4], *(const struct attention_shape *)arg, slab[9]);
}

static void bench_attention(void)
{
    static const size_t shapes[][5] = {
        {16, 4, 64, 64, 16},    {16, 4, 64, 32, 16},  {16, 4, 16, 16, 24}, {16, 4, 16, 32, 24},
        {1, 8, 1024, 1024, 40}, {1, 8, 1024, 77, 40}, {1, 12, 77, 77, 64}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t *n = shapes[i], width = n[1] * n[4];
        const struct attention_shape s = {.B = n[0],
                                          .heads = n[1],
                                          .Lq = n[2],
                                          .Lk = n[3],
                                          .d = n[4],
                                          .q_stride = width,
                                          .k_stride = width,
                                          .v_stride = width,
                                          .y_stride = width,
                                          .scale = 1.0 / sqrt((double)n[4])};
        char text[64];
        snprintf(text, sizeof text, "%zux%zux%zux%zux%zu", n[0], n[1], n[2], n[3], n[4]);
        const double flop = 4.0 * (double)(n[0] * n[1] * n[2]) * (double)(n[3] * n[4]);
        const double bytes = 2.0 * (double)(n[0] * width * (n[2] + n[3]) * sizeof(real));
        report("attention", text, attention_body, &s, bytes, flop);
        report("attention_backward", text, attention_backward_body, &s, 2 * bytes, 2.5 * flop);
    }
}

/* ---- sums, joins, resampling, the optimiser ---- */

static void add_body(const void *arg)
{
    elem_add(slab[2], slab[0], slab[1], *(const size_t *)arg);
}

static void accumulate_body(const void *arg)
{
    elem_accumulate(slab[2], slab[0], *(const size_t *)arg);
}

static void bias_body(const void *arg)
{
    elem_add_sample_bias(slab[2], slab[0], slab[1], 16, *(const size_t *)arg / 16 / 32, 32);
}

static void bias_backward_body(const void *arg)
{
    elem_add_sample_bias_backward(slab[2], slab[0], 16, *(const size_t *)arg / 16 / 32, 32, true);
}

static void concat_body(const void *arg)
{
    elem_concat(slab[2], slab[0], slab[1], *(const size_t *)arg / 64, 32, 32);
}

static void split_body(const void *arg)
{
    elem_split(slab[0], slab[1], slab[2], *(const size_t *)arg / 64, 32, 32, false, true);
}

static void nearest_body(const void *arg)
{
    (void)arg;
    resample_nearest_forward(slab[1], slab[0], (struct resample_shape){16, 8, 8, 64, 16, 16});
}

static void nearest_backward_body(const void *arg)
{
    (void)arg;
    resample_nearest_backward(slab[0], slab[1], (struct resample_shape){16, 8, 8, 64, 16, 16},
                              false);
}

static void adamw_body(const void *arg)
{
    const struct adamw_settings s = {1e-12, 0.9, 0.999, 1e-8, 0.01};
    const struct adamw_slice slice = {slab[0], slab[1], slab[6], slab[7], *(const size_t *)arg,
                                      false};
    adamw_step(&slice, 1, &s, 1000, 0.5);
}

static void norm_body(const void *arg)
{
    const struct adamw_slice slice = {slab[0], slab[1], slab[6], slab[7], *(const size_t *)arg,
                                      false};
    double norm;
    size_t bad;
    if (adamw_grad_norm(&norm, &bad, &slice, 1) < 0)
        abort();
}

static void bench_rest(void)
{
    static const size_t n = 16 * 256 * 32, parameters = 1000000;
    const double bytes = (double)(n * sizeof(real));
    report("add", "131072", add_body, &n, 3 * bytes, 0.0);
    report("accumulate", "131072", accumulate_body, &n, 3 * bytes, 0.0);
    report("add_sample_bias", "16x256x32", bias_body, &n, 2 * bytes, 0.0);
    report("add_sample_bias_backward", "16x256x32", bias_backward_body, &n, bytes, 0.0);
    report("concat", "2048x(32+32)", concat_body, &n, 2 * bytes, 0.0);
    report("split", "2048x(32+32)", split_body, &n, 2.5 * bytes, 0.0);
    report("nearest", "16x8x8x64->16x16", nearest_body, NULL, 2.5 * bytes, 0.0);
    report("nearest_backward", "16x8x8x64->16x16", nearest_backward_body, NULL, 2.5 * bytes, 0.0);
    memset(slab[6], 0, REALS * sizeof(real));
    memset(slab[7], 0, REALS * sizeof(real));
    report("adamw_step", "1000000", adamw_body, &parameters, 7e6 * sizeof(real), 0.0);
    report("grad_norm", "1000000", norm_body, &parameters, 1e6 * sizeof(real), 0.0);
}

int main(int argc, char **argv)
{
    only = argc > 1 ? argv[1] : NULL;
    struct err e;
    for (size_t i = 0; i < sizeof slab / sizeof *slab; i++) {
        slab[i] = mem_slab(REALS * sizeof(real), "the benchmark", &e);
        if (slab[i] == NULL) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
        for (size_t k = 0; k < REALS; k++)
            slab[i][k] = (real)((double)((k * 2654435761u) >> 8 & 0xffff) / 32768.0 - 1.0);
    }
    sgemm_gflops = bench_gemm_gflops(NULL);
    bench_norms();
    bench_activations();
    bench_attention();
    bench_rest();
    return 0;
}
