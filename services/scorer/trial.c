#include "scorer/trial.h"

#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/png.h"
#include "run/prompt_file.h"
#include "run/prompt_set.h"
#include "scorer/backend.h"
#include "shapes/scene.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define READY_MS 3000 /* for a service that says what it takes */
#define CHECK_TIMEOUT_MS 20000
#define CHECK_BATCH_MAX 64
#define SAMPLES 2

#define TRIAL_PARAMS(P, S)                                                                         \
    P(S, text, prompt, "", "", "", "", "what the pictures are to show")                            \
    P(S, text, metadata, "", "", "", "", "a JSON object that goes with the prompt")                \
    P(S, text, tag, "", "", "32", "", "of the prompt, by which rewards.NAME.tags choose")          \
    P(S, text, prompt_file, "", "", "", "", "one line of JSON with the three, as in store.prompts; for prompts of any length")
CONFIG_STRUCT(trial_params, TRIAL_PARAMS);
CONFIG_TABLE_OPTIONS(trial_table, "trial", "what is scored", trial_params, TRIAL_PARAMS);

/* One reward, open, with its own loop. */
struct trial {
    struct loop *loop;
    struct backend backend;
    bool open, done, unreached;
    enum backend_failure failure;
    char reason[BACKEND_REASON_BYTES_MAX];
    struct backend_score *scores; /* of the batch under way */
};

