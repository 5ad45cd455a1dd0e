/* The real dagline-store over ipc: uploads, kills in the middle, restarts, fencing, damage. */
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "support/suite.h"
#include "wire/store_client.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILLS 20
#define BLOB_BYTES ((size_t)3 << 20)

static char root[64], rpc[128], news_endpoint[128];

static const char *at(const char *name)
{
    static char path[4][256];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, 256, "%s/%s", root, name);
    return p;
}

static void write_file(const char *name, const char *text)
{
    struct err e;
    ck_assert_int_eq(file_replace(at(name), text, strlen(text), 0644, &e), 0);
}

static void setup(void)
{
    struct err e;
    snprintf(root, sizeof root, "/tmp/dagline-system-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    snprintf(rpc, sizeof rpc, "ipc://%s/rpc", root);
    snprintf(news_endpoint, sizeof news_endpoint, "ipc://%s/news", root);
    ck_assert_int_eq(file_make_folders(at("model/unet"), &e), 0);
    write_file("model/model_index.json", "{}");
    write_file("model/unet/config.json", "{\"sample_size\": [8, 16]}");
    write_file("prompts.jsonl", "{\"prompt\": \"a red circle\", \"tag\": \"single\"}\n");
}

/* build/MODE/tests/system/test_store -> build/MODE/bin/dagline-store */
static void binary(char out[FILE_PATH_BYTES_MAX])
{
    const char *given = getenv("DAGLINE_STORE_BINARY");
    const ssize_t n = readlink("/proc/self/exe", out, FILE_PATH_BYTES_MAX - 64);
    out[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(out, '/');
        if (slash != NULL)
            *slash = 0;
    }
    strncat(out, "/bin/dagline-store", 32);
    if (given != NULL)
        snprintf(out, FILE_PATH_BYTES_MAX, "%s", given);
}

static pid_t start_store(void)
{
    static char self[FILE_PATH_BYTES_MAX], data[300], model[300], prompts[300], s[300], n[300];
    static char set[] = "--set", silent[] = "store.listen=";
    char *const argv[] = {self, set, data, set, model, set,    prompts,
                          set,  s,   set,  n,   set,   silent, NULL};
    binary(self);
    snprintf(data, sizeof data, "store.data=%s", at("data"));
    snprintf(model, sizeof model, "store.model=%s", at("model"));
    snprintf(prompts, sizeof prompts, "store.prompts=%s", at("prompts.jsonl"));
    snprintf(s, sizeof s, "net.store=%s", rpc);
    snprintf(n, sizeof n, "net.news=%s", news_endpoint);
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        ck_assert_ptr_nonnull(freopen(at("store.log"), "a", stderr));
        execv(self, argv);
        _exit(127);
    }
    return pid;
}

static void stop_store(pid_t pid, int signal_number, int want)
{
    int status;
    ck_assert_int_eq(kill(pid, signal_number), 0);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (signal_number == SIGKILL)
        ck_assert(WIFSIGNALED(status));
    else
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == want, "status %d", status);
}

struct client {
    struct wire_net *net;
    struct store_client *c;
};

static struct client dial(void)
{
    struct client x;
    struct err e;
    const struct wire_net_options o = {.party = PARTY_TRAINER, .sender = "trainer/0"};
    const struct store_client_options to = {.endpoint = rpc, .timeout_ms = 20000};
    ck_assert_msg(wire_net_open(&x.net, &o, &e) == 0, "%s", e.text);
    ck_assert_msg(store_client_open(&x.c, x.net, &to, &e) == 0, "%s", e.text);
    return x;
}

static void hang_up(struct client *x)
{
    store_client_close(x->c);
    wire_net_close(x->net);
}

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.text)

static uint8_t *contents(uint64_t step, size_t bytes)
{
    uint8_t *p = mem_new(bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)((i * 2654435761u + step * 97) >> 8);
    return p;
}

static void save(struct client *x, uint64_t step)
{
    struct err e;
    struct policy_publish p = {.version = step};
    struct checkpoint_ref ck = {.step = step, .blob_count = 2};
    for (uint32_t i = 0; i < 2; i++) {
        const size_t bytes = i == 0 ? BLOB_BYTES : 1000;
        uint8_t *data = contents(step * 2 + i, bytes);
        snprintf(ck.blobs[i].name, sizeof ck.blobs[i].name, i == 0 ? "weights" : "state");
        ck.blobs[i].bytes = bytes;
        OK(store_client_blob_put(x->c, data, bytes, ck.blobs[i].digest, &e));
        mem_free(data);
    }
    memcpy(p.digest, ck.blobs[0].digest, sizeof p.digest);
    OK(store_client_policy_publish(x->c, &p, NULL, &e));
    OK(store_client_checkpoint_publish(x->c, &ck, &e));
}

