#include "support/ring.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define READY_MS 30000
#define STATUS_MS 300
#define LOG_BYTES_MAX ((size_t)64 << 20)

/* Small enough that a trajectory costs milliseconds; pictures of 64x64, as the judge wants them. */
static const char *const own_settings[] = {"run.steps=3",
                                           "run.latent_height=16",
                                           "run.latent_width=16",
                                           "run.forward_looking=no",
                                           "run.iterations=1000000",
                                           "store.listen=",
                                           "judge.threads=1",
                                           "scorer.listen=",
                                           "reward.backoff=20ms",
                                           "reward.retries=50",
                                           "trainer.listen=",
                                           "trainer.threads=1",
                                           "trainer.batch=4",
                                           "trainer.checkpoint_every=3",
                                           "trainer.beta_warmup=0",
                                           "trainer.kl_states=0",
                                           "trainer.flow_channels=8",
                                           "trainer.psi=none",
                                           "sampler.listen=",
                                           "sampler.threads=1",
                                           "sampler.batch=4",
                                           "sampler.in_flight=32",
                                           "replay.items_min=4",
                                           "replay.ahead_max=32",
                                           "log.level=debug",
                                           NULL};

static const char *const names[RING_PARTS] = {"redis",  "store",   "judge",
                                              "scorer", "trainer", "sampler"};
static const char *const binaries[RING_PARTS] = {NULL,
                                                 "dagline-store",
                                                 "dagline-shapes-judge",
                                                 "dagline-scorer",
                                                 "dagline-trainer",
                                                 "dagline-sampler"};

int64_t ring_now_ms(void)
{
    return clock_mono_ms(NULL);
}

void ring_nap(int ms)
{
    clock_sleep_ns(NULL, ms * CLOCK_NS_PER_MS);
}

const char *ring_part_name(enum ring_part part)
{
    return names[part];
}

struct process *ring_process(struct ring *r, enum ring_part part, int index)
{
    ck_assert_int_lt(index, part == RING_SAMPLER ? r->samplers : 1);
    return &r->process[(int)part + index];
}

/* ---- settings ---- */

static void write_file(const struct ring *r, const char *name, const char *text)
{
    char path[FILE_PATH_BYTES_MAX];
    struct err e;
    ck_assert_int_eq(file_join(path, r->folder, name, &e), 0);
    ck_assert_msg(file_replace(path, text, strlen(text), 0644, &e) == 0, "%s", e.text);
}

static size_t key_bytes(const char *setting)
{
    return strcspn(setting, "=");
}

/* Sections in any order, each once: a YAML document. */
static void write_settings(const struct ring *r)
{
    char text[RING_SETTINGS_MAX * 160 + 64] = "";
    size_t used = 0;
    bool done[RING_SETTINGS_MAX] = {false};
    for (size_t i = 0; i < r->setting_count; i++) {
        const size_t section = strcspn(r->settings[i], ".");
        if (done[i])
            continue;
        used += (size_t)snprintf(text + used, sizeof text - used, "%.*s:\n", (int)section,
                                 r->settings[i]);
        for (size_t j = i; j < r->setting_count; j++) {
            const char *s = r->settings[j];
            if (strncmp(s, r->settings[i], section + 1) != 0)
                continue;
            done[j] = true;
            const size_t key = key_bytes(s);
            used += (size_t)snprintf(text + used, sizeof text - used, "  %.*s: \"%s\"\n",
                                     (int)(key - section - 1), s + section + 1, s + key + 1);
        }
    }
    ck_assert_uint_lt(used, sizeof text);
    write_file(r, "config.yaml", text);
}

static void put(struct ring *r, const char *setting)
{
    size_t at = 0;
    const size_t key = key_bytes(setting);
    while (at < r->setting_count && strncmp(r->settings[at], setting, key + 1) != 0)
        at++;
    ck_assert_uint_lt(at, RING_SETTINGS_MAX);
    r->setting_count += at == r->setting_count;
    ck_assert_int_lt(snprintf(r->settings[at], sizeof *r->settings, "%s", setting),
                     (int)sizeof *r->settings);
}

void ring_set(struct ring *r, const char *setting)
{
    put(r, setting);
    write_settings(r);
}

/* ---- processes ---- */

static void add_service(struct ring *r, enum ring_part part, int index, const char *const *sets)
{
    char path[PROC_PATH_BYTES], config[PROC_PATH_BYTES + 16], log[PROC_PATH_BYTES + 64], name[32];
    const char *arguments[PROCESS_ARGUMENTS_MAX + 1] = {path, "--config", config};
    size_t n = 3;
    proc_binary(path, binaries[part]);
    snprintf(name, sizeof name, part == RING_SAMPLER ? "%s-%d" : "%s", names[part], index);
    snprintf(config, sizeof config, "%s/config.yaml", r->folder);
    snprintf(log, sizeof log, "%s/log/%s.log", r->folder, name);
    for (; *sets != NULL; sets++) {
        arguments[n++] = "--set";
        arguments[n++] = *sets;
    }
    process_init(&r->process[(int)part + index], name, log, arguments);
}

