#include "shapes/judge.h"

#include "base/mem.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define SIDE WORLD_SIDE
#define PIXELS (SIDE * SIDE)
#define BORDER 2 /* rings of pixels that show background alone */
#define CUBE_STEPS 4096
#define AREA_MIN 12 /* pixels; smaller components are dirt */
#define SPLIT_AREA_MIN 20
#define PAD 2 /* pixels around a component that still belong to its soft edge */
/* Smoothing widens an edge of coverage to about this many pixels. */
#define EDGE_PX 1.8f

struct judge {
    float xyz[3][3][256];       /* [x,y,z][channel][value], divided by the white */
    float cube[CUBE_STEPS + 2]; /* Lab's f(t) for t = i / CUBE_STEPS */
    struct lab colour[COLOUR_COUNT], background[BACKGROUND_COUNT];
    float stripe[2][SIDE], check[2][SIDE]; /* cos and sin of the textures' fundamentals */

    float smooth[PIXELS * 3], l[PIXELS], a[PIXELS], b[PIXELS];
    float away[PIXELS];    /* delta E from the background's range */
    int16_t label[PIXELS]; /* 0 background, else the component */
    int8_t side[PIXELS];   /* 0, or which part of a component that was split by colour */
    int16_t stack[PIXELS];
    float alpha[PIXELS]; /* soft coverage of one component inside its box */
    bool kept[PIXELS];   /* by label: the component is an object of the view */
};

/* ---- tables
 * ------------------------------------------------------------------------------------------ */

struct judge *judge_new(void)
{
    static const double to_xyz[3][3] = {
        {0.4124564 / 0.95047, 0.3575761 / 0.95047, 0.1804375 / 0.95047},
        {0.2126729, 0.7151522, 0.0721750},
        {0.0193339 / 1.08883, 0.1191920 / 1.08883, 0.9503041 / 1.08883}};
    const double pi = 3.14159265358979324;
    struct judge *j = mem_new(1, sizeof *j);
    for (int v = 0; v < 256; v++) {
        const double s = v / 255.0;
        const double linear = s <= 0.04045 ? s / 12.92 : pow((s + 0.055) / 1.055, 2.4);
        for (int k = 0; k < 3; k++)
            for (int c = 0; c < 3; c++)
                j->xyz[k][c][v] = (float)(to_xyz[k][c] * linear);
    }
    for (int i = 0; i < CUBE_STEPS + 2; i++) {
        const double t = (double)i / CUBE_STEPS;
        j->cube[i] = (float)(t > 216.0 / 24389.0 ? cbrt(t) : (24389.0 / 27.0 * t + 16.0) / 116.0);
    }
    for (int c = 0; c < COLOUR_COUNT; c++)
        j->colour[c] = world_colour_lab((enum world_colour)c);
    for (int c = 0; c < BACKGROUND_COUNT; c++)
        j->background[c] = world_background_lab((enum world_background)c);
    for (int i = 0; i < SIDE; i++) {
        j->stripe[0][i] = (float)cos(pi * i / WORLD_STRIPE_PX);
        j->stripe[1][i] = (float)sin(pi * i / WORLD_STRIPE_PX);
        j->check[0][i] = (float)cos(pi * i / WORLD_CHECK_PX);
        j->check[1][i] = (float)sin(pi * i / WORLD_CHECK_PX);
    }
    return j;
}

void judge_free(struct judge *j)
{
    mem_free(j);
}

/* ---- the picture in Lab
 * -------------------------------------------------------------------------------- */

/* Binomial 3x3, edges repeated: takes pixel noise away and leaves an outline where it was. */
static void smooth_rgb(struct judge *j, const uint8_t *rgb)
{
    for (int y = 0; y < SIDE; y++) {
        const uint8_t *up = rgb + (y > 0 ? y - 1 : 0) * SIDE * 3, *at = rgb + y * SIDE * 3;
        const uint8_t *down = rgb + (y < SIDE - 1 ? y + 1 : y) * SIDE * 3;
        float row[(SIDE + 2) * 3];
        for (int i = 0; i < SIDE * 3; i++)
            row[i + 3] = (float)(up[i] + 2 * at[i] + down[i]);
        memcpy(row, row + 3, 3 * sizeof *row);
        memcpy(row + (SIDE + 1) * 3, row + SIDE * 3, 3 * sizeof *row);
        float *out = j->smooth + y * SIDE * 3;
        for (int i = 0; i < SIDE * 3; i++)
            out[i] = (row[i] + 2.0f * row[i + 3] + row[i + 6]) * (1.0f / 16.0f);
    }
}

static float cube_root(const struct judge *j, float t)
{
    const float at = fminf(t, 1.0f) * CUBE_STEPS;
    const int i = (int)at;
    return j->cube[i] + (at - (float)i) * (j->cube[i + 1] - j->cube[i]);
}

