#include "dagline/local_run.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "dagline/process.h"
#include "dagline/report.h"
#include "dagline/showcase.h"
#include "dagline/trouble.h"
#include "diffusion/pipeline.h"
#include "run/prompt_file.h"
#include "run/prompt_set.h"
#include "run/run_chain.h"
#include "wire/loop.h"
#include "wire/store_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define SAMPLERS_MAX 64
#define PROCESSES_MAX (SAMPLERS_MAX + 5)
#define STORE_READY_MS 20000
#define ALONE_MS 10000
#define DRAIN_MS 20000
#define UPDATE_MS 3600000 /* what is left of the update under way, of a large model */
#define HISTORY_BYTES_MAX ((size_t)1 << 30)
#define POLICY_BYTES_MAX ((size_t)8 << 30)
#define SMOOTH_UPDATES 5
#define QUARTERS 4
#define REFUSALS_MAX 3 /* ends with an error, one right after the other */

enum { REDIS, STORE, JUDGE, SCORER, TRAINER, SAMPLER_0 }; /* started in this order */

struct local {
    const struct local_run_options *o;
    char *settings_before; /* config.yaml of an earlier life; NULL: none */
    char sockets[64]; /* folder of the ipc sockets, mode 0700: who may enter it may talk to the run */
    struct process process[PROCESSES_MAX];
    size_t processes;

    struct loop *loop;
    struct wire_net *net;
    struct store_client *store;
    struct news *news;
    struct run_spec run;
    struct pipeline *pipeline;
    struct transition_kernel *kernels;
    struct showcase *showcase;
    struct prompt_set prompts; /* of the run, where the picture shows them */
    struct prompt_set held_out; /* of the evaluation, where it has its own */

    uint64_t points;      /* updates known, those of earlier lives included */
    bool stopped;         /* by the trainer: the run's last update is made */
    uint64_t step;        /* newest reported */
    int quarter;          /* columns of the showcase drawn, without the base */
    double reward_first, spread_first; /* means of the first SMOOTH_UPDATES updates */
    double reward_last, spread_last;   /* and of about as many before now */
    double begun_s, first_step_s;
    uint64_t first_step;
    double trajectories;
    int64_t heard_ms, patience_ms; /* when an update last came, or it began; the silence that is told next */
    bool slow;                     /* nobody had warned when silence was told: updates take that long */
    bool endpoint_told;
    char heard[CLOCK_TEXT_BYTES];  /* the same by the wall clock of the logs */
};

/* ---- settings of the services ---- */

static int free_port(uint16_t *port, struct err *e)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    int rc = -1;
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0)
        rc = 0;
    *port = ntohs(a.sin_port);
    if (rc < 0)
        err_sys(e, errno, "a free port on loopback");
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Adds a process: binary, --config, and one --set for each of `sets` (NULL-ended). */
static int add_service(struct local *l, const char *name, const char *binary, const char *const *sets, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], config[FILE_PATH_BYTES_MAX], log[FILE_PATH_BYTES_MAX], file[64];
    const char *arguments[PROCESS_ARGUMENTS_MAX + 1] = {path, "--config", config};
    size_t n = 3;
    snprintf(file, sizeof file, "log/%s.log", name);
    if (file_join(path, l->o->binaries, binary, e) < 0 || file_join(config, l->o->dir, "config.yaml", e) < 0 ||
        file_join(log, l->o->dir, file, e) < 0)
        return -1;
    for (; *sets != NULL; sets++) {
        arguments[n++] = "--set";
        arguments[n++] = *sets;
    }
    process_init(&l->process[l->processes++], name, log, arguments);
    return 0;
}

