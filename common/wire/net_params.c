#include "wire/net_params.h"

CONFIG_TABLE(net_table, "net", "endpoints and keys", net_params, NET_PARAMS);

struct wire_net_options net_options(const struct net_params *p, enum message_party party,
                                    const char *sender)
{
    return (struct wire_net_options){.party = party,
                                     .sender = sender,
                                     .keys = p->keys,
                                     .insecure_plaintext = p->insecure_plaintext,
                                     .trajectory_bytes_max = (size_t)p->trajectory_max_bytes};
}
