#include "nn/conv2d_winograd.h"

#include "nn/gemm_kernel.h"

#include <assert.h>
#include <string.h>

#define POINTS 36
#define TILE 4 /* outputs per tile and direction */
/* Between planes, so that the 36 stores of one channel do not fall on one set of the cache. */
#define PLANE_SKEW 16

/* The functions of conv2d_winograd_tile.inc. */
struct winograd {
    size_t columns;
    void (*input_tile)(float *V, size_t plane, size_t panel, const float *x, size_t H, size_t W,
                       size_t C, ptrdiff_t y0, ptrdiff_t x0);
    void (*gradient_tile)(float *M, size_t plane, size_t panel, const float *d_y, size_t H,
                          size_t W, size_t O, size_t y0, size_t x0);
    void (*output_tile)(float *y, bool accumulate, const float *M, size_t plane, const float *bias,
                        size_t H, size_t W, size_t O, size_t y0, size_t x0);
    void (*filter_panel)(float *U, size_t plane, const float *w, size_t stride, size_t n,
                         bool rotate);
    void (*filter_gradient)(float *d_w, const float *dU, size_t plane, size_t n);
};

#if defined(__x86_64__)

#include <immintrin.h>

/* The finite points beside 0, and the divisors of G's rows: 1 / (2 a^2 (a^2 - b^2)) and
 * 1 / (2 b^2 (b^2 - a^2)). */
#define POINT_A 0.70710678118654752f
#define POINT_B 1.41421356237309505f
#define SCALE_A (-1.0f / 1.5f)
#define SCALE_B (1.0f / 6.0f)
#define PANEL (2 * VEC_FLOATS)

/* tap_order[9 * lane + tap]: where a lane's tap lies in [9][lanes]. */
#define ORDER_LANE(l, lanes)                                                                       \
    (l), (lanes) + (l), 2 * (lanes) + (l), 3 * (lanes) + (l), 4 * (lanes) + (l),                   \
        5 * (lanes) + (l), 6 * (lanes) + (l), 7 * (lanes) + (l), 8 * (lanes) + (l)
#define ORDER_8(first, lanes)                                                                      \
    ORDER_LANE((first), lanes), ORDER_LANE((first) + 1, lanes), ORDER_LANE((first) + 2, lanes),    \
        ORDER_LANE((first) + 3, lanes), ORDER_LANE((first) + 4, lanes),                            \
        ORDER_LANE((first) + 5, lanes), ORDER_LANE((first) + 6, lanes),                            \
        ORDER_LANE((first) + 7, lanes)
static const int tap_order_avx512[] = {ORDER_8(0, 16), ORDER_8(8, 16)};
static const int tap_order_avx2[] = {ORDER_8(0, 8)};

#define SIMD_AVX512
#include "nn/simd.inc"

#include "nn/conv2d_winograd_tile.inc"
#undef SIMD_AVX512
#define SIMD_AVX2
#include "nn/simd.inc"

#include "nn/conv2d_winograd_tile.inc"
#undef SIMD_AVX2

const struct winograd *winograd_named(const char *name)
{
    const struct gemm_kernel *const kernel = gemm_kernel_named(name);
    if (kernel == NULL)
        return NULL;
    return kernel->columns == winograd_avx512.columns ? &winograd_avx512 : &winograd_avx2;
}

static const struct gemm_kernel *kernel_of(const struct winograd *g)
{
    return gemm_kernel_named(g == &winograd_avx512 ? "avx512" : "avx2");
}

#else

const struct winograd *winograd_named(const char *name)
{
    (void)name;
    return NULL;
}

static const struct gemm_kernel *kernel_of(const struct winograd *g)
{
    (void)g;
    return NULL;
}

#endif

const struct winograd *winograd_best(void)
{
    const struct winograd *const best = winograd_named("avx512");
    return best != NULL ? best : winograd_named("avx2");
}