static int add_redis(struct local *l, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], log[FILE_PATH_BYTES_MAX], socket_path[96], memory[32];
    if (file_join(folder, l->o->dir, "replay", e) < 0 || file_make_folders(folder, e) < 0 ||
        file_join(log, l->o->dir, "log/redis.log", e) < 0)
        return -1;
    snprintf(socket_path, sizeof socket_path, "%s/redis.sock", l->sockets);
    snprintf(memory, sizeof memory, "%lld", (long long)l->o->replay_bytes);
    const char *const arguments[] = {l->o->redis, "--port", "0", "--unixsocket", socket_path, "--unixsocketperm", "700",
                                     "--dir", folder, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
                                     "--maxmemory", memory, "--maxmemory-policy", "noeviction", NULL};
    process_init(&l->process[l->processes++], "redis", log, arguments);
    return 0;
}

/* Where who listens there is asked: every address of the machine includes loopback. */
static void url_of(char *out, size_t bytes, const char *listen)
{
    static const char *const every[][2] = {{"0.0.0.0:", "127.0.0.1:"}, {"[::]:", "[::1]:"}};
    for (size_t i = 0; i < sizeof every / sizeof *every; i++) {
        const size_t n = strlen(every[i][0]);
        if (strncmp(listen, every[i][0], n) == 0) {
            snprintf(out, bytes, "reward.url=http://%s%s", every[i][1], listen + n);
            return;
        }
    }
    snprintf(out, bytes, "reward.url=http://%s", listen);
}

static int add_all(struct local *l, struct err *e)
{
    char store[128], news[128], scorer[128], data[FILE_PATH_BYTES_MAX + 16], address[128];
    char listen[CONFIG_TEXT_BYTES_MAX], judge[CONFIG_TEXT_BYTES_MAX + 16], url[CONFIG_TEXT_BYTES_MAX + 24];
    char sampler_cache[FILE_PATH_BYTES_MAX + 32], trainer_cache[FILE_PATH_BYTES_MAX + 32];
    uint16_t port = 0;
    snprintf(store, sizeof store, "net.store=ipc://%s/store", l->sockets);
    snprintf(news, sizeof news, "net.news=ipc://%s/news", l->sockets);
    snprintf(scorer, sizeof scorer, "net.scorer=ipc://%s/scorer", l->sockets);
    snprintf(data, sizeof data, "store.data=%s/store", l->o->dir);
    snprintf(address, sizeof address, "replay.address=unix:%s/redis.sock", l->sockets);
    snprintf(sampler_cache, sizeof sampler_cache, "sampler.cache=%s/cache", l->o->dir);
    snprintf(trainer_cache, sizeof trainer_cache, "trainer.cache=%s/cache", l->o->dir);
    if (l->o->judge_listen != NULL)
        snprintf(listen, sizeof listen, "%s", l->o->judge_listen);
    else if (free_port(&port, e) < 0)
        return -1;
    else
        snprintf(listen, sizeof listen, "127.0.0.1:%u", port);
    snprintf(judge, sizeof judge, "judge.listen=%s", listen);
    url_of(url, sizeof url, listen);
    const char *const store_sets[] = {store, news, data, NULL};
    const char *const judge_sets[] = {judge, NULL};
    const char *const scorer_sets[] = {store, news, scorer, address, l->o->judge ? url : NULL, NULL};
    const char *const trainer_sets[] = {store, news, address, trainer_cache, NULL};
    const char *const sampler_sets[] = {store, news, scorer, sampler_cache, NULL};
    const char *const more_sets[] = {store, news, scorer, sampler_cache, "sampler.listen=", NULL}; /* the first has the address */
    if (add_redis(l, e) < 0 || add_service(l, "store", "dagline-store", store_sets, e) < 0 ||
        add_service(l, "judge", "dagline-shapes-judge", judge_sets, e) < 0 ||
        add_service(l, "scorer", "dagline-scorer", scorer_sets, e) < 0 ||
        add_service(l, "trainer", "dagline-trainer", trainer_sets, e) < 0)
        return -1;
    for (int i = 0; i < l->o->samplers; i++) {
        char name[32];
        snprintf(name, sizeof name, "sampler-%d", i);
        if (add_service(l, name, "dagline-sampler", i == 0 ? sampler_sets : more_sets, e) < 0)
            return -1;
    }
    return 0;
}

