#include "io/chart.h"

#include "base/mem.h"
#include "io/png.h"

#include <assert.h>
#include <cairo.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Measures in pixels. */
enum {
    MARGIN = 28,
    ROW_TITLE_WIDTH = 150,
    TILE_GAP = 8,
    TILE_SIDE_MIN = 24,
    TILE_SIDE_MAX = 128,
    GRID_HEAD = 24,
    TILE_FOOT = 30, /* level bar and caption under a tile, and the distance to the next row */
    BAR_HEIGHT = 4,
    GRID_GAP = 14,     /* between the grid and the plots */
    PLOT_HEIGHT = 252, /* with title and axis labels */
    PLOT_GAP = 36,
    LEGEND_ROW = 18,
    LEGEND_COLUMNS = 3,
    LEGEND_FOOT = 12,
    PLOT_HEAD = 40,
    PLOT_FOOT = 42,
    END_LABEL_ROW = 13,
    PLOT_RIGHT = 46, /* room for the value at a curve's end */
    LINE_HEIGHT = 16,
};

struct colour {
    double r, g, b;
};
static const struct colour INK = {0.12, 0.14, 0.16}, MUTED = {0.40, 0.43, 0.47},
                           RULE = {0.90, 0.91, 0.93}, AXIS = {0.70, 0.73, 0.76}, PAPER = {1, 1, 1},
                           EMPTY = {0.965, 0.97, 0.975};
static const struct colour SERIES[CHART_SERIES_MAX] = {
    {0.13, 0.41, 0.80}, {0.88, 0.44, 0.11}, {0.13, 0.58, 0.40}, {0.52, 0.31, 0.80},
    {0.80, 0.22, 0.32}, {0.10, 0.60, 0.68}, {0.60, 0.48, 0.10}, {0.45, 0.47, 0.50}};

struct font {
    double size;
    bool bold;
    struct colour colour;
};
static const struct font TITLE = {19, true, {0.12, 0.14, 0.16}},
                         SUBTITLE = {12.5, false, {0.40, 0.43, 0.47}},
                         PROMPT = {12, false, {0.12, 0.14, 0.16}},
                         HEAD = {11.5, true, {0.12, 0.14, 0.16}},
                         CAPTION = {11, false, {0.25, 0.27, 0.30}},
                         TICK = {10.5, false, {0.40, 0.43, 0.47}},
                         PLOT_TITLE = {13, true, {0.12, 0.14, 0.16}};

enum anchor { LEFT, CENTRE, RIGHT };

/* ---- text
 * ------------------------------------------------------------------------------------------- */

/* The bytes of the UTF-8 character at p (not at the end); 0 where it is none. */
static size_t utf8_length(const unsigned char *p)
{
    const size_t n = p[0] < 0x80                    ? 1
                     : p[0] >= 0xc2 && p[0] <= 0xdf ? 2
                     : p[0] >= 0xe0 && p[0] <= 0xef ? 3
                     : p[0] >= 0xf0 && p[0] <= 0xf4 ? 4
                                                    : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    const bool bad = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
                     (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f);
    return bad ? 0 : n;
}

/* What may be drawn of foreign text: UTF-8, no control characters, bounded. */
static void clean_text(char out[CHART_TEXT_BYTES_MAX], const char *text)
{
    size_t used = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p != 0;) {
        const size_t n = utf8_length(p);
        if (used + 4 >= CHART_TEXT_BYTES_MAX)
            break;
        if (n == 0 || *p < 0x20 || *p == 0x7f) {
            out[used++] = n == 0 ? '?' : ' ';
            p++;
            continue;
        }
        memcpy(out + used, p, n);
        used += n;
        p += n;
    }
    out[used] = 0;
}

