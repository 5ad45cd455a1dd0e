/* dagline-trainer: DAG updates of the policy from the replay. */
#include "base/config.h"
#include "base/log.h"
#include "base/log_settings.h"
#include "io/health.h"
#include "replay/replay_params.h"
#include "trainer/params.h"
#include "trainer/trainer.h"
#include "wire/net_params.h"

#include <stdio.h>

static int run(const struct trainer_params *p, const struct replay_params *rp, const struct net_params *np,
               struct err *e)
{
    const struct wire_net_options net_o = net_options(np, PARTY_TRAINER, "trainer");
    struct trainer_options o = {.store = np->store, .news = np->news};
    char password[CONFIG_TEXT_BYTES_MAX];
    struct loop *loop = NULL;
    struct wire_net *net = NULL;
    struct trainer *t = NULL;
    int rc = -1;
    if (trainer_params_apply(&o, p, e) == 0 && replay_options_of(&o.replay, rp, "", password, e) == 0 &&
        loop_open(&loop, e) == 0 && wire_net_open(&net, &net_o, e) == 0 && trainer_open(&t, net, loop, &o, e) == 0)
        rc = trainer_run(t, e);
    trainer_close(t);
    wire_net_close(net);
    loop_close(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct trainer_params p;
    struct replay_params replay;
    struct net_params net;
    struct log_settings log;
    struct err e = {0};
    const struct config_binding bindings[] = {
        {&trainer_table, &p}, {&replay_table, &replay}, {&net_table, &net}, {&log_settings_table, &log}};
    const struct config_app app = {
        .name = "dagline-trainer", .about = "DAG updates of the policy from the replay", .foreign = config_sections};
    const bool ask = health_wanted(&argc, argv);
    struct config *c = config_new(&app, bindings, sizeof bindings / sizeof *bindings);
    int status = config_main(c, argc, argv);
    if (status < 0 && ask) {
        status = health_ask(p.listen, &e) < 0;
        if (status != 0)
            fprintf(stderr, "%s\n", e.text);
    } else if (status < 0) {
        log_open_with("trainer", &log);
        status = run(&p, &replay, &net, &e) < 0;
        if (status != 0)
            log_err("failed", &e);
    }
    config_free(c);
    return status;
}