static bool is_used(const struct local *l, size_t i)
{
    return i != JUDGE || l->o->judge;
}

/* ---- starting ---- */

static int make_folders(struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    static const char *const folders[] = {"log", "store", "cache"};
    char config[FILE_PATH_BYTES_MAX];
    if (file_join(config, l->o->dir, "config.yaml", e) < 0 || file_join(path, l->o->dir, "store", e) < 0)
        return -1;
    if (file_exists(config) && !file_exists(path))
        return err_set(e, ERR_CONFLICT, "%s is not that of a run and would be replaced: give another --dir", config);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        if (file_join(path, l->o->dir, folders[i], e) < 0 || file_make_folders(path, e) < 0)
            return -1;
    /* ipc paths are limited to about 100 bytes, so the sockets do not live in the run directory */
    snprintf(l->sockets, sizeof l->sockets, "/tmp/dagline-XXXXXX");
    return mkdtemp(l->sockets) == NULL ? err_sys(e, errno, "mkdtemp %s", l->sockets) : 0;
}

/* For `dagline status --dir`; the store that answers there has the directory to itself. */
static int tell_endpoint(struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], endpoint[96];
    snprintf(endpoint, sizeof endpoint, "ipc://%s/store\n", l->sockets);
    if (file_join(path, l->o->dir, LOCAL_RUN_ENDPOINT, e) < 0 ||
        file_replace(path, endpoint, strlen(endpoint), 0644, e) < 0)
        return -1;
    l->endpoint_told = true;
    return 0;
}

static int link_into_store(struct local *l, const char *name, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], target[64];
    snprintf(target, sizeof target, "store/%s", name);
    if (file_join(path, l->o->dir, name, e) < 0)
        return -1;
    return symlink(target, path) == 0 || errno == EEXIST ? 0 : err_sys(e, errno, "symlink %s", path);
}

static int wait_store(struct local *l, struct err *e)
{
    const int64_t until = clock_mono_ms(NULL) + STORE_READY_MS;
    store_client_timeout(l->store, 500);
    while (store_client_run(l->store, &l->run, e) < 0) {
        if (process_watch(&l->process[STORE], 0) || clock_mono_ms(NULL) > until) {
            char why[1024];
            process_last_line(&l->process[STORE], why, sizeof why);
            return err_set(e, ERR_UNAVAILABLE, "the store did not start: %s", why);
        }
    }
    store_client_timeout(l->store, STORE_CLIENT_TIMEOUT_MS);
    return 0;
}

/* The rows of the picture: the embedded world's own prompts, or the first ones of this run. */
static int open_showcase(struct local *l, struct err *e)
{
    const char *rows[SHOWCASE_ROWS];
    uint8_t *text = NULL;
    size_t n;
    if (!l->o->judge) {
        if (store_client_blob_get(l->store, l->run.prompts_digest, PROMPT_SET_BYTES_MAX, &text, &n, e) < 0)
            return -1;
        const int rc = prompt_set_parse(&l->prompts, (const char *)text, n, e);
        mem_free(text);
        if (rc < 0)
            return -1;
        for (size_t i = 0; i < SHOWCASE_ROWS; i++)
            rows[i] = l->prompts.item[i % l->prompts.count].text;
    }
    l->showcase = showcase_new(l->pipeline, l->kernels, (int)l->run.steps, l->run.guidance, l->run.seed,
                               l->o->judge ? NULL : rows, l->o->judge);
    return 0;
}

/* Read before anything is trained, so that a bad file costs nothing. */
static int open_held_out(struct local *l, struct err *e)
{
    struct buf lines;
    size_t count;
    if (l->o->judge || l->o->evaluate_file[0] == 0)
        return 0;
    buf_init(&lines, PROMPT_SET_BYTES_MAX);
    const int rc = prompt_file_read(&lines, &count, l->o->evaluate_file, l->o->evaluate_column, e) < 0 ||
                           prompt_set_parse(&l->held_out, buf_text(&lines), lines.bytes, e) < 0
                       ? err_wrap(e, "local.evaluate_file")
                       : 0;
    buf_done(&lines);
    return rc;
}