static void add_redis(struct ring *r)
{
    char folder[PROC_PATH_BYTES + 16], log[PROC_PATH_BYTES + 64];
    snprintf(folder, sizeof folder, "%s/replay", r->folder);
    snprintf(log, sizeof log, "%s/log/redis.log", r->folder);
    const char *const arguments[] = {PROC_REDIS_ARGUMENTS(r->redis_socket, folder), NULL};
    process_init(&r->process[RING_REDIS], "redis", log, arguments);
}

static void add_all(struct ring *r)
{
    char root[PROC_PATH_BYTES], set[8][2 * PROC_PATH_BYTES];
    const uint16_t port = proc_free_port();
    proc_binary(root, "dagline-store");
    char *build = strstr(root, "/build/");
    ck_assert_ptr_nonnull(build);
    *build = 0;
    snprintf(set[0], sizeof *set, "net.store=%s", r->store);
    snprintf(set[1], sizeof *set, "net.news=%s", r->news);
    snprintf(set[2], sizeof *set, "net.scorer=%s", r->scorer);
    snprintf(set[3], sizeof *set, "replay.address=unix:%s", r->redis_socket);
    const char *const sets[] = {set[0], set[1], set[2], set[3], set[4], set[5], set[6], NULL};
    add_redis(r);
    snprintf(set[4], sizeof *set, "store.data=%s/store", r->folder);
    snprintf(set[5], sizeof *set, "store.model=%s/tests/golden/tiny-sd/model", root);
    snprintf(set[6], sizeof *set, "store.prompts=%s/prompts.txt", r->folder);
    add_service(r, RING_STORE, 0, sets);
    snprintf(set[4], sizeof *set, "judge.listen=127.0.0.1:%u", port);
    snprintf(set[5], sizeof *set, "trainer.cache=%s/cache", r->folder);
    snprintf(set[6], sizeof *set, "sampler.cache=%s/cache", r->folder);
    char url[64];
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", port);
    put(r, url); /* ring_set may name another service */
    add_service(r, RING_JUDGE, 0, sets);
    add_service(r, RING_SCORER, 0, sets);
    add_service(r, RING_TRAINER, 0, sets);
    for (int i = 0; i < r->samplers; i++)
        add_service(r, RING_SAMPLER, i, sets);
}

static void copy_folder(const struct ring *r, const char *from, const char *name)
{
    char source[PROC_PATH_BYTES + 16];
    struct proc cp;
    snprintf(source, sizeof source, "%s/%s", from, name);
    proc_start(&cp, (const char *const[]){"cp", "-a", source, r->folder, NULL}, NULL);
    ck_assert_int_eq(proc_wait(&cp, READY_MS), 0);
}

void ring_open(struct ring *r, const struct ring_options *o)
{
    static const char *const folders[] = {"log", "store", "replay", "cache"};
    struct err e;
    memset(r, 0, sizeof *r);
    ck_assert_int_le(o->samplers, RING_SAMPLERS_MAX);
    r->samplers = o->samplers;
    proc_folder(r->folder);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[PROC_PATH_BYTES + 16];
        snprintf(path, sizeof path, "%s/%s", r->folder, folders[i]);
        ck_assert_msg(file_make_folders(path, &e) == 0, "%s", e.text);
    }
    printf("ring in %s\n", r->folder);
    fflush(stdout);
    snprintf(r->redis_socket, sizeof r->redis_socket, "%.200s/redis.sock", r->folder);
    snprintf(r->store, sizeof r->store, "ipc://%.200s/store.sock", r->folder);
    snprintf(r->news, sizeof r->news, "ipc://%.200s/news.sock", r->folder);
    snprintf(r->scorer, sizeof r->scorer, "ipc://%.200s/scorer.sock", r->folder);
    for (const char *const *s = own_settings; *s != NULL; s++)
        put(r, *s);
    for (const char *const *s = o->settings; s != NULL && *s != NULL; s++)
        put(r, *s);
    write_file(r, "prompts.txt", "a red circle\na blue square\na large green triangle\n");
    if (o->data != NULL) {
        copy_folder(r, o->data, "store");
        copy_folder(r, o->data, "replay");
    }
    add_all(r);
    write_settings(r);
    const struct wire_net_options net = {.party = PARTY_DAGLINE, .sender = "test"};
    ck_assert_msg(wire_net_open(&r->net, &net, &e) == 0, "%s", e.text);
    ck_assert_msg(store_client_open(&r->client, r->net,
                                    &(struct store_client_options){.endpoint = r->store}, &e) == 0,
                  "%s", e.text);
}