static size_t round_up(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t tile_count(struct winograd_shape s)
{
    return s.B * ((s.H + TILE - 1) / TILE) * ((s.W + TILE - 1) / TILE);
}

struct tile_at {
    size_t sample, y, x; /* the first output row and column */
};

static struct tile_at tile_find(struct winograd_shape s, size_t t)
{
    const size_t across = (s.W + TILE - 1) / TILE, down = (s.H + TILE - 1) / TILE;
    return (struct tile_at){t / (across * down), t / across % down * TILE, t % across * TILE};
}

/* Tiles in nearly equal blocks of at most `most`. */
static size_t block_tiles(size_t tiles, size_t most)
{
    const size_t blocks = (tiles + most - 1) / most;
    return blocks == 0 ? 0 : (tiles + blocks - 1) / blocks;
}

/* Small blocks keep V and M in the second-level cache; where U does not fit there beside them,
 * every pass over U has to serve more tiles.  Two or more rows of 14-high matrix tiles. */
static size_t forward_most(struct winograd_shape s)
{
    const size_t U_floats = POINTS * s.C * s.O;
    return U_floats < 400000 ? 28 : U_floats < 2000000 ? 56 : 112;
}

/* The sum over a block's tiles is turned into d_w at once, so long blocks pay; V and M of a block
 * should still lie in the second-level cache. */
static size_t gradient_most(struct winograd_shape s)
{
    const size_t fits = 200000 / (POINTS * (s.C + s.O));
    return fits < 64 ? 64 : least(fits, 256);
}

size_t winograd_filter_bytes(const struct winograd *g, size_t C, size_t O)
{
    return POINTS * C * round_up(O, g->columns) * sizeof(float);
}

void winograd_filter(const struct winograd *g, float *U, const float *w, size_t O, size_t C,
                     bool backward)
{
    const size_t in = backward ? O : C, out = backward ? C : O, columns = g->columns;
    const size_t in_stride = 9 * (backward ? C : 1), out_stride = 9 * (backward ? 1 : C);
    const size_t plane = in * round_up(out, columns);
    for (size_t n = 0; n < out; n += columns)
        for (size_t k = 0; k < in; k++)
            g->filter_panel(U + n * in + k * columns, plane, w + n * out_stride + k * in_stride,
                            out_stride, least(out - n, columns), backward);
}

size_t winograd_work_bytes(const struct winograd *g, struct winograd_shape s)
{
    const size_t C = round_up(s.C, g->columns), O = round_up(s.O, g->columns);
    /* fewer samples may come, and in larger blocks: 57 of 113 tiles, 112 of 112 */
    const size_t tiles = least(tile_count(s), forward_most(s));
    const size_t forward = POINTS * (tiles * (s.C + s.O) + 2 * PLANE_SKEW + 32);
    const size_t gradient = POINTS * (least(tile_count(s), gradient_most(s)) * (C + O) + 2 * PLANE_SKEW +
                                      GEMM_KERNEL_ROWS_MAX * GEMM_KERNEL_COLUMNS_MAX);
    return (forward > gradient ? forward : gradient) * sizeof(float);
}

void winograd_convolve(const struct winograd *g, float *y, bool accumulate, const float *x,
                       const float *U, const float *bias, struct winograd_shape s, void *work)
{
    const struct gemm_kernel *const kernel = kernel_of(g);
    const size_t columns = g->columns, tiles = tile_count(s), block = block_tiles(tile_count(s), forward_most(s));
    const size_t plane_V = round_up(block * s.C, 16) + PLANE_SKEW;
    const size_t plane_M = round_up(block * s.O, 16) + PLANE_SKEW;
    const size_t plane_U = s.C * round_up(s.O, columns);
    float *const V = work, *const M = V + POINTS * plane_V;
    for (size_t first = 0; first < tiles; first += block) {
        const size_t n = least(tiles - first, block);
        for (size_t t = 0; t < n; t++) {
            const struct tile_at at = tile_find(s, first + t);
            g->input_tile(V + t * s.C, plane_V, columns, x + at.sample * s.H * s.W * s.C, s.H, s.W,
                          s.C, (ptrdiff_t)at.y - 1, (ptrdiff_t)at.x - 1);
        }
        for (size_t i = 0; i < POINTS; i++)
            gemm_kernel_panels(kernel, n, s.O, s.C, V + i * plane_V, s.C, 1, U + i * plane_U,
                               columns, s.C * columns, M + i * plane_M, s.O, 1.0f, 0.0f);
        for (size_t t = 0; t < n; t++) {
            const struct tile_at at = tile_find(s, first + t);
            g->output_tile(y + at.sample * s.H * s.W * s.O, accumulate, M + t * s.O, plane_M, bias,
                           s.H, s.W, s.O, at.y, at.x);
        }
    }
}

/* d_w += the gradient of n tiles whose transforms lie in panels, [POINTS][panel][n][columns], for
 * one panel of input channels. */
static void gradient_panel(const struct winograd *g, const struct gemm_kernel *kernel, float *d_w,
                           const float *M, size_t plane_M, const float *V, size_t plane_V, size_t n,
                           size_t c, struct winograd_shape s, float *dU)
{
    const size_t columns = g->columns;
    const size_t width = least(s.C - c, columns);
    for (size_t o = 0; o < s.O; o += columns) {
        const size_t panel = least(s.O - o, columns);
        const size_t cuts = (panel + kernel->rows_max - 1) / kernel->rows_max;
        for (size_t cut = 0, row = 0; cut < cuts; cut++) {
            const size_t rows = panel / cuts + (cut < panel % cuts);
            for (size_t i = 0; i < POINTS; i++)
                gemm_kernel_panels(kernel, rows, width, n, M + i * plane_M + o * n + row, 1,
                                   columns, V + i * plane_V + c * n, columns, 0,
                                   dU + i * rows * columns, columns, 1.0f, 0.0f);
            for (size_t r = 0; r < rows; r++)
                g->filter_gradient(d_w + ((o + row + r) * s.C + c) * 9, dU + r * columns,
                                   rows * columns, width);
            row += rows;
        }
    }
}

void winograd_filter_gradient(const struct winograd *g, float *d_w, const float *d_y,
                              const float *x, struct winograd_shape s, void *work)
{
    const struct gemm_kernel *const kernel = kernel_of(g);
    const size_t columns = g->columns, tiles = tile_count(s), block = block_tiles(tile_count(s), gradient_most(s));
    const size_t plane_V = block * round_up(s.C, columns) + PLANE_SKEW;
    const size_t plane_M = block * round_up(s.O, columns) + PLANE_SKEW;
    float *const V = work, *const M = V + POINTS * plane_V, *const dU = M + POINTS * plane_M;
    for (size_t first = 0; first < tiles; first += block) {
        const size_t n = least(tiles - first, block);
        for (size_t t = 0; t < n; t++) {
            const struct tile_at at = tile_find(s, first + t);
            g->input_tile(V + t * columns, plane_V, n * columns, x + at.sample * s.H * s.W * s.C,
                          s.H, s.W, s.C, (ptrdiff_t)at.y - 1, (ptrdiff_t)at.x - 1);
            g->gradient_tile(M + t * columns, plane_M, n * columns,
                             d_y + at.sample * s.H * s.W * s.O, s.H, s.W, s.O, at.y, at.x);
        }
        for (size_t c = 0; c < s.C; c += columns)
            gradient_panel(g, kernel, d_w, M, plane_M, V, plane_V, n, c, s, dU);
    }
}