/* The newest checkpoint is whole: every blob comes and has its digest. Returns its step. */
static uint64_t verify_newest(struct client *x)
{
    struct err e;
    struct checkpoint_ref ck;
    OK(store_client_checkpoint_get(x->c, &ck, &e));
    for (uint32_t i = 0; i < ck.blob_count; i++) {
        uint8_t *data;
        size_t bytes;
        OK(store_client_blob_get(x->c, ck.blobs[i].digest, BLOB_BYTES, &data, &bytes, &e));
        ck_assert_uint_eq(bytes, ck.blobs[i].bytes);
        mem_free(data);
    }
    return ck.step;
}

static int count_part(const char *name, void *arg, struct err *e)
{
    (void)e;
    *(int *)arg += strstr(name, ".part") != NULL || strstr(name, ".tmp-") != NULL;
    return 0;
}

static int half_written(void)
{
    int n = 0;
    struct err e;
    for (int i = 0; i < 256; i++) {
        char folder[32];
        snprintf(folder, sizeof folder, "data/blobs/%02x", i);
        OK(file_list(at(folder), 1000, count_part, &n, &e));
    }
    OK(file_list(at("data/checkpoints"), 1000, count_part, &n, &e));
    OK(file_list(at("data/policies"), 1000, count_part, &n, &e));
    return n;
}

/* A trainer process that publishes step after step and says so on a pipe. */
static pid_t start_trainer(int *from)
{
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    const pid_t pid = fork();
    if (pid == 0) {
        struct err e;
        uint64_t token;
        struct client x = dial();
        OK(store_client_token_take(x.c, &token, &e));
        for (uint64_t step = 1;; step++) {
            save(&x, step);
            if (write(fds[1], &step, sizeof step) != sizeof step)
                _exit(0);
        }
    }
    close(fds[1]);
    *from = fds[0];
    return pid;
}

START_TEST(killed_twenty_times_in_the_middle_the_newest_checkpoint_always_loads)
{
    setup();
    pid_t store = start_store();
    int from, status;
    const pid_t trainer = start_trainer(&from);
    uint64_t published = 0, seen = 0;
    for (int i = 0; i < KILLS; i++) {
        ck_assert_int_eq(read(from, &published, sizeof published), sizeof published);
        /* Somewhere within the next save, which takes some 20 ms. */
        clock_sleep_ns(NULL, (i * 7919 % 23) * CLOCK_NS_PER_MS);
        stop_store(store, SIGKILL, 0);
        store = start_store();
        struct client x = dial();
        const uint64_t step = verify_newest(&x);
        ck_assert_msg(
            step >= published && step >= seen, "kill %d: %llu published, %llu seen, now %llu", i,
            (unsigned long long)published, (unsigned long long)seen, (unsigned long long)step);
        seen = step;
        hang_up(&x);
    }
    ck_assert_int_eq(kill(trainer, SIGKILL), 0);
    ck_assert_int_eq(waitpid(trainer, &status, 0), trainer);
    stop_store(store, SIGKILL, 0);
    store = start_store();
    struct client x = dial();
    ck_assert_uint_ge(verify_newest(&x), seen);
    ck_assert_int_eq(half_written(), 0);
    hang_up(&x);
    stop_store(store, SIGTERM, 0);
    struct err e;
    OK(file_remove_tree(root, &e));
}
END_TEST

