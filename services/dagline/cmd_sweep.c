#include "dagline/cmd_sweep.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "dagline/embedded_model.h"
#include "dagline/process.h"
#include "dagline/settings_check.h"
#include "dagline/sweep_plan.h"
#include "dagline/sweep_report.h"
#include "dagline/sweep_result.h"
#include "wire/loop.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define END_MS 60000 /* for a run to write its checkpoint and report */
#define NAME_DIGITS 12
#define TABLE_BYTES_MAX ((size_t)16 << 20)

#define SWEEP_PARAMS(P, S)                                                                                             \
    P(S, text, dir, "runs/sweep", "", "1000", "",                                                                      \
      "folder of the runs; one that is there with the same settings is not made again, an unfinished one goes on")     \
    P(S, text, title, "Sweep", "", "200", "", "of the figure")                                                         \
    P(S, text, reach, "", "", "40", "", "level of the training reward: a column tells the trajectories until there")   \
    P(S, flag, cached, "no", "", "", "", "only write table and figure of the runs that are there")
CONFIG_STRUCT(sweep_params, SWEEP_PARAMS);
CONFIG_TABLE_OPTIONS(sweep_table, "sweep", "runs over settings", sweep_params, SWEEP_PARAMS);

extern char **environ;

struct sweep {
    const struct sweep_params *o;
    const struct config *given;
    char dir[FILE_PATH_BYTES_MAX], program[FILE_PATH_BYTES_MAX];
    char model[FILE_PATH_BYTES_MAX], preset[FILE_PATH_BYTES_MAX];
    double reach;
    struct sweep_plan plan;
    struct sweep_result *result; /* [plan.runs] */
    struct loop *loop;
    size_t failed;
};

/* ---- one run ---- */

/* A configuration of what one file gives, nothing of it checked: the binaries that own the settings do that. */
static int given_by(struct config **out, const char *file, struct err *e)
{
    static const struct config_app app = {.name = "sweep", .about = "", .foreign = config_sections};
    char name[] = "sweep", option[] = "--config";
    char *const arguments[] = {name, option, (char *)(uintptr_t)file}, *const no_environment[] = {NULL};
    *out = config_new(&app, NULL, 0);
    return config_load(*out, 3, arguments, no_environment, e);
}

static int put_all(struct config *to, const struct config *from, struct err *e)
{
    for (size_t i = 0; i < config_given_count(from); i++) {
        const struct config_given g = config_given(from, i);
        if (strncmp(g.key, "sweep.", 6) != 0 && config_put(to, g.key, g.value, g.origin, e) < 0)
            return -1;
    }
    return 0;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct config_given *)a)->key, ((const struct config_given *)b)->key);
}

/* A run is named after its settings, wherever each of them was said. */
static void name_of(char name[NAME_DIGITS + 1], const struct config *c)
{
    const size_t n = config_given_count(c);
    struct config_given *const all = mem_new(n + 1, sizeof *all);
    struct hash_sha256 h;
    uint8_t digest[HASH_SHA256_BYTES];
    for (size_t i = 0; i < n; i++)
        all[i] = config_given(c, i);
    qsort(all, n, sizeof *all, by_key);
    hash_sha256_begin(&h);
    for (size_t i = 0; i < n; i++) {
        hash_sha256_add(&h, all[i].key, strlen(all[i].key) + 1);
        hash_sha256_add(&h, all[i].value, strlen(all[i].value) + 1);
    }
    hash_sha256_end(&h, digest);
    hash_hex(name, digest, NAME_DIGITS / 2);
    mem_free(all);
}

/* All of a run's settings, each stronger than the one before: the preset of `dagline run`, what the sweep was given, the
 * variant's file, the values of the axes.  *all is the caller's whatever happened. */
static int settings_of(struct config **all, const struct sweep *s, const struct sweep_run *r, struct err *e)
{
    struct config *variant = NULL;
    int rc = given_by(all, s->preset, e) < 0 || put_all(*all, s->given, e) < 0 ? -1 : 0;
    if (rc == 0 && r->variant != NULL)
        rc = given_by(&variant, r->variant, e) < 0 || put_all(*all, variant, e) < 0 ? -1 : 0;
    for (size_t i = 0; i < r->settings && rc == 0; i++)
        rc = config_put(*all, r->key[i], r->value[i], "sweep", e);
    config_free(variant);
    return rc;
}

