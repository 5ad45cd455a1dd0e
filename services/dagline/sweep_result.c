#include "dagline/sweep_result.h"

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define REPORT_BYTES_MAX 65536
#define METRICS_BYTES_MAX ((size_t)1 << 30)

static int read_quality(struct sweep_quality *q, const struct json *report, const char *field, struct err *e)
{
    const struct json *v;
    return json_get_object(report, field, &v, e) < 0 || json_get_number(v, "single", 0.0, 1.0, &q->single, e) < 0 ||
                   json_get_number(v, "hard", 0.0, 1.0, &q->hard, e) < 0 ||
                   json_get_number(v, "soft", 0.0, 1.0, &q->soft, e) < 0 ||
                   json_get_number(v, "diversity_bits", 0.0, 1e6, &q->diversity_bits, e) < 0
               ? err_wrap(e, "%s", field)
               : 0;
}

static int read_report(struct sweep_result *r, const char *dir, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    struct json *v = NULL;
    if (file_join(path, dir, "report.json", e) < 0 || json_read_object(&v, path, REPORT_BYTES_MAX, e) < 0)
        return -1;
    const char *version = "";
    r->evaluated = json_get(v, "after") != NULL;
    int rc = json_get_int(v, "updates", 0, INT64_MAX, &r->updates, e) < 0 ||
                     json_get_int(v, "updates_wanted", 0, INT64_MAX, &r->updates_wanted, e) < 0 ||
                     json_get_number(v, "trajectories", 0.0, HUGE_VAL, &r->trajectories, e) < 0 ||
                     json_get_number(v, "seconds", 0.0, HUGE_VAL, &r->seconds, e) < 0 ||
                     json_get_string_or(v, "version", sizeof r->version - 1, "", &version, e) < 0 ||
                     json_get_number_or(v, "reward_first", -HUGE_VAL, HUGE_VAL, (double)NAN, &r->reward_first, e) < 0 ||
                     json_get_number_or(v, "reward_last", -HUGE_VAL, HUGE_VAL, (double)NAN, &r->reward_last, e) < 0
                 ? -1
                 : 0;
    snprintf(r->version, sizeof r->version, "%s", version);
    if (rc == 0 && r->evaluated)
        rc = read_quality(&r->before, v, "before", e) < 0 || read_quality(&r->after, v, "after", e) < 0 ? -1 : 0;
    json_free(v);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

/* What one update says; a resumed trainer repeats some, and the later line counts. */
struct line {
    double trajectories, seconds, reward, spread, path_kl, staleness;
};

static double number(const struct json *record, const char *name)
{
    double v;
    struct err ignored; /* absent or null: not measured */
    return json_get_number(record, name, -HUGE_VAL, HUGE_VAL, &v, &ignored) == 0 ? v : (double)NAN;
}

static size_t read_lines(struct line *line, size_t room, const char *text, size_t n)
{
    size_t count = 0;
    struct json *v;
    for (const char *at = text; (v = json_next_line(&at, text + n)) != NULL; json_free(v)) {
        struct err bad;
        int64_t step;
        if (json_get_int(v, "step", 1, (int64_t)room, &step, &bad) < 0)
            continue;
        line[step - 1] = (struct line){
            /* those that were made, where the replay says so: a replayed one counts once */
            .trajectories = isfinite(number(v, "replay_inserted")) ? number(v, "replay_inserted") : number(v, "trajectories"),
            .seconds = number(v, "wait_seconds") + number(v, "train_seconds") + number(v, "publish_seconds"),
            .reward = number(v, "reward_mean"),
            .spread = number(v, "spread"),
            .path_kl = number(v, "path_kl"),
            .staleness = number(v, "staleness"),
        };
        count = (size_t)step > count ? (size_t)step : count;
    }
    return count;
}

/* Mean of the finite ones among the last SWEEP_WINDOW values of a member up to line i. */
static double smooth(const struct line *line, size_t i, size_t offset)
{
    double sum = 0.0;
    size_t n = 0;
    for (size_t k = i + 1 > SWEEP_WINDOW ? i + 1 - SWEEP_WINDOW : 0; k <= i; k++) {
        const double v = *(const double *)((const char *)&line[k] + offset);
        sum += isfinite(v) ? v : 0.0;
        n += isfinite(v);
    }
    return n > 0 ? sum / (double)n : (double)NAN;
}

static int read_curves(struct sweep_curves *c, int64_t updates, const char *dir, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], *text;
    size_t n;
    if (file_join(path, dir, "metrics.jsonl", e) < 0 || file_read_all(path, METRICS_BYTES_MAX, &text, &n, e) < 0)
        return -1;
    struct line *line = mem_new((size_t)updates + 1, sizeof *line);
    c->points = read_lines(line, (size_t)updates, text, n);
    double **const curve[] = {&c->trajectories, &c->seconds, &c->reward, &c->spread, &c->path_kl, &c->staleness};
    for (size_t k = 0; k < sizeof curve / sizeof *curve; k++)
        *curve[k] = mem_new(c->points + 1, sizeof **curve[k]);
    double seconds = 0.0;
    for (size_t i = 0; i < c->points; i++) {
        seconds += isfinite(line[i].seconds) ? line[i].seconds : 0.0;
        c->seconds[i] = seconds;
        c->trajectories[i] = line[i].trajectories;
        c->reward[i] = smooth(line, i, offsetof(struct line, reward));
        c->spread[i] = smooth(line, i, offsetof(struct line, spread));
        c->path_kl[i] = smooth(line, i, offsetof(struct line, path_kl));
        c->staleness[i] = smooth(line, i, offsetof(struct line, staleness));
    }
    mem_free(line);
    mem_free(text);
    return 0;
}

bool sweep_result_complete(const char *dir)
{
    struct sweep_result r = {0};
    struct err ignored; /* no report, or half of one: not complete */
    return read_report(&r, dir, &ignored) == 0 && r.updates > 0 && r.updates >= r.updates_wanted;
}

int sweep_result_read(struct sweep_result *out, const char *dir, struct err *e)
{
    *out = (struct sweep_result){0};
    if (read_report(out, dir, e) < 0 || read_curves(&out->curves, out->updates, dir, e) < 0) {
        sweep_result_done(out);
        return -1;
    }
    return 0;
}

void sweep_result_done(struct sweep_result *r)
{
    mem_free(r->curves.trajectories);
    mem_free(r->curves.seconds);
    mem_free(r->curves.reward);
    mem_free(r->curves.spread);
    mem_free(r->curves.path_kl);
    mem_free(r->curves.staleness);
    *r = (struct sweep_result){0};
}

double sweep_result_reach(const struct sweep_result *r, double level)
{
    const struct sweep_curves *c = &r->curves;
    /* from where the window is full on: a lucky first batch reaches nothing */
    for (size_t i = SWEEP_WINDOW - 1; i < c->points; i++) {
        if (!(c->reward[i] >= level))
            continue;
        if (i < SWEEP_WINDOW || !(c->reward[i - 1] < level))
            return c->trajectories[i];
        const double share = (level - c->reward[i - 1]) / (c->reward[i] - c->reward[i - 1]);
        return c->trajectories[i - 1] + share * (c->trajectories[i] - c->trajectories[i - 1]);
    }
    return (double)NAN;
}