static void use_font(cairo_t *cr, struct font font)
{
    cairo_select_font_face(cr, "DejaVu Sans", CAIRO_FONT_SLANT_NORMAL,
                           font.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(cr, font.size);
    cairo_set_source_rgb(cr, font.colour.r, font.colour.g, font.colour.b);
}

static double text_width(cairo_t *cr, const char *text)
{
    cairo_text_extents_t extents;
    cairo_text_extents(cr, text, &extents);
    return extents.x_advance;
}

/* Cuts cleaned text to `width` with an ellipsis, in the current font. */
static void fit_text(cairo_t *cr, char *text, double width)
{
    static const char ellipsis[] = "\xe2\x80\xa6";
    size_t n = strlen(text);
    if (text_width(cr, text) <= width)
        return;
    while (n > 0) {
        n--;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
        if (n + sizeof ellipsis > CHART_TEXT_BYTES_MAX)
            continue;
        memcpy(text + n, ellipsis, sizeof ellipsis);
        if (text_width(cr, text) <= width)
            return;
    }
    text[0] = 0;
}

/* One line with its baseline at y, not wider than `width`. */
static void draw_text(cairo_t *cr, struct font font, enum anchor anchor, double x, double y,
                      double width, const char *text)
{
    char line[CHART_TEXT_BYTES_MAX];
    if (text == NULL)
        return;
    use_font(cr, font);
    clean_text(line, text);
    fit_text(cr, line, width);
    const double shift =
        anchor == LEFT ? 0.0 : text_width(cr, line) * (anchor == CENTRE ? 0.5 : 1.0);
    cairo_move_to(cr, round(x - shift), round(y));
    cairo_show_text(cr, line);
    cairo_new_path(cr); /* show_text leaves a current point, from which the next line would start */
}

/* Breaks cleaned text at blanks into lines of `width`; the last one of lines_max keeps the rest.
 * Returns how many there are. */
static int wrap_text(cairo_t *cr, char *text, double width, char *lines[], int lines_max)
{
    int count = 0;
    while (*text == ' ')
        text++;
    while (*text != 0 && count < lines_max) {
        lines[count++] = text;
        char *fits = NULL;
        for (char *p = text; count < lines_max && *p != 0;) {
            p += strcspn(p + 1, " ") + 1;
            const char kept = *p;
            *p = 0;
            const bool ok = text_width(cr, text) <= width;
            *p = kept;
            if (ok || fits == NULL)
                fits = p;
            if (!ok)
                break;
        }
        if (fits == NULL || *fits == 0)
            break;
        *fits = 0;
        for (text = fits + 1; *text == ' ';)
            text++;
    }
    return count;
}

/* Several lines, centred on y. */
static void draw_paragraph(cairo_t *cr, struct font font, double x, double y, double width,
                           double height, const char *text)
{
    char clean[CHART_TEXT_BYTES_MAX], *lines[8];
    int lines_max = (int)(height / LINE_HEIGHT);
    lines_max = lines_max < 1 ? 1 : lines_max > 8 ? 8 : lines_max;
    if (text == NULL)
        return;
    use_font(cr, font);
    clean_text(clean, text);
    const int count = wrap_text(cr, clean, width, lines, lines_max);
    double baseline = y - (count - 1) * LINE_HEIGHT / 2.0 + font.size * 0.36;
    for (int i = 0; i < count; i++, baseline += LINE_HEIGHT)
        draw_text(cr, font, LEFT, x, baseline, width, lines[i]);
}

/* ---- shapes
 * ------------------------------------------------------------------------------------------- */

static void set_colour(cairo_t *cr, struct colour c, double alpha)
{
    cairo_set_source_rgba(cr, c.r, c.g, c.b, alpha);
}

static void fill_box(cairo_t *cr, double x, double y, double w, double h, struct colour c)
{
    set_colour(cr, c, 1.0);
    cairo_rectangle(cr, x, y, w, h);
    cairo_fill(cr);
}

/* A crisp line of one pixel. */
static void draw_rule(cairo_t *cr, double x0, double y0, double x1, double y1, struct colour c)
{
    set_colour(cr, c, 1.0);
    cairo_set_line_width(cr, 1.0);
    cairo_move_to(cr, floor(x0) + 0.5, floor(y0) + 0.5);
    cairo_line_to(cr, floor(x1) + 0.5, floor(y1) + 0.5);
    cairo_stroke(cr);
}

/* The picture as a cairo surface; the caller destroys it. */
static cairo_surface_t *surface_of(const struct image *image)
{
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, image->width, image->height);
    if (cairo_surface_status(surface) != CAIRO_STATUS_SUCCESS)
        return surface;
    unsigned char *pixels = cairo_image_surface_get_data(surface);
    const int stride = cairo_image_surface_get_stride(surface);
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
            const uint8_t *p = image->rgb + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
            const uint32_t pixel = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            memcpy(pixels + (size_t)y * (size_t)stride + 4 * (size_t)x, &pixel, 4);
        }
    cairo_surface_mark_dirty(surface);
    return surface;
}

