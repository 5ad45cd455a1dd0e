/* `dagline run` as its user meets it: what it refuses, says and leaves. */
#include "base/file.h"
#include "rollout/trajectory.h"
#include "support/folder.h"
#include "support/proc.h"
#include "support/suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define RUN_MS 120000
#define START_MS 20000

/* A run of a few updates of a few pictures. */
#define TINY                                                                                                           \
    "--set", "run.steps=3", "--set", "run.forward_looking=no", "--set", "sampler.batch=8", "--set", "trainer.batch=8", \
        "--set", "replay.items_min=8", "--set", "local.evaluate_prompts=0"

static int dagline(const char *const *arguments, const char *log)
{
    char binary[PROC_PATH_BYTES];
    const char *all[64];
    struct proc p;
    size_t n = 0;
    proc_binary(binary, "dagline");
    all[n++] = binary;
    for (; *arguments != NULL; arguments++)
        all[n++] = *arguments;
    all[n] = NULL;
    proc_start(&p, all, log);
    return proc_wait(&p, RUN_MS);
}

#define DAGLINE(log, ...) dagline((const char *const[]){__VA_ARGS__, NULL}, log)

/* The line of `text` that holds `part`, from there on; free(). */
static char *line_from(const char *text, const char *part)
{
    const char *const at = strstr(text, part);
    ck_assert_msg(at != NULL, "no %s in\n%s", part, text);
    return strndup(at, strcspn(at, "\n"));
}

START_TEST(the_commands_that_a_run_ends_with_can_be_pasted)
{
    static const char *const titles[] = {"- draw with it: ", "- a diffusers folder: ", "- go on: "};
    ck_assert_int_eq(chdir(test_folder()), 0);
    ck_assert_int_eq(DAGLINE("log", "run", "--dir", "a run", "--set", "run.iterations=1", TINY), 0);
    char *const report = proc_read("a run/report.md");
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        struct proc p;
        char *const line = line_from(report, titles[i]);
        proc_start(&p, (const char *const[]){"/bin/sh", "-c", line + strlen(titles[i]), NULL}, "log");
        const int status = proc_wait(&p, RUN_MS);
        char *const said = proc_read("log");
        ck_assert_msg(status == 0, "%s: status %d\n%s", line, status, said);
        free(said);
        free(line);
    }
    ck_assert(file_exists("x.png") && file_exists("FOLDER/model_index.json"));
    free(report);
}
END_TEST

START_TEST(a_run_goes_on_by_its_config_alone_from_anywhere)
{
    char *said, *first, *second, judge[64];
    snprintf(judge, sizeof judge, "judge.listen=0.0.0.0:%u", proc_free_port()); /* as in docker/run.yaml */
    ck_assert_int_eq(chdir(test_folder()), 0);
    ck_assert_int_eq(DAGLINE("log", "run", "--dir", "here", "--set", "run.iterations=1", "--set", judge, TINY), 0);
    first = proc_read("here/report.json");
    ck_assert_ptr_nonnull(strstr(first, "\"updates\": 1"));
    ck_assert_int_eq(mkdir("elsewhere", 0700), 0);
    ck_assert_int_eq(chdir("elsewhere"), 0);
    ck_assert_int_eq(
        DAGLINE(in_test_folder("log"), "run", "--config", in_test_folder("here/config.yaml"), "--set", "run.iterations=2"), 0);
    second = proc_read(in_test_folder("here/report.json"));
    said = proc_read(in_test_folder("log"));
    ck_assert_msg(strstr(second, "\"updates\": 2") != NULL, "%s\n%s", second, said);
    ck_assert(!file_exists("runs"));
    free(said);
    free(first);
    free(second);

    /* a start that the store refuses leaves the run its settings */
    first = proc_read(in_test_folder("here/config.yaml"));
    ck_assert_int_eq(DAGLINE(in_test_folder("refused"), "run", "--config", in_test_folder("here/config.yaml"), "--set", "run.steps=4"),
                     1);
    second = proc_read(in_test_folder("here/config.yaml"));
    ck_assert_str_eq(second, first);
    free(first);
    free(second);
}
END_TEST

