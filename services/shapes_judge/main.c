/* dagline-shapes-judge: scores pictures of the embedded world over HTTP. */
#include "base/log.h"
#include "io/httpd.h"
#include "run/service.h"
#include "shapes_judge/params.h"
#include "shapes_judge/service.h"
#include "wire/loop.h"

#include <stdio.h>

#define REPLY_BYTES_MAX ((size_t)4 << 20)
#define DRAIN_MS 5000

CONFIG_TABLE(judge_table, "judge", "the judge of the embedded world", judge_params, JUDGE_PARAMS);

static void handle(void *arg, const struct httpd_request *q, struct httpd_reply *r)
{
    const struct service_request request = {.method = q->method,
                                            .path = q->path,
                                            .body = q->body,
                                            .body_bytes = q->body_bytes,
                                            .json_bytes =
                                                httpd_header(q, "Inference-Header-Content-Length")};
    struct service_reply reply = {0};
    buf_init(&reply.body, REPLY_BYTES_MAX);
    service_answer(arg, &request, &reply);
    r->status = reply.status;
    r->content_type = reply.content_type;
    buf_add(&r->body, reply.body.data, reply.body.bytes);
    if (reply.json_bytes != 0) {
        r->extra_name = "Inference-Header-Content-Length";
        snprintf(r->extra_value, sizeof r->extra_value, "%zu", reply.json_bytes);
    }
    buf_done(&reply.body);
}

static int on_signal(void *arg, struct err *e)
{
    (void)e;
    loop_stop(arg);
    return 0;
}

static int serve(void *arg, const char *yaml, struct err *e)
{
    const struct judge_params *p = arg;
    struct loop *loop = NULL;
    struct httpd *httpd = NULL;
    struct judge_service *service = service_new((unsigned)p->threads, (size_t)p->images_max);
    const struct httpd_options o = {.listen = p->listen,
                                    .threads = (unsigned)p->threads,
                                    .body_bytes_max = SERVICE_REQUEST_BYTES_MAX,
                                    .reply_bytes_max = REPLY_BYTES_MAX};
    (void)yaml;
    int rc = loop_open(&loop, e); /* before any thread: it blocks the signals */
    if (rc == 0)
        loop_on_drain(loop, on_signal, loop);
    if (rc == 0)
        rc = httpd_start(&httpd, &o, handle, service, e);
    if (rc == 0) {
        log_event(LOG_INFO, "ready", "listen=%s port=%d threads=%d", p->listen, httpd_port(httpd),
                  (int)p->threads);
        rc = loop_run(loop, e);
    }
    httpd_stop(httpd, DRAIN_MS);
    service_free(service);
    loop_close(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct judge_params p;
    const struct service service = {
        .binary = "dagline-shapes-judge",
        .name = "shapes-judge",
        .about = "scores pictures of the embedded world over HTTP (Open Inference Protocol v2)",
        .listen = p.listen,
        .sections = {{&judge_table, &p}},
        .serve = serve,
        .arg = &p};
    return service_main(&service, argc, argv);
}