/* Into the middle of a square: whole multiples keep their pixels, everything else is interpolated.
 */
static void draw_image(cairo_t *cr, const struct image *image, double x, double y, double side)
{
    const double longest = image->width > image->height ? image->width : image->height;
    const double scale = side / longest;
    cairo_surface_t *surface = surface_of(image);
    cairo_save(cr);
    cairo_translate(cr, x + (side - scale * image->width) / 2,
                    y + (side - scale * image->height) / 2);
    cairo_rectangle(cr, 0, 0, scale * image->width, scale * image->height);
    cairo_clip(cr);
    cairo_scale(cr, scale, scale);
    cairo_set_source_surface(cr, surface, 0, 0);
    cairo_pattern_set_extend(cairo_get_source(cr), CAIRO_EXTEND_PAD);
    cairo_pattern_set_filter(cairo_get_source(cr), scale >= 1.0 && scale == floor(scale)
                                                       ? CAIRO_FILTER_NEAREST
                                                       : CAIRO_FILTER_BEST);
    cairo_paint(cr);
    cairo_restore(cr);
    cairo_surface_destroy(surface);
}

/* ---- the grid
 * ----------------------------------------------------------------------------------------- */

static int tile_side(const struct chart_page *page, int width)
{
    const struct chart_grid *g = page->grid;
    const int room = width - 2 * MARGIN - ROW_TITLE_WIDTH - (g->columns - 1) * TILE_GAP;
    const int side = room / g->columns;
    return side > TILE_SIDE_MAX ? TILE_SIDE_MAX : side;
}

static int grid_height(const struct chart_page *page, int width)
{
    return GRID_HEAD + page->grid->rows * (tile_side(page, width) + TILE_FOOT);
}

static void draw_tile(cairo_t *cr, const struct chart_tile *tile, double x, double y, double side)
{
    if (tile->image == NULL)
        fill_box(cr, x, y, side, side, EMPTY);
    else
        draw_image(cr, tile->image, x, y, side);
    set_colour(cr, INK, 0.12); /* an outline, so that white pictures have an edge */
    cairo_set_line_width(cr, 1.0);
    cairo_rectangle(cr, x + 0.5, y + 0.5, side - 1, side - 1);
    cairo_stroke(cr);
    const double bar = y + side + 5, caption_room = tile->caption != NULL ? 50 : 0;
    const bool has_bar = isfinite(tile->level);
    if (has_bar) {
        const double level = fmin(fmax(tile->level, 0.0), 1.0), length = side - caption_room;
        fill_box(cr, x, bar + 3, length, BAR_HEIGHT, RULE);
        fill_box(cr, x, bar + 3, length * level, BAR_HEIGHT, SERIES[0]);
    }
    draw_text(cr, CAPTION, has_bar ? RIGHT : CENTRE, has_bar ? x + side : x + side / 2, bar + 9,
              side, tile->caption);
}

