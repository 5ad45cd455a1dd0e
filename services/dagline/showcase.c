#include "dagline/showcase.h"

#include "base/mem.h"
#include "io/chart.h"
#include "run/generate.h"
#include "shapes/judge.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define STREAM_FIRST ((uint64_t)2 << 40) /* apart from evaluation and sample sheets */

static const char *const shapes_prompts[SHOWCASE_ROWS] = {
    "a red circle and a blue square",
    "a yellow star and a green triangle",
    "three white circles",
    "four purple squares",
    "two orange crosses",
    "a small blue diamond in the top right",
    "a red ring left of a black square",
    "a green star above an orange circle",
};

struct column {
    char title[24];
    uint8_t *rgb; /* owned [SHOWCASE_ROWS] */
    double score[SHOWCASE_ROWS];
    bool strict[SHOWCASE_ROWS];
};

struct showcase {
    struct pipeline *p; /* borrowed */
    const struct transition_kernel *kernels;
    int steps;
    double guidance;
    uint64_t seed;
    const char *prompts[SHOWCASE_ROWS];
    struct judge *judge; /* NULL: not judged */
    size_t picture_bytes;
    int columns;
    struct column column[SHOWCASE_COLUMNS_MAX];
    size_t points, room;
    double *step, *reward, *low, *high, *spread;
};

struct showcase *showcase_new(struct pipeline *p, const struct transition_kernel *kernels, int steps, double guidance,
                              uint64_t seed, const char *const *prompts, bool judged)
{
    const struct pipeline_shape *shape = pipeline_shape(p);
    struct showcase *s = mem_new(1, sizeof *s);
    s->p = p;
    s->kernels = kernels;
    s->steps = steps;
    s->guidance = guidance;
    s->seed = seed;
    s->picture_bytes = shape->image_height * shape->image_width * 3;
    memcpy(s->prompts, prompts != NULL ? prompts : shapes_prompts, sizeof s->prompts);
    s->judge = judged ? judge_new() : NULL;
    return s;
}

void showcase_free(struct showcase *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < s->columns; i++)
        mem_free(s->column[i].rgb);
    judge_free(s->judge);
    mem_free(s->step);
    mem_free(s->reward);
    mem_free(s->low);
    mem_free(s->high);
    mem_free(s->spread);
    mem_free(s);
}

static int judge_column(struct showcase *s, struct column *c, struct err *e)
{
    for (int i = 0; i < SHOWCASE_ROWS; i++) {
        struct caption_spec spec;
        struct judge_view view;
        struct judge_verdict v;
        c->score[i] = (double)NAN;
        if (s->judge == NULL)
            continue;
        if (caption_parse(&spec, s->prompts[i], e) < 0)
            return -1;
        judge_look(s->judge, &view, c->rgb + (size_t)i * s->picture_bytes);
        judge_score(&v, &view, &spec);
        c->score[i] = v.soft;
        c->strict[i] = v.strict;
    }
    return 0;
}

int showcase_column(struct showcase *s, const char *title, double *score, struct err *e)
{
    int at = 0;
    while (at < s->columns && strcmp(s->column[at].title, title) != 0)
        at++;
    if (at == SHOWCASE_COLUMNS_MAX)
        return err_set(e, ERR_FULL, "the showcase has %d columns already", SHOWCASE_COLUMNS_MAX);
    struct column *c = &s->column[at];
    if (at == s->columns) {
        c->rgb = mem_new(SHOWCASE_ROWS, s->picture_bytes);
        snprintf(c->title, sizeof c->title, "%s", title);
        s->columns++;
    }
    uint64_t streams[SHOWCASE_ROWS];
    for (int i = 0; i < SHOWCASE_ROWS; i++)
        streams[i] = STREAM_FIRST + (uint64_t)i;
    const struct generate_request q = {.kernels = s->kernels,
                                       .steps = s->steps,
                                       .guidance = s->guidance,
                                       .seed = s->seed,
                                       .prompts = s->prompts,
                                       .streams = streams,
                                       .count = SHOWCASE_ROWS};
    if (generate(c->rgb, s->p, &q, NULL, NULL, e) < 0 || judge_column(s, c, e) < 0)
        return -1;
    *score = 0.0;
    for (int i = 0; i < SHOWCASE_ROWS; i++)
        *score += c->score[i] / SHOWCASE_ROWS;
    return 0;
}

void showcase_point(struct showcase *s, double step, double reward, double reward_sd, double spread)
{
    if (s->points == s->room) {
        s->room = s->room == 0 ? 256 : 2 * s->room;
        double **const curve[] = {&s->step, &s->reward, &s->low, &s->high, &s->spread};
        for (size_t i = 0; i < sizeof curve / sizeof *curve; i++)
            *curve[i] = mem_grow(*curve[i], s->room, sizeof **curve[i]);
    }
    s->step[s->points] = step;
    s->reward[s->points] = reward;
    s->low[s->points] = reward - reward_sd;
    s->high[s->points] = reward + reward_sd;
    s->spread[s->points++] = spread;
}

static double first_finite(const double *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isfinite(v[i]))
            return v[i];
    return (double)NAN;
}

int showcase_write(const struct showcase *s, const char *path, const char *title, const char *subtitle, struct err *e)
{
    const struct pipeline_shape *shape = pipeline_shape(s->p);
    struct image image[SHOWCASE_ROWS * SHOWCASE_COLUMNS_MAX];
    struct chart_tile tile[SHOWCASE_ROWS * SHOWCASE_COLUMNS_MAX];
    char caption[SHOWCASE_ROWS * SHOWCASE_COLUMNS_MAX][16];
    const char *column_titles[SHOWCASE_COLUMNS_MAX];
    for (int i = 0; i < SHOWCASE_ROWS; i++)
        for (int j = 0; j < s->columns; j++) {
            const struct column *c = &s->column[j];
            const int at = i * s->columns + j;
            column_titles[j] = c->title;
            image[at] = (struct image){(int)shape->image_width, (int)shape->image_height,
                                       c->rgb + (size_t)i * s->picture_bytes};
            snprintf(caption[at], sizeof caption[at], "%.2f%s", c->score[i], c->strict[i] ? " ✓" : "");
            tile[at] = (struct chart_tile){&image[at], s->judge != NULL ? caption[at] : NULL, c->score[i]};
        }
    double *relative = mem_new(s->points + 1, sizeof *relative);
    const double base = first_finite(s->spread, s->points);
    for (size_t i = 0; i < s->points; i++)
        relative[i] = s->spread[i] / base;
    const struct chart_grid grid = {SHOWCASE_ROWS, s->columns, s->prompts, column_titles, "policy along the run", tile};
    const struct chart_series reward = {"batch mean ± sd", s->step, s->reward, s->low, s->high,
                                        s->points};
    const struct chart_series spread = {"spread within a prompt", s->step, relative, NULL, NULL, s->points};
    const struct chart_plot plots[] = {
        {.title = "Reward", .x_label = "updates", .series = &reward, .n_series = 1},
        {.title = "Diversity", .x_label = "updates", .series = &spread, .n_series = 1, .y_min = 0.0, .y_max = 1.4,
         .reference = 1.0, .reference_label = "base"},
    };
    const struct chart_page page = {
        .title = title,
        .subtitle = subtitle,
        .grid = &grid,
        .plots = plots,
        .n_plots = s->points > 1 ? 2 : 0,
        .footnote = s->judge != NULL
                        ? "the same noise in every row; under each picture the reward, ✓ where every word of the prompt holds"
                        : "the same noise in every row",
    };
    const int rc = chart_write(path, &page, e);
    mem_free(relative);
    return rc;
}
