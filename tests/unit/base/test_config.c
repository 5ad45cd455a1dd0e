#include "base/config.h"
#include "base/file.h"
#include "base/mem.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRAINER_PARAMS(P, S)                                                                       \
    P(S, real, lr, "6e-5", "0", "1", "1/step", "learning rate")                                    \
    P(S, integer, batch, "64", "1", "4096", "items", "trajectories in one update")                 \
    P(S, choice, objective, "dag_kl", "dag_db|dag_kl|ddpo", "", "", "the loss")                    \
    P(S, duration, ack_timeout, "5s", "10ms", "1h", "", "resend after this long")                  \
    P(S, size, cap, "256MiB", "1KiB", "1TiB", "", "memory of the replay")                          \
    P(S, flag, resume, "true", "", "", "", "go on from the newest checkpoint")                     \
    P(S, text, note, "", "", "20", "", "a word for the log")                                       \
    P(S, secret, key_file, "", "", "", "", "the service's key")
CONFIG_STRUCT(trainer_params, TRAINER_PARAMS);
CONFIG_TABLE(trainer_table, "trainer", "the learner", trainer_params, TRAINER_PARAMS);

#define RUN_PARAMS(P, S)                                                                           \
    P(S, text, name, "run", "", "64", "", "the run's name")                                        \
    P(S, integer, seed, "0", "", "", "", "every random number follows from it")
CONFIG_STRUCT(run_params, RUN_PARAMS);
CONFIG_TABLE_OPTIONS(run_table, "run", "the run", run_params, RUN_PARAMS);

#define BACKEND_PARAMS(P, S)                                                                       \
    P(S, text, url, "", "", "", "", "where it listens")                                            \
    P(S, real, weight, "1", "-10", "10", "", "its share of the reward")
CONFIG_STRUCT(backend_params, BACKEND_PARAMS);
CONFIG_TABLE_REPEATED(backend_table, "reward", "one reward service", backend_params, BACKEND_PARAMS);

static struct trainer_params trainer;
static struct run_params run;
static struct backend_params backends[CONFIG_COPIES_MAX];
static struct config_copies copies = {.items = backends};
static const char *const foreign[] = {"trainer", "sampler", "store", NULL};
static struct config_app app = {.name = "test-app", .about = "a test", .arguments = "WORD...", .foreign = foreign};
static const struct config_binding bindings[] = {
    {&trainer_table, &trainer}, {&run_table, &run}, {&backend_table, &copies}};

static struct config *c;
static char *argv[32];

static void drop(void)
{
    config_free(c);
    for (size_t i = 0; i < sizeof argv / sizeof *argv; i++) {
        free(argv[i]);
        argv[i] = NULL;
    }
}

static int load(struct err *e, char *const *env, int argc, const char *const *args)
{
    argv[0] = strdup("test-app");
    for (int i = 0; i < argc; i++)
        argv[i + 1] = strdup(args[i]); /* positional arguments are borrowed */
    c = config_new(&app, bindings, 3);
    return config_load(c, argc + 1, argv, env, e);
}

#define LOAD(e, env, ...)                                                                          \
    load(e, env, (int)(sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *)), (const char *const[]){__VA_ARGS__})

static char path[64];

static const char *with_file(const char *yaml)
{
    snprintf(path, sizeof path, "/tmp/dagline-config-%ld.yaml", (long)getpid());
    ck_assert_int_eq(file_replace(path, yaml, strlen(yaml), 0600, NULL), 0);
    return path;
}

START_TEST(defaults_come_from_the_table)
{
    struct err e = {0};
    ck_assert_int_eq(LOAD(&e, NULL, "--"), 0);
    ck_assert(trainer.lr == 6e-5);
    ck_assert_int_eq(trainer.batch, 64);
    ck_assert_int_eq(trainer.objective, 1);
    ck_assert_int_eq(trainer.ack_timeout_ms, 5000);
    ck_assert_int_eq(trainer.cap_bytes, 256 << 20);
    ck_assert(trainer.resume);
    ck_assert_str_eq(run.name, "run");
    ck_assert_uint_eq(copies.count, 0);
    ck_assert_str_eq(config_origin(c, "trainer.lr"), "default");
    ck_assert_ptr_null(config_origin(c, "trainer.nope"));
    ck_assert_int_eq(config_wish(c), CONFIG_RUN);
    drop();
}
END_TEST

