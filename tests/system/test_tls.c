/* A reward service over TLS: what is verified, against servers whose certificates are made here. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "scorer/backend.h"
#include "support/proc.h"
#include "support/suite.h"

#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static char folder[PROC_PATH_BYTES];
static atomic_int posts;
static struct backend_result last;
static double score;
static int completions;

static void on_done(void *arg, const struct backend_result *r)
{
    (void)arg;
    completions++;
    last = *r;
    if (r->failure == BACKEND_OK)
        score = r->scores[0].value;
}

static void quiet(const char *line, void *arg)
{
    (void)line;
    (void)arg;
}

static enum MHD_Result answer(void *arg, struct MHD_Connection *c, const char *url, const char *method,
                              const char *version, const char *data, size_t *bytes, void **state)
{
    static char text[] = "[0.5]";
    static int seen;
    (void)arg, (void)url, (void)method, (void)version, (void)data;
    if (*state == NULL) {
        *state = &seen;
        return MHD_YES;
    }
    if (*bytes > 0) {
        *bytes = 0;
        return MHD_YES;
    }
    atomic_fetch_add(&posts, 1);
    struct MHD_Response *r = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_PERSISTENT);
    const enum MHD_Result rc = MHD_queue_response(c, 200, r);
    MHD_destroy_response(r);
    return rc;
}

static char *read_file(const char *name, const char *end)
{
    char path[2 * PROC_PATH_BYTES], *text;
    struct err e;
    snprintf(path, sizeof path, "%s/%s%s", folder, name, end);
    ck_assert_msg(file_read_all(path, 1 << 16, &text, NULL, &e) == 0, "%s", e.text);
    return text;
}

/* Asks a server with the certificate `name` under `host`, believing in the CA of `ca`. */
static void ask(const char *name, const char *host, const char *ca)
{
    char *pem = read_file(name, ".pem"), *key = read_file(name, ".key");
    const uint16_t port = proc_free_port();
    struct MHD_Daemon *server =
        MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_TLS, port, NULL, NULL, answer, NULL,
                         MHD_OPTION_HTTPS_MEM_CERT, pem, MHD_OPTION_HTTPS_MEM_KEY, key, MHD_OPTION_END);
    ck_assert_ptr_nonnull(server);
    struct reward_params p = {.backend = "json:bentoml",
                              .batch = 1,
                              .batch_max_bytes = 1 << 20,
                              .concurrency = 1,
                              .timeout_ms = 3000,
                              .deadline_ms = 10000,
                              .retries = 3,
                              .backoff_ms = 10,
                              .answer_max_bytes = 64 << 10,
                              .score_min = -1,
                              .score_max = 1};
    snprintf(p.url, sizeof p.url, "https://%s:%u", host, port);
    if (ca != NULL)
        snprintf(p.ca_file, sizeof p.ca_file, "%s/%s.pem", folder, ca);
    struct loop *loop;
    struct backend b;
    struct err e = {0};
    static const uint8_t pixels[8 * 8 * 3];
    const struct backend_item item = {.rgb = pixels, .height = 8, .width = 8, .prompt = "p", .metadata = ""};
    ck_assert_int_eq(loop_open(&loop, &e), 0);
    const struct backend_context context = {.loop = loop};
    ck_assert_msg(backend_open(&b, &p, &context, on_done, NULL, &e) == 0, "%s", e.text);
    completions = 0;
    atomic_store(&posts, 0);
    ck_assert_msg(b.submit(b.self, 1, &item, 1, &e) == 0, "%s", e.text);
    for (const int64_t end = clock_mono_ms(NULL) + 20000; completions == 0;) {
        ck_assert_int_eq(loop_poll(loop, 50, &e), 0);
        ck_assert_int_lt(clock_mono_ms(NULL), end);
    }
    struct backend_counters c;
    b.counters(b.self, &c);
    ck_assert_uint_eq(c.retries, 0); /* what a certificate is does not change */
    b.close(b.self);
    loop_close(loop);
    MHD_stop_daemon(server);
    mem_free(pem);
    mem_free(key);
}

static void refused(const char *name, const char *host, const char *ca)
{
    ask(name, host, ca);
    ck_assert_msg(last.failure == BACKEND_TRANSPORT, "%s: %s", name, backend_failure_name(last.failure));
    ck_assert_msg(strstr(last.reason, "certificate") != NULL || strstr(last.reason, "SSL") != NULL, "%s: %s", name,
                  last.reason);
    ck_assert_int_eq(atomic_load(&posts), 0); /* nothing was shown to it */
}

START_TEST(only_a_server_that_proves_its_name_is_asked)
{
    char script[PROC_PATH_BYTES];
    struct proc make;
    log_sink(quiet, NULL);
    proc_folder(folder);
    proc_binary(script, "dagline");
    char *build = strstr(script, "/build/");
    ck_assert_ptr_nonnull(build);
    snprintf(build, sizeof script - (size_t)(build - script), "/tests/support/make_certificates");
    proc_start(&make, (const char *const[]){script, folder, NULL}, NULL);
    ck_assert_int_eq(proc_wait(&make, 20000), 0);

    ask("good", "localhost", "ca");
    ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
    ck_assert_double_eq(score, 0.5);
    ask("good", "127.0.0.1", "ca");
    ck_assert_msg(last.failure == BACKEND_OK, "%s", last.reason);
    refused("good", "localhost", NULL); /* the system knows no such authority */
    refused("other_host", "localhost", "ca");
    refused("expired", "localhost", "ca");
    refused("stranger", "localhost", "ca");
    proc_folder_remove(folder);
}
END_TEST

SUITE("system/tls", 120, only_a_server_that_proves_its_name_is_asked)
