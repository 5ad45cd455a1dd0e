#include "dagline/sweep_report.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/chart.h"
#include "metrics/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define TABLE_BYTES_MAX ((size_t)4 << 20)

/* ---- one number of a run ---- */

typedef double quantity(const struct sweep_result *r);

static double reward_last(const struct sweep_result *r)
{
    return r->reward_last;
}

static double soft(const struct sweep_result *r)
{
    return r->evaluated ? r->after.soft : (double)NAN;
}

static double single_gain(const struct sweep_result *r)
{
    return r->evaluated ? 100.0 * (r->after.single - r->before.single) : (double)NAN;
}

static double hard_gain(const struct sweep_result *r)
{
    return r->evaluated ? 100.0 * (r->after.hard - r->before.hard) : (double)NAN;
}

static double diversity(const struct sweep_result *r)
{
    return r->evaluated ? r->after.diversity_bits / r->before.diversity_bits : (double)NAN;
}

static double last_of(const double *curve, size_t n)
{
    return n > 0 ? curve[n - 1] : (double)NAN;
}

static double path_kl(const struct sweep_result *r)
{
    return last_of(r->curves.path_kl, r->curves.points);
}

static double staleness(const struct sweep_result *r)
{
    return last_of(r->curves.staleness, r->curves.points);
}

static double trajectories(const struct sweep_result *r)
{
    return last_of(r->curves.trajectories, r->curves.points);
}

static double seconds(const struct sweep_result *r)
{
    return last_of(r->curves.seconds, r->curves.points);
}

static const struct column {
    const char *title;
    int digits;
    bool change;        /* written with its sign */
    const char *suffix;
    quantity *of;
} columns[] = {
    {"training reward", 3, false, "", reward_last},
    {"held-out reward", 3, false, "", soft},
    {"single, points", 1, true, "", single_gain},
    {"hard, points", 1, true, "", hard_gain},
    {"diversity", 2, false, "x", diversity},
    {"path-KL", 1, false, "", path_kl},
    {"staleness", 1, false, "", staleness},
    {"trajectories", 0, false, "", trajectories},
    {"seconds", 0, false, "", seconds},
};
#define COLUMNS (sizeof columns / sizeof *columns)

/* ---- a group ---- */

struct group {
    const char *label;
    const struct sweep_result **run; /* those that are there */
    size_t runs;
    double order;                    /* sorted by it, falling: held-out reward, else that of training */
};

static void over_runs(struct stats *s, const struct group *g, quantity *of)
{
    stats_init(s);
    for (size_t i = 0; i < g->runs; i++)
        if (isfinite(of(g->run[i])))
            stats_add(s, of(g->run[i]));
}

static struct group *group_all(const struct sweep_plan *plan, const struct sweep_result *result)
{
    struct group *groups = mem_new(plan->groups, sizeof *groups);
    for (size_t i = 0; i < plan->runs; i++) {
        struct group *g = &groups[plan->run[i].group];
        if (g->run == NULL)
            g->run = mem_new(plan->runs, sizeof *g->run);
        if (result[i].updates > 0)
            g->run[g->runs++] = &result[i];
    }
    for (size_t i = 0; i < plan->groups; i++) {
        struct stats held_out, training;
        groups[i].label = plan->label[i];
        over_runs(&held_out, &groups[i], soft);
        over_runs(&training, &groups[i], reward_last);
        groups[i].order = held_out.count > 0 ? held_out.mean : training.count > 0 ? training.mean : -HUGE_VAL;
    }
    for (size_t i = 1; i < plan->groups; i++) /* few, and the order of equals is kept */
        for (size_t k = i; k > 0 && groups[k].order > groups[k - 1].order; k--) {
            const struct group swap = groups[k];
            groups[k] = groups[k - 1];
            groups[k - 1] = swap;
        }
    return groups;
}

/* ---- the table ---- */