static void to_lab(struct judge *j)
{
    for (int p = 0; p < PIXELS; p++) {
        const int r = (int)(j->smooth[p * 3] + 0.5f), g = (int)(j->smooth[p * 3 + 1] + 0.5f);
        const int b = (int)(j->smooth[p * 3 + 2] + 0.5f);
        const float fx = cube_root(j, j->xyz[0][0][r] + j->xyz[0][1][g] + j->xyz[0][2][b]);
        const float fy = cube_root(j, j->xyz[1][0][r] + j->xyz[1][1][g] + j->xyz[1][2][b]);
        const float fz = cube_root(j, j->xyz[2][0][r] + j->xyz[2][1][g] + j->xyz[2][2][b]);
        j->l[p] = 116.0f * fy - 16.0f;
        j->a[p] = 500.0f * (fx - fy);
        j->b[p] = 200.0f * (fy - fz);
    }
}

/* ---- the background
 * ------------------------------------------------------------------------------------ */

#define BINS 512 /* half units of Lab from -128 */

static int bin_of(float v)
{
    const int i = (int)((v + 128.0f) * 2.0f);
    return i < 0 ? 0 : i >= BINS ? BINS - 1 : i;
}

static float quantile(const int *histogram, int n, double q)
{
    int seen = 0;
    for (int i = 0; i < BINS; i++) {
        seen += histogram[i];
        if (seen > q * n)
            return (float)i * 0.5f + 0.25f - 128.0f;
    }
    return 0.0f;
}

static bool on_border(int p)
{
    const int x = p % SIDE, y = p / SIDE;
    return x < BORDER || y < BORDER || x >= SIDE - BORDER || y >= SIDE - BORDER;
}

struct backdrop {
    struct lab middle;
    float range; /* lightness differs from the middle's by at most this */
};

/* Medians of the border, then the range of lightness among the border's pixels near them: an object
 * that crosses the border does not widen it. */
static struct backdrop find_backdrop(const struct judge *j)
{
    int hl[BINS] = {0}, ha[BINS] = {0}, hb[BINS] = {0}, near[BINS] = {0};
    int n = 0, n_near = 0;
    for (int p = 0; p < PIXELS; p++)
        if (on_border(p)) {
            hl[bin_of(j->l[p])]++;
            ha[bin_of(j->a[p])]++;
            hb[bin_of(j->b[p])]++;
            n++;
        }
    const float l = quantile(hl, n, 0.5), a = quantile(ha, n, 0.5), b = quantile(hb, n, 0.5);
    for (int p = 0; p < PIXELS; p++)
        if (on_border(p) && fabsf(j->l[p] - l) < 20.0f && fabsf(j->a[p] - a) < 10.0f &&
            fabsf(j->b[p] - b) < 10.0f) {
            near[bin_of(j->l[p])]++;
            n_near++;
        }
    if (n_near == 0)
        return (struct backdrop){{l, a, b}, 0.0f};
    const float low = quantile(near, n_near, 0.04), high = quantile(near, n_near, 0.96);
    const float most = (float)WORLD_TONE + 2.0f;
    return (struct backdrop){{(low + high) / 2.0f, a, b}, fminf((high - low) / 2.0f, most)};
}

static void measure_away(struct judge *j, struct backdrop back)
{
    for (int p = 0; p < PIXELS; p++) {
        const float dl = fmaxf(fabsf(j->l[p] - back.middle.l) - back.range, 0.0f);
        const float da = j->a[p] - back.middle.a, db = j->b[p] - back.middle.b;
        j->away[p] = sqrtf(dl * dl + da * da + db * db);
    }
}

/* Half the contrast of the most contrasting 20 pixels, within bounds: pale pictures of the first
 * denoising steps still show their objects, and dirt of a flat picture is none.  A noisy border
 * raises it, within bounds too, so that grain does not fall into a hundred objects. */
static float find_threshold(const struct judge *j)
{
    int h[BINS] = {0}, border[BINS] = {0}, n = 0;
    for (int p = 0; p < PIXELS; p++) {
        h[bin_of(j->away[p])]++;
        if (on_border(p)) {
            border[bin_of(j->away[p])]++;
            n++;
        }
    }
    const float contrast = quantile(h, PIXELS, 1.0 - 20.0 / PIXELS);
    const float grain = 1.6f * quantile(border, n, 0.9);
    return fminf(fmaxf(fminf(fmaxf(0.5f * contrast, 5.0f), 12.0f), grain), 20.0f);
}

static double ramp(double v, double low, double high)
{
    const double t = fmin(fmax((v - low) / (high - low), 0.0), 1.0);
    return t * t * (3.0 - 2.0 * t);
}