/* As after a `dagline run` that was killed, whose store still ends. */
START_TEST(a_run_waits_for_the_services_of_an_earlier_one_and_starts_none_beside_a_living_one)
{
    char binary[PROC_PATH_BYTES];
    struct file_lock lock;
    struct err e;
    struct proc p;
    proc_binary(binary, "dagline");
    ck_assert_int_eq(file_make_folders(in_test_folder("here/store"), &e), 0);
    ck_assert_int_eq(file_lock_take(&lock, in_test_folder("here/store/lock"), &e), 0);
    const char *const arguments[] = {binary, "run", "--dir", in_test_folder("here"), "--set", "run.iterations=1", TINY, NULL};
    proc_start(&p, arguments, in_test_folder("log"));
    char *said = NULL;
    for (int i = 0; i < START_MS / 100; i++) {
        free(said);
        said = proc_read(in_test_folder("log"));
        if (strstr(said, "waiting for the services") != NULL)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    }
    ck_assert_msg(strstr(said, "waiting for the services") != NULL, "%s", said);
    free(said);
    file_lock_drop(&lock);
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);

    ck_assert_int_eq(file_lock_take(&lock, in_test_folder("here/store/lock"), &e), 0);
    char *const before = proc_read(in_test_folder("here/config.yaml"));
    ck_assert_int_eq(DAGLINE(in_test_folder("second"), "run", "--dir", in_test_folder("here"), "--set", "run.iterations=2", TINY), 1);
    said = proc_read(in_test_folder("here/config.yaml")); /* which the living run's services read when they are started again */
    ck_assert_str_eq(said, before);
    free(said);
    free(before);
    said = proc_read(in_test_folder("second"));
    ck_assert_msg(strstr(said, "a run goes on in") != NULL && strstr(said, "ended") == NULL, "%s", said);
    free(said);
    file_lock_drop(&lock);
}
END_TEST

START_TEST(runs_that_begin_together_have_a_directory_each)
{
    char binary[PROC_PATH_BYTES], log[16];
    struct proc p[3];
    proc_binary(binary, "dagline");
    ck_assert_int_eq(chdir(test_folder()), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(log, sizeof log, "log-%d", i);
        proc_start(&p[i], (const char *const[]){binary, "run", "--set", "run.iterations=1", TINY, NULL}, log);
    }
    for (int i = 0; i < 3; i++) {
        snprintf(log, sizeof log, "log-%d", i);
        const int status = proc_wait(&p[i], RUN_MS);
        char *said = proc_read(log);
        ck_assert_msg(status == 0, "%s", said);
        free(said);
    }
}
END_TEST

START_TEST(a_setting_that_a_service_refuses_ends_the_start_and_fails_the_check)
{
    static const struct {
        const char *set, *want;
    } bad[] = {{"trainer.btach=3", "--set: trainer.btach: unknown setting; the nearest known one is trainer.batch"},
               {"trainer.lr=fast", "--set: trainer.lr: \"fast\" is not a number"},
               {"reward.bakend=x", "--set: reward.bakend: unknown setting"},
               {"sampler.batch=0", "--set: sampler.batch: "},
               {"trainer.flow_channels=3,x", "flow_channels"}, /* no bound, a rule of the trainer's */
               {"store.prompts=/none.txt", "dagline-store: store.prompts: open /none.txt"},
               {"store.model=/none", "dagline-store: store.model: /none/model_index.json is not there"},
               {"reward.backend=none", "dagline-scorer: reward.backend none is not known"},
               {"reward.url=none", "dagline-scorer: reward.url: none: write http://HOST:PORT"},
               {"reward.bearer=/none", "dagline-scorer: reward.bearer: "},
               {"reward.backend=builtin:aesthetic", "dagline-scorer: reward.clip is empty"},
               {"rewards.a.backend=none", "dagline-scorer: rewards.a: reward.backend none is not known"},
               {"run.eta=0.5", "dagline run: trainer.objective balances against the noising kernel: it needs run.eta 1"}};

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--check", "--set", bad[i].set), 1);
        char *said = proc_read(in_test_folder("log"));
        ck_assert_msg(strncmp(said, "dagline run: ", 13) == 0 && strstr(said, bad[i].want) != NULL, "%s", said);
        free(said);
        unlink(in_test_folder("log"));
    }
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--check", "--no-judge", "--evaluate-file", "/none.txt"), 1);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--check", "--set", "run.lockstep=yes", "--set", "trainer.batch=8"), 1);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--print-config", "--set", "store.prompts=/none.txt"), 0);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--dir", in_test_folder("none"), "--set", bad[0].set), 1);
    ck_assert(!file_exists(in_test_folder("none")));
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "sweep", "--check", "trainer.lr=1e-4,fast"), 1);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "sweep", "--check", "trainer.lr=1e-4,2e-4", "--set", "local.x=1"), 1);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "sweep", "--check", "trainer.lr=1e-4,2e-4"), 0);
}
END_TEST

