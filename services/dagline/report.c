#include "dagline/report.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/version.h"
#include "dagline/evaluate.h"
#include "dagline/process.h"
#include "dagline/scored.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define REPORT_BYTES_MAX 65536
#define OPEN_PROMPTS 14
#define OPEN_PICTURES 32

/* "61.2 [58.0, 64.3]" in percent. */
static void add_share(struct buf *out, const struct evaluate_share *s)
{
    const struct stats_interval ci = stats_share_95(s->hits, s->n > 0 ? s->n : 1);
    buf_format(out, "%5.1f [%.1f, %.1f]", 100.0 * evaluate_rate(s), 100.0 * ci.low, 100.0 * ci.high);
}

static void share_row(struct buf *out, const char *name, const struct evaluate_share *before,
                      const struct evaluate_share *after)
{
    buf_format(out, "| %s | ", name);
    add_share(out, before);
    buf_add_text(out, " | ");
    add_share(out, after);
    buf_format(out, " | %+.1f |\n", 100.0 * (evaluate_rate(after) - evaluate_rate(before)));
}

static void table(struct buf *out, const struct evaluation *before, const struct evaluation *after)
{
    buf_add_text(out, "| strict alignment, % | before [95 %] | after [95 %] | change |\n|---|---|---|---|\n");
    for (int tag = 0; tag < TAG_COUNT; tag++)
        share_row(out, caption_tag_names[tag], &before->tag[tag], &after->tag[tag]);
    share_row(out, "**single objects**", &before->single, &after->single);
    share_row(out, "**harder prompts**", &before->hard, &after->hard);
    const struct stats_interval b = stats_mean_95(&before->soft), a = stats_mean_95(&after->soft);
    buf_format(out, "| soft alignment (the reward) | %.3f [%.3f, %.3f] | %.3f [%.3f, %.3f] | %+.3f |\n",
               before->soft.mean, b.low, b.high, after->soft.mean, a.low, a.high,
               after->soft.mean - before->soft.mean);
    buf_format(out, "| diversity, bits on open prompts | %.2f | %.2f | %.2fx |\n", before->diversity.total_bits,
               after->diversity.total_bits, diversity_relative(&after->diversity, &before->diversity));
}

static struct json *numbers(const struct evaluation *v)
{
    struct json *out = json_new_object();
    for (int tag = 0; tag < TAG_COUNT; tag++)
        json_set_number(out, caption_tag_names[tag], evaluate_rate(&v->tag[tag]));
    json_set_number(out, "single", evaluate_rate(&v->single));
    json_set_number(out, "hard", evaluate_rate(&v->hard));
    json_set_number(out, "soft", v->soft.mean);
    json_set_number(out, "diversity_bits", v->diversity.total_bits);
    return out;
}

/* The reward of the run, over prompts. */
struct rewards {
    struct stats before, after, change;
};

static void add_interval(struct buf *out, const struct stats *s)
{
    const struct stats_interval ci = stats_mean_95(s);
    if (s->count < 2)
        buf_format(out, " %.4g |", s->mean);
    else
        buf_format(out, " %.4g [%.4g, %.4g] |", s->mean, ci.low, ci.high);
}

static void reward_table(struct buf *out, const struct rewards *r)
{
    buf_add_text(out, "| | before [95 %] | after [95 %] | change [95 %] |\n|---|---|---|---|\n| reward |");
    add_interval(out, &r->before);
    add_interval(out, &r->after);
    add_interval(out, &r->change);
    buf_add_byte(out, '\n');
}

static void set_interval(struct json *v, const char *field, const struct stats *s)
{
    const struct stats_interval ci = stats_mean_95(s);
    struct json *out = json_new_object();
    json_set_number(out, "mean", s->mean);
    json_set_number(out, "low", s->count < 2 ? (double)NAN : ci.low);
    json_set_number(out, "high", s->count < 2 ? (double)NAN : ci.high);
    json_set(v, field, &out);
}