/* Returns the y below it. */
static double draw_grid(cairo_t *cr, const struct chart_page *page, int width, double top)
{
    const struct chart_grid *g = page->grid;
    const double side = tile_side(page, width), step = side + TILE_GAP;
    const double block = g->columns * step - TILE_GAP;
    /* what the tiles leave over goes to the prompts */
    const double left = width - MARGIN - block, title_width = left - MARGIN - 14;
    double y = top;
    draw_text(cr, TICK, LEFT, MARGIN, y + 12, title_width, g->column_axis);
    for (int c = 0; c < g->columns; c++)
        draw_text(cr, HEAD, CENTRE, left + c * step + side / 2, y + 12, step, g->column_titles[c]);
    y += GRID_HEAD;
    for (int r = 0; r < g->rows; r++, y += side + TILE_FOOT) {
        draw_paragraph(cr, PROMPT, MARGIN, y + side / 2, title_width, side, g->row_titles[r]);
        for (int c = 0; c < g->columns; c++)
            draw_tile(cr, &g->tiles[r * g->columns + c], left + c * step, y, side);
    }
    return y;
}

/* ---- plots
 * -------------------------------------------------------------------------------------------- */

struct range {
    double min, max;
};

static void widen(struct range *r, double v)
{
    if (isfinite(v)) {
        r->min = fmin(r->min, v);
        r->max = fmax(r->max, v);
    }
}

/* One that rounding alone has made is a single point: its steps would not move the numbers that they are added to. */
static bool is_wide(struct range r)
{
    return r.max - r.min > 1e-9 * fmax(fabs(r.min), fabs(r.max));
}

/* Of all points of a plot; an empty one is [0,1]. */
static void find_ranges(const struct chart_plot *p, struct range *x, struct range *y)
{
    *x = *y = (struct range){(double)INFINITY, -(double)INFINITY};
    for (size_t s = 0; s < p->n_series; s++)
        for (size_t i = 0; i < p->series[s].n; i++) {
            const struct chart_series *c = &p->series[s];
            if (!isfinite(c->y[i]) || !isfinite(c->x[i]))
                continue;
            widen(x, c->x[i]);
            widen(y, c->y[i]);
            if (c->low != NULL)
                widen(y, c->low[i]);
            if (c->high != NULL)
                widen(y, c->high[i]);
        }
    if (p->reference_label != NULL)
        widen(y, p->reference);
    if (!is_wide(*x))
        *x = isfinite(x->min) ? (struct range){x->min - 0.5, x->min + 0.5} : (struct range){0, 1};
    if (!is_wide(*y))
        *y = isfinite(y->min) ? (struct range){y->min - 0.5, y->min + 0.5} : (struct range){0, 1};
    const double pad = 0.06 * (y->max - y->min);
    *y = (struct range){y->min - pad, y->max + pad};
    if (p->y_min < p->y_max)
        *y = (struct range){p->y_min, p->y_max};
}

/* 1, 2 or 5 times a power of ten, for about `count` steps over the range. */
static double nice_step(struct range r, int count)
{
    const double raw = (r.max - r.min) / count, power = pow(10.0, floor(log10(raw))),
                 lead = raw / power;
    return power * (lead <= 1.0 ? 1.0 : lead <= 2.0 ? 2.0 : lead <= 5.0 ? 5.0 : 10.0);
}

static void format_number(char *out, size_t bytes, double v, double step)
{
    const int digits = (int)fmax(0.0, fmin(9.0, ceil(-log10(step) - 1e-9)));
    if (fabs(v) < step * 1e-6)
        v = 0.0;
    if (v == 0.0 && step >= 1.0)
        snprintf(out, bytes, "0");
    else if (step >= 1000.0 && step < 1e6)
        snprintf(out, bytes, "%gk", round(v) / 1000.0);
    else if (step >= 1e6 || step < 1e-9)
        snprintf(out, bytes, "%.3g", v);
    else
        snprintf(out, bytes, "%.*f", digits, v);
}

/* Where the data lie on the page. */
struct frame {
    double left, top, width, height;
    struct range x, y;
};

static double place_x(const struct frame *f, double v)
{
    return f->left + (v - f->x.min) / (f->x.max - f->x.min) * f->width;
}

/* Kept within a page of the frame, so that a far point cannot overflow cairo's fixed-point numbers.
 */
static double place_y(const struct frame *f, double v)
{
    const double u = (v - f->y.min) / (f->y.max - f->y.min);
    return f->top + f->height - fmin(fmax(u, -4.0), 5.0) * f->height;
}