static void add_cell(struct buf *out, const struct stats *s, const struct column *c)
{
    if (s->count > 0)
        buf_format(out, c->change ? " %+.*f%s" : " %.*f%s", c->digits, s->mean, c->suffix);
    if (s->count > 1)
        buf_format(out, " ± %.*f", c->digits, stats_mean_95(s).high - s->mean);
    buf_add_text(out, " |");
}

static void add_reach(struct buf *out, const struct group *g, double level)
{
    struct stats s;
    stats_init(&s);
    for (size_t i = 0; i < g->runs; i++) {
        const double at = sweep_result_reach(g->run[i], level);
        if (isfinite(at))
            stats_add(&s, at);
    }
    buf_format(out, " ");
    if (s.count > 0)
        buf_format(out, "%.0f", s.mean);
    if (s.count < g->runs)
        buf_format(out, "%s%llu of %zu", s.count > 0 ? ", " : "", (unsigned long long)s.count, g->runs);
    buf_add_text(out, " |");
}

/* A line below the table where programs of two versions made it: their runs may differ for that alone. */
static void add_versions(struct buf *out, const struct group *groups, size_t n)
{
    const char *first = "";
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < groups[i].runs; k++) {
            const char *const version = groups[i].run[k]->version;
            if (first[0] == 0)
                first = version;
            if (version[0] == 0 || strcmp(version, first) == 0)
                continue;
            buf_format(out, "\nRuns of more than one version: %s and %s.\n", first, version);
            return;
        }
}

static int write_table(const char *dir, const struct group *groups, size_t n, double reach, struct err *e)
{
    struct buf out;
    char path[FILE_PATH_BYTES_MAX];
    buf_init(&out, TABLE_BYTES_MAX);
    buf_add_text(&out, "| settings | runs |");
    for (size_t i = 0; i < COLUMNS; i++)
        buf_format(&out, " %s |", columns[i].title);
    if (isfinite(reach))
        buf_format(&out, " trajectories to %g |", reach);
    buf_add_text(&out, "\n|---|---|");
    for (size_t i = 0; i < COLUMNS + isfinite(reach); i++)
        buf_add_text(&out, "---|");
    buf_add_byte(&out, '\n');
    for (size_t i = 0; i < n; i++) {
        buf_format(&out, "| %s | %zu |", groups[i].label, groups[i].runs);
        for (size_t k = 0; k < COLUMNS; k++) {
            struct stats s;
            over_runs(&s, &groups[i], columns[k].of);
            add_cell(&out, &s, &columns[k]);
        }
        if (isfinite(reach))
            add_reach(&out, &groups[i], reach);
        buf_add_byte(&out, '\n');
    }
    add_versions(&out, groups, n);
    int rc = buf_check(&out, "the table", e);
    if (rc == 0)
        rc = file_join(path, dir, "sweep.md", e) < 0 ? -1
                                                     : file_replace(path, buf_text(&out), strlen(buf_text(&out)), 0644, e);
    buf_done(&out);
    return rc;
}

/* ---- the figure ---- */

enum curve { TRAJECTORIES, SECONDS, REWARD, REWARD_LOW, REWARD_HIGH, PATH_KL, SPREAD, CURVES };

struct drawn {
    size_t n;
    double *curve[CURVES];
};

