/* The three matrix products of a linear layer over `rows` rows, from `in` to `out` channels, on one
 * thread: y = x w^T, d_x = d_y w, d_w = d_y^T x.  One JSON line per shape and pass, in GFLOP/s and
 * as a percentage of the floor, which is the best product measured in the same run. */
#include "base/mem.h"
#include "nn/gemm.h"
#include "support/bench.h"

#include <stdio.h>

#define SECONDS_MIN 0.05
#define FLOOR_SIZE 1024
#define FLOP_PER_READING 4e6 /* reading the clock must not show */

static const struct {
    size_t rows, in, out;
} shapes[] = {{4096, 32, 32},  {2048, 64, 64},  {2048, 64, 192}, {512, 64, 512}, {512, 256, 64},
              {2048, 96, 768}, {2048, 384, 96}, {128, 96, 768},  {128, 384, 96}, {16, 96, 96},
              {8, 128, 32},    {64, 16, 64},    {4096, 768, 384}};

enum form { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, FORMS };

static const char *const form_names[] = {"y", "d_x", "d_w"};

typedef void product(bool, bool, size_t, size_t, size_t, real, const real *, size_t, const real *,
                     size_t, real, real *, size_t);

/* GFLOP/s of the quickest of many runs: other work on the machine can only slow one down. */
static double rate(product *f, enum form form, size_t rows, size_t in, size_t out, const real *A,
                   const real *B, real *C)
{
    const double flop = 2.0 * (double)rows * (double)in * (double)out;
    const size_t calls = 1 + (size_t)(FLOP_PER_READING / flop);
    const double start = bench_thread_s();
    double best = 1e9;
    do {
        const double t = bench_thread_s();
        for (size_t i = 0; i < calls; i++) {
            if (form == FORWARD)
                f(false, true, rows, out, in, 1, A, in, B, in, 0, C, out);
            else if (form == BACKWARD_DATA)
                f(false, false, rows, in, out, 1, A, out, B, in, 0, C, in);
            else
                f(true, false, out, in, rows, 1, A, out, B, in, 0, C, in);
        }
        const double took = (bench_thread_s() - t) / (double)calls;
        best = took < best ? took : best;
    } while (bench_thread_s() - start < SECONDS_MIN);
    return 1e-9 * flop / best;
}

static real *numbers(size_t n)
{
    real *const p = mem_new(n, sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = (real)((double)(i * 2654435761u % 1000) / 1000.0 - 0.5);
    return p;
}

int main(void)
{
    const size_t room = (size_t)4096 * 768;
    real *const A = numbers(room), *const B = numbers(room), *const C = numbers(room);
    const size_t n = FLOOR_SIZE;
    const double own = rate(gemm, BACKWARD_DATA, n, n, n, A, B, C);
    const double blas = rate(gemm_blas, BACKWARD_DATA, n, n, n, A, B, C);
    const double cached = rate(gemm, BACKWARD_DATA, 252, 256, 256, A, B, C);
    double floor_rate = own > blas ? own : blas;
    floor_rate = cached > floor_rate ? cached : floor_rate;
    char more[128];
    snprintf(more, sizeof more, ",\"kernel\":\"%s\",\"blas\":%.1f,\"blas_core\":\"%s\"",
             gemm_kernel_name(), blas, gemm_blas_core_name());
    bench_print(&(struct bench_figure){.bench = "gemm",
                                       .what = "1024 x 1024 x 1024",
                                       .figure = own,
                                       .unit = "GFLOP/s",
                                       .floor = floor_rate,
                                       .floor_name = "best product",
                                       .more = more});
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const size_t rows = shapes[i].rows, in = shapes[i].in, out = shapes[i].out;
        for (enum form f = FORWARD; f < FORMS; f++) {
            const double r = rate(gemm, f, rows, in, out, A, B, C);
            const double b = rate(gemm_blas, f, rows, in, out, A, B, C);
            char what[64];
            snprintf(what, sizeof what, "%zu rows, %zu -> %zu, %s", rows, in, out, form_names[f]);
            snprintf(more, sizeof more, ",\"blas\":%.1f", b);
            bench_print(&(struct bench_figure){.bench = "gemm",
                                               .what = what,
                                               .figure = r,
                                               .unit = "GFLOP/s",
                                               .floor = floor_rate,
                                               .floor_name = "best product",
                                               .more = more});
        }
    }
    mem_free(A);
    mem_free(B);
    mem_free(C);
    return 0;
}