/* Probabilities by distance, exp(-d / 8) normalised, less where even the nearest is far. */
static int name_colour(float *likeness, struct lab c, const struct lab *palette, int n)
{
    double d[COLOUR_COUNT], sum = 0.0;
    int best = 0;
    for (int i = 0; i < n; i++) {
        d[i] = lab_distance(c, palette[i]);
        if (d[i] < d[best])
            best = i;
    }
    for (int i = 0; i < n; i++)
        sum += exp((d[best] - d[i]) / 8.0);
    for (int i = 0; i < n; i++)
        likeness[i] = (float)(exp((d[best] - d[i]) / 8.0 - fmax(d[i] - 12.0, 0.0) / 30.0) / sum);
    return best;
}

/* Which share of the lightness' variance each texture would explain, over the pixels that show
 * background: regression on x and y for the gradient, the fundamental for stripes and checks. */
static void find_texture(struct judge *j, struct judge_view *view, double mean_l)
{
    double n = 0.0, sx = 0.0, sy = 0.0, sxx = 0.0, syy = 0.0, sxl = 0.0, syl = 0.0;
    double lying[2] = {0}, upright[2] = {0}, check[4] = {0};
    double column[SIDE] = {0};
    for (int y = 0; y < SIDE; y++) {
        double row = 0.0, row_n = 0.0, cos_sum = 0.0, sin_sum = 0.0;
        for (int x = 0; x < SIDE; x++) {
            const int p = y * SIDE + x;
            if (j->label[p] != 0)
                continue;
            const double l = (double)j->l[p] - mean_l;
            row += l;
            row_n += 1.0;
            column[x] += l;
            cos_sum += l * (double)j->check[0][x];
            sin_sum += l * (double)j->check[1][x];
            sx += x;
            sxx += x * x;
        }
        n += row_n;
        sy += row_n * y;
        syy += row_n * y * y;
        syl += row * y;
        for (int k = 0; k < 2; k++) {
            lying[k] += row * (double)j->stripe[k][y];
            check[k] += cos_sum * (double)j->check[k][y];
            check[2 + k] += sin_sum * (double)j->check[k][y];
        }
    }
    for (int x = 0; x < SIDE; x++) {
        sxl += column[x] * x;
        for (int k = 0; k < 2; k++)
            upright[k] += column[x] * (double)j->stripe[k][x];
    }
    if (n < 100.0) { /* hardly any background: nothing to tell */
        for (int t = 0; t < TEXTURE_COUNT; t++)
            view->texture_likeness[t] = 1.0f / TEXTURE_COUNT;
        view->texture = TEXTURE_PLAIN;
        return;
    }
    const double var_x = sxx / n - sx * sx / (n * n), var_y = syy / n - sy * sy / (n * n);
    /* Variance explained: for a coefficient c of cos or sin, 2 c^2. */
    const double up = 2.0 * (upright[0] * upright[0] + upright[1] * upright[1]) / (n * n);
    const double down = 2.0 * (lying[0] * lying[0] + lying[1] * lying[1]) / (n * n);
    double both = 0.0;
    for (int k = 0; k < 4; k++)
        both += 4.0 * check[k] * check[k] / (n * n);
    /* What a full-strength texture gives: a ramp has variance tone^2/3, a square wave's fundamental
     * 8/pi^2 of tone^2, a product of two (8/pi^2)^2. */
    const double tone = WORLD_TONE * WORLD_TONE;
    double strength[TEXTURE_COUNT] = {0.0};
    strength[TEXTURE_GRADIENT] = ((var_x > 1.0 ? sxl * sxl / (n * n) / var_x : 0.0) +
                                  (var_y > 1.0 ? syl * syl / (n * n) / var_y : 0.0)) /
                                 (tone / 3.0);
    strength[TEXTURE_STRIPED] = fmax(up, down) / (0.81 * tone);
    strength[TEXTURE_CHECKERED] = both / (0.66 * tone);
    double sum = 0.0;
    int best = TEXTURE_GRADIENT;
    for (int t = TEXTURE_GRADIENT; t < TEXTURE_COUNT; t++) {
        sum += strength[t];
        if (strength[t] > strength[best])
            best = t;
    }
    /* strength is a square: 0.16 = texture at 40 % of its amplitude. */
    const double plain = 1.0 / (1.0 + strength[best] * strength[best] / (0.16 * 0.16));
    view->texture_likeness[TEXTURE_PLAIN] = (float)plain;
    for (int t = TEXTURE_GRADIENT; t < TEXTURE_COUNT; t++)
        view->texture_likeness[t] = (float)((1.0 - plain) * strength[t] / fmax(sum, 1e-9));
    view->texture = plain > 0.5 ? TEXTURE_PLAIN : (enum world_texture)best;
}

