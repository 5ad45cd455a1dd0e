/* The forms of reward services, over HTTP, against services in Python that read them as their
 * originals do (tests/support/reward_server.py). */
#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"
#include "base/log.h"
#include "io/png.h"
#include "scorer/backend.h"
#include "support/proc.h"
#include "support/suite.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERVER "tests/support/reward_server.py"
#define START_MS 20000
#define ANSWER_MS 20000
#define RUN_MS 180000
#define N 3

static struct proc server;
static uint16_t port;
static uint8_t pixels[8 * 8 * 3];
static struct backend_result last;
static struct backend_score kept[N];
static int completions;

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    last = *r;
    completions++;
    if (r->failure == BACKEND_OK)
        memcpy(kept, r->scores, r->count * sizeof *kept);
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static void start_server(void)
{
    char text[8];
    port = proc_free_port();
    snprintf(text, sizeof text, "%u", port);
    proc_start(&server, (const char *const[]){SERVER, text, NULL}, NULL);
    proc_wait_port(port, START_MS);
}

/* One batch of n prompts through the backend of these settings. */
static void ask(const char *const *settings, const char *const *prompts, size_t n)
{
    static struct reward_params params;
    static const struct config_app app = {.name = "test"};
    const struct config_binding bindings[] = {{&reward_table, &params}};
    char *const none[] = {(char *)(uintptr_t) "test", NULL};
    char url[64];
    struct backend_item items[N];
    struct backend backend;
    struct loop *loop;
    struct err e = {0};
    struct config *c = config_new(&app, bindings, 1);
    ck_assert_int_eq(config_load(c, 1, none, NULL, &e), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
    ck_assert_msg(config_put(c, "reward.url", url, "test", &e) == 0, "%s", e.text);
    for (; *settings != NULL; settings++) {
        char key[64];
        const size_t k = strcspn(*settings, "=");
        snprintf(key, sizeof key, "%.*s", (int)k, *settings);
        ck_assert_msg(config_put(c, key, *settings + k + 1, "test", &e) == 0, "%s", e.text);
    }
    static const float latent[4 * 4 * 2];
    const bool undecoded = strcmp(params.backend, "latents") == 0;
    for (size_t i = 0; i < n; i++)
        items[i] = (struct backend_item){.rgb = undecoded ? NULL : pixels,
                                         .height = 8,
                                         .width = 8,
                                         .latent = undecoded ? latent : NULL,
                                         .latent_height = 4,
                                         .latent_width = 4,
                                         .latent_channels = 2,
                                         .prompt = prompts[i],
                                         .metadata = "{\"k\": 1}"};
    log_sink(quiet, NULL);
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    ck_assert_msg(backend_open_http(&backend, &params, loop, on_done, NULL, &e) == 0, "%s", e.text);
    ck_assert(backend.ready(backend.self)); /* these forms are not asked what they take */
    completions = 0;
    ck_assert_msg(backend.submit(backend.self, 7, items, n, &e) == 0, "%s", e.text);
    const int64_t end = clock_mono_ms(NULL) + ANSWER_MS;
    while (completions == 0) {
        ck_assert_int_eq(loop_poll(loop, 100, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    backend.close(backend.self);
    loop_close(loop);
    config_free(c);
}

static const struct {
    const char *settings[4];
    size_t n;                     /* pictures of a call */
    enum backend_failure failure; /* of a prompt that the service cannot score */
} forms[] = {
    {{"reward.backend=pickle:verl-omni"}, N, BACKEND_ANSWER},
    {{"reward.backend=json:flow-factory"}, N, BACKEND_ANSWER},
    {{"reward.backend=json:unirl", "reward.model=aesthetic"}, N, BACKEND_ANSWER},
    {{"reward.backend=json:openrlhf"}, N, BACKEND_ANSWER},
    {{"reward.backend=openai-chat", "reward.model=vlm"}, 1, BACKEND_ANSWER},
    {{"reward.backend=raw", "reward.path=/raw"}, 1, BACKEND_ANSWER},
    {{"reward.backend=multipart", "reward.path=/multipart"}, 1, BACKEND_ANSWER},
    {{"reward.backend=latents", "reward.path=/latents"}, N, BACKEND_ANSWER},
};
#define FORMS (sizeof forms / sizeof *forms)

START_TEST(each_form_gets_its_scores)
{
    static const char *const prompts[N] = {"a red circle", "a star", "two blue squares and a ring"};
    start_server();
    for (size_t i = 0; i < FORMS; i++) {
        ask(forms[i].settings, prompts, forms[i].n);
        ck_assert_msg(last.failure == BACKEND_OK, "%s: %s: %s", forms[i].settings[0],
                      backend_failure_name(last.failure), last.reason);
        ck_assert_uint_eq(last.count, forms[i].n);
        for (size_t k = 0; k < forms[i].n; k++)
            ck_assert_msg(kept[k].value == (double)strlen(prompts[k]) / 100.0,
                          "%s: score %zu is %g", forms[i].settings[0], k, kept[k].value);
    }
    proc_kill(&server);
}
END_TEST

START_TEST(an_empty_prompt_is_sent_in_each_form)
{
    static const char *const prompts[N] = {"", "", ""};
    start_server();
    for (size_t i = 0; i < FORMS; i++) {
        ask(forms[i].settings, prompts, forms[i].n);
        ck_assert_msg(last.failure == BACKEND_OK && kept[0].value == 0.0, "%s: %s: %s", forms[i].settings[0],
                      backend_failure_name(last.failure), last.reason);
    }
    proc_kill(&server);
}
END_TEST

START_TEST(a_failure_in_each_forms_words_is_no_score)
{
    static const char *const bad[N] = {"bad", "a star", "a ring"};
    start_server();
    for (size_t i = 0; i < FORMS; i++) {
        ask(forms[i].settings, bad, forms[i].n);
        ck_assert_msg(last.failure == forms[i].failure, "%s: %s: %s", forms[i].settings[0],
                      backend_failure_name(last.failure), last.reason);
        ck_assert_str_ne(last.reason, "");
    }
    proc_kill(&server);
}
END_TEST

/* What the tool says, in full. */
static char *reward_tool(const char *const *arguments, int want_status)
{
    static char log[PROC_PATH_BYTES + 8];
    char folder[PROC_PATH_BYTES], binary[PROC_PATH_BYTES];
    const char *argv[20] = {binary, "reward"};
    struct proc tool;
    size_t n = 2;
    proc_folder(folder);
    proc_binary(binary, "dagline");
    snprintf(log, sizeof log, "%s/out", folder);
    while (*arguments != NULL)
        argv[n++] = *arguments++;
    proc_start(&tool, argv, log);
    const int status = proc_wait(&tool, ANSWER_MS);
    char *text = proc_read(log);
    ck_assert_msg(status == want_status, "status %d: %s", status, text);
    proc_folder_remove(folder);
    return text;
}

START_TEST(the_tool_finds_the_form_and_the_settings)
{
    char url[96], address[64];
    start_server();
    snprintf(address, sizeof address, "http://127.0.0.1:%u", port);
    char *said = reward_tool((const char *const[]){"check", address, NULL}, 0);
    ck_assert_ptr_nonnull(strstr(said, " answers as json:flow-factory\n"));
    ck_assert_ptr_nonnull(
        strstr(said, "reward:\n  backend: json:flow-factory\n  url: http://127.0.0.1:"));
    free(said);
    snprintf(url, sizeof url, "reward.url=%s", address);
    static const char *const forms_too[] = {"reward.backend=pickle:verl-omni",
                                            "reward.backend=json:unirl"};
    for (int i = 0; i < 2; i++) {
        said = reward_tool((const char *const[]){"score", "--set", url, "--set", forms_too[i],
                                                 "--prompt", "a red circle", "docs/progress.png",
                                                 NULL},
                           0);
        ck_assert_str_eq(said, "0.12\tdocs/progress.png\n");
        free(said);
    }
    proc_kill(&server);
    said = reward_tool((const char *const[]){"check", address, NULL}, 1);
    ck_assert_ptr_nonnull(strstr(said, "cannot be reached"));
    free(said);
}
END_TEST

START_TEST(the_tool_scores_by_several_rewards_as_a_run_does)
{
    const char *arguments[] = {"score", "--set", "rewards.size.backend=builtin:jpeg_incompressibility",
                               "--set", "rewards.size.weight=0", "--set", "rewards.bright.backend=builtin:brightness",
                               "--set", "rewards.bright.weight=2", "--prompt", "a red circle", "docs/progress.png", NULL};
    double whole = 0.0, size = 0.0, bright = 0.0;
    char *said = reward_tool(arguments, 0);
    ck_assert_msg(sscanf(said, "%lf\tdocs/progress.png\tsize=%lf\tbright=%lf\n", &whole, &size, &bright) == 3 && size > 1.0 &&
                      bright > 0.0,
                  "%s", said);
    ck_assert_double_eq_tol(whole, 2.0 * bright, 1e-4);
    free(said);
}
END_TEST

/* socat at `port`, which runs a program for each connection; its log is in the folder, which is made. */
static void start_socat(struct proc *socat, const char *program, char folder[PROC_PATH_BYTES])
{
    char listen[64], log[PROC_PATH_BYTES + 8];
    port = proc_free_port();
    proc_folder(folder);
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(listen, sizeof listen, "TCP-LISTEN:%u,bind=127.0.0.1,reuseaddr,fork", port);
    proc_start(socat, (const char *const[]){"socat", listen, program, NULL}, log);
    proc_wait_port(port, START_MS);
}

START_TEST(a_service_that_hangs_up_is_asked_in_every_form)
{
    struct proc socat;
    char address[64], folder[PROC_PATH_BYTES];
    start_socat(&socat, "EXEC:true", folder);
    snprintf(address, sizeof address, "http://127.0.0.1:%u", port);
    char *said = reward_tool((const char *const[]){"check", address, NULL}, 1);
    ck_assert_msg(strstr(said, "not json:flow-factory: transport: ") != NULL && strstr(said, "not raw: ") != NULL &&
                      strstr(said, "not json:hf-endpoint: ") != NULL &&
                      strstr(said, "in none of the forms") != NULL,
                  "%s", said);
    free(said);
    proc_kill(&socat);
    proc_folder_remove(folder);
}
END_TEST

START_TEST(the_example_in_python_is_found_with_settings_that_score)
{
    char address[64], text[8], folder[PROC_PATH_BYTES], config[PROC_PATH_BYTES + 8], log[PROC_PATH_BYTES + 8], blue[PROC_PATH_BYTES + 16];
    char want[sizeof blue + 8];
    port = proc_free_port();
    proc_folder(folder);
    snprintf(blue, sizeof blue, "%s/blue.png", folder);
    snprintf(config, sizeof config, "%s/yaml", folder);
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(text, sizeof text, "%u", port);
    snprintf(address, sizeof address, "http://127.0.0.1:%u", port);
    proc_start(&server, (const char *const[]){"docs/reward_service.py", text, NULL}, log);
    proc_wait_port(port, START_MS);
    char *said = reward_tool((const char *const[]){"check", address, "--set", "reward.model=redness", "--set",
                                                   "reward.question=\"so\": what?", NULL}, 0);
    ck_assert_ptr_nonnull(strstr(said, "not oip-v2: refused: status 400: not a request in JSON"));
    char *const settings = strstr(said, "reward:\n");
    ck_assert_ptr_nonnull(settings);
    ck_assert_ptr_nonnull(strstr(settings, "\n  model: redness\n  question: \"\\\"so\\\": what?\"\n  binary: no\n"));
    struct err e = {0};
    ck_assert_msg(file_replace(config, settings, strlen(settings), 0644, &e) == 0, "%s", e.text);
    free(said);
    struct image picture;
    image_init(&picture, 16, 8);
    for (size_t i = 2; i < 16 * 8 * 3; i += 3)
        picture.rgb[i] = 255;
    ck_assert_msg(png_write(blue, &picture, NULL, &e) == 0, "%s", e.text);
    image_done(&picture);
    said = reward_tool((const char *const[]){"score", "--config", config, "--prompt", "a red circle", blue, NULL}, 0);
    snprintf(want, sizeof want, "-0.5\t%s\n", blue);
    ck_assert_str_eq(said, want);
    free(said);
    proc_kill(&server);
    proc_folder_remove(folder);
}
END_TEST

START_TEST(the_example_in_shell_gives_the_size_of_the_picture)
{
    struct proc socat;
    char url[96], folder[PROC_PATH_BYTES];
    start_socat(&socat, "EXEC:docs/reward_service.sh", folder);
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", port);
    char *said = reward_tool((const char *const[]){"score", "--set", url, "--set", "reward.backend=raw", "--set", "reward.path=/",
                                                   "--prompt", "a red circle", "docs/progress.png", NULL}, 0);
    double bytes = 0.0;
    ck_assert_msg(sscanf(said, "%lf\tdocs/progress.png\n", &bytes) == 1 && bytes > 10000.0, "%s", said);
    free(said);
    said = reward_tool((const char *const[]){"score", "--set", url, "--set", "reward.backend=raw", "--set", "reward.path=/", "--set",
                                             "reward.scale=0.001", "--set", "reward.offset=7", "docs/progress.png", NULL}, 0);
    double reward = 0.0; /* as a run has it */
    ck_assert_msg(sscanf(said, "%lf\tdocs/progress.png\n", &reward) == 1, "%s", said);
    ck_assert_double_eq_tol(reward, 7.0 + 0.001 * bytes, 0.01);
    free(said);
    proc_kill(&socat);
    proc_folder_remove(folder);
}
END_TEST

START_TEST(a_run_without_pictures_is_scored_by_its_latents)
{
    char folder[PROC_PATH_BYTES], binary[PROC_PATH_BYTES], log[PROC_PATH_BYTES + 8], dir[PROC_PATH_BYTES + 8];
    char metrics[PROC_PATH_BYTES + 32], url[64];
    struct proc run;
    start_server();
    proc_folder(folder);
    proc_binary(binary, "dagline");
    snprintf(log, sizeof log, "%s/log", folder);
    snprintf(dir, sizeof dir, "%s/run", folder);
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", dir);
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", port);
    const char *arguments[] = {binary, "run", "--dir", dir, "--no-judge", "--set", url, "--set", "reward.path=/latents",
                               "--set", "run.iterations=2", "--set", "run.steps=3", "--set", "trainer.batch=8", "--set", "replay.items_min=8",
                               "--set", "run.decode=no", "--set", "reward.backend=latents", NULL};
    proc_start(&run, arguments, log);
    const int status = proc_wait(&run, RUN_MS);
    char *said = proc_read(log), *line = proc_read(metrics);
    double reward = 0.0;
    ck_assert_msg(status == 0, "status %d: %s", status, said);
    ck_assert_msg(strstr(line, "\"reward_mean\":") != NULL &&
                      sscanf(strstr(line, "\"reward_mean\":"), "\"reward_mean\":%lf", &reward) == 1,
                  "%s", line);
    ck_assert_msg(reward > 0.05 && reward < 1.0, "reward %g: a caption has 5 to 100 letters", reward);
    free(line);
    free(said);

    arguments[sizeof arguments / sizeof *arguments - 2] = "reward.backend=raw"; /* which takes pictures */
    snprintf(dir, sizeof dir, "%s/bad", folder);
    proc_start(&run, arguments, log);
    ck_assert_int_eq(proc_wait(&run, RUN_MS), 1);
    said = proc_read(log);
    ck_assert_msg(strstr(said, "run.decode is no") != NULL, "%s", said);
    free(said);
    proc_kill(&server);
    proc_folder_remove(folder);
}
END_TEST

SUITE("system/forms", 240, each_form_gets_its_scores, an_empty_prompt_is_sent_in_each_form, a_failure_in_each_forms_words_is_no_score,
      the_tool_finds_the_form_and_the_settings, the_tool_scores_by_several_rewards_as_a_run_does,
      a_service_that_hangs_up_is_asked_in_every_form,
      the_example_in_python_is_found_with_settings_that_score, the_example_in_shell_gives_the_size_of_the_picture, a_run_without_pictures_is_scored_by_its_latents)
