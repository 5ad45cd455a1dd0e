/* dagline-scorer: the reward-scorer adapter. */
#include "base/config.h"
#include "base/log.h"
#include "base/log_settings.h"
#include "base/mem.h"
#include "io/health.h"
#include "scorer/scorer.h"

#include <stdio.h>

static int serve(const struct scorer_settings *settings, struct err *e)
{
    struct scorer *s = NULL;
    int rc = scorer_open(&s, settings, e);
    if (rc == 0 && s != NULL)
        rc = scorer_run(s, e);
    scorer_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    struct scorer_settings *o = mem_new(1, sizeof *o);
    struct log_settings log;
    struct err e = {0};
    const struct config_binding bindings[] = {{&scorer_table, &o->scorer},
                                              {&reward_table, &o->reward},
                                              {&replay_table, &o->replay},
                                              {&net_table, &o->net},
                                              {&log_settings_table, &log}};
    const struct config_app app = {
        .name = "dagline-scorer",
        .about = "gets the rewards of trajectories and stores both in the replay",
        .foreign = config_sections};
    const bool ask = health_wanted(&argc, argv);
    struct config *c = config_new(&app, bindings, sizeof bindings / sizeof *bindings);
    int status = config_main(c, argc, argv);
    if (status < 0 && ask) {
        status = health_ask(o->scorer.listen, &e) == 0 ? 0 : 1;
        if (status != 0)
            fprintf(stderr, "%s\n", e.text);
    } else if (status < 0) {
        log_open_with("scorer", &log);
        status = serve(o, &e) < 0;
        if (status != 0)
            log_err("failed", &e);
    }
    config_free(c);
    mem_free(o);
    return status;
}
