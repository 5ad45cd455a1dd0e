/* The main of every service: settings, --help and its like, --healthcheck, the log, one serve function,
 * the exit status (0; 2 usage; 1 failure). */
#ifndef DAGLINE_RUN_SERVICE_H
#define DAGLINE_RUN_SERVICE_H

#include "base/config.h"
#include "base/err.h"

#include <stddef.h>

#define SERVICE_SECTIONS_MAX 8

struct service {
    const char *binary; /* "dagline-store" */
    const char *name;   /* "store", in log lines */
    const char *about;  /* one line for --help */
    const char *listen; /* the loaded setting that --healthcheck asks at; points into a bound struct */
    struct config_binding sections[SERVICE_SECTIONS_MAX]; /* a NULL table ends them; the log's is added */
    /* Rules between settings, and files that they name, held before serve and by --check, not by --print-config and
     * --healthcheck; says which one to change.  May be NULL. */
    int (*check)(void *arg, struct err *e);
    /* Serves until told to end.  `settings` is the effective YAML, for the record. */
    int (*serve)(void *arg, const char *settings, struct err *e);
    void *arg;
};

int service_main(const struct service *s, int argc, char **argv);

#endif