static void name_background(struct judge *j, struct judge_view *view, float threshold)
{
    double l = 0.0, a = 0.0, b = 0.0, n = 0.0, border = 0.0, clean = 0.0, rough = 0.0;
    for (int p = 0; p < PIXELS; p++) {
        if (on_border(p)) {
            border += 1.0;
            clean += j->away[p] < threshold;
        }
        rough += j->kept[j->label[p]] ? 0.0 : (double)j->away[p];
        if (j->label[p] != 0)
            continue;
        l += (double)j->l[p];
        a += (double)j->a[p];
        b += (double)j->b[p];
        n += 1.0;
    }
    n = fmax(n, 1.0);
    const struct lab mean = {(float)(l / n), (float)(a / n), (float)(b / n)};
    view->background = (enum world_background)name_colour(view->background_likeness, mean,
                                                          j->background, BACKGROUND_COUNT);
    view->backing = ramp(clean / border, 0.35, 0.9);
    view->roughness = rough / PIXELS;
    find_texture(j, view, l / n);
}

/* ---- objects
 * --------------------------------------------------------------------------------------------- */

struct component {
    int label, area, left, right, top, bottom;
};

/* The 8-connected pixels of one side around `start`, all above the threshold. */
static struct component flood(struct judge *j, int start, int label, float threshold)
{
    struct component c = {label, 0, SIDE, 0, SIDE, 0};
    int depth = 0;
    j->stack[depth++] = (int16_t)start;
    j->label[start] = (int16_t)label;
    while (depth > 0) {
        const int p = j->stack[--depth], x = p % SIDE, y = p / SIDE;
        c.area++;
        c.left = x < c.left ? x : c.left;
        c.right = x > c.right ? x : c.right;
        c.top = y < c.top ? y : c.top;
        c.bottom = y > c.bottom ? y : c.bottom;
        for (int v = y > 0 ? y - 1 : 0; v <= y + 1 && v < SIDE; v++)
            for (int u = x > 0 ? x - 1 : 0; u <= x + 1 && u < SIDE; u++) {
                const int q = v * SIDE + u;
                if (j->label[q] == 0 && j->away[q] > threshold && j->side[q] == j->side[start]) {
                    j->label[q] = (int16_t)label;
                    j->stack[depth++] = (int16_t)q;
                }
            }
    }
    return c;
}

/* The core pixels nearest to one colour of the palette: how many, and the sum of their RGB. */
struct tint {
    int n;
    double rgb[3];
};

static void add_tint(const struct judge *j, struct tint *tints, int p)
{
    const struct lab c = {j->l[p], j->a[p], j->b[p]};
    float nearest = INFINITY;
    int at = 0;
    for (int i = 0; i < COLOUR_COUNT; i++) {
        const float dl = c.l - j->colour[i].l, da = c.a - j->colour[i].a, db = c.b - j->colour[i].b;
        const float d = dl * dl + da * da + db * db;
        if (d < nearest) {
            nearest = d;
            at = i;
        }
    }
    tints[at].n++;
    for (int k = 0; k < 3; k++)
        tints[at].rgb[k] += (double)j->smooth[p * 3 + k];
}

static bool inside_component(const struct judge *j, int p, int label)
{
    const int x = p % SIDE, y = p / SIDE;
    return x > 0 && y > 0 && x < SIDE - 1 && y < SIDE - 1 && j->label[p] == label &&
           j->label[p - 1] == label && j->label[p + 1] == label && j->label[p - SIDE] == label &&
           j->label[p + SIDE] == label;
}

/* Squared distance, in RGB, in which edges blend, of a colour from the mixtures of two others. */
static double off_mixtures(const double rgb[3], const double one[3], const double other[3])
{
    double dot = 0.0, length = 0.0, off = 0.0;
    for (int k = 0; k < 3; k++) {
        dot += (one[k] - other[k]) * (rgb[k] - other[k]);
        length += (one[k] - other[k]) * (one[k] - other[k]);
    }
    const double at = fmin(fmax(dot / fmax(length, 1.0), 0.0), 1.0);
    for (int k = 0; k < 3; k++) {
        const double d = rgb[k] - other[k] - at * (one[k] - other[k]);
        off += d * d;
    }
    return off;
}

/* The two most frequent tints of a component's core as mean RGB; false where there is but one: the
 * second must fill a fifth of it, differ clearly, and be no mixture of the first with the
 * background. */