/* Waits until the file holds the text. */
static void wait_text(const char *path, const char *text)
{
    for (int i = 0;; i++) {
        char *said = proc_read(path);
        const bool there = strstr(said, text) != NULL;
        ck_assert_msg(there || i < START_MS / 50, "\"%s\" is not in: %s", text, said);
        free(said);
        if (there)
            return;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
}

START_TEST(a_run_that_waits_says_for_what_and_listens_where_it_was_told)
{
    char binary[PROC_PATH_BYTES], listen[64], url[64];
    const uint16_t port = proc_free_port();
    struct proc p;
    proc_binary(binary, "dagline");
    snprintf(listen, sizeof listen, "scorer.listen=127.0.0.1:%u", port);
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", proc_free_port());
    proc_start(&p,
               (const char *const[]){binary, "run", "--dir", in_test_folder("run"), "--no-judge", "--silence", "1s",
                                     "--set", url, "--set", listen, TINY, NULL},
               in_test_folder("log"));
    wait_text(in_test_folder("log"), "scorer: reward service waiting: url=");
    wait_text(in_test_folder("log"), "/run/log/scorer.log");
    proc_wait_port(port, START_MS);
    proc_signal(&p, SIGINT);
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    char *const text = proc_read(in_test_folder("run/report.md")); /* of a run that is not made longer, and has no policy */
    ck_assert_msg(strstr(text, "/run/config.yaml\n") != NULL && strstr(text, "policy.safetensors") == NULL, "%s", text);
    free(text);
}
END_TEST

START_TEST(status_finds_the_run_by_its_directory)
{
    char binary[PROC_PATH_BYTES], url[64], command[PROC_PATH_BYTES + 32];
    const char *const dir = in_test_folder("run");
    struct proc p;
    proc_binary(binary, "dagline");
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", proc_free_port());
    snprintf(command, sizeof command, "/dagline status --dir %s\n", dir);
    proc_start(&p, (const char *const[]){binary, "run", "--dir", dir, "--no-judge", "--set", url, TINY, NULL},
               in_test_folder("log"));
    wait_text(in_test_folder("log"), command);
    ck_assert_int_eq(DAGLINE(in_test_folder("status"), "status", "--dir", dir), 0);
    char *said = proc_read(in_test_folder("status"));
    ck_assert_msg(strncmp(said, "run ", 4) == 0, "%s", said);
    free(said);
    proc_signal(&p, SIGINT);
    ck_assert_int_eq(proc_wait(&p, RUN_MS), 0);
    ck_assert_int_eq(DAGLINE(in_test_folder("status"), "status", "--dir", dir), 1);
    wait_text(in_test_folder("status"), "no run goes on in ");
    ck_assert_int_eq(DAGLINE(in_test_folder("nobody"), "status", "--store", "ipc:///tmp/dagline-none", "--timeout", "100ms"), 1);
    said = proc_read(in_test_folder("nobody"));
    ck_assert_str_eq(said, "dagline status: store ipc:///tmp/dagline-none: no answer to get_status within 100 ms\n");
    free(said);
}
END_TEST

/* An environment serves every verb and service at once, as in the container of the command line. */
START_TEST(settings_of_one_verb_in_the_environment_do_not_end_another)
{
    static const char *const settings[][2] = {
        {"DAGLINE_BENCH__BATCH", "8"},    {"DAGLINE_EVAL__STEPS", "5"},     {"DAGLINE_EXPORT__DTYPE", "f32"},
        {"DAGLINE_GENERATE__STEPS", "5"}, {"DAGLINE_KEYS__QUIET", "yes"},   {"DAGLINE_LOCAL__SAMPLERS", "2"},
        {"DAGLINE_PARITY__FAST", "yes"},  {"DAGLINE_PRETRAIN__SEED", "2"},  {"DAGLINE_STATUS__KEYS", "/run/secrets"},
        {"DAGLINE_SWEEP__TITLE", "mine"}, {"DAGLINE_TARGET__SEEDS", "2"},   {"DAGLINE_TEMPERED__STEPS", "5"},
        {"DAGLINE_TOKENIZE__PAD", "yes"}, {"DAGLINE_TRIAL__PROMPT", "red"}, {"DAGLINE_WORLD__COUNT", "4"}};
    static const char *const verbs[][3] = {
        {"bench"},  {"bench", "target"}, {"bench", "tempered"}, {"eval"},  {"export"}, {"generate"}, {"keys"}, {"parity"},
        {"pretrain"}, {"reward", "score"}, {"run"},             {"status"}, {"sweep"}, {"tokenize"}, {"world"}};
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        ck_assert_int_eq(setenv(settings[i][0], settings[i][1], 1), 0);
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        const char *const *v = verbs[i];
        const int status = v[1] == NULL ? DAGLINE(in_test_folder("log"), v[0], "--check")
                                        : DAGLINE(in_test_folder("log"), v[0], v[1], "--check");
        char *said = proc_read(in_test_folder("log"));
        ck_assert_msg(status == 0, "%s: %s", v[0], said);
        free(said);
    }
}
END_TEST