void ring_close(struct ring *r)
{
    const int count = (int)RING_SAMPLER + r->samplers;
    for (int i = count - 1; i >= 0; i--) {
        r->process[i].wanted = false;
        if (r->process[i].pid > 0)
            kill(r->process[i].pid, SIGKILL);
        process_wait_gone(&r->process[i], READY_MS);
        process_done(&r->process[i]);
    }
    store_client_close(r->client);
    wire_net_close(r->net);
    proc_folder_remove(r->folder);
}

static void wait_for_redis(const struct ring *r)
{
    const int64_t end = ring_now_ms() + READY_MS;
    struct proc_redis redis = {0};
    snprintf(redis.socket, sizeof redis.socket, "%s", r->redis_socket);
    while (!proc_redis_answers(&redis)) {
        ck_assert_msg(ring_now_ms() < end, "redis-server does not start: see %s/log", r->folder);
        ring_nap(5);
    }
}

static void wait_for_store(struct ring *r)
{
    struct run_spec run;
    struct err e;
    store_client_timeout(r->client, READY_MS);
    ck_assert_msg(store_client_run(r->client, &run, &e) == 0, "%s: see %s/log", e.text, r->folder);
    run_spec_done(&run);
}

void ring_start(struct ring *r, enum ring_part part, int index)
{
    struct err e;
    struct process *p = ring_process(r, part, index);
    p->ends_in_a_row = 0;
    ck_assert_msg(process_start(p, &e) == 0, "%s", e.text);
    if (part == RING_REDIS)
        wait_for_redis(r);
    if (part == RING_STORE)
        wait_for_store(r);
}

void ring_start_all(struct ring *r)
{
    for (int part = 0; part < RING_SAMPLER; part++)
        ring_start(r, (enum ring_part)part, 0);
    for (int i = 0; i < r->samplers; i++)
        ring_start(r, RING_SAMPLER, i);
}

void ring_watch(struct ring *r)
{
    const int count = (int)RING_SAMPLER + r->samplers;
    for (int i = 0; i < count; i++) {
        struct process *p = &r->process[i];
        if (process_watch(p, ring_now_ms()) && p->exit_status == 0)
            p->wanted = false;
    }
}

void ring_kill(struct ring *r, enum ring_part part, int index)
{
    struct process *p = ring_process(r, part, index);
    if (p->pid > 0)
        kill(p->pid, SIGKILL);
    p->ends_in_a_row = 0; /* killed, not refusing: started again at once */
}

int ring_wait_end(struct ring *r, enum ring_part part, int index, int timeout_ms)
{
    struct process *p = ring_process(r, part, index);
    const int64_t end = ring_now_ms() + timeout_ms;
    p->wanted = false;
    while (p->pid > 0) {
        process_watch(p, ring_now_ms());
        ck_assert_msg(ring_now_ms() < end, "%s still runs after %d ms: see %s/log", p->name,
                      timeout_ms, r->folder);
        ring_nap(5);
    }
    return p->exit_status;
}

int ring_end(struct ring *r, enum ring_part part, int index, int timeout_ms)
{
    process_end(ring_process(r, part, index));
    return ring_wait_end(r, part, index, timeout_ms);
}

bool ring_status(struct ring *r, struct status *out)
{
    struct err e;
    store_client_timeout(r->client, STATUS_MS);
    return store_client_status(r->client, out, &e) == 0;
}

/* ---- logs ---- */

char *ring_log(struct ring *r, enum ring_part part, int index)
{
    struct err e;
    char *text = NULL;
    if (file_read_all(ring_process(r, part, index)->log, LOG_BYTES_MAX, &text, NULL, &e) < 0)
        text = mem_strdup("");
    return text;
}

size_t ring_log_count(struct ring *r, enum ring_part part, int index, const char *text)
{
    char *log = ring_log(r, part, index);
    size_t n = 0;
    for (const char *at = log; (at = strstr(at, text)) != NULL; at++)
        n++;
    mem_free(log);
    return n;
}

/* The value behind "key": of a JSON line, as text. */
static const char *value_of(const char *line, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(line, quoted);
    ck_assert_msg(at != NULL, "no %s in %.200s", key, line);
    at += strlen(quoted);
    return at + strspn(at, " \"");
}

struct ring_policy *ring_policies(struct ring *r, size_t *count)
{
    static const char event[] = "\"policy_published\"";
    char *log = ring_log(r, RING_STORE, 0);
    struct ring_policy *out = mem_new(ring_log_count(r, RING_STORE, 0, event), sizeof *out);
    *count = 0;
    for (const char *at = log; (at = strstr(at, event)) != NULL; at++) {
        struct ring_policy *p = &out[(*count)++];
        p->version = strtoull(value_of(at, "version"), NULL, 10);
        p->token = strtoull(value_of(at, "token"), NULL, 10);
        snprintf(p->digest, sizeof p->digest, "%.12s", value_of(at, "digest"));
    }
    mem_free(log);
    return out;
}