static bool find_two_tints(const struct judge *j, const struct component *c, const double back[3],
                           double first[3], double second[3])
{
    struct tint tints[COLOUR_COUNT] = {{0}};
    int core = 0, main = 0, next = -1;
    for (int y = c->top; y <= c->bottom; y++)
        for (int x = c->left; x <= c->right; x++)
            if (inside_component(j, y * SIDE + x, c->label)) {
                add_tint(j, tints, y * SIDE + x);
                core++;
            }
    for (int i = 0; i < COLOUR_COUNT; i++) {
        for (int k = 0; k < 3; k++)
            tints[i].rgb[k] /= tints[i].n > 0 ? tints[i].n : 1;
        main = tints[i].n > tints[main].n ? i : main;
    }
    for (int i = 0; i < COLOUR_COUNT; i++)
        if (i != main && tints[i].n >= SPLIT_AREA_MIN && tints[i].n >= 0.2 * core &&
            (next < 0 || tints[i].n > tints[next].n) &&
            off_mixtures(tints[i].rgb, tints[main].rgb, back) > 45.0 * 45.0)
            next = i;
    if (next < 0)
        return false;
    memcpy(first, tints[main].rgb, 3 * sizeof *first);
    memcpy(second, tints[next].rgb, 3 * sizeof *second);
    return true;
}

/* Two objects of different colours that touch make one component: splits it by the colour whose
 * mixtures with the background are nearer.  True where it did; the pixels then have no label and a
 * side of 1 or 2. */
static bool split(struct judge *j, const struct component *c, struct lab middle)
{
    double back[3], first[3], second[3];
    lab_to_rgb(middle, back);
    if (!find_two_tints(j, c, back, first, second))
        return false;
    for (int y = c->top; y <= c->bottom; y++)
        for (int x = c->left; x <= c->right; x++) {
            const int p = y * SIDE + x;
            if (j->label[p] != c->label)
                continue;
            const double rgb[3] = {(double)j->smooth[p * 3], (double)j->smooth[p * 3 + 1],
                                   (double)j->smooth[p * 3 + 2]};
            j->label[p] = 0;
            j->side[p] = off_mixtures(rgb, first, back) <= off_mixtures(rgb, second, back) ? 1 : 2;
        }
    return true;
}

/* Keeps the largest, in order. */
static void keep(struct component *found, int *n, struct component c)
{
    if (c.area < AREA_MIN || (*n == JUDGE_OBJECTS_MAX && c.area <= found[*n - 1].area))
        return;
    int at = *n < JUDGE_OBJECTS_MAX ? (*n)++ : *n - 1;
    for (; at > 0 && found[at - 1].area < c.area; at--)
        found[at] = found[at - 1];
    found[at] = c;
}

/* Fills found[JUDGE_OBJECTS_MAX], largest first; returns how many. */
static int find_components(struct judge *j, struct component *found, float threshold,
                           struct lab middle)
{
    int n = 0, label = 0;
    memset(j->label, 0, sizeof j->label);
    memset(j->side, 0, sizeof j->side);
    for (int p = 0; p < PIXELS; p++) {
        if (j->label[p] != 0 || j->away[p] <= threshold)
            continue;
        const struct component c = flood(j, p, ++label, threshold);
        if (c.area < 2 * SPLIT_AREA_MIN || !split(j, &c, middle)) {
            keep(found, &n, c);
            continue;
        }
        for (int y = c.top; y <= c.bottom; y++)
            for (int x = c.left; x <= c.right; x++)
                if (j->side[y * SIDE + x] != 0 && j->label[y * SIDE + x] == 0)
                    keep(found, &n, flood(j, y * SIDE + x, ++label, threshold));
    }
    return n;
}

/* The contrast that stands for full coverage: the 80 % quantile, above the soft edge. */
static float full_contrast(const struct judge *j, const struct component *c)
{
    int h[BINS] = {0};
    for (int y = c->top; y <= c->bottom; y++)
        for (int x = c->left; x <= c->right; x++)
            if (j->label[y * SIDE + x] == c->label)
                h[bin_of(j->away[y * SIDE + x])]++;
    return quantile(h, c->area, 0.8);
}

static struct lab core_colour(const struct judge *j, const struct component *c, float contrast)
{
    double l = 0.0, a = 0.0, b = 0.0, n = 0.0;
    for (int y = c->top; y <= c->bottom; y++)
        for (int x = c->left; x <= c->right; x++) {
            const int p = y * SIDE + x;
            if (j->label[p] != c->label || j->away[p] < 0.88f * contrast)
                continue;
            l += (double)j->l[p];
            a += (double)j->a[p];
            b += (double)j->b[p];
            n += 1.0;
        }
    n = fmax(n, 1.0);
    return (struct lab){(float)(l / n), (float)(a / n), (float)(b / n)};
}

struct box {
    int left, right, top, bottom; /* inclusive */
};

/* Soft coverage inside the component's box and PAD pixels around; returns its sum, centroid in o.
 */