static int write_numbers(const struct report_options *o, const struct evaluation *before, const struct evaluation *after,
                         const struct rewards *rewards, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    size_t n;
    struct json *v = json_new_object();
    json_set_string(v, "run", o->run->run_id);
    json_set_string(v, "version", version_git());
    json_set_int(v, "updates", (int64_t)o->step);
    json_set_int(v, "updates_wanted", (int64_t)o->run->iterations);
    json_set_number(v, "trajectories", o->step > 0 ? o->trajectories : 0.0);
    json_set_number(v, "seconds", o->seconds);
    json_set_number(v, "reward_first", o->reward_first);
    json_set_number(v, "reward_last", o->reward_last);
    json_set_number(v, "model_cpu_seconds", o->model_cpu_s);
    json_set_number(v, "pipeline_cpu_seconds", o->pipeline_cpu_s);
    if (after != NULL) {
        struct json *b = numbers(before), *a = numbers(after);
        json_set(v, "before", &b);
        json_set(v, "after", &a);
    }
    if (rewards != NULL) {
        set_interval(v, "reward_before", &rewards->before);
        set_interval(v, "reward_after", &rewards->after);
        set_interval(v, "reward_change", &rewards->change);
    }
    char *text = json_print(v, JSON_INDENTED, &n);
    const int rc = file_join(path, o->dir, "report.json", e) < 0 ? -1 : file_replace(path, text, n, 0644, e);
    mem_free(text);
    json_free(v);
    return rc;
}

static int evaluate_both(const struct report_options *o, struct evaluation *before, struct evaluation *after,
                         struct err *e)
{
    const struct evaluate_options eo = {
        .kernels = o->kernels,
        .steps = (int)o->run->steps,
        .guidance = o->run->guidance,
        .seed = o->evaluate_seed,
        .held_out = true,
        .prompts_per_tag = o->evaluate_prompts,
        .pictures = o->evaluate_pictures,
        .open_prompts = OPEN_PROMPTS,
        .open_pictures = OPEN_PICTURES,
    };
    return pipeline_policy_set(o->pipeline, NULL, 0, e) < 0 || evaluate(before, o->pipeline, &eo, NULL, NULL, e) < 0 ||
                   pipeline_policy_set(o->pipeline, o->policy, o->policy_bytes, e) < 0 ||
                   evaluate(after, o->pipeline, &eo, NULL, NULL, e) < 0
               ? -1
               : 0;
}

static int score_both(const struct report_options *o, double *before, double *after, size_t count, struct err *e)
{
    char config[FILE_PATH_BYTES_MAX], folder[2][FILE_PATH_BYTES_MAX];
    const struct scored_options so = {
        .kernels = o->kernels,
        .steps = (int)o->run->steps,
        .guidance = o->run->guidance,
        .seed = o->evaluate_seed,
        .prompts = o->prompts,
        .count = count,
        .pictures = o->evaluate_pictures,
        .binaries = o->binaries,
        .config = config,
    };
    return file_join(config, o->dir, "config.yaml", e) < 0 || file_join(folder[0], o->dir, "evaluation/before", e) < 0 ||
                   file_join(folder[1], o->dir, "evaluation/after", e) < 0 ||
                   pipeline_policy_set(o->pipeline, NULL, 0, e) < 0 || scored(before, o->pipeline, &so, folder[0], e) < 0 ||
                   pipeline_policy_set(o->pipeline, o->policy, o->policy_bytes, e) < 0 ||
                   scored(after, o->pipeline, &so, folder[1], e) < 0
               ? -1
               : 0;
}

/* True where there is a table; a reward that cannot be had is a line of the report, not its end. */
static bool add_rewards(struct buf *out, struct rewards *r, const struct report_options *o)
{
    const size_t count = o->evaluate_prompts < o->prompts->count ? o->evaluate_prompts : o->prompts->count;
    double *const before = mem_new(count, sizeof *before), *const after = mem_new(count, sizeof *after);
    struct err e;
    const int rc = o->run->undecoded ? err_set(&e, ERR_INVALID, "run.decode is no, the reward has no pictures")
                                     : score_both(o, before, after, count, &e);
    const bool done = rc == 0;
    stats_init(&r->before);
    stats_init(&r->after);
    stats_init(&r->change);
    for (size_t i = 0; i < count && done; i++) {
        stats_add(&r->before, before[i]);
        stats_add(&r->after, after[i]);
        stats_add(&r->change, after[i] - before[i]);
    }
    if (done) {
        buf_format(out,
                   "%zu prompts of %s, seed %llu, %zu pictures before and after with the same noise, intervals over prompts:\n\n",
                   count, o->prompts_name, (unsigned long long)o->evaluate_seed, count * o->evaluate_pictures);
        reward_table(out, r);
    } else {
        buf_format(out, "No table before/after: %s\n", e.text);
    }
    mem_free(before);
    mem_free(after);
    return done;
}

