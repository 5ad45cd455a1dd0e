/* Settings held against the binaries that own them, before anything starts: each is run with --check on all that was
 * given, so that unknown names, values out of bounds and the rules between settings are found by whoever knows them.
 * Threads: any. */
#ifndef DAGLINE_DAGLINE_SETTINGS_CHECK_H
#define DAGLINE_DAGLINE_SETTINGS_CHECK_H

#include "base/config.h"

/* By every service, and by the rules between them (run/run_rules.h).  The error is the first one; a service's has the
 * origin of the setting in c. */
int settings_check_services(const struct config *c, struct err *e) MUST_USE;

/* By `dagline run`, which asks the services in turn. */
int settings_check_run(const struct config *c, struct err *e) MUST_USE;

#endif
