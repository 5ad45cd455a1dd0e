#include "nn/conv2d_im2col.h"

#include <string.h>

/* Gathered taps of one block of lines should stay in the second-level cache, but a block has to be
 * worth its pass over the weights. */
#define BLOCK_REALS 131072
#define BLOCK_PIXELS_MIN 256

/* Taps of an input [B,H,W,C] for lines of pixels [B,Ho,Wo], multiplied with weights [K*K*C,N]. */
struct gather {
    size_t B, H, W, C, N, K, stride, before, Ho, Wo;
};

size_t conv2d_out_size(struct conv2d_shape s, size_t in)
{
    const size_t border = s.K / 2 * (s.pad == CONV2D_PAD_SAME ? 2 : 1);
    return (in + border - s.K) / s.stride + 1;
}

static struct gather gather_of(struct conv2d_shape s)
{
    return (struct gather){
        .B = s.B,
        .H = s.H,
        .W = s.W,
        .C = s.C,
        .N = s.O,
        .K = s.K,
        .stride = s.stride,
        .before = s.pad == CONV2D_PAD_SAME ? s.K / 2 : 0,
        .Ho = conv2d_out_size(s, s.H),
        .Wo = conv2d_out_size(s, s.W),
    };
}

static size_t row_reals(struct gather g)
{
    return g.K * g.K * g.C;
}

static bool is_plain(struct gather g)
{
    return g.K == 1 && g.stride == 1;
}

static size_t lines_per_block(struct gather g)
{
    const size_t fits = BLOCK_REALS / (g.Wo * row_reals(g));
    const size_t worth = (BLOCK_PIXELS_MIN + g.Wo - 1) / g.Wo;
    const size_t lines = fits > worth ? fits : worth, all = g.B * g.Ho;
    return lines < all ? lines : all;
}

/* Columns kx from *first to *end - 1 of output column j lie inside the input, the first of them at
 * *x. */
static void taps_inside(struct gather g, size_t j, size_t *first, size_t *end, size_t *x)
{
    const size_t at = j * g.stride; /* + kx - before */
    *first = at < g.before ? g.before - at : 0;
    *end = at + g.K - g.before > g.W ? g.W + g.before - at : g.K;
    *x = at + *first - g.before;
}

/* rows [lines*Wo, K*K*C] from the lines first.. of the batch; zeros outside the picture. */
static void taps_gather(real *rows, const real *in, struct gather g, size_t first, size_t lines)
{
    for (size_t line = first; line < first + lines; line++) {
        const real *const sample = in + line / g.Ho * g.H * g.W * g.C;
        for (size_t j = 0; j < g.Wo; j++) {
            size_t kx0, kx1, x;
            taps_inside(g, j, &kx0, &kx1, &x);
            for (size_t ky = 0; ky < g.K; ky++, rows += g.K * g.C) {
                const size_t y = line % g.Ho * g.stride + ky - g.before; /* wraps above the top */
                if (y >= g.H || kx0 >= kx1) {
                    memset(rows, 0, g.K * g.C * sizeof *rows);
                    continue;
                }
                memset(rows, 0, kx0 * g.C * sizeof *rows);
                memcpy(rows + kx0 * g.C, sample + (y * g.W + x) * g.C,
                       (kx1 - kx0) * g.C * sizeof *rows);
                memset(rows + kx1 * g.C, 0, (g.K - kx1) * g.C * sizeof *rows);
            }
        }
    }
}

/* The transpose: in += rows. */
static void taps_scatter(real *in, const real *rows, struct gather g, size_t first, size_t lines)
{
    for (size_t line = first; line < first + lines; line++) {
        real *const sample = in + line / g.Ho * g.H * g.W * g.C;
        for (size_t j = 0; j < g.Wo; j++) {
            size_t kx0, kx1, x;
            taps_inside(g, j, &kx0, &kx1, &x);
            for (size_t ky = 0; ky < g.K; ky++, rows += g.K * g.C) {
                const size_t y = line % g.Ho * g.stride + ky - g.before;
                if (y >= g.H || kx0 >= kx1)
                    continue;
                real *const to = sample + (y * g.W + x) * g.C;
                const real *const from = rows + kx0 * g.C;
                for (size_t c = 0; c < (kx1 - kx0) * g.C; c++)
                    to[c] += from[c];
            }
        }
    }
}

static void fill_bias(real *y, const real *bias, size_t rows, size_t N)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(y + r * N, bias, N * sizeof *y);
}