START_TEST(each_source_is_stronger_than_the_one_before)
{
    struct err e = {0};
    char *env[] = {strdup("PATH=/bin"), strdup("DAGLINE_TRAINER__BATCH=3"), strdup("DAGLINE_TRAINER__LR=0.3"),
                   strdup("DAGLINE_STORE_PORT=tcp://x"), NULL};
    with_file("trainer:\n  lr: 0.1\n  batch: 1\n  note: from file\n");
    ck_assert_msg(LOAD(&e, env, "--set", "trainer.lr=0.5", "--config", path, "word") == 0, "%s", e.text);
    ck_assert(trainer.lr == 0.5);
    ck_assert_int_eq(trainer.batch, 3);
    ck_assert_str_eq(trainer.note, "from file");
    ck_assert_str_eq(config_origin(c, "trainer.lr"), "--set");
    ck_assert_str_eq(config_origin(c, "trainer.batch"), "DAGLINE_TRAINER__BATCH");
    ck_assert_str_eq(config_origin(c, "trainer.note") + strlen(path), ":4");
    const char *const *words;
    ck_assert_uint_eq(config_arguments(c, &words), 1);
    ck_assert_str_eq(words[0], "word");
    for (int i = 0; env[i] != NULL; i++)
        free(env[i]);
    drop();
    unlink(path);
}
END_TEST

START_TEST(a_file_may_be_named_by_the_environment)
{
    struct err e = {0};
    char name[128];
    with_file("trainer: {batch: 7}\n");
    snprintf(name, sizeof name, "DAGLINE_CONFIG=%s", path);
    char *env[] = {name, NULL};
    ck_assert_msg(LOAD(&e, env, "--") == 0, "%s", e.text);
    ck_assert_int_eq(trainer.batch, 7);
    drop();
    unlink(path);
}
END_TEST

START_TEST(a_preset_is_weaker_than_every_other_source)
{
    struct err e = {0};
    char preset[80], named[80], name[128];
    with_file("trainer: {batch: 1, lr: 0.1, note: preset}\n");
    snprintf(preset, sizeof preset, "%s.preset", path);
    ck_assert_int_eq(rename(path, preset), 0);
    with_file("trainer: {batch: 2, lr: 0.2}\n");
    snprintf(named, sizeof named, "%s.named", path);
    ck_assert_int_eq(rename(path, named), 0);
    snprintf(name, sizeof name, "DAGLINE_CONFIG=%s", named);
    char *env[] = {name, NULL};
    with_file("trainer: {batch: 3}\n");
    app.preset = preset;
    ck_assert_msg(LOAD(&e, env, "--config", path) == 0, "%s", e.text);
    ck_assert_str_eq(trainer.note, "preset");
    ck_assert(trainer.lr == 0.2); /* DAGLINE_CONFIG is read beside --config */
    ck_assert_int_eq(trainer.batch, 3);
    drop();
    unlink(path);
    unlink(named);
    unlink(preset);
}
END_TEST

