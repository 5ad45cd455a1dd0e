#include "io/chart.h"
#include "support/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof *(a))

static struct image drawn(const struct chart_page *page)
{
    struct image image;
    struct err e;
    ck_assert_msg(chart_draw(&image, page, &e) == 0, "%s", e.text);
    return image;
}

/* Pixels of about that colour within [x0,x1) x [y0,y1). */
static int count_colour(const struct image *image, int x0, int y0, int x1, int y1, int r, int g,
                        int b)
{
    int count = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const uint8_t *p = image->rgb + 3 * (y * image->width + x);
            count += abs(p[0] - r) < 12 && abs(p[1] - g) < 12 && abs(p[2] - b) < 12;
        }
    return count;
}

static int count_ink(const struct image *image)
{
    return image->width * image->height -
           count_colour(image, 0, 0, image->width, image->height, 255, 255, 255);
}

START_TEST(tiles_stand_in_their_columns)
{
    struct image red, blue;
    image_init(&red, 64, 64);
    image_init(&blue, 64, 64);
    for (int i = 0; i < 64 * 64; i++) {
        memcpy(red.rgb + 3 * i, "\xff\0\0", 3);
        memcpy(blue.rgb + 3 * i, "\0\0\xff", 3);
    }
    const struct chart_tile tiles[] = {{&red, "0.1", (double)NAN}, {&blue, NULL, (double)NAN}};
    static const char *const rows[] = {"prompt"}, *const columns[] = {"base", "now"};
    const struct chart_grid grid = {1, 2, rows, columns, NULL, tiles};
    struct image page = drawn(&(struct chart_page){.width = 600, .grid = &grid});
    ck_assert_int_eq(page.width, 600);
    /* two tiles of 128, 8 apart, at the right margin of 28; an outline of one pixel round each */
    ck_assert_int_eq(count_colour(&page, 600 - 28 - 264, 0, 600 - 28 - 136, page.height, 255, 0, 0),
                     126 * 126);
    ck_assert_int_eq(count_colour(&page, 600 - 28 - 128, 0, 600 - 28, page.height, 0, 0, 255),
                     126 * 126);
    image_done(&page);
    image_done(&red);
    image_done(&blue);
}
END_TEST

/* The first series' blue lies on its own level and nowhere below, whatever was written on the page
 * before. */
START_TEST(a_curve_is_drawn_where_its_values_are)
{
    static const double x[] = {0, 1, 2, 3}, y[] = {1, 1, 1, 1};
    const struct chart_series series = {.label = NULL, .x = x, .y = y, .n = 4};
    const struct chart_plot plot = {.title = "t",
                                    .x_label = "x",
                                    .series = &series,
                                    .n_series = 1,
                                    .y_max = 2,
                                    .reference = 0.1,
                                    .reference_label = "base"};
    struct image page = drawn(&(struct chart_page){.width = 400, .plots = &plot, .n_plots = 1});
    const int middle = 28 + 40 + (252 - 40 - 42) / 2;
    ck_assert_int_gt(count_colour(&page, 60, middle - 4, 320, middle + 4, 33, 105, 204), 250);
    ck_assert_int_eq(count_colour(&page, 60, middle + 8, 320, page.height, 33, 105, 204), 0);
    ck_assert_int_eq(count_colour(&page, 60, 0, 320, middle - 8, 33, 105, 204), 0);
    image_done(&page);
}
END_TEST

START_TEST(a_hole_in_the_data_is_a_hole_in_the_curve)
{
    static const double x[] = {0, 1, 2, 3}, y[] = {1, 1, (double)NAN, 1}, whole[] = {1, 1, 1, 1};
    int blue[2];
    for (int i = 0; i < 2; i++) {
        const struct chart_series series = {.x = x, .y = i == 0 ? whole : y, .n = 4};
        const struct chart_plot plot = {.series = &series, .n_series = 1, .y_max = 2};
        struct image page = drawn(&(struct chart_page){.width = 400, .plots = &plot, .n_plots = 1});
        blue[i] = count_colour(&page, 0, 0, 400, page.height, 33, 105, 204);
        image_done(&page);
    }
    ck_assert_int_lt(blue[1], blue[0] / 2);
}
END_TEST