static double cover(struct judge *j, struct judge_object *o, const struct component *c,
                    struct box box, float contrast)
{
    double area = 0.0, sx = 0.0, sy = 0.0;
    for (int y = box.top; y <= box.bottom; y++)
        for (int x = box.left; x <= box.right; x++) {
            const int p = y * SIDE + x;
            const bool other = j->label[p] != 0 && j->label[p] != c->label;
            /* A twentieth of the contrast is noise or texture, not coverage. */
            const float t = other ? 0.0f : (j->away[p] / contrast - 0.05f) / 0.95f;
            const float alpha = fminf(fmaxf(t, 0.0f), 1.0f);
            j->alpha[p] = alpha;
            area += (double)alpha;
            sx += (double)alpha * (x + 0.5);
            sy += (double)alpha * (y + 0.5);
        }
    o->x = sx / area;
    o->y = sy / area;
    return area;
}

/* Soft IoU of the coverage with the outline of the same area at the same centroid. */
static float fit_shape(const struct judge *j, const struct judge_object *o, enum world_shape s,
                       struct box box, double area)
{
    const double r = sqrt(area / world_shape_area(s)), scale = 1.0 / r;
    float least = 0.0f, total = 0.0f;
    for (int y = box.top; y <= box.bottom; y++)
        for (int x = box.left; x <= box.right; x++) {
            const float d =
                (float)(world_shape_sdf(s, (x + 0.5 - o->x) * scale, (y + 0.5 - o->y) * scale) * r);
            const float t = fminf(fmaxf(0.5f - d * (1.0f / EDGE_PX), 0.0f), 1.0f);
            total += t;
            least += fminf(t, j->alpha[y * SIDE + x]);
        }
    return least / fmaxf((float)area + total - least, 1e-6f);
}

static int clip(int v)
{
    return v < 0 ? 0 : v >= SIDE ? SIDE - 1 : v;
}

static void measure_object(struct judge *j, struct judge_object *o, const struct component *c)
{
    const struct box box = {clip(c->left - PAD), clip(c->right + PAD), clip(c->top - PAD),
                            clip(c->bottom + PAD)};
    const float contrast = full_contrast(j, c);
    const double area = cover(j, o, c, box, contrast);
    int best = 0;
    for (int s = 0; s < SHAPE_COUNT; s++) {
        o->fit[s] = fit_shape(j, o, (enum world_shape)s, box, area);
        if (o->fit[s] > o->fit[best])
            best = s;
    }
    const struct lab colour = core_colour(j, c, contrast);
    o->shape = (enum world_shape)best;
    o->radius = sqrt(area / world_shape_area(o->shape));
    o->colour = (enum world_colour)name_colour(o->likeness, colour, j->colour, COLOUR_COUNT);
    o->colour_distance = lab_distance(colour, j->colour[o->colour]);
    o->presence = ramp(area, 15.0, 45.0) * ramp((double)contrast, 5.0, 20.0);
    o->left = c->left;
    o->right = c->right + 1;
    o->top = c->top;
    o->bottom = c->bottom + 1;
}

void judge_look(struct judge *j, struct judge_view *view, const uint8_t *rgb)
{
    struct component found[JUDGE_OBJECTS_MAX];
    memset(view, 0, sizeof *view);
    smooth_rgb(j, rgb);
    to_lab(j);
    const struct backdrop back = find_backdrop(j);
    measure_away(j, back);
    const float threshold = find_threshold(j);
    view->count = find_components(j, found, threshold, back.middle);
    memset(j->kept, 0, sizeof j->kept);
    for (int i = 0; i < view->count; i++) {
        measure_object(j, &view->object[i], &found[i]);
        j->kept[found[i].label] = true;
    }
    name_background(j, view, threshold);
}

/* ---- the caption's clauses, graded
 * ------------------------------------------------------------------- */

#define SMALL_MOST 9.8 /* px; the classes end at 8 and begin at 13 */
#define LARGE_LEAST 11.5
#define RADIUS_LEAST 4.8
#define RADIUS_MOST 19.0
#define FIT_LEAST 0.62 /* of an object that strictly counts as its shape */
#define PRESENCE_LEAST 0.4
#define PRESENCE_COUNTED 0.25 /* what is less is dirt, not an object too many */

/* A gate that closes to 1 - weight. */
static double gate(double likeness, double weight)
{
    return 1.0 - weight + weight * likeness;
}

static double shape_likeness(const struct judge_object *o, int shape)
{
    const double fit = (double)o->fit[shape], best = (double)o->fit[o->shape];
    const double form = fmin(fmax((fit - 0.2) / 0.65, 0.0), 1.0);
    /* The other outlines cover up to 85 % of the right one: only the winner counts in full. */
    return form * gate(exp((fit - best) / 0.06), 0.75);
}

static double size_likeness(const struct judge_object *o, int size)
{
    if (size == CAPTION_FREE)
        return 1.0;
    return size == SIZE_SMALL ? exp(-fmax(o->radius - SMALL_MOST + 0.5, 0.0) / 3.0)
                              : exp(-fmax(LARGE_LEAST + 0.5 - o->radius, 0.0) / 3.0);
}