static void on_done(void *arg, const struct backend_result *r)
{
    struct trial *t = arg;
    t->done = true;
    t->failure = r->failure;
    t->unreached = r->unreached;
    memcpy(t->reason, r->reason, sizeof t->reason);
    if (r->failure == BACKEND_OK)
        memcpy(t->scores, r->scores, r->count * sizeof *t->scores);
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static void trial_close(struct trial *t)
{
    if (t->open)
        t->backend.close(t->backend.self);
    loop_close(t->loop);
    t->loop = NULL;
    t->open = false;
}

/* The reward of `p`, or the combination of `several` where there are any; waits until their services are known, or
 * `patience_ms` are over. */
static int trial_open(struct trial *t, const struct reward_params *p, const struct config_copies *several,
                      enum backend_combination how, int64_t patience_ms, struct err *e)
{
    *t = (struct trial){0};
    if (loop_open(&t->loop, e) < 0)
        return -1;
    const struct backend_context context = {.loop = t->loop};
    const int rc = several->count > 0 ? backend_open_combined(&t->backend, several, how, &context, on_done, t, e)
                                      : backend_open(&t->backend, p, &context, on_done, t, e);
    t->open = rc == 0;
    const int64_t end = clock_mono_ms(NULL) + patience_ms;
    while (t->open && !t->backend.ready(t->backend.self)) {
        if (loop_poll(t->loop, 20, e) < 0)
            return -1;
        if (loop_stopped(t->loop))
            return err_set(e, ERR_CLOSED, "interrupted");
        if (clock_mono_ms(NULL) > end) {
            const char *const why = t->backend.waiting(t->backend.self);
            return err_set(e, ERR_UNAVAILABLE, "a reward service does not say what it takes: %s",
                           why[0] != 0 ? why : several->count > 0 ? "no answer yet" : p->url);
        }
    }
    return rc;
}

/* Scores n items, at most backend.items_max, in one call; *seconds it took. */
static int trial_call(struct trial *t, struct backend_score *scores,
                      const struct backend_item *items, size_t n, double *seconds, struct err *e)
{
    const double from = clock_mono_s(NULL);
    t->done = false;
    t->scores = scores;
    if (t->backend.submit(t->backend.self, 1, items, n, e) < 0)
        return -1;
    while (!t->done) {
        if (loop_poll(t->loop, 100, e) < 0)
            return -1;
        if (loop_stopped(t->loop))
            return err_set(e, ERR_CLOSED, "interrupted");
    }
    *seconds = clock_mono_s(NULL) - from;
    return t->failure == BACKEND_OK
               ? 0
               : err_set(e, ERR_UNAVAILABLE, "%s: %s", backend_failure_name(t->failure), t->reason);
}

/* ---- score ---- */

static int read_picture(struct image *image, const char *path, struct err *e)
{
    char *bytes;
    size_t n;
    if (file_read_all(path, PNG_FILE_BYTES_MAX, &bytes, &n, e) < 0)
        return -1;
    const int rc = png_decode(image, (const uint8_t *)bytes, n, e);
    mem_free(bytes);
    return rc < 0 ? err_wrap(e, "%s", path) : 0;
}

/* The prompt of --prompt-file, or of the other options, as a set of one that is the caller's. */
static int read_prompt(struct prompt_set *out, const struct trial_params *o, struct err *e)
{
    if (o->prompt_file[0] == 0) {
        *out = (struct prompt_set){.count = 1, .item = mem_new(1, sizeof *out->item)};
        out->item[0] = (struct run_prompt){mem_strdup(o->prompt), mem_strdup(o->tag), mem_strdup(o->metadata)};
        return 0;
    }
    if (o->prompt[0] != 0 || o->tag[0] != 0 || o->metadata[0] != 0)
        return err_set(e, ERR_USAGE, "--prompt-file says what --prompt, --tag and --metadata say: leave them out");
    struct buf lines;
    size_t count;
    buf_init(&lines, PROMPT_SET_BYTES_MAX);
    int rc = prompt_file_read(&lines, &count, o->prompt_file, "prompt", e);
    if (rc == 0 && count != 1)
        rc = err_set(e, ERR_INVALID, "%s: %zu prompts, and the pictures are of one", o->prompt_file, count);
    if (rc == 0)
        rc = prompt_set_parse(out, buf_text(&lines), lines.bytes, e);
    buf_done(&lines);
    return rc;
}

/* reward: of one reward alone; NULL where several have been scaled in their combination. */
static int score_one(struct trial *t, const struct run_prompt *prompt, const struct reward_params *reward, const char *path,
                     struct err *e)
{
    struct image image;
    struct backend_score score;
    double seconds;
    if (read_picture(&image, path, e) < 0)
        return -1;
    const struct backend_item item = {.rgb = image.rgb,
                                      .height = (uint32_t)image.height,
                                      .width = (uint32_t)image.width,
                                      .prompt = prompt->text,
                                      .metadata = prompt->metadata,
                                      .tag = prompt->tag};
    const int rc = trial_call(t, &score, &item, 1, &seconds, e);
    image_done(&image);
    if (rc < 0)
        return err_wrap(e, "%s", path);
    printf("%.6g\t%s", reward != NULL ? reward->offset + reward->scale * score.value : score.value, path);
    for (uint32_t i = 0; i < score.component_count; i++)
        printf("\t%s=%.6g", score.components[i].name, score.components[i].value);
    printf("\n");
    return 0;
}

static int report(const char *name, struct config *c, int rc, struct err *e)
{
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        rc = err_sys(e, errno, "write standard output");
    if (rc < 0) {
        fflush(stdout);
        fprintf(stderr, "%s: %s\n", name, e->text);
    }
    config_free(c);
    return rc == 0 ? 0 : e->code == ERR_USAGE ? 2 : 1;
}

int trial_score(int argc, char **argv)
{
    static struct trial_params o;
    static struct scorer_params scorer;
    static struct reward_params reward, items[CONFIG_COPIES_MAX];
    static struct config_copies rewards = {.items = items};
    const struct config_binding bindings[] = {
        {&trial_table, &o}, {&scorer_table, &scorer}, {&reward_table, &reward}, {&rewards_table, &rewards}};
    const struct config_app app = {
        .name = "dagline reward score",
        .about = "pictures through the reward of these settings: reward, tab, file",
        .arguments = "PICTURE.png...",
        .foreign = config_sections};
    struct config *c = config_new(&app, bindings, 4);
    const char *const *paths;
    struct err e = {0};
    struct trial t;
    struct prompt_set prompt = {0};
    const int status = config_main(c, argc, argv);
    if (status >= 0) {
        config_free(c);
        return status;
    }
    const size_t n = config_arguments(c, &paths);
    if (n == 0)
        return report(app.name, c, err_set(&e, ERR_USAGE, "name at least one PNG file"), &e);
    if (read_prompt(&prompt, &o, &e) < 0)
        return report(app.name, c, -1, &e);
    log_sink(quiet, NULL);
    int64_t patience_ms = rewards.count > 0 ? 0 : reward.timeout_ms;
    for (size_t i = 0; i < rewards.count; i++)
        patience_ms = items[i].timeout_ms > patience_ms ? items[i].timeout_ms : patience_ms;
    int rc = trial_open(&t, &reward, &rewards, (enum backend_combination)scorer.combine, patience_ms, &e);
    for (size_t i = 0; rc == 0 && i < n; i++)
        rc = score_one(&t, &prompt.item[0], rewards.count > 0 ? NULL : &reward, paths[i], &e);
    trial_close(&t);
    prompt_set_done(&prompt);
    return report(app.name, c, rc, &e);
}

/* ---- check ---- */

/* Tried in this order: those that say who they are, then those whose answers are the least likely
 * to be taken for another's. */
static const char *const forms[] = {
    "oip-v2",           "json:flow-factory", "json:unirl",  "json:openrlhf", "json:bentoml",        "json:hf-endpoint",
    "pickle:verl-omni", "pickle:geneval",    "pickle:deqa", "pickle:llava",  "pickle:unifiedreward",
    "openai-chat",      "multipart",         "raw",
};

/* Pictures of the embedded world with their captions. */
struct samples {
    uint8_t *rgb; /* [CHECK_BATCH_MAX] */
    char caption[CHECK_BATCH_MAX][CAPTION_BYTES_MAX];
    struct backend_item item[CHECK_BATCH_MAX];
};

static void samples_make(struct samples *s)
{
    s->rgb = mem_new(CHECK_BATCH_MAX, WORLD_RGB_BYTES);
    for (size_t i = 0; i < CHECK_BATCH_MAX; i++) {
        struct scene scene;
        struct caption_spec spec;
        scene_pair(&scene, &spec, 1, i);
        caption_write(s->caption[i], &spec);
        world_render(s->rgb + i * WORLD_RGB_BYTES, &scene);
        s->item[i] = (struct backend_item){.rgb = s->rgb + i * WORLD_RGB_BYTES,
                                           .height = WORLD_SIDE,
                                           .width = WORLD_SIDE,
                                           .prompt = s->caption[i],
                                           .metadata = "",
                                           .tag = ""};
    }
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Whether the service answers in this form; its first scores. */
static int try_form(struct trial *t, const struct reward_params *p, const struct samples *s,
                    struct err *e)
{
    struct backend_score scores[SAMPLES];
    double seconds;
    if (trial_open(t, p, &(struct config_copies){0}, COMBINE_SUM, READY_MS, e) < 0)
        return -1;
    const size_t n = least(SAMPLES, t->backend.items_max);
    if (trial_call(t, scores, s->item, n, &seconds, e) < 0)
        return -1;
    printf("%s answers as %s\n", p->url, p->backend);
    for (size_t i = 0; i < n; i++)
        printf("  %-10.6g %s\n", scores[i].value, s->item[i].prompt);
    return 0;
}

/* Latency of growing batches; the largest one that was answered. */
static size_t measure(struct trial *t, const struct samples *s, struct err *e)
{
    struct backend_score scores[CHECK_BATCH_MAX];
    size_t best = 1;
    double rate = 0.0;
    const size_t most = least(CHECK_BATCH_MAX, t->backend.items_max);
    for (size_t n = 1; n <= most; n *= 2) {
        double seconds;
        if (trial_call(t, scores, s->item, n, &seconds, e) < 0) {
            printf("  %3zu pictures: %s\n", n, e->text);
            break;
        }
        printf("  %3zu picture%s %8.1f ms %9.1f pictures/s\n", n,
               n == 1 ? ": " : "s:", 1000.0 * seconds, (double)n / seconds);
        if ((double)n / seconds > rate) {
            rate = (double)n / seconds;
            best = n;
        }
    }
    return best;
}

/* A form that is not the service's is said, and why. */
static int try_and_tell(struct trial *t, const struct reward_params *p, const struct samples *s, struct err *e)
{
    const int rc = try_form(t, p, s, e);
    if (rc < 0) {
        printf("not %s%s: %s\n", p->backend, p->binary ? "" : " with reward.binary=no", e->text);
        trial_close(t);
    }
    return rc;
}

/* One line of YAML that reads back as the same text. */
static void print_setting(const char *name, const char *value)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./";
    if (value[0] != 0 && strspn(value, plain) == strlen(value)) {
        printf("  %s: %s\n", name, value);
        return;
    }
    struct json *list = json_new_list();
    json_append_string(list, value);
    char *text = json_print(list, JSON_LINE, NULL);
    printf("  %s: %.*s\n", name, (int)strlen(text) - 2, text + 1);
    mem_free(text);
    json_free(list);
}

/* What was found, and what was given beside it. */
static void print_settings(const struct reward_params *p, const struct config *c, size_t batch)
{
    static const char *const found[] = {"reward.backend", "reward.url", "reward.batch", "reward.binary"};
    printf("\nreward:\n  backend: %s\n  url: %s\n", p->backend, p->url);
    for (size_t i = 0; i < config_given_count(c); i++) {
        const struct config_given given = config_given(c, i);
        bool own = strncmp(given.key, "reward.", 7) == 0;
        for (size_t k = 0; k < sizeof found / sizeof *found; k++)
            own = own && strcmp(given.key, found[k]) != 0;
        if (own)
            print_setting(given.key + 7, given.value);
    }
    if (!p->binary)
        printf("  binary: no\n");
    printf("  batch: %zu\n", batch);
}

static bool is_given(const struct config *c, const char *key)
{
    return strcmp(config_origin(c, key), "default") != 0;
}

static int check(struct reward_params *p, const struct config *c, struct err *e)
{
    const bool form_given = is_given(c, "reward.backend"), binary_given = is_given(c, "reward.binary");
    struct samples s;
    struct trial t = {0};
    struct err why = {0};
    if (!form_given)
        snprintf(p->backend, sizeof p->backend, "%s", forms[0]);
    if (backend_check(p, e) < 0) /* an address or a file that no form can do with */
        return -1;
    samples_make(&s);
    p->retries = 0;
    p->timeout_ms = least((size_t)p->timeout_ms, CHECK_TIMEOUT_MS);
    p->deadline_ms = p->timeout_ms;
    int rc = -1;
    for (size_t i = 0; rc < 0 && i < sizeof forms / sizeof *forms; i++) {
        if (!form_given)
            snprintf(p->backend, sizeof p->backend, "%s", forms[i]);
        rc = try_and_tell(&t, p, &s, &why);
        if (rc < 0 && t.done && !t.unreached && !binary_given && strcmp(p->backend, "oip-v2") == 0) {
            p->binary = false;
            rc = try_and_tell(&t, p, &s, &why);
            p->binary = rc < 0;
        }
        if (form_given || why.code == ERR_CLOSED || t.unreached)
            break;
    }
    if (rc == 0) {
        const size_t batch = measure(&t, &s, &why);
        print_settings(p, c, batch);
        trial_close(&t);
    } else if (t.unreached) {
        err_set(e, ERR_UNAVAILABLE, "%s cannot be reached", p->url);
    } else {
        err_set(
            e, ERR_UNAVAILABLE,
            "%s answers in none of the forms that were tried (give reward.model, reward.path or "
            "reward.backend where you know them)",
            p->url);
    }
    mem_free(s.rgb);
    return rc;
}

int trial_check(int argc, char **argv)
{
    static struct reward_params reward;
    const struct config_binding bindings[] = {{&reward_table, &reward}};
    const struct config_app app = {
        .name = "dagline reward check",
        .about = "which form a reward service speaks, how fast it is, and the settings for it",
        .arguments = "URL",
        .foreign = config_sections};
    struct config *c = config_new(&app, bindings, 1);
    const char *const *url;
    struct err e = {0};
    const int status = config_main(c, argc, argv);
    if (status >= 0) {
        config_free(c);
        return status;
    }
    int rc = -1;
    if (config_arguments(c, &url) != 1)
        err_set(&e, ERR_USAGE, "usage: dagline reward check URL [--set reward.model=NAME ...]");
    else if (config_put(c, "reward.url", url[0], "command line", &e) == 0) {
        log_sink(quiet, NULL);
        rc = check(&reward, c, &e);
    }
    return report(app.name, c, rc, &e);
}