static int open_model(struct local *l, struct err *e)
{
    char folder[FILE_PATH_BYTES_MAX], cache[FILE_PATH_BYTES_MAX];
    const struct pipeline_options o = {.latent_height = l->run.latent_height, .latent_width = l->run.latent_width};
    if (file_join(cache, l->o->dir, "cache", e) < 0 || file_join(folder, cache, l->run.run_id, e) < 0 ||
        store_client_model_fetch(l->store, &l->run, folder, e) < 0 || pipeline_open(&l->pipeline, folder, &o, e) < 0)
        return -1;
    l->kernels = mem_new(l->run.steps, sizeof *l->kernels);
    if (run_chain_plan(l->kernels, &l->run, pipeline_schedule(l->pipeline), e) < 0)
        return -1;
    return open_showcase(l, e);
}

static int write_progress(const struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], title[128], subtitle[256];
    snprintf(title, sizeof title, "DAG post-training: %s", l->o->judge ? "caption alignment" : "reward");
    snprintf(subtitle, sizeof subtitle, "update %llu of %llu   reward %.3f → %.3f   run %s", (unsigned long long)l->step,
             (unsigned long long)l->run.iterations, l->reward_first, l->reward_last, l->run.run_id);
    return file_join(path, l->o->dir, "progress.png", e) < 0 ? -1
                                                           : showcase_write(l->showcase, path, title, subtitle, e);
}

/* The services of a run whose `dagline run` was killed take a while to end; nothing is started beside them. */
static int wait_alone(struct local *l, struct err *e)
{
    const int64_t until = clock_mono_ms(NULL) + ALONE_MS;
    char path[FILE_PATH_BYTES_MAX];
    struct file_lock lock;
    bool told = false;
    if (file_join(path, l->o->dir, "store/lock", e) < 0)
        return -1;
    while (file_lock_take(&lock, path, e) < 0) {
        if (e->code != ERR_CONFLICT)
            return -1;
        if (clock_mono_ms(NULL) > until || loop_draining(l->loop))
            return err_set(e, ERR_CONFLICT, "a run goes on in %s (dagline status --dir %s): end it, or give another --dir",
                           l->o->dir, l->o->dir);
        if (!told)
            printf("waiting for the services that still run in %s\n", l->o->dir);
        told = true;
        fflush(stdout);
        if (loop_poll(l->loop, 100, e) < 0)
            return -1;
    }
    file_lock_drop(&lock);
    return 0;
}

/* For the services, which read it again whenever they are started; only whoever has the directory may write it. */
static int write_settings(struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    if (file_join(path, l->o->dir, "config.yaml", e) < 0 ||
        (file_exists(path) && file_read_all(path, CONFIG_FILE_BYTES_MAX, &l->settings_before, NULL, e) < 0))
        return -1;
    return file_replace(path, l->o->settings, strlen(l->o->settings), 0644, e);
}

/* The store has refused ours: the run that is there goes on by its own. */
static void put_settings_back(const struct local *l)
{
    char path[FILE_PATH_BYTES_MAX];
    struct err e;
    if (l->settings_before != NULL &&
        (file_join(path, l->o->dir, "config.yaml", &e) < 0 ||
         file_replace(path, l->settings_before, strlen(l->settings_before), 0644, &e) < 0))
        log_err("config_yaml", &e);
}

