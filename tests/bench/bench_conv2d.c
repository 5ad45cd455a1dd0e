/* Convolutions of one thread at the shapes of the embedded model, its VAE and Stable Diffusion 1.5:
 * one JSON line per shape and pass, with every algorithm that can serve it, in effective GFLOP/s (2
 * B Ho Wo C O K^2 over the time, whatever the algorithm saves), and as a percentage of the floor,
 * which is the best matrix product measured in the same run. Winograd may exceed 100 %.
 *     bench_conv2d          the embedded model and its VAE
 *     bench_conv2d large    Stable Diffusion 1.5's shapes */
#include "base/mem.h"
#include "nn/conv2d.h"
#include "support/bench.h"

#include <stdio.h>
#include <string.h>

#define SECONDS_MIN 0.04

static const struct conv2d_shape small[] = {
    /* B, H, W, C, O, K, stride, pad */
    {8, 16, 16, 4, 32, 3, 1, CONV2D_PAD_SAME},          {8, 16, 16, 32, 32, 3, 1, CONV2D_PAD_SAME},
    {16, 16, 16, 32, 32, 3, 1, CONV2D_PAD_SAME},        {8, 16, 16, 96, 32, 3, 1, CONV2D_PAD_SAME},
    {8, 16, 16, 64, 32, 3, 1, CONV2D_PAD_SAME},         {8, 16, 16, 64, 64, 3, 1, CONV2D_PAD_SAME},
    {8, 16, 16, 32, 4, 3, 1, CONV2D_PAD_SAME},          {8, 16, 16, 32, 32, 3, 2, CONV2D_PAD_SAME},
    {8, 8, 8, 32, 64, 3, 1, CONV2D_PAD_SAME},           {8, 8, 8, 64, 64, 3, 1, CONV2D_PAD_SAME},
    {16, 8, 8, 64, 64, 3, 1, CONV2D_PAD_SAME},          {8, 8, 8, 160, 64, 3, 1, CONV2D_PAD_SAME},
    {8, 8, 8, 128, 64, 3, 1, CONV2D_PAD_SAME},          {8, 8, 8, 96, 96, 3, 1, CONV2D_PAD_SAME},
    {8, 8, 8, 64, 64, 3, 2, CONV2D_PAD_SAME},           {8, 4, 4, 64, 96, 3, 1, CONV2D_PAD_SAME},
    {8, 4, 4, 96, 96, 3, 1, CONV2D_PAD_SAME},           {16, 4, 4, 96, 96, 3, 1, CONV2D_PAD_SAME},
    {8, 4, 4, 192, 96, 3, 1, CONV2D_PAD_SAME},          {16, 4, 4, 192, 96, 3, 1, CONV2D_PAD_SAME},
    {8, 16, 16, 32, 64, 1, 1, CONV2D_PAD_SAME},         {8, 8, 8, 160, 64, 1, 1, CONV2D_PAD_SAME},
    {8, 64, 64, 16, 16, 3, 1, CONV2D_PAD_SAME},         {8, 64, 64, 24, 16, 3, 1, CONV2D_PAD_SAME},
    {8, 64, 64, 16, 3, 3, 1, CONV2D_PAD_SAME},          {8, 64, 64, 3, 16, 3, 1, CONV2D_PAD_SAME},
    {8, 32, 32, 24, 24, 3, 1, CONV2D_PAD_SAME},         {8, 32, 32, 32, 24, 3, 1, CONV2D_PAD_SAME},
    {8, 64, 64, 16, 16, 3, 2, CONV2D_PAD_BOTTOM_RIGHT},
};

static const struct conv2d_shape large[] = {
    {1, 64, 64, 320, 320, 3, 1, CONV2D_PAD_SAME},   {1, 64, 64, 4, 320, 3, 1, CONV2D_PAD_SAME},
    {1, 64, 64, 320, 4, 3, 1, CONV2D_PAD_SAME},     {1, 64, 64, 320, 320, 3, 2, CONV2D_PAD_SAME},
    {1, 32, 32, 640, 640, 3, 1, CONV2D_PAD_SAME},   {1, 16, 16, 1280, 1280, 3, 1, CONV2D_PAD_SAME},
    {1, 8, 8, 1280, 1280, 3, 1, CONV2D_PAD_SAME},   {4, 16, 16, 1280, 1280, 3, 1, CONV2D_PAD_SAME},
    {4, 8, 8, 1280, 1280, 3, 1, CONV2D_PAD_SAME},   {1, 8, 8, 2560, 1280, 3, 1, CONV2D_PAD_SAME},
    {1, 256, 256, 128, 128, 3, 1, CONV2D_PAD_SAME},
};

static const char *const pass_names[] = {"y", "d_x", "d_w"};

