#include "dagline/cmd_run.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"
#include "base/log_settings.h"
#include "dagline/embedded_model.h"
#include "dagline/local_run.h"
#include "dagline/process.h"
#include "dagline/settings_check.h"
#include "run/prompt_file.h"
#include "run/prompt_set.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define RUNS_A_SECOND_MAX 100
#define OWN_PROMPTS 8 /* evaluated with a reward of one's own, unless told otherwise */

#define LOCAL_PARAMS(P, S)                                                                         \
    P(S, text, dir, "", "", "1000", "",                                                            \
      "run directory; given again, the run goes on; empty: runs/TIME")                             \
    P(S, integer, samplers, "1", "1", "64", "processes", "sampler processes")                      \
    P(S, flag, judge, "yes", "", "", "",                                                           \
      "start the shapes judge as the reward service (else reward.url)")                            \
    P(S, text, redis, "redis-server", "", "255", "", "the Redis binary")                           \
    P(S, size, redis_memory, "2GiB", "16MiB", "1TiB", "", "Redis's maxmemory")                     \
    P(S, integer, evaluate_prompts, "40", "0", "1000", "prompts",                                  \
      "for the table before/after: of each tag of the embedded world, or with --no-judge all in "  \
      "all (8 unless given), scored by the run's reward; 0: none")                                 \
    P(S, integer, evaluate_pictures, "4", "1", "64", "pictures",                                   \
      "of each of those prompts; with --no-judge 1 unless given")                                  \
    P(S, integer, evaluate_seed, "1000003", "0", "", "",                                           \
      "of those prompts and pictures: apart from training")                                        \
    P(S, text, evaluate_file, "", "", "1000", "",                                                  \
      "with --no-judge: held-out prompts, a file as for store.prompts; empty: prompts of the run") \
    P(S, duration, silence, "30s", "1s", "1d", "",                                                 \
      "without an update, until the last warning of the services is shown; later twice as long")
CONFIG_STRUCT(local_params, LOCAL_PARAMS);
CONFIG_TABLE_OPTIONS(local_table, "local", "a run on this machine", local_params, LOCAL_PARAMS);

/* runs/TIME; runs/TIME-2 and so on for those that begin in the same second. */
static int new_run_dir(char path[FILE_PATH_BYTES_MAX], struct err *e)
{
    char now[CLOCK_TEXT_BYTES], more[16] = "";
    clock_format(clock_wall_ns(NULL), now);
    if (file_make_folders("runs", e) < 0)
        return -1;
    for (int i = 2; i < RUNS_A_SECOND_MAX + 2; i++) {
        snprintf(path, FILE_PATH_BYTES_MAX, "runs/%.4s%.2s%.2s-%.2s%.2s%.2s%s", now, now + 5, now + 8,
                 now + 11, now + 14, now + 17, more);
        if (mkdir(path, 0777) == 0)
            return 0;
        if (errno != EEXIST)
            break;
        snprintf(more, sizeof more, "-%d", i);
    }
    return err_sys(e, errno, "mkdir %s", path);
}

static int run_dir(char dir[FILE_PATH_BYTES_MAX], const char *given, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    snprintf(path, sizeof path, "%s", given);
    if (given[0] != 0 ? file_make_folders(path, e) < 0 : new_run_dir(path, e) < 0)
        return -1;
    /* children get absolute paths: they may be started from elsewhere */
    return realpath(path, dir) != NULL ? 0 : err_sys(e, errno, "%s", path);
}

/* The embedded model and its prompts, unless the caller has chosen others. */
static int choose_model(struct config *c, const char *model, struct err *e)
{
    char prompts[FILE_PATH_BYTES_MAX];
    if (config_given_value(c, "store.model") == NULL && config_put(c, "store.model", model, "embedded model", e) < 0)
        return -1;
    if (config_given_value(c, "store.prompts") != NULL)
        return 0;
    return file_join(prompts, model, "prompts.jsonl", e) < 0
               ? -1
               : config_put(c, "store.prompts", prompts, "embedded model", e);
}

