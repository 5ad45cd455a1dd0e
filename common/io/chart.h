/* Pages of pictures and curves as one PNG: the door to cairo.
 *
 * A page is, from the top: title and subtitle; a grid of tiles (rows of one prompt each, columns of
 * time) with a caption and a level bar under each; plots side by side, two in a row; a footnote.
 * Any part may be missing.  The width is the caller's, the height follows from the contents.
 *
 *     struct chart_page page = {.title = "...", .grid = &grid, .plots = plots, .n_plots = 2};
 *     struct image image;
 *     if (chart_draw(&image, &page, e) < 0) ...
 *
 * Text is UTF-8 in DejaVu Sans; bytes that are not UTF-8 show as '?', what does not fit ends in an
 * ellipsis. Everything is borrowed for the call.  Threads: any number of calls at a time. */
#ifndef DAGLINE_IO_CHART_H
#define DAGLINE_IO_CHART_H

#include "base/err.h"
#include "io/image.h"

#include <stdbool.h>
#include <stddef.h>

#define CHART_WIDTH_DEFAULT 960
#define CHART_COLUMNS_MAX 24
#define CHART_ROWS_MAX 64
#define CHART_SERIES_MAX 8
#define CHART_PLOTS_MAX 8
#define CHART_TEXT_BYTES_MAX 512

/* One picture of the grid. */
struct chart_tile {
    const struct image *image; /* square or not; NULL is an empty place */
    const char *caption;       /* a few characters, "0.72"; may be NULL */
    double level;              /* 0..1 fills the bar under the picture; NAN: no bar */
};

struct chart_grid {
    int rows, columns;
    const char *const *row_titles;    /* [rows], the prompts; wrapped over the height of a tile */
    const char *const *column_titles; /* [columns] */
    const char *column_axis;          /* what the columns count, or NULL */
    const struct chart_tile *tiles;   /* [rows*columns], row by row */
};

/* A curve; points whose y is not finite interrupt it. */
struct chart_series {
    const char *label;
    const double *x, *y;
    const double *low, *high; /* a band around it, or NULL */
    size_t n;
};

struct chart_plot {
    const char *title, *x_label;
    const struct chart_series *series;
    size_t n_series;
    double y_min, y_max; /* where y_min < y_max; otherwise from the data */
    double reference;    /* a dashed level, drawn where reference_label is not NULL */
    const char *reference_label;
};

struct chart_page {
    int width; /* pixels; 0: CHART_WIDTH_DEFAULT */
    const char *title, *subtitle, *footnote;
    const struct chart_grid *grid;
    const struct chart_plot *plots;
    size_t n_plots;
    bool one_legend; /* the plots have the same curves: their names stand once, above the plots */
};

/* `image` is initialised on success (image_done).  ERR_INVALID where the page would be larger than
 * a picture may be, or beyond the limits above. */
int chart_draw(struct image *image, const struct chart_page *page, struct err *e) MUST_USE;

/* chart_draw into a PNG file, whole or absent. */
int chart_write(const char *path, const struct chart_page *page, struct err *e) MUST_USE;

#endif