/* A line with a command over the trained model. */
static int add_command(struct buf *out, const char *title, const char *verb, const struct report_options *o, struct err *e)
{
    char policy[FILE_PATH_BYTES_MAX];
    if (file_join(policy, o->dir, "policy.safetensors", e) < 0)
        return -1;
    buf_add_text(out, title);
    process_own_command(out);
    buf_add_text(out, verb);
    if (o->model != NULL) {
        buf_add_text(out, " --model ");
        buf_add_shell_word(out, o->model);
    }
    buf_add_text(out, " --policy ");
    buf_add_shell_word(out, policy);
    return 0;
}

int report_write(const struct report_options *o, struct err *e)
{
    struct buf out;
    struct evaluation before, after;
    struct rewards rewards;
    char path[FILE_PATH_BYTES_MAX];
    bool rewarded = false;
    int rc = -1;
    buf_init(&out, REPORT_BYTES_MAX);
    buf_format(&out, "# Run %s\n\n", o->run->run_id);
    buf_format(&out, "%llu updates, %.0f trajectories in %.0f s", (unsigned long long)o->step,
               o->step > 0 ? o->trajectories : 0.0, o->seconds);
    if (isfinite(o->reward_first))
        buf_format(&out, "; mean reward of training batches %.3f -> %.3f", o->reward_first, o->reward_last);
    buf_add_text(&out, ".\n");
    if (o->model_cpu_s > 0.0)
        buf_format(&out, "Processor time: model and judge %.0f s, scorer, store and Redis %.1f s (%.1f %% of the whole).\n",
                   o->model_cpu_s, o->pipeline_cpu_s, 100.0 * o->pipeline_cpu_s / (o->model_cpu_s + o->pipeline_cpu_s));
    buf_add_byte(&out, '\n');
    const bool wanted = o->evaluate_prompts > 0 && o->policy_bytes > 0;
    const bool evaluated = wanted && o->prompts == NULL;
    if (wanted && o->prompts != NULL)
        rewarded = add_rewards(&out, &rewards, o);
    if (evaluated) {
        if (evaluate_both(o, &before, &after, e) < 0)
            goto out;
        buf_format(&out, "Held-out prompts, seed %llu, %llu pictures before and after with the same noise:\n\n",
                   (unsigned long long)o->evaluate_seed, (unsigned long long)after.soft.count);
        table(&out, &before, &after);
    }
    buf_add_text(&out, "\n- progress.png: the same prompts and seeds along the run\n");
    if (o->policy_bytes > 0) {
        buf_add_text(&out, "- policy.safetensors: the trained weights; metrics.jsonl, tensorboard/: every update\n");
        if (add_command(&out, "- draw with it:      ", " generate", o, e) < 0)
            goto out;
        buf_add_text(&out, " --prompt \"two red stars\" -o x.png\n");
        if (add_command(&out, "- a diffusers folder: ", " export", o, e) < 0)
            goto out;
        buf_add_text(&out, " --out FOLDER\n");
    }
    if (file_join(path, o->dir, "config.yaml", e) < 0)
        goto out;
    buf_add_text(&out, "- go on:             ");
    process_own_command(&out);
    buf_add_text(&out, " run --config ");
    buf_add_shell_word(&out, path);
    if (o->step >= o->run->iterations) /* one that was stopped goes on to its own end */
        buf_format(&out, " --set run.iterations=%llu", (unsigned long long)(2 * o->run->iterations));
    buf_add_byte(&out, '\n');
    if (file_join(path, o->dir, "report.md", e) < 0 ||
        file_replace(path, buf_text(&out), strlen(buf_text(&out)), 0644, e) < 0 ||
        write_numbers(o, evaluated ? &before : NULL, evaluated ? &after : NULL, rewarded ? &rewards : NULL, e) < 0)
        goto out;
    printf("\n%s\n", buf_text(&out));
    rc = 0;
out:
    buf_done(&out);
    return rc;
}