static void draw_axes(cairo_t *cr, const struct frame *f)
{
    char label[32];
    const double y_step = nice_step(f->y, 5), x_step = nice_step(f->x, 5);
    for (double i = ceil(f->y.min / y_step); i * y_step <= f->y.max + 1e-9 * y_step; i++) {
        const double at = round(place_y(f, i * y_step));
        draw_rule(cr, f->left, at, f->left + f->width, at, RULE);
        format_number(label, sizeof label, i * y_step, y_step);
        draw_text(cr, TICK, RIGHT, f->left - 7, at + 4, 60, label);
    }
    const double bottom = f->top + f->height;
    draw_rule(cr, f->left, bottom, f->left + f->width, bottom, AXIS);
    for (double i = ceil(f->x.min / x_step); i * x_step <= f->x.max + 1e-9 * x_step; i++) {
        const double at = round(place_x(f, i * x_step));
        draw_rule(cr, at, bottom, at, bottom + 4, AXIS);
        format_number(label, sizeof label, i * x_step, x_step);
        draw_text(cr, TICK, CENTRE, at, bottom + 17, 80, label);
    }
}

/* The next run of finite points from *begin on: [*begin, *end); false at the end. */
static bool next_run(const struct chart_series *s, size_t *begin, size_t *end)
{
    while (*begin < s->n && !(isfinite(s->y[*begin]) && isfinite(s->x[*begin])))
        ++*begin;
    for (*end = *begin; *end < s->n && isfinite(s->y[*end]) && isfinite(s->x[*end]);)
        ++*end;
    return *begin < *end;
}

static double or_value(const double *edge, const struct chart_series *s, size_t i)
{
    return isfinite(edge[i]) ? edge[i] : s->y[i];
}

static void draw_band(cairo_t *cr, const struct frame *f, const struct chart_series *s,
                      struct colour c)
{
    for (size_t begin = 0, end; next_run(s, &begin, &end); begin = end) {
        for (size_t i = begin; i < end; i++)
            cairo_line_to(cr, place_x(f, s->x[i]), place_y(f, or_value(s->high, s, i)));
        for (size_t i = end; i > begin; i--)
            cairo_line_to(cr, place_x(f, s->x[i - 1]), place_y(f, or_value(s->low, s, i - 1)));
        cairo_close_path(cr);
    }
    set_colour(cr, c, 0.14);
    cairo_fill(cr);
}

static void draw_curve(cairo_t *cr, const struct frame *f, const struct chart_series *s,
                       struct colour c)
{
    set_colour(cr, c, 1.0);
    cairo_set_line_width(cr, 2.0);
    for (size_t begin = 0, end; next_run(s, &begin, &end); begin = end) {
        for (size_t i = begin; i < end; i++)
            cairo_line_to(cr, place_x(f, s->x[i]), place_y(f, s->y[i]));
        if (end - begin == 1)
            cairo_line_to(cr, place_x(f, s->x[begin]), place_y(f, s->y[begin]));
        cairo_stroke(cr);
    }
}

/* The value where a curve ends, beside it. */
struct end_label {
    double y, at; /* where the curve ends, where the label stands */
    double value;
    struct colour colour;
};

static int by_height(const void *a, const void *b)
{
    const double x = ((const struct end_label *)a)->y, y = ((const struct end_label *)b)->y;
    return (x > y) - (x < y);
}