/* Means over a group's runs, from where the windows are full. */
static struct drawn draw_group(const struct group *g)
{
    struct drawn d = {0};
    size_t n = g->runs > 0 ? SIZE_MAX : 0;
    for (size_t i = 0; i < g->runs; i++)
        n = g->run[i]->curves.points < n ? g->run[i]->curves.points : n;
    d.n = n >= SWEEP_WINDOW ? n - SWEEP_WINDOW + 1 : 0;
    for (size_t k = 0; k < CURVES; k++)
        d.curve[k] = mem_new(d.n + 1, sizeof *d.curve[k]);
    for (size_t i = 0; i < d.n; i++) {
        const size_t at = i + SWEEP_WINDOW - 1;
        d.curve[REWARD_LOW][i] = HUGE_VAL;
        d.curve[REWARD_HIGH][i] = -HUGE_VAL;
        for (size_t r = 0; r < g->runs; r++) {
            const struct sweep_curves *c = &g->run[r]->curves;
            const double share = 1.0 / (double)g->runs;
            d.curve[TRAJECTORIES][i] += share * c->trajectories[at];
            d.curve[SECONDS][i] += share * c->seconds[at];
            d.curve[REWARD][i] += share * c->reward[at];
            d.curve[PATH_KL][i] += share * c->path_kl[at];
            d.curve[SPREAD][i] += share * c->spread[at] / c->spread[SWEEP_WINDOW - 1];
            d.curve[REWARD_LOW][i] = fmin(d.curve[REWARD_LOW][i], c->reward[at]);
            d.curve[REWARD_HIGH][i] = fmax(d.curve[REWARD_HIGH][i], c->reward[at]);
        }
    }
    return d;
}

static int write_figure(const char *dir, const char *title, const struct group *groups, size_t n, struct err *e)
{
    static const struct {
        const char *title, *x_label;
        enum curve x;
    } plots[] = {{"Reward by trajectories", "trajectories", TRAJECTORIES},
                 {"Reward by time", "seconds of the trainer", SECONDS},
                 {"Reward by path-KL", "distance to the base model, nats", PATH_KL},
                 {"Reward by diversity", "spread of latents within a prompt, relative to the start", SPREAD}};
    enum { PLOTS = sizeof plots / sizeof *plots };
    char path[FILE_PATH_BYTES_MAX], subtitle[128];
    struct drawn drawn[CHART_SERIES_MAX];
    struct chart_series series[PLOTS][CHART_SERIES_MAX];
    struct chart_plot plot[PLOTS];
    size_t shown = 0;
    for (size_t i = 0; i < n && shown < CHART_SERIES_MAX; i++) {
        if (groups[i].runs == 0)
            continue;
        struct drawn *d = &drawn[shown];
        *d = draw_group(&groups[i]);
        for (size_t k = 0; k < PLOTS; k++) {
            const bool band = groups[i].runs > 1 && plots[k].x <= SECONDS; /* the others do not only grow */
            series[k][shown] = (struct chart_series){.label = groups[i].label,
                                                     .x = d->curve[plots[k].x],
                                                     .y = d->curve[REWARD],
                                                     .low = band ? d->curve[REWARD_LOW] : NULL,
                                                     .high = band ? d->curve[REWARD_HIGH] : NULL,
                                                     .n = d->n};
        }
        shown++;
    }
    for (size_t k = 0; k < PLOTS; k++)
        plot[k] = (struct chart_plot){
            .title = plots[k].title, .x_label = plots[k].x_label, .series = series[k], .n_series = shown};
    snprintf(subtitle, sizeof subtitle, "mean reward of the last %d updates; a band reaches from the lowest run to the highest",
             SWEEP_WINDOW);
    const struct chart_page page = {.title = title,
                                    .subtitle = subtitle,
                                    .one_legend = true,
                                    .plots = plot,
                                    .n_plots = PLOTS};
    const int rc = file_join(path, dir, "sweep.png", e) < 0 ? -1 : chart_write(path, &page, e);
    for (size_t i = 0; i < shown; i++)
        for (size_t k = 0; k < CURVES; k++)
            mem_free(drawn[i].curve[k]);
    return rc;
}

int sweep_report_write(const char *dir, const char *title, const struct sweep_plan *plan, const struct sweep_result *result,
                       double reach, struct err *e)
{
    struct group *groups = group_all(plan, result);
    const int rc = write_table(dir, groups, plan->groups, reach, e) < 0 ||
                           write_figure(dir, title, groups, plan->groups, e) < 0
                       ? -1
                       : 0;
    for (size_t i = 0; i < plan->groups; i++)
        mem_free(groups[i].run);
    mem_free(groups);
    return rc;
}