/* The settings of the environment are among those given, and each run's file has them; left there, they would be stronger
 * than that file, and than the axes. */
static void forget_environment(void)
{
    static const char prefix[] = "DAGLINE_";
    for (size_t i = 0; environ[i] != NULL;) {
        char name[CONFIG_KEY_BYTES_MAX + sizeof prefix + 1];
        const size_t n = strcspn(environ[i], "=");
        if (strncmp(environ[i], prefix, sizeof prefix - 1) != 0 || n >= sizeof name) {
            i++;
            continue;
        }
        memcpy(name, environ[i], n);
        name[n] = 0;
        unsetenv(name); /* the rest moves up */
    }
}

/* Until it has ended or this process is to. */
static int await(struct sweep *s, struct process *p, struct err *e)
{
    p->wanted = false;
    while (p->pid > 0) {
        if (loop_poll(s->loop, 100, e) < 0)
            return -1;
        if (loop_draining(s->loop)) {
            process_end(p);
            process_wait_gone(p, END_MS);
            return err_set(e, ERR_CLOSED, "stopped; the same command goes on");
        }
        process_watch(p, clock_mono_ms(NULL));
    }
    return 0;
}

/* *why: empty, or the last words of a run that failed. */
static int make_run(struct sweep *s, const char *dir, const char *settings, char *why, size_t bytes, struct err *e)
{
    char config[FILE_PATH_BYTES_MAX], log[FILE_PATH_BYTES_MAX];
    struct process p;
    if (file_make_folders(dir, e) < 0 || file_join(config, dir, "settings.yaml", e) < 0 ||
        file_join(log, dir, "run.log", e) < 0 || file_replace(config, settings, strlen(settings), 0644, e) < 0)
        return -1;
    const char *const arguments[] = {s->program, "run", "--dir", dir, "--config", config, NULL};
    process_init(&p, "run", log, arguments);
    const int rc = process_start(&p, e) < 0 || await(s, &p, e) < 0 ? -1 : 0;
    if (rc == 0 && p.exit_status != 0)
        process_last_line(&p, why, bytes);
    process_done(&p);
    return rc;
}

static void tell(const struct sweep *s, size_t i, const char *dir, const char *why)
{
    const struct sweep_run *r = &s->plan.run[i];
    const struct sweep_result *x = &s->result[i];
    printf("%zu/%zu  %s", i + 1, s->plan.runs, s->plan.label[r->group]);
    if (r->settings > 0 && strcmp(r->key[r->settings - 1], "run.seed") == 0)
        printf("  seed %s", r->value[r->settings - 1]);
    if (x->updates == 0)
        printf("  failed, see %s/run.log: %s\n", dir, why);
    else if (x->evaluated)
        printf("  reward %.3f -> %.3f  held out %.3f -> %.3f  diversity %.2fx  %s\n", x->reward_first, x->reward_last,
               x->before.soft, x->after.soft, x->after.diversity_bits / x->before.diversity_bits, dir);
    else
        printf("  reward %.3f -> %.3f  %s\n", x->reward_first, x->reward_last, dir);
    fflush(stdout);
}

/* A run that fails (it may diverge) is a result as well: the others go on. */
static int one(struct sweep *s, size_t i, struct err *e)
{
    char dir[FILE_PATH_BYTES_MAX], name[NAME_DIGITS + 1], why[1024] = "";
    struct config *all = NULL;
    struct buf settings;
    buf_init(&settings, CONFIG_FILE_BYTES_MAX);
    int rc = settings_of(&all, s, &s->plan.run[i], e);
    if (rc == 0) {
        config_print_given(all, &settings);
        name_of(name, all);
        rc = buf_check(&settings, "the settings of a run", e) < 0 ? -1 : file_join(dir, s->dir, name, e);
    }
    config_free(all);
    if (rc == 0 && !s->o->cached && !sweep_result_complete(dir))
        rc = make_run(s, dir, buf_text(&settings), why, sizeof why, e);
    if (rc == 0 && why[0] == 0 && sweep_result_complete(dir))
        rc = sweep_result_read(&s->result[i], dir, e);
    if (rc == 0 && (!s->o->cached || s->result[i].updates > 0)) {
        tell(s, i, dir, why);
        s->failed += s->result[i].updates == 0;
    }
    buf_done(&settings);
    return rc;
}