START_TEST(of_two_trainers_the_older_is_fenced)
{
    setup();
    const pid_t store = start_store();
    struct client a = dial(), b = dial();
    struct err e;
    uint64_t first, second;
    OK(store_client_token_take(a.c, &first, &e));
    save(&a, 1);
    OK(store_client_token_take(b.c, &second, &e));
    ck_assert_uint_gt(second, first);
    const struct policy_publish p = {.version = 2, .digest = {1}};
    struct checkpoint_ref ck = {.step = 2, .blob_count = 1, .blobs = {{"state", {1}, 1}}};
    ck_assert_int_eq(store_client_policy_publish(a.c, &p, NULL, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    ck_assert_int_eq(store_client_checkpoint_publish(a.c, &ck, &e), -1);
    ck_assert_int_eq(e.code, ERR_STALE);
    save(&b, 2);
    ck_assert_uint_eq(verify_newest(&b), 2);
    hang_up(&a);
    hang_up(&b);
    stop_store(store, SIGTERM, 0);
    OK(file_remove_tree(root, &e));
}
END_TEST

START_TEST(a_corrupted_blob_falls_back_to_the_checkpoint_before)
{
    setup();
    pid_t store = start_store();
    struct client x = dial();
    struct err e;
    struct checkpoint_ref ck;
    uint64_t token;
    char hex[65], name[128];
    OK(store_client_token_take(x.c, &token, &e));
    save(&x, 1);
    save(&x, 2);
    OK(store_client_checkpoint_get(x.c, &ck, &e));
    ck_assert_uint_eq(ck.step, 2);
    stop_store(store, SIGKILL, 0);
    hash_hex(hex, ck.blobs[0].digest, 32);
    snprintf(name, sizeof name, "data/blobs/%.2s/%s", hex, hex);
    ck_assert_int_eq(truncate(at(name), 12345), 0);
    store = start_store();
    ck_assert_uint_eq(verify_newest(&x), 1);
    char *log;
    OK(file_read_all(at("store.log"), 1 << 20, &log, NULL, &e));
    ck_assert_ptr_nonnull(strstr(log, "checkpoint_damaged"));
    mem_free(log);
    hang_up(&x);
    stop_store(store, SIGTERM, 0);
    OK(file_remove_tree(root, &e));
}
END_TEST

START_TEST(a_late_subscriber_hears_the_newest_policy_and_the_stop)
{
    setup();
    const pid_t store = start_store();
    struct client x = dial();
    struct err e;
    struct news *news;
    struct news_item *item = mem_new(1, sizeof *item);
    uint64_t token;
    OK(store_client_token_take(x.c, &token, &e));
    save(&x, 7);
    OK(store_client_stop(x.c, &e));
    OK(news_open(&news, x.net, news_endpoint, NEWS_WANT_POLICY | NEWS_WANT_STOP, &e));
    bool policy = false, stop = false;
    while (!policy || !stop) {
        OK(news_poll(news, item, 10000, &e));
        policy = policy || (item->kind == NEWS_POLICY && item->policy.version == 7);
        stop = stop || item->kind == NEWS_STOP;
    }
    news_close(news);
    hang_up(&x);
    stop_store(store, SIGTERM, 0);
    OK(file_remove_tree(root, &e));
    mem_free(item);
}
END_TEST

START_TEST(the_model_is_fetched_once_and_mended_where_it_changed)
{
    setup();
    const pid_t store = start_store();
    struct client x = dial();
    struct err e;
    struct run_spec run;
    char *text;
    OK(store_client_run(x.c, &run, &e));
    ck_assert_uint_eq(run.latent_height, 8);
    ck_assert_uint_eq(run.latent_width, 16);
    for (int i = 0; i < 2; i++) {
        OK(store_client_model_fetch(x.c, &run, at("cache"), &e));
        OK(file_read_all(at("cache/unet/config.json"), 100, &text, NULL, &e));
        ck_assert_str_eq(text, "{\"sample_size\": [8, 16]}");
        mem_free(text);
        write_file("cache/unet/config.json", "changed");
    }
    /* Present files cost no transfer: the store may be gone. */
    OK(store_client_model_fetch(x.c, &run, at("cache"), &e));
    stop_store(store, SIGTERM, 0);
    OK(store_client_model_fetch(x.c, &run, at("cache"), &e));
    run_spec_done(&run);
    hang_up(&x);
    OK(file_remove_tree(root, &e));
}
END_TEST

START_TEST(a_store_that_is_away_is_unavailable_not_a_hang)
{
    setup();
    struct client x = dial();
    struct err e;
    uint32_t slot;
    store_client_timeout(x.c, 300);
    ck_assert_int_eq(store_client_slot_take(x.c, &slot, &e), -1);
    ck_assert_int_eq(e.code, ERR_UNAVAILABLE);
    const struct report r = {.service = "sampler/0"};
    OK(store_client_report(x.c, &r, &e)); /* one without a step is sent when it can be */
    const pid_t store = start_store();
    store_client_timeout(x.c, 20000);
    OK(store_client_slot_take(x.c, &slot, &e));
    hang_up(&x);
    stop_store(store, SIGTERM, 0);
    OK(file_remove_tree(root, &e));
}
END_TEST

SUITE("system/store", 120, killed_twenty_times_in_the_middle_the_newest_checkpoint_always_loads,
      of_two_trainers_the_older_is_fenced, a_corrupted_blob_falls_back_to_the_checkpoint_before,
      a_late_subscriber_hears_the_newest_policy_and_the_stop,
      the_model_is_fetched_once_and_mended_where_it_changed,
      a_store_that_is_away_is_unavailable_not_a_hang)
