/* dagline-sampler: makes trajectories with the newest policy. */
#include "base/config.h"
#include "base/log.h"
#include "base/log_settings.h"
#include "io/health.h"
#include "run/monitor.h"
#include "sampler/params.h"
#include "sampler/sampler.h"
#include "wire/net_params.h"

#include <stdio.h>

static int run(const struct sampler_params *p, const struct net_params *np, struct err *e)
{
    const struct wire_net_options net_o = net_options(np, PARTY_SAMPLER, "sampler");
    const struct sampler_options o = {.store = np->store,
                                      .news = np->news,
                                      .scorer = np->scorer,
                                      .cache = p->cache,
                                      .threads = (int)p->threads,
                                      .batch = (uint32_t)p->batch,
                                      .in_flight_max = (uint32_t)p->in_flight,
                                      .resend_ms = (uint32_t)p->resend_ms,
                                      .listen = p->listen};
    struct loop *loop = NULL;
    struct wire_net *net = NULL;
    struct sampler *s = NULL;
    int rc = -1;
    if (loop_open(&loop, e) == 0 && wire_net_open(&net, &net_o, e) == 0 &&
        sampler_open(&s, net, loop, &o, e) == 0)
        rc = sampler_run(s, e);
    sampler_close(s);
    wire_net_close(net);
    loop_close(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct sampler_params p;
    struct net_params net;
    struct log_settings log;
    struct err e = {0};
    const struct config_binding bindings[] = {
        {&sampler_table, &p}, {&net_table, &net}, {&log_settings_table, &log}};
    const struct config_app app = {
        .name = "dagline-sampler", .about = "makes trajectories with the newest policy", .foreign = config_sections};
    const bool ask = health_wanted(&argc, argv);
    struct config *c = config_new(&app, bindings, sizeof bindings / sizeof *bindings);
    int status = config_main(c, argc, argv);
    if (status < 0 && ask) {
        status = health_ask(p.listen, &e) < 0;
        if (status != 0)
            fprintf(stderr, "%s\n", e.text);
    } else if (status < 0) {
        log_open_with("sampler", &log);
        status = run(&p, &net, &e) < 0;
        if (status != 0)
            log_err("failed", &e);
    }
    config_free(c);
    return status;
}