static int start_all(struct local *l, struct err *e)
{
    if (wait_alone(l, e) < 0 || write_settings(l, e) < 0)
        return -1;
    for (size_t i = 0; i < l->processes; i++) {
        if (!is_used(l, i))
            continue;
        if (process_start(&l->process[i], e) < 0)
            return -1;
        if (i != STORE)
            continue;
        const struct wire_net_options net = {.party = PARTY_DAGLINE, .sender = "dagline"};
        char endpoint[128], news[128];
        snprintf(endpoint, sizeof endpoint, "ipc://%s/store", l->sockets);
        snprintf(news, sizeof news, "ipc://%s/news", l->sockets);
        if (wire_net_open(&l->net, &net, e) < 0 ||
            store_client_open(&l->store, l->net, &(struct store_client_options){.endpoint = endpoint}, e) < 0 ||
            wait_store(l, e) < 0) {
            put_settings_back(l);
            return -1;
        }
        if (news_open(&l->news, l->net, news, NEWS_WANT_REPORT | NEWS_WANT_STOP, e) < 0)
            return -1;
    }
    return 0;
}

/* ---- while it runs ---- */

static double metric_of(const struct report *r, const char *name)
{
    for (uint32_t i = 0; i < r->metric_count; i++)
        if (strcmp(r->metrics[i].name, name) == 0)
            return r->metrics[i].value;
    return (double)NAN;
}

static void progress_line(struct local *l, const struct report *r)
{
    const double now = clock_mono_s(NULL);
    const uint64_t done = l->step - l->first_step;
    const double each = done > 0 ? (now - l->first_step_s) / (double)done : (double)NAN;
    const double left = each * (double)(l->run.iterations - l->step);
    const double rate = (l->trajectories / (double)l->step) / each;
    char eta[32] = "";
    if (isfinite(left))
        snprintf(eta, sizeof eta, "  %.1f img/s  ETA %d:%02d", rate, (int)left / 60, (int)left % 60);
    char kl[32] = "";
    if (isfinite(metric_of(r, "path_kl")))
        snprintf(kl, sizeof kl, "  path-KL %.1f", metric_of(r, "path_kl"));
    printf("iter %3llu/%llu  reward %.3f -> %.3f (%+.3f)  diversity %.2fx base%s%s\n", (unsigned long long)l->step,
           (unsigned long long)l->run.iterations, l->reward_first, l->reward_last, l->reward_last - l->reward_first,
           l->spread_last / l->spread_first, kl, eta);
    fflush(stdout);
}

/* Puts the newest policy into our own pipeline. */
static int fetch_policy(struct local *l, uint8_t **bytes, size_t *n, struct err *e)
{
    struct policy_ref policy;
    *bytes = NULL;
    *n = 0;
    if (store_client_policy(l->store, NULL, &policy, e) < 0 ||
        (policy.version > 0 && store_client_blob_get(l->store, policy.digest, POLICY_BYTES_MAX, bytes, n, e) < 0))
        return -1;
    return pipeline_policy_set(l->pipeline, *bytes, *n, e);
}

static int draw_column(struct local *l, const char *title, struct err *e)
{
    uint8_t *bytes;
    size_t n;
    double score;
    const int rc = fetch_policy(l, &bytes, &n, e) < 0 || showcase_column(l->showcase, title, &score, e) < 0 ||
                           write_progress(l, e) < 0
                       ? -1
                       : 0;
    mem_free(bytes);
    return rc;
}

static void hear(struct local *l)
{
    l->heard_ms = clock_mono_ms(NULL);
    clock_format(clock_wall_ns(NULL), l->heard);
}

/* Remembers an update for the curves and for "before -> now". */
static void take_point(struct local *l, uint64_t step, double reward, double reward_sd, double spread, double trajectories)
{
    /* a batch holds few prompts, and some are harder than others: say means over several updates */
    const double share = 1.0 / (double)(++l->points < SMOOTH_UPDATES ? l->points : SMOOTH_UPDATES);
    if (l->points == 1) {
        l->reward_last = reward;
        l->spread_last = spread;
    }
    l->reward_last += share * (reward - l->reward_last);
    l->spread_last += share * (spread - l->spread_last);
    if (l->points <= SMOOTH_UPDATES) {
        l->reward_first = l->reward_last;
        l->spread_first = l->spread_last;
    }
    l->step = step;
    l->trajectories = trajectories;
    showcase_point(l->showcase, (double)step, reward, reward_sd, spread);
}

