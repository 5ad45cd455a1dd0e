/* The store's process: sockets, timers, signals and HTTP around the state machine of store.h. */
#ifndef DAGLINE_STORE_SERVE_H
#define DAGLINE_STORE_SERVE_H

#include "base/err.h"
#include "store/params.h"
#include "wire/net_params.h"
#include "wire/run_params.h"

/* Serves until SIGTERM or SIGINT; what was received by then is answered. */
int serve(const struct store_params *store, const struct net_params *net,
          const struct run_params *run, const char *settings, struct err *e) MUST_USE;

#endif
