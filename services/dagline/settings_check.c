#include "dagline/settings_check.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "dagline/process.h"
#include "run/run_rules.h"
#include "wire/run_params.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BINARIES_MAX 5
#define CHECK_MS 20000
#define LINE_BYTES_MAX 1024

/* One that answers for settings; verb: NULL, or its first argument. */
struct owner {
    const char *binary, *verb;
};

/* What a binary said about `path`, which has one line for each setting of c: "NAME: PATH:LINE: KEY: WHY". */
static int refused(const struct config *c, const struct owner *o, const char *path, const struct process *p, struct err *e)
{
    char said[LINE_BYTES_MAX], *end = said;
    process_last_line(p, said, sizeof said);
    if (said[0] == 0)
        return err_set(e, ERR_INVALID, "%s --check ended with status %d", o->binary, p->exit_status);
    const char *at = strstr(said, path);
    const size_t line = at != NULL && at[strlen(path)] == ':' ? strtoul(at + strlen(path) + 1, &end, 10) : 0;
    if (line == 0 || line > config_given_count(c) || *end != ':')
        return err_set(e, ERR_INVALID, "%s", said);
    return err_set(e, ERR_INVALID, "%s%s", config_given(c, line - 1).origin, end);
}

static int start(struct process *p, const struct owner *o, const char *binaries, const char *folder, const char *config,
                 struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], log[FILE_PATH_BYTES_MAX];
    const char *arguments[6] = {path};
    size_t n = 1;
    if (file_join(path, binaries, o->binary, e) < 0 || file_join(log, folder, o->binary, e) < 0)
        return -1;
    if (o->verb != NULL)
        arguments[n++] = o->verb;
    arguments[n++] = "--config";
    arguments[n++] = config;
    arguments[n++] = "--check";
    process_init(p, o->binary, log, arguments);
    return process_start(p, e);
}

/* All of them at once: each takes the time that it takes to load. */
static int ask(const struct config *c, const struct owner *owners, size_t count, const char *folder, struct err *e)
{
    char binaries[FILE_PATH_BYTES_MAX], config[FILE_PATH_BYTES_MAX];
    struct process p[BINARIES_MAX] = {0};
    struct buf text;
    buf_init(&text, CONFIG_FILE_BYTES_MAX);
    config_print_given(c, &text);
    int rc = process_own_folder(binaries, e) < 0 || file_join(config, folder, "settings.yaml", e) < 0 ||
                     buf_check(&text, "the settings", e) < 0 ||
                     file_replace(config, buf_text(&text), text.bytes, 0600, e) < 0
                 ? -1
                 : 0;
    for (size_t i = 0; i < count && rc == 0; i++)
        rc = start(&p[i], &owners[i], binaries, folder, config, e);
    for (size_t i = 0; i < count; i++) {
        process_wait_gone(&p[i], CHECK_MS);
        if (rc == 0 && p[i].exit_status != 0)
            rc = refused(c, &owners[i], config, &p[i], e);
        process_done(&p[i]);
    }
    buf_done(&text);
    return rc;
}

static int check(const struct config *c, const struct owner *owners, size_t count, struct err *e)
{
    char folder[] = "/tmp/dagline-check-XXXXXX";
    struct err ignored; /* a temporary folder that stays harms nobody */
    if (mkdtemp(folder) == NULL)
        return err_sys(e, errno, "mkdtemp %s", folder);
    const int rc = ask(c, owners, count, folder, e);
    if (file_remove_tree(folder, &ignored) < 0)
        log_err("settings_check", &ignored);
    return rc;
}

/* What c gives of the section `run`, over its defaults. */
static int read_run(struct run_spec *run, const struct config *c, struct err *e)
{
    static const struct config_app app = {.name = "run", .about = ""};
    struct run_params p;
    const struct config_binding binding = {&run_table, &p};
    struct config *const of_run = config_new(&app, &binding, 1);
    int rc = 0;
    for (size_t i = 0; i < config_given_count(c) && rc == 0; i++) {
        const struct config_given g = config_given(c, i);
        rc = strncmp(g.key, "run.", 4) == 0 ? config_put(of_run, g.key, g.value, g.origin, e) : 0;
    }
    run_params_apply(run, &p);
    config_free(of_run);
    return rc;
}

/* Those between settings of two services, where both are given. */
static int check_rules(const struct config *c, struct err *e)
{
    const char *const objective = config_given_value(c, "trainer.objective"), *const batch = config_given_value(c, "trainer.batch");
    struct run_spec run = {0};
    enum objective_kind kind;
    if (read_run(&run, c, e) < 0)
        return -1;
    if (objective != NULL && objective_named(&kind, objective) && run_rules_objective(&run, kind, e) < 0)
        return -1;
    return batch == NULL ? 0 : run_rules_batch(&run, (uint32_t)strtoul(batch, NULL, 10), e);
}

int settings_check_services(const struct config *c, struct err *e)
{
    static const struct owner services[BINARIES_MAX] = {
        {"dagline-store", NULL}, {"dagline-shapes-judge", NULL}, {"dagline-scorer", NULL}, {"dagline-trainer", NULL},
        {"dagline-sampler", NULL}};
    return check(c, services, BINARIES_MAX, e) < 0 ? -1 : check_rules(c, e);
}

int settings_check_run(const struct config *c, struct err *e)
{
    static const struct owner run = {"dagline", "run"};
    return check(c, &run, 1, e);
}