/* The updates of an earlier life of this run, from its metrics.jsonl; a line that cannot be read is skipped. */
static int load_history(struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], *text;
    size_t n;
    if (file_join(path, l->o->dir, "store/metrics.jsonl", e) < 0)
        return -1;
    if (access(path, F_OK) != 0)
        return 0;
    if (file_read_all(path, HISTORY_BYTES_MAX, &text, &n, e) < 0)
        return -1;
    const char *at = text;
    for (struct json *record; (record = json_next_line(&at, text + n)) != NULL; json_free(record)) {
        struct err bad;
        int64_t step;
        double reward, sd, spread, trajectories;
        if (json_get_int(record, "step", 1, INT64_MAX, &step, &bad) == 0 && (uint64_t)step > l->step &&
            json_get_number(record, "reward_mean", -HUGE_VAL, HUGE_VAL, &reward, &bad) == 0 &&
            json_get_number_or(record, "reward_sd", 0.0, HUGE_VAL, 0.0, &sd, &bad) == 0 &&
            json_get_number_or(record, "spread", 0.0, HUGE_VAL, (double)NAN, &spread, &bad) == 0 &&
            json_get_number_or(record, "trajectories", 0.0, HUGE_VAL, 0.0, &trajectories, &bad) == 0)
            take_point(l, (uint64_t)step, reward, sd, spread, trajectories);
    }
    mem_free(text);
    l->first_step = l->step;
    l->quarter = (int)(l->step * QUARTERS / (l->run.iterations > 0 ? l->run.iterations : 1));
    return 0;
}

static int on_step(struct local *l, const struct report *r, struct err *e)
{
    static const char *const titles[QUARTERS - 1] = {"1/4", "1/2", "3/4"};
    hear(l);
    if (!l->slow) /* a service mended; the next time it is told as soon */
        l->patience_ms = l->o->silence_ms;
    if (r->step <= l->step) /* a resumed trainer reports its repeated steps again */
        return 0;
    take_point(l, r->step, metric_of(r, "reward_mean"), metric_of(r, "reward_sd"), metric_of(r, "spread"),
               metric_of(r, "trajectories"));
    if (l->first_step_s == 0.0) {
        l->first_step_s = clock_mono_s(NULL);
        l->first_step = l->step;
    }
    progress_line(l, r);
    if (l->quarter < QUARTERS - 1 && l->step * QUARTERS >= (uint64_t)(l->quarter + 1) * l->run.iterations)
        return draw_column(l, titles[l->quarter++], e);
    return 0;
}

static int on_news(void *arg, struct err *e)
{
    struct local *l = arg;
    struct news_item item;
    while (news_poll(l->news, &item, 0, e) == 0) {
        if (item.kind == NEWS_STOP)
            l->stopped = true;
        else if (item.kind == NEWS_REPORT && item.report.step > 0 && on_step(l, &item.report, e) < 0)
            return -1;
    }
    return e->code == ERR_TIMEOUT ? 0 : -1;
}

/* A run that waits, for a reward service say, says for what. */
static void tell_silence(struct local *l, int64_t now)
{
    if (now - l->heard_ms < l->patience_ms)
        return;
    struct trouble t = {0};
    size_t from = 0;
    memcpy(t.since, l->heard, sizeof t.since);
    for (size_t i = STORE; i < l->processes; i++)
        if (trouble_take(&t, l->process[i].log))
            from = i;
    printf("no update for %lld s; ", (long long)(now - l->heard_ms) / 1000);
    if (from > 0)
        printf("%s: %s; see %s\n", l->process[from].name, t.words, l->process[from].log);
    else
        printf("no service has warned; see %s/log\n", l->o->dir);
    fflush(stdout);
    l->patience_ms *= 2;
    l->slow = from == 0;
}