START_TEST(an_address_that_no_form_can_do_with_is_told_once)
{
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "reward", "check", "nowhere"), 1);
    char *said = proc_read(in_test_folder("log"));
    ck_assert_str_eq(said, "dagline reward check: reward.url: nowhere: write http://HOST:PORT or https://HOST:PORT\n");
    free(said);
}
END_TEST

START_TEST(an_export_does_not_replace_its_base_model)
{
    char other[PROC_PATH_BYTES + 8];
    ck_assert_int_eq(mkdir(in_test_folder("model"), 0700), 0);
    snprintf(other, sizeof other, "%s/../model", in_test_folder("model"));
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "export", "--model", in_test_folder("model"), "--policy", "x", "--out", other), 2);
    wait_text(in_test_folder("log"), "is the base model's own folder");
}
END_TEST

START_TEST(output_that_a_full_disk_does_not_take_is_a_failure)
{
    if (!file_exists("/dev/full")) {
        test_skip("no /dev/full here");
        return;
    }
    ck_assert_int_eq(DAGLINE("/dev/full", "world", "--prompts", "3"), 1);
    ck_assert_int_eq(DAGLINE("/dev/full", "world", "--count", "1", "-o", in_test_folder("x.png")), 0); /* says nothing */
    ck_assert_int_eq(DAGLINE("/dev/full", "reward", "score", "--set", "reward.backend=builtin:brightness", in_test_folder("x.png")),
                     1);
}
END_TEST

static void must(const char *const *argv)
{
    struct proc p;
    proc_start(&p, argv, NULL);
    ck_assert_int_eq(proc_wait(&p, START_MS), 0);
}

START_TEST(an_installed_binary_finds_the_embedded_model_from_anywhere)
{
    char binary[PROC_PATH_BYTES], model[PROC_PATH_BYTES + 32];
    struct proc p;
    proc_binary(binary, "dagline");
    snprintf(model, sizeof model, "%.*s/../../../models/shapes", (int)(strrchr(binary, '/') - binary), binary);
    must((const char *const[]){"mkdir", "-p", in_test_folder("usr/bin"), in_test_folder("usr/share/dagline/models"), NULL});
    must((const char *const[]){"cp", binary, in_test_folder("usr/bin/"), NULL});
    ck_assert_int_eq(chdir(test_folder()), 0);
    const char *const draw[] = {"usr/bin/dagline", "generate", "--steps", "2", "--prompt", "a red circle", "-o", "x.png", NULL};
    proc_start(&p, draw, "log");
    ck_assert_int_eq(proc_wait(&p, START_MS), 1);
    wait_text("log", "--model FOLDER is not given: the embedded model is neither in a checkout nor installed");
    must((const char *const[]){"cp", "-r", model, "usr/share/dagline/models/", NULL});
    must(draw);
    ck_assert(file_exists("x.png"));
}
END_TEST

static void put_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(a_folder_with_a_config_of_ones_own_is_no_run_directory)
{
    ck_assert_int_eq(mkdir(in_test_folder("mine"), 0700), 0);
    put_text(in_test_folder("mine/config.yaml"), "run: {seed: 7} # mine\n");
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--dir", in_test_folder("mine"), "--config",
                             in_test_folder("mine/config.yaml"), "--set", "run.iterations=1", TINY),
                     1);
    wait_text(in_test_folder("log"), "/mine/config.yaml is not that of a run and would be replaced");
    char *text = proc_read(in_test_folder("mine/config.yaml"));
    ck_assert_str_eq(text, "run: {seed: 7} # mine\n");
    free(text);
}
END_TEST

static void put_prompts(const char *path, size_t bytes)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fprintf(f, "{\"prompt\": \"%0*d\"}\n{\"prompt\": \"-x\", \"metadata\": {\"a\": 1}}\n", (int)bytes, 7);
    ck_assert_int_eq(fclose(f), 0);
}