/* How many pixels v lies outside its third of the frame. */
static double outside(double v, int third)
{
    const double low = third == 0 ? 0.0 : third == 1 ? WORLD_CELL_BORDER : SIDE - WORLD_CELL_BORDER;
    const double high = third == 0   ? WORLD_CELL_BORDER
                        : third == 1 ? SIDE - WORLD_CELL_BORDER
                                     : SIDE;
    return fmax(fmax(low - v, v - high), 0.0);
}

static double place_likeness(const struct judge_object *o, int place)
{
    if (place == CAPTION_FREE)
        return 1.0;
    return exp(-(outside(o->x, place % 3) + outside(o->y, place / 3)) / 6.0);
}

/* GenEval's rule: the offset of the centres less a tenth of the extents, as a direction; its
 * component along the relation's axis, in [-1,1]. */
static double relation_component(const struct judge_object *x, const struct judge_object *y,
                                 int relation)
{
    const double width = x->right - x->left + y->right - y->left;
    const double height = x->bottom - x->top + y->bottom - y->top;
    const double dx = x->x - y->x, dy = x->y - y->y;
    const double rx = copysign(fmax(fabs(dx) - 0.1 * width, 0.0), dx);
    const double ry = copysign(fmax(fabs(dy) - 0.1 * height, 0.0), dy);
    const double norm = sqrt(rx * rx + ry * ry);
    if (norm == 0.0)
        return 0.0;
    return (relation == RELATION_LEFT    ? -rx
            : relation == RELATION_RIGHT ? rx
            : relation == RELATION_ABOVE ? -ry
                                         : ry) /
           norm;
}

static double relation_likeness(double component)
{
    const double t = fmin((component + 1.0) / 1.6, 1.0);
    return t * t;
}

static double object_likeness(const struct judge_object *o, const struct caption_object *c,
                              int place)
{
    const double shape =
        c->shape == CAPTION_FREE ? shape_likeness(o, (int)o->shape) : shape_likeness(o, c->shape);
    const double colour = c->colour == CAPTION_FREE ? 1.0 : (double)o->likeness[c->colour];
    const double fair =
        exp(-fmax(o->radius - RADIUS_MOST, 0.0) / 3.0 - fmax(RADIUS_LEAST - o->radius, 0.0));
    return o->presence * fair * shape * gate(colour, 0.8) * gate(size_likeness(o, c->size), 0.5) *
           gate(place_likeness(o, place), 0.6);
}

/* ---- assignment and verdict
 * ---------------------------------------------------------------------------- */

struct clauses {
    double soft; /* sum over the caption's objects */
    bool shape, colour, size, position;
};

static void judge_one(struct clauses *t, const struct judge_object *o,
                      const struct caption_object *c, int place)
{
    t->soft += object_likeness(o, c, place);
    t->shape = t->shape && (c->shape == CAPTION_FREE || c->shape == (int)o->shape) &&
               (double)o->fit[o->shape] >= FIT_LEAST && o->presence >= PRESENCE_LEAST &&
               o->radius >= RADIUS_LEAST && o->radius <= RADIUS_MOST + 1.0;
    t->colour = t->colour && (c->colour == CAPTION_FREE || c->colour == (int)o->colour) &&
                o->colour_distance < 30.0;
    t->size =
        t->size && (c->size == CAPTION_FREE ||
                    (c->size == SIZE_SMALL ? o->radius <= SMALL_MOST : o->radius >= LARGE_LEAST));
    t->position = t->position && (place == CAPTION_FREE ||
                                  outside(o->x, place % 3) + outside(o->y, place / 3) == 0.0);
}

static int held(const struct clauses *t)
{
    return t->shape + t->colour + t->size + t->position;
}

/* The better assignment: more clauses hold, then the higher score. */
static void keep_better(struct clauses *best, const struct clauses *t)
{
    if (held(t) > held(best) || (held(t) == held(best) && t->soft > best->soft))
        *best = *t;
}

static const struct clauses all_hold = {0.0, true, true, true, true};

/* COUNTED, SINGLE and PLACED: all objects are described alike, so the best `count` are taken. */
static void assign_alike(struct clauses *best, const struct judge_view *view,
                         const struct caption_spec *spec)
{
    double score[JUDGE_OBJECTS_MAX];
    bool taken[JUDGE_OBJECTS_MAX] = {false};
    *best = all_hold;
    for (int i = 0; i < view->count; i++)
        score[i] = object_likeness(&view->object[i], &spec->object[0], spec->place);
    for (int k = 0; k < spec->count && k < view->count; k++) {
        int top = -1;
        for (int i = 0; i < view->count; i++)
            if (!taken[i] && (top < 0 || score[i] > score[top]))
                top = i;
        taken[top] = true;
        judge_one(best, &view->object[top], &spec->object[0], spec->place);
    }
}