static int watch_children(void *arg, struct err *e)
{
    struct local *l = arg;
    const int64_t now = clock_mono_ms(NULL);
    /* what ends because the run has ended does so after this has been said */
    if (on_news(l, e) < 0)
        return -1;
    for (size_t i = 0; i < l->processes && !l->stopped; i++) {
        struct process *p = &l->process[i];
        if (!process_watch(p, now) || !p->wanted)
            continue;
        if (i == TRAINER && p->exit_status == 0) { /* the last update is made; the stop is on its way */
            p->wanted = false;
            continue;
        }
        /* what refuses its settings refuses them again; a kill is no reason to give up */
        const bool refused = p->exit_status < 128 && p->ends_in_a_row >= REFUSALS_MAX;
        if (p->exit_status == 2 || refused) {
            p->wanted = false;
            char why[1024];
            process_last_line(p, why, sizeof why);
            return why[0] != 0 ? err_set(e, ERR_INVALID, "%s does not start: %s", p->name, why)
                               : err_set(e, ERR_INVALID, "%s does not start: %s ends with status %d", p->name,
                                         p->arguments[0], p->exit_status);
        }
        printf("%s ended (status %d), starting it again; see %s\n", p->name, p->exit_status, p->log);
        fflush(stdout);
    }
    if (!l->stopped)
        tell_silence(l, now);
    return 0;
}

static int follow(struct local *l, struct err *e)
{
    l->heard_ms = clock_mono_ms(NULL);
    l->patience_ms = l->o->silence_ms;
    if (loop_add_wire(l->loop, news_wire(l->news), on_news, l, e) < 0 ||
        loop_add_timer(l->loop, 100, watch_children, l, NULL, e) < 0)
        return -1;
    while (!l->stopped && !loop_draining(l->loop))
        if (loop_poll(l->loop, 200, e) < 0)
            return -1;
    loop_remove_wire(l->loop, news_wire(l->news));
    return 0;
}

/* ---- the end ---- */

/* One signal to each: a second one would end at once what drains. */
static void tell_to_end(struct local *l, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++)
        process_end(&l->process[i]);
}

static void wait_gone(struct local *l, size_t first, size_t last)
{
    for (size_t i = first; i < last; i++)
        process_wait_gone(&l->process[i], DRAIN_MS);
}

static void end_group(struct local *l, size_t first, size_t last)
{
    tell_to_end(l, first, last);
    wait_gone(l, first, last);
}

/* What a stopped run goes on from is the trainer's last checkpoint: waited for however long its update takes. */
static void wait_for_checkpoint(struct local *l)
{
    if (process_wait(&l->process[TRAINER], DRAIN_MS, NULL))
        return;
    printf("the trainer finishes its update and writes a checkpoint; another Ctrl-C ends it at once\n");
    fflush(stdout);
    process_wait(&l->process[TRAINER], UPDATE_MS, NULL);
}

static double cpu_of(const struct local *l, size_t first, size_t last)
{
    double sum = 0.0;
    for (size_t i = first; i < last; i++)
        sum += process_cpu_s(&l->process[i]);
    return sum;
}