START_TEST(a_reward_of_ones_own_has_a_table_before_and_after)
{
    const char *const reward = "reward.backend=builtin:colourfulness";
    put_prompts(in_test_folder("prompts.jsonl"), 20);
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--dir", in_test_folder("run"), "--no-judge", "--set", reward,
                             "--set", "run.iterations=1", TINY, "--evaluate-prompts", "5", "--evaluate-pictures", "17",
                             "--evaluate-file", in_test_folder("prompts.jsonl")),
                     0);
    char *text = proc_read(in_test_folder("run/report.md")), *numbers = proc_read(in_test_folder("run/report.json"));
    double before = 0.0, after = 0.0, change = 0.0;
    const char *at = strstr(numbers, "\"reward_before\"");
    ck_assert_msg(strstr(text, "2 prompts of ") != NULL && strstr(text, "34 pictures before and after") != NULL, "%s", text);
    ck_assert_msg(at != NULL && sscanf(at, "\"reward_before\": { \"mean\": %lf", &before) == 1 && before > 0.0, "%s", numbers);
    ck_assert_int_eq(sscanf(strstr(numbers, "\"reward_after\""), "\"reward_after\": { \"mean\": %lf", &after), 1);
    ck_assert_int_eq(sscanf(strstr(numbers, "\"reward_change\""), "\"reward_change\": { \"mean\": %lf", &change), 1);
    ck_assert_msg(change != 0.0 && change - (after - before) < 1e-9 && after - before - change < 1e-9, "%s", numbers);
    ck_assert(file_exists(in_test_folder("run/evaluation/before/0001-16.png")));
    ck_assert(file_exists(in_test_folder("run/evaluation/after/0001-16.png")));
    free(text);
    free(numbers);

    put_text(in_test_folder("prompts.txt"), "a red circle\n\ntwo cats\nthree dogs\n");
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--config", in_test_folder("run/config.yaml"),
                             "--evaluate-pictures", "1", "--evaluate-file", in_test_folder("prompts.txt")),
                     0);
    text = proc_read(in_test_folder("run/report.md"));
    ck_assert_msg(strstr(text, "3 prompts of ") != NULL && strstr(text, "3 pictures before and after") != NULL, "%s", text);
    free(text);

    put_prompts(in_test_folder("prompts.jsonl"), TRAJECTORY_PROMPT_BYTES_MAX); /* no command line has room for it */
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--config", in_test_folder("run/config.yaml"), "--set",
                             "run.iterations=2", "--evaluate-pictures", "1", "--evaluate-file", in_test_folder("prompts.jsonl")),
                     0);
    text = proc_read(in_test_folder("run/report.md"));
    ck_assert_msg(strstr(text, "2 prompts of ") != NULL && strstr(text, "2 pictures before and after") != NULL, "%s", text);
    free(text);

    struct err e;
    ck_assert_int_eq(file_remove_tree(in_test_folder("run/evaluation"), &e), 0);
    put_text(in_test_folder("run/evaluation"), "in the way");
    ck_assert_int_eq(DAGLINE(in_test_folder("log"), "run", "--config", in_test_folder("run/config.yaml"), "--set",
                             "run.iterations=3"),
                     0);
    text = proc_read(in_test_folder("run/report.md"));
    ck_assert_msg(strstr(text, "No table before/after: ") != NULL && strstr(text, "run/evaluation") != NULL, "%s", text);
    free(text);
}
END_TEST

SUITE("system/run", 240, the_commands_that_a_run_ends_with_can_be_pasted, a_run_goes_on_by_its_config_alone_from_anywhere,
      a_run_waits_for_the_services_of_an_earlier_one_and_starts_none_beside_a_living_one,
      runs_that_begin_together_have_a_directory_each, a_setting_that_a_service_refuses_ends_the_start_and_fails_the_check,
      a_run_that_waits_says_for_what_and_listens_where_it_was_told, status_finds_the_run_by_its_directory,
      settings_of_one_verb_in_the_environment_do_not_end_another, an_address_that_no_form_can_do_with_is_told_once,
      an_export_does_not_replace_its_base_model, output_that_a_full_disk_does_not_take_is_a_failure,
      an_installed_binary_finds_the_embedded_model_from_anywhere, a_folder_with_a_config_of_ones_own_is_no_run_directory,
      a_reward_of_ones_own_has_a_table_before_and_after)