/* out [B,Ho,Wo,N] = beta out + taps(in) weights; w [N,C] is read for a 1x1 kernel instead. */
static void gathered_product(real *out, real beta, const real *in, const real *w,
                             const real *weights, struct gather g, conv2d_product *product,
                             real *rows)
{
    const size_t width = row_reals(g), pixels = g.B * g.Ho * g.Wo;
    if (is_plain(g)) {
        product(false, true, pixels, g.N, width, 1, in, width, w, width, beta, out, g.N);
        return;
    }
    const size_t step = lines_per_block(g);
    for (size_t line = 0; line < g.B * g.Ho; line += step) {
        const size_t lines = g.B * g.Ho - line < step ? g.B * g.Ho - line : step;
        real *const to = out + line * g.Wo * g.N;
        taps_gather(rows, in, g, line, lines);
        if (g.K == 1)
            product(false, true, lines * g.Wo, g.N, width, 1, rows, width, w, width, beta, to, g.N);
        else
            product(false, false, lines * g.Wo, g.N, width, 1, rows, width, weights, g.N, beta, to,
                    g.N);
    }
}

/* in [B,H,W,C] (+)= the transpose of taps() over d [B,Ho,Wo,N] weights^T. */
static void scattered_product(real *in, bool accumulate, const real *d, const real *w,
                              const real *weights, struct gather g, conv2d_product *product,
                              real *rows)
{
    const size_t width = row_reals(g), pixels = g.B * g.Ho * g.Wo;
    if (is_plain(g)) {
        product(false, false, pixels, width, g.N, 1, d, g.N, w, width, accumulate ? 1 : 0, in,
                width);
        return;
    }
    if (!accumulate)
        memset(in, 0, g.B * g.H * g.W * g.C * sizeof *in);
    const size_t step = lines_per_block(g);
    for (size_t line = 0; line < g.B * g.Ho; line += step) {
        const size_t lines = g.B * g.Ho - line < step ? g.B * g.Ho - line : step;
        const real *const from = d + line * g.Wo * g.N;
        if (g.K == 1)
            product(false, false, lines * g.Wo, width, g.N, 1, from, g.N, w, width, 0, rows, width);
        else
            product(false, true, lines * g.Wo, width, g.N, 1, from, g.N, weights, g.N, 0, rows,
                    width);
        taps_scatter(in, rows, g, line, lines);
    }
}

size_t im2col_weights_bytes(struct conv2d_shape s)
{
    return s.K == 1 ? 0 : s.K * s.K * s.C * s.O * sizeof(real);
}

void im2col_weights(real *to, const real *w, struct conv2d_shape s)
{
    const size_t taps = s.K * s.K;
    if (s.K == 1)
        return;
    for (size_t o = 0; o < s.O; o++)
        for (size_t c = 0; c < s.C; c++)
            for (size_t t = 0; t < taps; t++, w++)
                to[(t * s.C + c) * s.O + o] = *w;
}

size_t im2col_work_bytes(struct conv2d_shape s)
{
    const struct gather g = gather_of(s);
    if (is_plain(g))
        return 0;
    return (lines_per_block(g) * g.Wo * row_reals(g) + row_reals(g) * g.N) * sizeof(real);
}

void im2col_forward(real *y, const real *x, const real *w, const real *weights, const real *bias,
                    struct conv2d_shape s, conv2d_product *product, void *work)
{
    const struct gather g = gather_of(s);
    if (bias != NULL)
        fill_bias(y, bias, s.B * g.Ho * g.Wo, s.O);
    gathered_product(y, bias != NULL ? 1 : 0, x, w, weights, g, product, work);
}

void im2col_backward_data(real *d_x, bool accumulate, const real *d_y, const real *w,
                          const real *weights, struct conv2d_shape s, conv2d_product *product,
                          void *work)
{
    const struct gather g = gather_of(s);
    scattered_product(d_x, accumulate, d_y, w, weights, g, product, work);
}

/* d_w += the gradient [K*K*C,N] of the weights in im2col_weights' order. */
static void unpack_gradient(real *d_w, const real *sum, struct conv2d_shape s)
{
    const size_t taps = s.K * s.K;
    for (size_t o = 0; o < s.O; o++)
        for (size_t c = 0; c < s.C; c++)
            for (size_t t = 0; t < taps; t++, d_w++)
                *d_w += sum[(t * s.C + c) * s.O + o];
}

void im2col_backward_weights(real *d_w, const real *d_y, const real *x, struct conv2d_shape s,
                             conv2d_product *product, void *work)
{
    const struct gather g = gather_of(s);
    const size_t width = row_reals(g), pixels = g.B * g.Ho * g.Wo;
    if (is_plain(g)) {
        product(true, false, g.N, width, pixels, 1, d_y, g.N, x, width, 1, d_w, width);
        return;
    }
    real *const sum = work, *const rows = sum + width * g.N;
    const size_t step = lines_per_block(g);
    for (size_t line = 0; line < g.B * g.Ho; line += step) {
        const size_t lines = g.B * g.Ho - line < step ? g.B * g.Ho - line : step;
        taps_gather(rows, x, g, line, lines);
        product(true, false, width, g.N, lines * g.Wo, 1, rows, width, d_y + line * g.Wo * g.N, g.N,
                line == 0 ? 0 : 1, sum, g.N);
    }
    unpack_gradient(d_w, sum, s);
}