START_TEST(odd_data_and_foreign_text_draw_something)
{
    static const double nothing[] = {(double)NAN, (double)INFINITY}, one[] = {5},
                        far[] = {-1e300, 1e300}, same[] = {2, 2}, tiny[] = {1e-12, 2e-12};
    static const double x[] = {0, 1};
    const struct chart_series series[] = {
        {"none", x, nothing, NULL, NULL, 2}, {"one", x, one, one, one, 1},
        {"far", x, far, NULL, NULL, 2},      {"same", x, same, nothing, nothing, 2},
        {"tiny", x, tiny, NULL, NULL, 2},    {"empty", NULL, NULL, NULL, NULL, 0}};
    struct chart_plot plots[COUNT(series) + 1] = {{.title = "no series"}};
    for (size_t i = 0; i < COUNT(series); i++)
        plots[i + 1] = (struct chart_plot){.title = "\xff\xfe bad\nbytes \xe2\x80",
                                           .x_label = "",
                                           .series = &series[i],
                                           .n_series = 1};
    char long_text[4096];
    memset(long_text, 'W', sizeof long_text);
    long_text[sizeof long_text - 1] = 0;
    struct image page = drawn(&(struct chart_page){.title = long_text,
                                                   .subtitle = "\xed\xa0\x80",
                                                   .footnote = long_text,
                                                   .plots = plots,
                                                   .n_plots = COUNT(plots)});
    ck_assert_int_gt(count_ink(&page), 1000);
    /* nothing runs over the right margin */
    ck_assert_int_eq(
        count_colour(&page, page.width - 20, 0, page.width, page.height, 255, 255, 255),
        20 * page.height);
    image_done(&page);
}
END_TEST

START_TEST(the_same_page_gives_the_same_pixels)
{
    const struct chart_page page = {.title = "twice", .subtitle = "the same"};
    struct image a = drawn(&page), b = drawn(&page);
    ck_assert(a.height == b.height &&
              memcmp(a.rgb, b.rgb, (size_t)a.width * (size_t)a.height * 3) == 0);
    image_done(&a);
    image_done(&b);
}
END_TEST

START_TEST(pages_beyond_the_limits_are_refused)
{
    static const char *titles[CHART_ROWS_MAX + 1];
    static struct chart_tile tiles[(CHART_ROWS_MAX + 1) * (CHART_COLUMNS_MAX + 1)];
    const struct chart_grid grids[] = {
        {CHART_ROWS_MAX + 1, 1, titles, titles, NULL, tiles},
        {1, CHART_COLUMNS_MAX + 1, titles, titles, NULL, tiles},
        {0, 1, titles, titles, NULL, tiles},
        {1, 20, titles, titles, NULL, tiles} /* of 14 pixels on this page */,
        {60, 1, titles, titles, NULL, tiles} /* higher than a picture may be */};
    struct image image;
    struct err e;
    for (size_t i = 0; i < COUNT(grids); i++) {
        ck_assert_int_eq(
            chart_draw(&image, &(struct chart_page){.width = 600, .grid = &grids[i]}, &e), -1);
        ck_assert_int_eq(e.code, ERR_INVALID);
    }
    ck_assert_int_eq(chart_draw(&image, &(struct chart_page){.width = 100}, &e), -1);
    ck_assert_int_eq(chart_draw(&image, &(struct chart_page){.n_plots = CHART_PLOTS_MAX + 1}, &e),
                     -1);
}
END_TEST

SUITE("io/chart", 30, tiles_stand_in_their_columns, a_curve_is_drawn_where_its_values_are,
      a_hole_in_the_data_is_a_hole_in_the_curve, odd_data_and_foreign_text_draw_something,
      the_same_page_gives_the_same_pixels, pages_beyond_the_limits_are_refused)