static void draw_end_labels(cairo_t *cr, const struct frame *f, const struct chart_plot *p)
{
    struct end_label labels[CHART_SERIES_MAX];
    size_t count = 0;
    double x = f->left;
    for (size_t s = 0; s < p->n_series; s++) {
        const struct chart_series *c = &p->series[s];
        size_t last = c->n;
        while (last > 0 && !(isfinite(c->y[last - 1]) && isfinite(c->x[last - 1])))
            last--;
        if (last == 0)
            continue;
        const double y = place_y(f, c->y[last - 1]);
        if (y < f->top - 1 || y > f->top + f->height + 1)
            continue;
        x = fmax(x, place_x(f, c->x[last - 1]));
        set_colour(cr, SERIES[s], 1.0);
        cairo_arc(cr, place_x(f, c->x[last - 1]), y, 3.5, 0, 6.283185307179586);
        cairo_fill(cr);
        labels[count++] = (struct end_label){y, y, c->y[last - 1], SERIES[s]};
    }
    qsort(labels, count, sizeof *labels, by_height);
    for (size_t i = 1; i < count; i++) /* apart, so that they can be read, and none below the axis */
        labels[i].at = fmax(labels[i].at, labels[i - 1].at + END_LABEL_ROW);
    for (size_t i = count; i > 0; i--)
        labels[i - 1].at = fmin(labels[i - 1].at, f->top + f->height - END_LABEL_ROW * (double)(count - i));
    for (size_t i = 0; i < count; i++) {
        char text[32];
        format_number(text, sizeof text, labels[i].value, nice_step(f->y, 5) / 10);
        const struct font font = {11, true, labels[i].colour};
        draw_text(cr, font, LEFT, x + 8, labels[i].at + 4, PLOT_RIGHT, text);
    }
}

/* The series' names from right to left in the title's line; returns the x where they begin. */
static double draw_legend(cairo_t *cr, const struct chart_plot *p, double right, double y)
{
    for (size_t s = p->n_series; s > 0; s--) {
        const struct chart_series *c = &p->series[s - 1];
        if (c->label == NULL)
            continue;
        char label[CHART_TEXT_BYTES_MAX];
        clean_text(label, c->label);
        use_font(cr, TICK);
        fit_text(cr, label, 150);
        const double width = text_width(cr, label);
        draw_text(cr, TICK, RIGHT, right, y, 150, label);
        fill_box(cr, right - width - 20, y - 5, 14, 3, SERIES[s - 1]);
        right -= width + 20 + 16;
    }
    return right;
}

static void draw_reference(cairo_t *cr, const struct frame *f, const struct chart_plot *p)
{
    static const double dashes[] = {4, 4};
    const double y = floor(place_y(f, p->reference)) + 0.5;
    set_colour(cr, MUTED, 1.0);
    cairo_set_line_width(cr, 1.0);
    cairo_set_dash(cr, dashes, 2, 0);
    cairo_move_to(cr, f->left, y);
    cairo_line_to(cr, f->left + f->width, y);
    cairo_stroke(cr);
    cairo_set_dash(cr, NULL, 0, 0);
    draw_text(cr, TICK, RIGHT, f->left + f->width, y + 13, f->width / 2, p->reference_label);
}

static bool has_points(const struct chart_plot *p)
{
    for (size_t s = 0; s < p->n_series; s++) {
        size_t begin = 0, end;
        if (next_run(&p->series[s], &begin, &end))
            return true;
    }
    return false;
}

/* Room for the widest label of the y axis. */
static double label_room(cairo_t *cr, struct range y)
{
    char label[32];
    double room = 0.0;
    const double step = nice_step(y, 5);
    use_font(cr, TICK);
    for (double i = ceil(y.min / step); i * step <= y.max; i++) {
        format_number(label, sizeof label, i * step, step);
        room = fmax(room, text_width(cr, label));
    }
    return fmin(room, 60) + 8;
}