static real *numbers(size_t n)
{
    real *const p = mem_new(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (real)((double)(i * 2654435761u % 1000) / 1000.0 - 0.5);
    return p;
}

struct arrays {
    real *x, *y, *w, *d_x, *d_y, *d_w;
};

/* Seconds of the quickest of several runs: other work on the machine can only slow one down. */
static double seconds(const struct conv2d_plan *p, enum conv2d_pass pass, struct arrays a)
{
    struct err e;
    const size_t B = p->shape.B, derived_bytes = conv2d_derived_bytes(p, true);
    void *const derived = mem_slab(derived_bytes + 1, "derived weights", &e);
    void *const work = mem_slab(conv2d_work_bytes(p, true) + 1, "work memory", &e);
    double best = 1e9;
    if (derived != NULL && work != NULL) {
        conv2d_prepare(p, derived, a.w, true);
        const double start = bench_thread_s();
        do {
            const double t = bench_thread_s();
            if (pass == CONV2D_FORWARD)
                conv2d_forward(p, B, a.y, a.x, a.w, derived, NULL, work);
            else
                conv2d_backward(p, B, pass == CONV2D_BACKWARD_DATA ? a.d_x : NULL, false,
                                pass == CONV2D_BACKWARD_WEIGHTS ? a.d_w : NULL, NULL, a.d_y, a.x,
                                a.w, derived, work);
            const double took = bench_thread_s() - t;
            best = took < best ? took : best;
        } while (bench_thread_s() - start < SECONDS_MIN);
    }
    mem_free(derived);
    mem_free(work);
    return best;
}

static int bench_shape(struct conv2d_shape s, double floor_rate)
{
    struct conv2d_plan p;
    struct err e;
    const enum conv2d_algo plain[CONV2D_PASSES] = {CONV2D_IM2COL, CONV2D_IM2COL, CONV2D_IM2COL};
    if (conv2d_plan_open_with(&p, s, plain, &e) < 0) {
        fprintf(stderr, "bench_conv2d: %s\n", e.text);
        return -1;
    }
    const size_t nx = s.B * s.H * s.W * s.C, ny = s.B * p.Ho * p.Wo * s.O;
    const size_t nw = s.O * s.C * s.K * s.K;
    const double gflop = 2e-9 * (double)ny * (double)(s.C * s.K * s.K);
    const struct arrays a = {numbers(nx), numbers(ny), numbers(nw),
                             numbers(nx), numbers(ny), numbers(nw)};
    conv2d_plan_close(&p);
    for (int pass = 0; pass < CONV2D_PASSES; pass++) {
        const enum conv2d_algo chosen = conv2d_choose(s, (enum conv2d_pass)pass, CONV2D_FAST);
        char what[96], more[160];
        double figure = 0.0;
        snprintf(what, sizeof what, "%zu, %zux%zu, %zu -> %zu, %zux%zu%s, %s", s.B, s.H, s.W, s.C,
                 s.O, s.K, s.K, s.stride == 2 ? " stride 2" : "", pass_names[pass]);
        int n = snprintf(more, sizeof more, ",\"chosen\":\"%s\"", conv2d_algo_name(chosen));
        for (int algo = CONV2D_IM2COL_BLAS; algo <= CONV2D_DNNL; algo++) {
            enum conv2d_algo algos[CONV2D_PASSES] = {CONV2D_IM2COL, CONV2D_IM2COL, CONV2D_IM2COL};
            if (!conv2d_can(s, (enum conv2d_algo)algo))
                continue;
            algos[pass] = (enum conv2d_algo)algo;
            if (conv2d_plan_open_with(&p, s, algos, &e) < 0) {
                fprintf(stderr, "bench_conv2d: %s\n", e.text);
                return -1;
            }
            const double rate = gflop / seconds(&p, (enum conv2d_pass)pass, a);
            n += snprintf(more + n, sizeof more - (size_t)n, ",\"%s\":%.0f",
                          conv2d_algo_name((enum conv2d_algo)algo), rate);
            if (algos[pass] == chosen)
                figure = rate;
            conv2d_plan_close(&p);
        }
        bench_print(&(struct bench_figure){.bench = "conv2d",
                                           .what = what,
                                           .figure = figure,
                                           .unit = "GFLOP/s",
                                           .floor = floor_rate,
                                           .floor_name = "sgemm",
                                           .more = more});
    }
    mem_free(a.x);
    mem_free(a.y);
    mem_free(a.w);
    mem_free(a.d_x);
    mem_free(a.d_y);
    mem_free(a.d_w);
    return 0;
}

int main(int argc, char **argv)
{
    const bool is_large = argc > 1 && strcmp(argv[1], "large") == 0;
    const struct conv2d_shape *const list = is_large ? large : small;
    const size_t count = is_large ? sizeof large / sizeof *large : sizeof small / sizeof *small;
    const double floor_rate = bench_gemm_gflops(NULL);
    for (size_t i = 0; i < count; i++)
        if (bench_shape(list[i], floor_rate) < 0)
            return 1;
    return 0;
}
