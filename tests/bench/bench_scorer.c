/* One scorer between a sampler and a reward service that answers every call after 50 ms: pictures of 64x64 a second and
 * the cores it takes, against what the service gives a plain load generator with as many connections, in the same run.
 * Real store, scorer and Redis; the sampler and the service are threads of this program. */
#include "base/log.h"
#include "base/mem.h"
#include "scorer/oip.h"
#include "support/bad_http.h"
#include "support/bench.h"
#include "support/ring.h"
#include "support/suite.h"
#include "support/wire_sampler.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 50
#define CALLS 6
#define BATCH 64
#define SECONDS 6.0
#define WARM_S 2.0
#define SIDE 64

/* ---- the floor: the same requests from plain sockets ---- */

struct load {
    uint16_t port;
    const struct buf *request;
    atomic_bool stop;
    atomic_uint answers;
};

static void *generate(void *arg)
{
    struct load *l = arg;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(l->port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    static _Thread_local char answer[64 << 10];
    while (!atomic_load(&l->stop)) {
        for (size_t at = 0; at < l->request->bytes;) {
            const ssize_t n = send(fd, l->request->data + at, l->request->bytes - at, MSG_NOSIGNAL);
            ck_assert_int_gt(n, 0);
            at += (size_t)n;
        }
        size_t used = 0, want = SIZE_MAX;
        while (used < want) {
            const ssize_t n = recv(fd, answer + used, sizeof answer - 1 - used, 0);
            ck_assert_int_gt(n, 0);
            used += (size_t)n;
            answer[used] = 0;
            const char *end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
            if (end != NULL)
                want = (size_t)(end + 4 - answer) + (length != NULL ? strtoul(length + 16, NULL, 10) : 0);
        }
        atomic_fetch_add(&l->answers, 1);
    }
    close(fd);
    return NULL;
}

static void make_request(struct buf *out)
{
    static uint8_t pixels[SIDE * SIDE * 3];
    struct backend_item items[BATCH];
    struct oip_model model = {.images = OIP_NHWC,
                              .image_input = "image",
                              .prompt_input = "prompt",
                              .prompt_rank = 1,
                              .output = "score",
                              .binary = true};
    struct buf body;
    struct err e;
    size_t json_bytes;
    for (size_t i = 0; i < BATCH; i++)
        items[i] = (struct backend_item){
            .rgb = pixels, .height = SIDE, .width = SIDE, .prompt = "a red circle", .metadata = ""};
    buf_init(&body, 16 << 20);
    ck_assert_msg(oip_write_request(&body, &json_bytes, &model, "bench", items, BATCH, &e) == 0, "%s", e.text);
    buf_format(out, "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", body.bytes);
    buf_add(out, body.data, body.bytes);
    buf_done(&body);
}

static double floor_pictures(uint16_t port)
{
    struct buf request;
    struct load l = {.port = port, .request = &request};
    pthread_t t[CALLS];
    buf_init(&request, 16 << 20);
    make_request(&request);
    for (int i = 0; i < CALLS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, generate, &l), 0);
    ring_nap(500);
    const unsigned before = atomic_load(&l.answers);
    const double from = bench_wall_s();
    ring_nap(3000);
    const double rate = BATCH * (atomic_load(&l.answers) - before) / (bench_wall_s() - from);
    atomic_store(&l.stop, true);
    for (int i = 0; i < CALLS; i++)
        pthread_join(t[i], NULL);
    buf_done(&request);
    return rate;
}

/* ---- the scorer ---- */

static void on_acked(void *arg, const uint8_t id[TRAJECTORY_ID_BYTES])
{
    (void)id;
    ++*(unsigned *)arg;
}

static double cpu_seconds(pid_t pid)
{
    char path[64], text[1024] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
    fclose(f);
    ck_assert_int_eq(
        sscanf(strrchr(text, ')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system), 2);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static void turn_until(struct wire_sampler *s, double end)
{
    while (bench_wall_s() < end) {
        wire_sampler_turn(s);
        ring_nap(1);
    }
}

START_TEST(bench_scorer)
{
    struct bad_http *service = bad_http_start(BAD_GOOD);
    struct ring ring;
    static struct wire_sampler sampler;
    char url[80], calls[40], batch[40];
    unsigned acked = 0;
    bad_http_delay(service, ANSWER_MS);
    const double floor = floor_pictures(bad_http_port(service));
    snprintf(url, sizeof url, "reward.url=http://127.0.0.1:%u", bad_http_port(service));
    snprintf(calls, sizeof calls, "reward.concurrency=%d", CALLS);
    snprintf(batch, sizeof batch, "reward.batch=%d", BATCH);
    const char *const settings[] = {calls,
                                    batch,
                                    "reward.model=m",
                                    "run.steps=10",
                                    "run.forward_looking=yes",
                                    "scorer.window=256",
                                    "replay.ahead_max=1000000",
                                    "log.level=warn",
                                    NULL};
    ring_open(&ring, &(struct ring_options){.settings = settings});
    ring_set(&ring, url); /* in the place of the ring's judge */
    ring_start(&ring, RING_REDIS, 0);
    ring_start(&ring, RING_STORE, 0);
    ring_start(&ring, RING_SCORER, 0);
    wire_sampler_open(&sampler, ring.store, ring.news, ring.scorer, on_acked, &acked);
    sampler.flight = WIRE_SAMPLER_FLIGHT_MAX;
    turn_until(&sampler, bench_wall_s() + WARM_S);
    if (acked == 0) {
        char *log = ring_log(&ring, RING_SCORER, 0);
        ck_abort_msg("nothing was scored: %s", log);
    }
    const unsigned before = acked;
    const pid_t pid = ring_process(&ring, RING_SCORER, 0)->pid;
    const double from = bench_wall_s(), cpu = cpu_seconds(pid);
    turn_until(&sampler, from + SECONDS);
    const double seconds = bench_wall_s() - from, cores = (cpu_seconds(pid) - cpu) / seconds;
    const double pictures = sampler.run.steps * (acked - before) / seconds;
    char more[96];
    snprintf(more, sizeof more, ",\"cores\":%.2f,\"per_core\":%.0f,\"failed\":%zu", cores, pictures / cores,
             sampler.failed);
    bench_print(&(struct bench_figure){.bench = "scorer",
                                       .what = "64x64 through one scorer, service of 50 ms",
                                       .figure = pictures,
                                       .unit = "pictures/s",
                                       .floor = floor,
                                       .floor_name = "the service alone",
                                       .more = more});
    sampler.drained = true;
    wire_sampler_close(&sampler);
    ring_close(&ring);
    bad_http_stop(service);
}
END_TEST

SUITE("bench/scorer", 120, bench_scorer)