static void draw_plot(cairo_t *cr, const struct chart_plot *p, bool legend, double x, double y, double width)
{
    struct frame f;
    find_ranges(p, &f.x, &f.y);
    const double axis = label_room(cr, f.y);
    f.left = round(x + axis);
    f.top = round(y + PLOT_HEAD);
    f.width = floor(width - axis - PLOT_RIGHT);
    f.height = PLOT_HEIGHT - PLOT_HEAD - PLOT_FOOT;
    const double right = legend ? draw_legend(cr, p, x + width, y + 14) : x + width;
    draw_text(cr, PLOT_TITLE, LEFT, x, y + 14, fmax(40.0, right - x), p->title);
    if (!has_points(p)) {
        draw_text(cr, SUBTITLE, CENTRE, f.left + f.width / 2, f.top + f.height / 2, f.width,
                  "no data yet");
        return;
    }
    draw_axes(cr, &f);
    draw_text(cr, TICK, CENTRE, f.left + f.width / 2, f.top + f.height + 34, f.width, p->x_label);
    cairo_save(cr);
    cairo_rectangle(cr, f.left - 2, f.top - 4, f.width + 6, f.height + 6);
    cairo_clip(cr);
    cairo_set_line_join(cr, CAIRO_LINE_JOIN_ROUND);
    cairo_set_line_cap(cr, CAIRO_LINE_CAP_ROUND);
    for (size_t s = 0; s < p->n_series; s++)
        if (p->series[s].low != NULL && p->series[s].high != NULL)
            draw_band(cr, &f, &p->series[s], SERIES[s]);
    if (p->reference_label != NULL && isfinite(p->reference))
        draw_reference(cr, &f, p);
    for (size_t s = 0; s < p->n_series; s++)
        draw_curve(cr, &f, &p->series[s], SERIES[s]);
    cairo_restore(cr);
    draw_end_labels(cr, &f, p);
}

static int common_legend_height(const struct chart_page *page)
{
    if (!page->one_legend || page->n_plots == 0)
        return 0;
    return (int)((page->plots[0].n_series + LEGEND_COLUMNS - 1) / LEGEND_COLUMNS) * LEGEND_ROW + LEGEND_FOOT;
}

/* The series' names in columns, row by row. */
static void draw_common_legend(cairo_t *cr, const struct chart_plot *p, double width, double top)
{
    const double column = width / LEGEND_COLUMNS;
    for (size_t s = 0; s < p->n_series; s++) {
        const double x = MARGIN + column * (double)(s % LEGEND_COLUMNS), y = top + LEGEND_ROW * (double)(s / LEGEND_COLUMNS) + 11;
        fill_box(cr, x, y - 5, 14, 3, SERIES[s]);
        draw_text(cr, TICK, LEFT, x + 20, y, column - 32, p->series[s].label);
    }
}

static double draw_plots(cairo_t *cr, const struct chart_page *page, int width, double top)
{
    const double whole = width - 2 * MARGIN, half = (whole - PLOT_GAP) / 2;
    if (page->one_legend && page->n_plots > 0)
        draw_common_legend(cr, &page->plots[0], whole, top);
    top += common_legend_height(page);
    for (size_t i = 0; i < page->n_plots; i++) {
        const bool alone = i + 1 == page->n_plots && i % 2 == 0;
        draw_plot(cr, &page->plots[i], !page->one_legend, i % 2 == 0 ? MARGIN : MARGIN + half + PLOT_GAP,
                  top + (double)(i / 2) * PLOT_HEIGHT, alone ? whole : half);
    }
    return top + (double)((page->n_plots + 1) / 2) * PLOT_HEIGHT;
}

/* ---- the page
 * ----------------------------------------------------------------------------------------- */

static int head_height(const struct chart_page *page)
{
    return (page->title != NULL ? 26 : 0) + (page->subtitle != NULL ? 20 : 0) +
           (page->title != NULL || page->subtitle != NULL ? 14 : 0);
}

static int page_height(const struct chart_page *page, int width)
{
    return 2 * MARGIN - 6 + head_height(page) +
           (page->grid != NULL ? grid_height(page, width) + GRID_GAP : 0) +
           common_legend_height(page) + (int)((page->n_plots + 1) / 2) * PLOT_HEIGHT + (page->footnote != NULL ? 16 : 0);
}