static int finish(struct local *l, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX];
    uint8_t *bytes = NULL;
    size_t n = 0;
    /* samplers and trainer first, so that the last checkpoint reaches the store */
    tell_to_end(l, TRAINER, l->processes);
    wait_for_checkpoint(l);
    wait_gone(l, TRAINER, l->processes);
    if (l->stopped && l->step < l->run.iterations) {
        printf("the trainer ended the run after update %llu of %llu: trainer.path_kl_max is reached\n",
               (unsigned long long)l->step, (unsigned long long)l->run.iterations);
        fflush(stdout);
    }
    int rc = -1;
    double score;
    if (fetch_policy(l, &bytes, &n, e) < 0 || showcase_column(l->showcase, "end", &score, e) < 0 ||
        write_progress(l, e) < 0 || file_join(path, l->o->dir, "policy.safetensors", e) < 0 ||
        (n > 0 && file_replace(path, bytes, n, 0644, e) < 0))
        goto out;
    const struct report_options ro = {
        .dir = l->o->dir,
        .model = l->o->model,
        .pipeline = l->pipeline,
        .kernels = l->kernels,
        .run = &l->run,
        .policy = bytes,
        .policy_bytes = n,
        .step = l->step,
        .seconds = clock_mono_s(NULL) - l->begun_s,
        .trajectories = l->trajectories,
        .reward_first = l->reward_first,
        .reward_last = l->reward_last,
        .model_cpu_s = cpu_of(l, JUDGE, SCORER) + cpu_of(l, TRAINER, l->processes),
        .pipeline_cpu_s = cpu_of(l, REDIS, JUDGE) + cpu_of(l, SCORER, TRAINER),
        /* a reward of one's own may be slow, and who stops a run does not wait for it */
        .evaluate_prompts = !l->o->judge && loop_draining(l->loop) ? 0 : (size_t)l->o->evaluate_prompts,
        .evaluate_pictures = (size_t)l->o->evaluate_pictures,
        .evaluate_seed = l->o->evaluate_seed,
        .prompts = l->o->judge ? NULL : l->held_out.count > 0 ? &l->held_out : &l->prompts,
        .prompts_name = l->held_out.count > 0 ? l->o->evaluate_file : "the run",
        .binaries = l->o->binaries,
    };
    rc = report_write(&ro, e);
out:
    mem_free(bytes);
    return rc;
}

static void close_all(struct local *l)
{
    end_group(l, STORE, l->processes);
    end_group(l, REDIS, REDIS + 1);
    for (size_t i = 0; i < l->processes; i++)
        process_done(&l->process[i]);
    showcase_free(l->showcase);
    prompt_set_done(&l->prompts);
    prompt_set_done(&l->held_out);
    pipeline_close(l->pipeline);
    mem_free(l->kernels);
    mem_free(l->settings_before);
    run_spec_done(&l->run);
    news_close(l->news);
    store_client_close(l->store);
    wire_net_close(l->net);
    loop_close(l->loop);
    struct err ignored; /* a temporary folder that stays harms nobody */
    char path[FILE_PATH_BYTES_MAX];
    if (l->sockets[0] == 0)
        return;
    if (file_remove_tree(l->sockets, &ignored) < 0)
        log_err("sockets", &ignored);
    if (l->endpoint_told && file_join(path, l->o->dir, LOCAL_RUN_ENDPOINT, &ignored) == 0)
        unlink(path);
}

static void tell_start(const struct local *l)
{
    struct buf status;
    buf_init(&status, 16 * FILE_PATH_BYTES_MAX);
    process_own_command(&status);
    buf_add_text(&status, " status --dir ");
    buf_add_shell_word(&status, l->o->dir);
    printf("run %s in %s\nservices: %s\n", l->run.run_id, l->o->dir, buf_text(&status));
    fflush(stdout);
    buf_done(&status);
}

int local_run(const struct local_run_options *o, struct err *e)
{
    struct local *l = mem_new(1, sizeof *l);
    int rc = -1;
    double base;
    l->o = o;
    l->begun_s = clock_mono_s(NULL);
    hear(l);
    l->reward_first = l->reward_last = l->spread_first = l->spread_last = (double)NAN;
    if (loop_open(&l->loop, e) < 0 || open_held_out(l, e) < 0 || make_folders(l, e) < 0 || add_all(l, e) < 0 ||
        start_all(l, e) < 0 || tell_endpoint(l, e) < 0)
        goto out;
    tell_start(l);
    if (link_into_store(l, "metrics.jsonl", e) < 0 || link_into_store(l, "tensorboard", e) < 0 || open_model(l, e) < 0 ||
        load_history(l, e) < 0 || showcase_column(l->showcase, "base", &base, e) < 0 || write_progress(l, e) < 0)
        goto out;
    printf("before: %s/progress.png", o->dir);
    if (isfinite(base))
        printf(" (mean reward of its %d pictures %.2f)", SHOWCASE_ROWS, base);
    printf("\n");
    fflush(stdout);
    rc = follow(l, e) < 0 ? -1 : finish(l, e);
out:
    close_all(l);
    mem_free(l);
    return rc;
}