/* ---- all of them ---- */

static int open_sweep(struct sweep *s, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], *end;
    s->reach = s->o->reach[0] != 0 ? strtod(s->o->reach, &end) : (double)NAN;
    if (s->o->reach[0] != 0 && (*end != 0 || !isfinite(s->reach)))
        return err_set(e, ERR_USAGE, "--reach \"%s\" is not a number", s->o->reach);
    if (embedded_model_find(s->model, s->preset, e) < 0 || process_own_folder(folder, e) < 0 ||
        file_join(s->program, folder, "dagline", e) < 0 || file_make_folders(s->o->dir, e) < 0)
        return -1;
    snprintf(s->dir, sizeof s->dir, "%s", s->o->dir);
    s->result = mem_new(s->plan.runs, sizeof *s->result);
    return loop_open(&s->loop, e);
}

static int sweep(struct sweep *s, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], *table;
    if (open_sweep(s, e) < 0)
        return -1;
    for (size_t i = 0; i < s->plan.runs; i++) {
        if (one(s, i, e) < 0)
            return -1;
        /* as far as it has come, after every run */
        if ((!s->o->cached || i + 1 == s->plan.runs) &&
            sweep_report_write(s->dir, s->o->title, &s->plan, s->result, s->reach, e) < 0)
            return -1;
    }
    if (file_join(path, s->dir, "sweep.md", e) < 0 || file_read_all(path, TABLE_BYTES_MAX, &table, NULL, e) < 0)
        return -1;
    printf("\n%s\ntable: %s/sweep.md   figure: %s/sweep.png\n", table, s->dir, s->dir);
    mem_free(table);
    if (s->failed > 0)
        return err_set(e, ERR_INVALID, "%zu of %zu runs failed", s->failed, s->plan.runs);
    return 0;
}

static int read_plan(struct sweep *s, struct err *e)
{
    const char *const *arguments;
    const size_t count = config_arguments(s->given, &arguments);
    return sweep_plan_read(&s->plan, arguments, count, e);
}

/* For --check, every run.  Otherwise one that is refused is a row of the table. */
static int check(void *arg, struct err *e)
{
    struct sweep *s = arg;
    forget_environment(); /* all of it is read by now */
    if (config_wish(s->given) != CONFIG_CHECK)
        return 0;
    int rc = embedded_model_find(s->model, s->preset, e) < 0 ? -1 : read_plan(s, e);
    for (size_t i = 0; i < s->plan.runs && rc == 0; i++) {
        struct config *all = NULL;
        rc = settings_of(&all, s, &s->plan.run[i], e) < 0 ? -1 : settings_check_run(all, e);
        config_free(all);
    }
    return rc;
}

int cmd_sweep(int argc, char **argv)
{
    struct sweep_params p;
    struct err e = {0};
    struct sweep s = {.o = &p};
    const struct config_binding binding = {&sweep_table, &p};
    const struct config_app app = {.name = "dagline sweep",
                                   .about = "`dagline run` for every combination of settings, a table and a figure; "
                                            "settings of every service are accepted",
                                   .arguments = "KEY=V1,V2,... [NAME.yaml...]",
                                   .foreign = config_sections,
                                   .check = check,
                                   .check_arg = &s};
    struct config *c = config_new(&app, &binding, 1);
    s.given = c;
    int status = config_main(c, argc, argv);
    if (status < 0) {
        status = read_plan(&s, &e) < 0 || sweep(&s, &e) < 0;
        if (status != 0)
            fprintf(stderr, "dagline sweep: %s%s\n", e.text, e.code == ERR_USAGE ? " (see --help)" : "");
        if (status != 0 && e.code == ERR_USAGE)
            status = 2;
        for (size_t i = 0; s.result != NULL && i < s.plan.runs; i++)
            sweep_result_done(&s.result[i]);
        mem_free(s.result);
        loop_close(s.loop);
    }
    sweep_plan_done(&s.plan);
    config_free(c);
    return status;
}