static int check_page(const struct chart_page *page, int width, struct err *e)
{
    const struct chart_grid *g = page->grid;
    if (g != NULL && (g->rows < 1 || g->rows > CHART_ROWS_MAX || g->columns < 1 ||
                      g->columns > CHART_COLUMNS_MAX))
        return err_set(e, ERR_INVALID, "chart: a grid of %d x %d tiles, at most %d x %d are drawn",
                       g->rows, g->columns, CHART_ROWS_MAX, CHART_COLUMNS_MAX);
    if (page->n_plots > CHART_PLOTS_MAX)
        return err_set(e, ERR_INVALID, "chart: %zu plots, at most %d are drawn", page->n_plots,
                       CHART_PLOTS_MAX);
    for (size_t i = 0; i < page->n_plots; i++)
        if (page->plots[i].n_series > CHART_SERIES_MAX)
            return err_set(e, ERR_INVALID, "chart: %zu curves in a plot, at most %d are drawn",
                           page->plots[i].n_series, CHART_SERIES_MAX);
    if (width < 320 || width > IMAGE_SIDE_MAX ||
        (g != NULL && tile_side(page, width) < TILE_SIDE_MIN))
        return err_set(e, ERR_INVALID,
                       "chart: a page %d pixels wide is too narrow or too wide for its contents",
                       width);
    const int height = page_height(page, width);
    if (height > IMAGE_SIDE_MAX || (size_t)width * (size_t)height > IMAGE_PIXELS_MAX)
        return err_set(e, ERR_INVALID, "chart: the page would be %d x %d pixels: take fewer rows",
                       width, height);
    return 0;
}

static void draw_page(cairo_t *cr, const struct chart_page *page, int width, int height)
{
    const double room = width - 2 * MARGIN;
    double y = MARGIN;
    fill_box(cr, 0, 0, width, height, PAPER);
    if (page->title != NULL)
        draw_text(cr, TITLE, LEFT, MARGIN, y + 15, room, page->title);
    if (page->subtitle != NULL)
        draw_text(cr, SUBTITLE, LEFT, MARGIN, y + (page->title != NULL ? 37 : 12), room,
                  page->subtitle);
    y += head_height(page);
    if (page->grid != NULL)
        y = draw_grid(cr, page, width, y) + GRID_GAP;
    y = draw_plots(cr, page, width, y);
    if (page->footnote != NULL)
        draw_text(cr, TICK, LEFT, MARGIN, height - MARGIN + 8, room, page->footnote);
}

/* cairo keeps a pixel as one native 32-bit word. */
static void copy_pixels(struct image *image, cairo_surface_t *surface)
{
    cairo_surface_flush(surface);
    const unsigned char *pixels = cairo_image_surface_get_data(surface);
    const int stride = cairo_image_surface_get_stride(surface);
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++) {
            uint32_t pixel;
            memcpy(&pixel, pixels + (size_t)y * (size_t)stride + 4 * (size_t)x, 4);
            uint8_t *p = image->rgb + 3 * ((size_t)y * (size_t)image->width + (size_t)x);
            p[0] = (uint8_t)(pixel >> 16);
            p[1] = (uint8_t)(pixel >> 8);
            p[2] = (uint8_t)pixel;
        }
}

int chart_draw(struct image *image, const struct chart_page *page, struct err *e)
{
    const int width = page->width > 0 ? page->width : CHART_WIDTH_DEFAULT;
    if (check_page(page, width, e) < 0)
        return -1;
    const int height = page_height(page, width);
    cairo_surface_t *surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, width, height);
    cairo_t *cr = cairo_create(surface);
    cairo_font_options_t *options = cairo_font_options_create();
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_SLIGHT);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_ON);
    cairo_set_font_options(cr, options);
    cairo_font_options_destroy(options);
    draw_page(cr, page, width, height);
    const cairo_status_t status = cairo_status(cr);
    if (status == CAIRO_STATUS_SUCCESS) {
        image_init(image, width, height);
        copy_pixels(image, surface);
    } else {
        err_set(e, ERR_INVALID, "chart: %s", cairo_status_to_string(status));
    }
    cairo_destroy(cr);
    cairo_surface_destroy(surface);
    return status == CAIRO_STATUS_SUCCESS ? 0 : -1;
}

int chart_write(const char *path, const struct chart_page *page, struct err *e)
{
    struct image image;
    if (chart_draw(&image, page, e) < 0)
        return -1;
    const int rc = png_write(path, &image, NULL, e);
    image_done(&image);
    return rc;
}