START_TEST(values_of_every_kind_are_read_or_refused)
{
    static const struct {
        const char *set, *refused; /* NULL: accepted */
    } cases[] = {
        {"trainer.lr=1e-4", NULL},
        {"trainer.lr=0", NULL},
        {"trainer.lr=abc", "\"abc\" is not a number; accepted: a number, 0 to 1, 1/step"},
        {"trainer.lr=", "\"\" is not a number; accepted: a number, 0 to 1, 1/step"},
        {"trainer.lr=nan", "\"nan\" is not a number"},
        {"trainer.lr=inf", "\"inf\" is not a number"},
        {"trainer.lr=0x1", "\"0x1\" is not a number"},
        {"trainer.lr= 1", "\" 1\" is not a number"},
        {"trainer.lr=1.01", "\"1.01\" is too large"},
        {"trainer.lr=-1e-9", "\"-1e-9\" is too small"},
        {"trainer.batch=4096", NULL},
        {"trainer.batch=4097", "\"4097\" is too large; accepted: an integer, 1 to 4096, items"},
        {"trainer.batch=1.5", "\"1.5\" is not an integer"},
        {"trainer.batch=99999999999999999999", "\"99999999999999999999\" does not fit 64 bits"},
        {"trainer.objective=ddpo", NULL},
        {"trainer.objective=dag", "\"dag\" is not among them; accepted: one of dag_db|dag_kl|ddpo"},
        {"trainer.objective=", "\"\" is not among them"},
        {"trainer.ack_timeout=250ms", NULL},
        {"trainer.ack_timeout=1.5s", NULL},
        {"trainer.ack_timeout=5", "\"5\" has no unit; accepted: a duration such as 250ms, 5s, 2m or 1h, 10ms to 1h"},
        {"trainer.ack_timeout=5 weeks", "\"5 weeks\" has an unknown unit"},
        {"trainer.ack_timeout=10.5ms", "\"10.5ms\" is a fraction of the smallest unit"},
        {"trainer.ack_timeout=0", "\"0\" is too small"},
        {"trainer.cap=1.5GiB", NULL},
        {"trainer.cap=4096", NULL},
        {"trainer.cap=1GB", "\"1GB\" has an unknown unit"},
        {"trainer.cap=9e99TiB", "\"9e99TiB\" is too large"},
        {"trainer.resume=NO", NULL},
        {"trainer.resume=1", "\"1\" is neither; accepted: true or false"},
        {"trainer.note=exactly twenty bytes", NULL},
        {"trainer.note=twenty-one bytes long", "\"twenty-one bytes long\" is too long; accepted: text, at most 20 bytes"},
        {"trainer.note=\xff", "\"\xff\" is not UTF-8"},
        {"trainer.note=\x1b[1m", "\"?[1m\" holds a control character"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        const int rc = LOAD(&e, NULL, "--set", cases[i].set);
        ck_assert_msg(rc == (cases[i].refused == NULL ? 0 : -1), "%s: %s", cases[i].set, e.text);
        const char *message = strstr(e.text, ": \"");
        if (rc < 0)
            ck_assert_msg(e.code == ERR_INVALID && message != NULL &&
                              strncmp(message + 2, cases[i].refused, strlen(cases[i].refused)) == 0,
                          "%s: %s", cases[i].set, e.text);
        drop();
    }
    struct err e = {0};
    ck_assert_int_eq(LOAD(&e, NULL, "--set=trainer.ack_timeout=1.5s", "--set=trainer.cap=1.5GiB", "--set=trainer.resume=NO"), 0);
    ck_assert_int_eq(trainer.ack_timeout_ms, 1500);
    ck_assert_int_eq(trainer.cap_bytes, 3LL << 29);
    ck_assert(!trainer.resume);
    drop();
}
END_TEST

START_TEST(an_unknown_key_is_told_its_nearest_neighbour)
{
    static const struct {
        const char *set, *want;
    } cases[] = {
        {"trainer.bach=3", "--set: trainer.bach: unknown setting; the nearest known one is trainer.batch"},
        {"trainr.lr=3", "--set: trainr.lr: unknown setting; the nearest known one is trainer.lr"},
        {"run.sead=3", "--set: run.sead: unknown setting; the nearest known one is run.seed"},
        {"reward.judge.wait=3", "--set: reward.judge.wait: unknown setting; the nearest known one is reward.judge.weight"},
        {"reward.Bad!.url=3", "--set: reward.Bad!.url: unknown setting; the nearest known one is reward.Bad!.url"},
        {"lr=3", "--set: lr: unknown setting"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        ck_assert_int_eq(LOAD(&e, NULL, "--set", cases[i].set), -1);
        ck_assert_msg(strncmp(e.text, cases[i].want, strlen(cases[i].want)) == 0, "case %zu: %s", i, e.text);
        drop();
    }
}
END_TEST

START_TEST(a_file_error_names_its_line)
{
    static const struct {
        const char *yaml, *want; /* after the path */
    } cases[] = {
        {"trainer:\n  batch: 0\n", ":2: trainer.batch: \"0\" is too small"},
        {"trainer:\n  bach: 1\n", ":2: trainer.bach: unknown setting"},
        {"trainer:\n  lr: 1\n  batch: 1\n  lr: 1\n", ":4: trainer.lr is given again (first in line 2)"},
        {"trainer:\n  lr: 1\ntrainer.lr: 1\n", ":3: trainer.lr is given again (first in line 2)"},
        {"trainer:\n  lr:\n", ":2: trainer.lr has no value"},
        {"trainer: &a\n  lr: 1\n", ":1: anchors and tags"},
        {"trainer:\n  lr: *x\n", ":2: trainer.lr is not a plain value"},
        {"- a\n- b\n", ":1: expected settings as"},
        {"just words\n", ":1: expected settings as"},
        {"trainer: {lr: 1}\n---\ntrainer: {lr: 1}\n", ":2: a settings file is one document"},
        {"trainer:\n\tlr: 1\n", ":2: "},
        {"a: {b: {c: {d: {e: {f: {g: {h: {i: 1}}}}}}}}\n", ":1: nested too deep"},
        {"trainer:\n  note: [a, 'b,c']\n", ":2: an item of a list may not hold a comma"},
        {"trainer:\n  note: \"a\\0b\"\n", ":2: a value holds a NUL byte"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err e = {0};
        ck_assert_int_eq(LOAD(&e, NULL, "--config", with_file(cases[i].yaml)), -1);
        const size_t n = strlen(path);
        ck_assert_msg(strncmp(e.text, path, n) == 0 && strncmp(e.text + n, cases[i].want, strlen(cases[i].want)) == 0,
                      "case %zu: %s", i, e.text);
        drop();
    }
    struct err e = {0};
    ck_assert_int_eq(LOAD(&e, NULL, "--config", "/nowhere.yaml"), -1);
    ck_assert_str_eq(e.text, "--config: open /nowhere.yaml: No such file or directory");
    drop();
    unlink(path);
}
END_TEST

START_TEST(empty_files_and_lists_are_fine)
{
    struct err e = {0};
    ck_assert_msg(LOAD(&e, NULL, "--config", with_file("# nothing\n")) == 0, "%s", e.text);
    drop();
    ck_assert_msg(LOAD(&e, NULL, "--config", with_file("trainer:\n  note:\n    - a b\n    - c\n")) == 0, "%s", e.text);
    ck_assert_str_eq(trainer.note, "a b,c");
    drop();
    unlink(path);
}
END_TEST

START_TEST(a_repeated_section_holds_named_copies)
{
    struct err e = {0};
    char *env[] = {strdup("DAGLINE_REWARD__JUDGE__WEIGHT=2"), NULL};
    with_file("reward:\n  judge:\n    url: http://a\n  taste:\n    url: http://b\n");
    ck_assert_msg(LOAD(&e, env, "--config", path) == 0, "%s", e.text);
    ck_assert_uint_eq(copies.count, 2);
    ck_assert_str_eq(copies.names[0], "judge");
    ck_assert_str_eq(backends[0].url, "http://a");
    ck_assert(backends[0].weight == 2.0);
    ck_assert_str_eq(copies.names[1], "taste");
    ck_assert_str_eq(backends[1].url, "http://b");
    ck_assert(backends[1].weight == 1.0);
    ck_assert_str_eq(config_origin(c, "reward.judge.weight"), "DAGLINE_REWARD__JUDGE__WEIGHT");
    for (int i = (int)copies.count; i <= CONFIG_COPIES_MAX; i++) {
        char key[64];
        snprintf(key, sizeof key, "reward.x%d.weight", i);
        ck_assert_int_eq(config_put(c, key, "1", "test", &e), i < CONFIG_COPIES_MAX ? 0 : -1);
    }
    ck_assert_int_eq(e.code, ERR_FULL);
    free(env[0]);
    drop();
    unlink(path);
}
END_TEST

START_TEST(settings_of_other_binaries_are_kept_for_them)
{
    struct err e = {0};
    ck_assert_msg(LOAD(&e, NULL, "--set", "sampler.batch=8", "--set", "run.seed=5", "--set", "sampler.batch=9") == 0, "%s", e.text);
    ck_assert_uint_eq(config_given_count(c), 2);
    ck_assert_str_eq(config_given(c, 0).key, "sampler.batch");
    ck_assert_str_eq(config_given(c, 0).value, "9");
    ck_assert_str_eq(config_given(c, 1).key, "run.seed");
    struct buf text;
    buf_init(&text, 10000);
    config_print_given(c, &text);
    ck_assert_str_eq(buf_text(&text), "sampler.batch: 9 # --set\nrun.seed: 5 # --set\n");
    buf_done(&text);
    drop();
    /* a section that is both bound and named as foreign is checked here */
    ck_assert_int_eq(LOAD(&e, NULL, "--set", "trainer.nope=1"), -1);
    drop();
    ck_assert_int_eq(LOAD(&e, NULL, "--set", "nowhere.nope=1"), -1);
    drop();
}
END_TEST

START_TEST(the_printed_settings_load_to_the_same)
{
    struct err e = {0};
    struct buf first, second;
    buf_init(&first, 100000);
    buf_init(&second, 100000);
    ck_assert_msg(LOAD(&e, NULL, "--set", "trainer.note=a: \"b\" #\\c\nd\te", "--set", "run.name=-x", "--set", "run.seed=-5",
                       "--set", "reward.j.url=http://h:1/p?q=%20", "--set", "trainer.resume=off") == 0, "%s", e.text);
    config_print(c, &first);
    ck_assert_ptr_nonnull(strstr(buf_text(&first), "  lr: 6e-5 # default; a number, 0 to 1, 1/step\n"));
    drop();
    ck_assert_msg(LOAD(&e, NULL, "--config", with_file(buf_text(&first))) == 0, "%s", e.text);
    ck_assert_str_eq(trainer.note, "a: \"b\" #\\c\nd\te");
    ck_assert_str_eq(run.name, "-x");
    ck_assert_int_eq(run.seed, -5);
    ck_assert(!trainer.resume);
    ck_assert_str_eq(backends[0].url, "http://h:1/p?q=%20");
    config_print(c, &second);
    ck_assert_ptr_nonnull(strstr(buf_text(&second), "note: \"a: \\\"b\\\" #\\\\c\\nd\\te\""));
    buf_done(&first);
    buf_done(&second);
    drop();
    unlink(path);
}
END_TEST

START_TEST(wishes_and_options_are_read_from_the_command_line)
{
    struct err e = {0};
    static const struct {
        const char *arg;
        enum config_wish want;
    } cases[] = {{"--help", CONFIG_HELP}, {"-h", CONFIG_HELP}, {"--version", CONFIG_VERSION}, {"--print-config", CONFIG_PRINT}, {"--check", CONFIG_CHECK}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(LOAD(&e, NULL, cases[i].arg), 0);
        ck_assert_int_eq(config_wish(c), cases[i].want);
        drop();
    }
    ck_assert_msg(LOAD(&e, NULL, "--name", "abc", "--seed=4", "--", "--name") == 0, "%s", e.text);
    ck_assert_str_eq(run.name, "abc");
    ck_assert_int_eq(run.seed, 4);
    const char *const *words;
    ck_assert_uint_eq(config_arguments(c, &words), 1);
    ck_assert_str_eq(words[0], "--name");
    drop();
    static const struct {
        const char *arg, *want;
    } bad[] = {{"--nope", "unknown option --nope (see --help)"},
               {"-x", "unknown option -x (see --help)"},
               {"--set", "--set needs a value"},
               {"--config", "--config needs a value"},
               {"--name", "--name needs a value"},
               {"--set=novalue", "--set \"novalue\": expected section.name=value"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(LOAD(&e, NULL, bad[i].arg), -1);
        ck_assert_str_eq(e.text, bad[i].want);
        ck_assert_int_eq(e.code, ERR_USAGE);
        drop();
    }
    ck_assert_int_eq(LOAD(&e, NULL, "--seed", "x"), -1);
    ck_assert_int_eq(e.code, ERR_USAGE);
    drop();
    ck_assert_int_eq(LOAD(&e, NULL, "-o", "abc"), -1);
    drop();
    app.output = "name";
    ck_assert_msg(LOAD(&e, NULL, "-o", "abc") == 0, "%s", e.text);
    ck_assert_str_eq(run.name, "abc");
    drop();
    app.arguments = NULL;
    ck_assert_int_eq(LOAD(&e, NULL, "word"), -1);
    ck_assert_str_eq(e.text, "unexpected argument \"word\" (see --help)");
    drop();
}
END_TEST

static int batch_is_even(void *arg, struct err *e)
{
    const struct trainer_params *p = arg;
    return p->batch % 2 == 0 ? 0 : err_set(e, ERR_INVALID, "trainer.batch must be even");
}

START_TEST(rules_between_settings_are_checked_after_the_load)
{
    struct err e = {0};
    app.check = batch_is_even;
    app.check_arg = &trainer;
    ck_assert_int_eq(LOAD(&e, NULL, "--set", "trainer.batch=3"), -1);
    ck_assert_str_eq(e.text, "trainer.batch must be even");
    drop();
}
END_TEST

START_TEST(help_names_every_setting_with_its_bounds)
{
    struct err e = {0};
    struct buf text;
    buf_init(&text, 100000);
    ck_assert_int_eq(LOAD(&e, NULL, "--help"), 0);
    config_help(c, &text);
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "usage: test-app [OPTION...] WORD...\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "  trainer.batch (an integer, 1 to 4096, items; default 64)\n      trajectories in one update\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "  --seed VALUE (an integer; default 0)\n"));
    ck_assert_ptr_nonnull(strstr(buf_text(&text), "  reward.NAME.weight (a number, -10 to 10; default 1)\n"));
    buf_done(&text);
    drop();
}
END_TEST

START_TEST(a_secret_is_read_from_its_file)
{
    struct err e = {0};
    char secret[16];
    with_file("hunter2\n");
    ck_assert_msg(config_read_secret(path, secret, sizeof secret, &e) == 0, "%s", e.text);
    ck_assert_str_eq(secret, "hunter2");
    static const char *const lines[] = {"hunter2\nX-A: 1\n", "hunter2\r\nX-A: 1", "hunter2\n\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        with_file(lines[i]);
        ck_assert_int_eq(config_read_secret(path, secret, sizeof secret, &e), -1);
        ck_assert_msg(strstr(e.text, "holds more than one line") != NULL, "%s", e.text);
    }
    with_file("\n");
    ck_assert_int_eq(config_read_secret(path, secret, sizeof secret, &e), -1);
    with_file("0123456789abcdef");
    ck_assert_int_eq(config_read_secret(path, secret, sizeof secret, &e), -1);
    with_file("0123456789abcde\n");
    ck_assert_int_eq(config_read_secret(path, secret, sizeof secret, &e), 0);
    ck_assert_int_eq(chmod(path, 0666), 0);
    ck_assert_int_eq(config_read_secret(path, secret, sizeof secret, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "anyone may write it"));
    unlink(path);
}
END_TEST

START_TEST(a_list_is_walked_item_by_item)
{
    const char *cursor = " a, b c ,,d,";
    char item[8], all[32] = "";
    while (config_list_next(&cursor, item, sizeof item))
        snprintf(all + strlen(all), 10, "<%s>", item);
    ck_assert_str_eq(all, "<a><b c><d>");
}
END_TEST

SUITE("base/config", 20, defaults_come_from_the_table, each_source_is_stronger_than_the_one_before,
      a_file_may_be_named_by_the_environment, a_preset_is_weaker_than_every_other_source, values_of_every_kind_are_read_or_refused,
      an_unknown_key_is_told_its_nearest_neighbour, a_file_error_names_its_line, empty_files_and_lists_are_fine,
      a_repeated_section_holds_named_copies, settings_of_other_binaries_are_kept_for_them,
      the_printed_settings_load_to_the_same, wishes_and_options_are_read_from_the_command_line,
      rules_between_settings_are_checked_after_the_load, help_names_every_setting_with_its_bounds,
      a_secret_is_read_from_its_file, a_list_is_walked_item_by_item)
