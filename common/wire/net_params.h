/* The section `net` of every binary: where the services meet, and with which keys. */
#ifndef DAGLINE_WIRE_NET_PARAMS_H
#define DAGLINE_WIRE_NET_PARAMS_H

#include "base/config.h"
#include "wire/wire.h"

#define NET_PARAMS(P, S)                                                                           \
    P(S, text, store, "tcp://127.0.0.1:7701", "", "255", "",                                       \
      "endpoint of the store's requests: tcp://HOST:PORT or ipc://PATH; the store binds it")       \
    P(S, text, news, "tcp://127.0.0.1:7702", "", "255", "",                                        \
      "endpoint of the store's announcements; the store binds it")                                 \
    P(S, text, scorer, "tcp://127.0.0.1:7703", "", "255", "",                                      \
      "endpoint where a scorer takes trajectories; the scorer binds it")                           \
    P(S, text, keys, "", "", "1000", "",                                                           \
      "folder of CURVE keys and the allow-list (dagline keys DIR); empty: no keys")                \
    P(S, flag, insecure_plaintext, "no", "", "", "",                                               \
      "allow tcp without keys beyond loopback: anyone who reaches the port can act")               \
    P(S, size, trajectory_max, "16MiB", "64KiB", "256MiB", "",                                     \
      "largest trajectory message that a scorer accepts")

CONFIG_STRUCT(net_params, NET_PARAMS);
extern const struct config_table net_table;

/* Options for wire_net_open; `sender` and p are kept by pointer. */
struct wire_net_options net_options(const struct net_params *p, enum message_party party,
                                    const char *sender);

#endif
