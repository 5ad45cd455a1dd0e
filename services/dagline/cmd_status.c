#include "dagline/cmd_status.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "dagline/command.h"
#include "dagline/local_run.h"
#include "wire/store_client.h"

#include <stdio.h>
#include <string.h>

#define STATUS_PARAMS(P, S)                                                                        \
    P(S, text, store, "tcp://127.0.0.1:7701", "", "255", "", "endpoint of the store's requests")   \
    P(S, text, dir, "", "", "1000", "",                                                            \
      "directory of a `dagline run`: its store, in the place of --store")                          \
    P(S, text, keys, "", "", "1000", "", "folder of CURVE keys; empty: none")                      \
    P(S, flag, insecure_plaintext, "no", "", "", "", "tcp without keys even beyond loopback")      \
    P(S, duration, timeout, "5s", "100ms", "10m", "", "how long to wait for the store")

CONFIG_STRUCT(status_params, STATUS_PARAMS);
extern const struct config_table status_table;
CONFIG_TABLE_OPTIONS(status_table, "status", "what to ask", status_params, STATUS_PARAMS);

static void short_digest(char out[13], const uint8_t digest[CODEC_DIGEST_BYTES])
{
    static const uint8_t none[CODEC_DIGEST_BYTES];
    if (memcmp(digest, none, sizeof none) == 0)
        snprintf(out, 13, "base model");
    else
        hash_hex(out, digest, 6);
}

static void print_service(FILE *to, const struct status *s, uint32_t i)
{
    const struct report *r = &s->services[i];
    char digest[13];
    short_digest(digest, r->policy_digest);
    const bool newest = memcmp(r->policy_digest, s->policy.digest, CODEC_DIGEST_BYTES) == 0;
    fprintf(to, "%-20s %8.1f %10llu  %-12s  %-6s %10llu %8llu%s\n", r->service, s->age_seconds[i],
            (unsigned long long)r->policy_version, digest, newest ? "newest" : "older",
            (unsigned long long)r->progress, (unsigned long long)r->step,
            s->age_seconds[i] > STATUS_SILENT_S ? "  SILENT" : "");
}

void status_print(FILE *to, const struct status *s)
{
    char digest[13];
    short_digest(digest, s->policy.digest);
    fprintf(to, "run %s\n", s->run_id);
    fprintf(to, "policy %llu (%s, %llu bytes, token %llu)\n", (unsigned long long)s->policy.version,
            digest, (unsigned long long)s->policy.bytes, (unsigned long long)s->policy.token);
    if (s->checkpoint.blob_count == 0)
        fprintf(to, "checkpoint: none\n");
    else
        fprintf(to, "checkpoint %llu (token %llu, %u parts)\n",
                (unsigned long long)s->checkpoint.step, (unsigned long long)s->checkpoint.token,
                s->checkpoint.blob_count);
    fprintf(to, "%-20s %8s %10s  %-12s  %-6s %10s %8s\n", "service", "age s", "policy", "digest",
            "", "progress", "step");
    for (uint32_t i = 0; i < s->service_count; i++)
        print_service(to, s, i);
    if (s->service_count == 0)
        fprintf(to, "(no service has reported yet)\n");
}

/* Of the run's store, as `dagline run` keeps it while it runs. */
static int endpoint_of(char out[CONFIG_TEXT_BYTES_MAX], const struct status_params *p, struct err *e)
{
    char path[FILE_PATH_BYTES_MAX], *text;
    if (p->dir[0] == 0) {
        snprintf(out, CONFIG_TEXT_BYTES_MAX, "%s", p->store);
        return 0;
    }
    if (file_join(path, p->dir, LOCAL_RUN_ENDPOINT, e) < 0)
        return -1;
    if (!file_exists(path))
        return err_set(e, ERR_NOT_FOUND, "no run goes on in %s", p->dir);
    if (file_read_all(path, CONFIG_TEXT_BYTES_MAX - 1, &text, NULL, e) < 0)
        return -1;
    snprintf(out, CONFIG_TEXT_BYTES_MAX, "%.*s", (int)strcspn(text, "\n"), text);
    mem_free(text);
    return 0;
}

static int ask(const struct status_params *p, struct status *out, struct err *e)
{
    char endpoint[CONFIG_TEXT_BYTES_MAX];
    struct wire_net *net = NULL;
    struct store_client *client = NULL;
    const struct wire_net_options options = {.party = PARTY_DAGLINE,
                                             .sender = "dagline",
                                             .keys = p->keys,
                                             .insecure_plaintext = p->insecure_plaintext};
    const struct store_client_options to = {.endpoint = endpoint,
                                            .timeout_ms = (uint32_t)p->timeout_ms};
    int rc = -1;
    if (endpoint_of(endpoint, p, e) == 0 && wire_net_open(&net, &options, e) == 0 &&
        store_client_open(&client, net, &to, e) == 0)
        rc = store_client_status(client, out, e);
    store_client_close(client);
    wire_net_close(net);
    return rc;
}

static int show(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    struct status s;
    (void)arguments, (void)count;
    log_open("dagline", LOG_ERROR, LOG_AUTO); /* that there is no answer is said once, below */
    if (ask(params, &s, e) < 0)
        return -1;
    status_print(stdout, &s);
    status_done(&s);
    return 0;
}

int cmd_status(int argc, char **argv)
{
    struct status_params p;
    const struct command command = {
        .name = "dagline status",
        .about = "policy, checkpoint and services of a run",
        .table = &status_table,
        .params = &p,
        .work = show,
    };
    return command_main(&command, argc, argv);
}
