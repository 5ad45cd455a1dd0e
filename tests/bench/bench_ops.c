/* The kernels at the embedded model's shapes: one JSON line each, with the bandwidth of memcpy on
 * as many bytes, measured in the same run, as the yardstick.  usage: bench_ops [part of a name] */
#include "base/mem.h"
#include "nn/norm.h"
#include "nn/simd.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define REALS ((size_t)1 << 22)
#define SECONDS_MIN 0.02
#define REPEATS 5

static const char *only;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Best of REPEATS means, each over at least SECONDS_MIN. */
static double seconds_of(void (*body)(const void *), const void *arg)
{
    double best = 1e30;
    body(arg);
    for (int r = 0; r < REPEATS; r++) {
        const double start = now_s();
        double spent = 0.0;
        size_t calls = 0;
        for (; spent < SECONDS_MIN; spent = now_s() - start, calls++)
            body(arg);
        best = spent / (double)calls < best ? spent / (double)calls : best;
    }
    return best;
}

static real *slab[10]; /* REALS each */

struct copy {
    size_t bytes;
};

static void copy_body(const void *arg)
{
    const struct copy *c = arg;
    memcpy(slab[1], slab[0], c->bytes);
    __asm__ volatile("" ::: "memory");
}

/* bytes: read plus written at least once; flop: 0 where bandwidth is the measure. */
static void report(const char *name, const char *shape, void (*body)(const void *), const void *arg,
                   double bytes, double flop)
{
    if (only != NULL && strstr(name, only) == NULL)
        return;
    const double t = seconds_of(body, arg);
    const struct copy copy = {(size_t)(bytes / 2.0)};
    const double floor_s = seconds_of(copy_body, &copy);
    printf("{\"kernel\":\"%s\",\"shape\":\"%s\",\"us\":%.2f,\"gb_s\":%.1f,\"memcpy_gb_s\":%.1f,"
           "\"percent_of_memcpy\":%.0f",
           name, shape, t * 1e6, bytes / t * 1e-9, bytes / floor_s * 1e-9, 100.0 * floor_s / t);
    if (flop > 0.0)
        printf(",\"gflop_s\":%.1f", flop / t * 1e-9);
    printf("}\n");
    fflush(stdout);
}

/* ---- norms
 * --------------------------------------------------------------------------------------- */

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
    bench_norms();
    return 0;
}
