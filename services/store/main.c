/* dagline-store: the checkpoint store. */
#include "base/config.h"
#include "base/log.h"
#include "base/log_settings.h"
#include "io/health.h"
#include "store/params.h"
#include "store/serve.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct store_params store;
    struct net_params net;
    struct run_params run;
    struct log_settings log;
    struct err e;
    struct buf settings;
    const struct config_binding bindings[] = {{&run_table, &run},
                                              {&store_table, &store},
                                              {&net_table, &net},
                                              {&log_settings_table, &log}};
    const struct config_app app = {.name = "dagline-store",
                                   .about = "keeps runs, models, policies and checkpoints",
                                   .foreign = config_sections};
    const bool ask = health_wanted(&argc, argv);
    struct config *c = config_new(&app, bindings, sizeof bindings / sizeof *bindings);
    int status = config_main(c, argc, argv);
    buf_init(&settings, CODEC_SETTINGS_BYTES_MAX);
    if (status < 0 && ask) {
        status = health_ask(store.listen, &e) == 0 ? 0 : 1;
        if (status != 0)
            fprintf(stderr, "%s\n", e.text);
    } else if (status < 0) {
        log_open_with("store", &log);
        config_print(c, &settings);
        status = serve(&store, &net, &run, buf_text(&settings), &e) < 0;
        if (status != 0)
            log_err("failed", &e);
    }
    buf_done(&settings);
    config_free(c);
    return status;
}
