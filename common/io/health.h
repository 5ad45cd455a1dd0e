/* The client side of /healthz, for `SERVICE --healthcheck` (a container has no shell or curl to
 * ask). */
#ifndef DAGLINE_IO_HEALTH_H
#define DAGLINE_IO_HEALTH_H

#include "base/err.h"

#include <stdbool.h>

/* Whether --healthcheck is among the arguments; it is then removed from argv and *argc. */
bool health_wanted(int *argc, char **argv);

/* GET /healthz from the service's own `listen` address ("0.0.0.0:9100" is asked on loopback), 5 s
 * at most.  0 for status 200, else ERR_UNAVAILABLE with the reason. */
int health_ask(const char *listen, struct err *e) MUST_USE;

#endif
