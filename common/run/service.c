#include "run/service.h"

#include "base/log.h"
#include "base/log_settings.h"
#include "io/health.h"
#include "wire/codec.h"

#include <stdio.h>

static int ask_health(const char *listen)
{
    struct err e;
    if (health_ask(listen, &e) == 0)
        return 0;
    fprintf(stderr, "%s\n", e.text);
    return 1;
}

static int serve(const struct service *s, const struct config *c, const struct log_settings *log)
{
    struct err e = {0};
    struct buf settings;
    buf_init(&settings, CODEC_SETTINGS_BYTES_MAX);
    log_open_with(s->name, log);
    config_print(c, &settings);
    const int rc = s->serve(s->arg, buf_text(&settings), &e);
    if (rc < 0)
        log_err("failed", &e);
    buf_done(&settings);
    return rc < 0;
}

int service_main(const struct service *s, int argc, char **argv)
{
    struct log_settings log;
    struct config_binding bindings[SERVICE_SECTIONS_MAX + 1];
    size_t n = 0;
    for (; n < SERVICE_SECTIONS_MAX && s->sections[n].table != NULL; n++)
        bindings[n] = s->sections[n];
    bindings[n++] = (struct config_binding){&log_settings_table, &log};
    const bool ask = health_wanted(&argc, argv);
    const struct config_app app = {.name = s->binary,
                                   .about = s->about,
                                   .foreign = config_sections,
                                   .check = ask ? NULL : s->check, /* whoever asks may have less than the service */
                                   .check_arg = s->arg};
    struct config *c = config_new(&app, bindings, n);
    int status = config_main(c, argc, argv);
    if (status < 0)
        status = ask ? ask_health(s->listen) : serve(s, c, &log);
    config_free(c);
    return status;
}