static void judge_pair(struct clauses *t, const struct judge_view *view,
                       const struct caption_spec *spec, int i, int k)
{
    *t = all_hold;
    judge_one(t, &view->object[i], &spec->object[0], CAPTION_FREE);
    judge_one(t, &view->object[k], &spec->object[1], CAPTION_FREE);
    if (spec->kind == CAPTION_RELATED) {
        const double c = relation_component(&view->object[i], &view->object[k], spec->relation);
        t->soft *= gate(relation_likeness(c), 0.6);
        t->position = c > 0.5;
    }
}

static void assign_pair(struct clauses *best, const struct judge_view *view,
                        const struct caption_spec *spec)
{
    *best = (struct clauses){0.0, false, false, false, false};
    for (int i = 0; i < view->count; i++)
        for (int k = 0; k < view->count; k++) {
            struct clauses t;
            if (i == k)
                continue;
            judge_pair(&t, view, spec, i, k);
            keep_better(best, &t);
        }
    /* One object alone: half of the caption, and no relation. */
    for (int i = 0; i < view->count && view->count == 1; i++)
        for (int k = 0; k < 2; k++) {
            struct clauses t = all_hold;
            judge_one(&t, &view->object[i], &spec->object[k], CAPTION_FREE);
            t.soft *= spec->kind == CAPTION_RELATED ? gate(0.0, 0.6) : 1.0;
            t.position = spec->kind != CAPTION_RELATED;
            keep_better(best, &t);
        }
}

/* Objects seen, graded by how much they are objects, against the number said. */
static double count_gate(const struct judge_view *view, const struct caption_spec *spec)
{
    double seen = 0.0;
    for (int i = 0; i < view->count; i++)
        seen += view->object[i].presence;
    const double delta = seen - spec->count;
    return delta > 0.0 ? exp(-0.7 * delta) : spec->kind == CAPTION_COUNTED ? exp(0.4 * delta) : 1.0;
}

static double background_gate(const struct judge_view *view, const struct caption_spec *spec)
{
    const double named = (double)view->background_likeness[view->background];
    /* Any background, but a clean one of this world. */
    double g = view->backing * gate(named, 0.3) * exp(-fmax(view->roughness - 1.5, 0.0) / 5.0);
    if (spec->background != CAPTION_FREE)
        g *= gate((double)view->background_likeness[spec->background], 0.5);
    if (spec->texture != CAPTION_FREE)
        g *= gate((double)view->texture_likeness[spec->texture], 0.4);
    return g;
}

void judge_score(struct judge_verdict *v, const struct judge_view *view,
                 const struct caption_spec *spec)
{
    struct caption_spec asked = *spec;
    struct clauses best;
    if (asked.kind == CAPTION_EMPTY) {
        asked.kind = CAPTION_COUNTED;
        asked.count = view->count < 1                   ? 1
                      : view->count > WORLD_OBJECTS_MAX ? WORLD_OBJECTS_MAX
                                                        : view->count;
    }
    if (asked.kind == CAPTION_PAIR || asked.kind == CAPTION_RELATED)
        assign_pair(&best, view, &asked);
    else
        assign_alike(&best, view, &asked);
    v->soft = best.soft / asked.count * count_gate(view, &asked) * background_gate(view, &asked);
    int counted = 0;
    for (int i = 0; i < view->count; i++)
        counted += view->object[i].presence >= PRESENCE_COUNTED;
    v->count = counted == asked.count;
    v->shape = best.shape;
    v->colour = best.colour;
    v->size = best.size;
    v->position = best.position;
    v->background =
        view->backing >= 0.5 &&
        (asked.background == CAPTION_FREE || asked.background == (int)view->background) &&
        (asked.texture == CAPTION_FREE || asked.texture == (int)view->texture);
    v->strict = v->count && v->shape && v->colour && v->size && v->position && v->background;
}

bool judge_attributes(struct judge_attributes *a, const struct judge_view *view)
{
    if (view->count == 0)
        return false;
    const struct judge_object *o = &view->object[0];
    const int column = o->x < WORLD_CELL_BORDER ? 0 : o->x <= SIDE - WORLD_CELL_BORDER ? 1 : 2;
    const int row = o->y < WORLD_CELL_BORDER ? 0 : o->y <= SIDE - WORLD_CELL_BORDER ? 1 : 2;
    *a = (struct judge_attributes){
        .shape = (int)o->shape,
        .colour = (int)o->colour,
        .size = o->radius <= SMALL_MOST    ? 0
                : o->radius >= LARGE_LEAST ? 2
                                           : 1,
        .place = row * 3 + column,
        .background = (int)view->background,
        .texture = (int)view->texture,
    };
    return true;
}

double judge_colour_reward(const struct judge_view *view)
{
    struct judge_attributes a;
    return judge_attributes(&a, view) ? (double)a.colour / (COLOUR_COUNT - 1) : 0.0;
}