/* No service opens a port for /healthz and /metrics unless the caller has named it. */
static int choose_ports(struct config *c, struct err *e)
{
    static const char *const keys[] = {"store.listen", "scorer.listen", "trainer.listen", "sampler.listen"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (config_given_value(c, keys[i]) == NULL && config_put(c, keys[i], "", "a run on this machine", e) < 0)
            return -1;
    return 0;
}

/* With a reward of the caller's own few unless asked for: model and reward may be slow. */
static int evaluate_prompts(const struct local_params *p, const struct config *c)
{
    if (p->judge)
        return (int)p->evaluate_prompts;
    return config_given_value(c, "local.evaluate_prompts") != NULL ? (int)p->evaluate_prompts : OWN_PROMPTS;
}

static const char *prompts_column(const struct config *c)
{
    const char *const given = config_given_value(c, "store.prompts_column");
    return given != NULL ? given : "prompt";
}

/* The model that the caller chose, NULL where it is the embedded one. */
static const char *own_model(const struct config *c, const char *embedded)
{
    const char *const given = config_given_value(c, "store.model");
    return given == NULL || strcmp(given, embedded) == 0 ? NULL : given;
}

static int run_with(const struct local_params *p, struct config *c, const char *embedded, struct err *e)
{
    char dir[FILE_PATH_BYTES_MAX], binaries[FILE_PATH_BYTES_MAX];
    struct buf settings;
    /* the directory is among the settings, so that the run goes on by its config.yaml alone */
    if (choose_ports(c, e) < 0 || run_dir(dir, p->dir, e) < 0 ||
        config_put(c, "local.dir", dir, "run directory", e) < 0 || process_own_folder(binaries, e) < 0)
        return -1;
    buf_init(&settings, CONFIG_FILE_BYTES_MAX);
    config_print_given(c, &settings);
    const struct local_run_options o = {
        .dir = dir,
        .settings = buf_text(&settings),
        .model = own_model(c, embedded),
        .binaries = binaries,
        .samplers = (int)p->samplers,
        .judge = p->judge,
        .judge_listen = config_given_value(c, "judge.listen"),
        .redis = p->redis,
        .replay_bytes = p->redis_memory_bytes,
        .evaluate_prompts = evaluate_prompts(p, c),
        .evaluate_pictures = p->judge || config_given_value(c, "local.evaluate_pictures") != NULL ? (int)p->evaluate_pictures : 1,
        .evaluate_seed = (uint64_t)p->evaluate_seed,
        .evaluate_file = p->evaluate_file,
        .evaluate_column = prompts_column(c),
        .silence_ms = p->silence_ms,
    };
    if (p->judge && config_given_value(c, "reward.url") != NULL)
        printf("reward.url is not asked: the shapes judge is the reward unless --no-judge is given\n");
    if (p->judge && p->evaluate_file[0] != 0)
        printf("local.evaluate_file is not read: the table is of the embedded world's prompts unless --no-judge is given\n");
    const int rc = local_run(&o, e);
    buf_done(&settings);
    return rc;
}

static int check_held_out(const struct local_params *p, const struct config *c, struct err *e)
{
    struct buf lines;
    size_t count;
    if (p->judge || p->evaluate_file[0] == 0)
        return 0;
    buf_init(&lines, PROMPT_SET_BYTES_MAX);
    const int rc = prompt_file_read(&lines, &count, p->evaluate_file, prompts_column(c), e);
    buf_done(&lines);
    return rc < 0 ? err_wrap(e, "local.evaluate_file") : 0;
}

struct checked {
    const struct local_params *p;
    struct config *c;
    const char *model; /* the embedded one */
};

/* The services' own settings, by the services. */
static int check(void *arg, struct err *e)
{
    const struct checked *k = arg;
    return choose_model(k->c, k->model, e) < 0 || check_held_out(k->p, k->c, e) < 0 ? -1 : settings_check_services(k->c, e);
}

int cmd_run(int argc, char **argv)
{
    struct local_params p;
    struct log_settings log;
    struct err e = {0};
    char model[FILE_PATH_BYTES_MAX], preset[FILE_PATH_BYTES_MAX];
    const struct config_binding bindings[] = {{&local_table, &p}, {&log_settings_table, &log}};
    if (embedded_model_find(model, preset, &e) < 0) {
        fprintf(stderr, "dagline run: %s\n", e.text);
        return 1;
    }
    struct checked checked = {.p = &p, .model = model};
    const struct config_app app = {
        .name = "dagline run",
        .about = "a whole run on this machine: by default the embedded model, DAG-KL and the "
                 "shapes judge; settings of every service are accepted",
        .foreign = config_sections,
        .preset = preset,
        .check = check,
        .check_arg = &checked};
    struct config *const c = checked.c = config_new(&app, bindings, sizeof bindings / sizeof *bindings);
    int status = config_main(c, argc, argv);
    if (status < 0) {
        log_open_with("dagline", &log);
        status = run_with(&p, c, model, &e) < 0;
        if (status != 0)
            fprintf(stderr, "dagline run: %s\n", e.text);
    }
    config_free(c);
    return status;
}
