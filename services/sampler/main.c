/* dagline-sampler: makes trajectories with the newest policy. */
#include "run/service.h"
#include "sampler/params.h"
#include "sampler/sampler.h"
#include "wire/net_params.h"

struct settings {
    struct sampler_params sampler;
    struct net_params net;
};

static int serve(void *arg, const char *yaml, struct err *e)
{
    const struct settings *s = arg;
    const struct wire_net_options net_o = net_options(&s->net, PARTY_SAMPLER, "sampler");
    const struct sampler_options o = {.store = s->net.store,
                                      .news = s->net.news,
                                      .scorer = s->net.scorer,
                                      .cache = s->sampler.cache,
                                      .message_max = (uint64_t)s->net.trajectory_max_bytes,
                                      .threads = (int)s->sampler.threads,
                                      .batch = (uint32_t)s->sampler.batch,
                                      .rate = s->sampler.rate,
                                      .in_flight_max = (uint32_t)s->sampler.in_flight,
                                      .resend_ms = (uint32_t)s->sampler.resend_ms,
                                      .listen = s->sampler.listen};
    struct loop *loop = NULL;
    struct wire_net *net = NULL;
    struct sampler *sampler = NULL;
    int rc = -1;
    (void)yaml;
    if (loop_open(&loop, e) == 0 && wire_net_open(&net, &net_o, e) == 0 &&
        sampler_open(&sampler, net, loop, &o, e) == 0)
        rc = sampler_run(sampler, e);
    sampler_close(sampler);
    wire_net_close(net);
    loop_close(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s;
    const struct service service = {.binary = "dagline-sampler",
                                    .name = "sampler",
                                    .about = "makes trajectories with the newest policy",
                                    .listen = s.sampler.listen,
                                    .sections = {{&sampler_table, &s.sampler}, {&net_table, &s.net}},
                                    .serve = serve,
                                    .arg = &s};
    return service_main(&service, argc, argv);
}
