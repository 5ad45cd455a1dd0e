/* The section `store`. */
#ifndef DAGLINE_STORE_PARAMS_H
#define DAGLINE_STORE_PARAMS_H

#include "base/config.h"

#define STORE_PARAMS(P, S)                                                                         \
    P(S, text, data, "data/store", "", "1000", "",                                                 \
      "folder of everything that lasts; one store each")                                           \
    P(S, text, model, "models/shapes", "", "1000", "",                                             \
      "base model: a folder in the diffusers layout")                                              \
    P(S, text, prompts, "", "", "1000", "",                                                        \
      "training prompts: .txt, one a line; .jsonl, one {\"prompt\", \"tag\", \"metadata\"} a "     \
      "line; .csv or .tsv with a header")                                                          \
    P(S, text, prompts_column, "prompt", "", "100", "",                                            \
      "of a table: the prompts' column; \"tag\" is the tags', the others become metadata")         \
    P(S, integer, keep_checkpoints, "2", "1", "100", "", "newest checkpoints that are kept")       \
    P(S, integer, keep_policies, "4", "1", "1000", "", "newest policies whose weights are kept")   \
    P(S, duration, announce, "2s", "100ms", "1h", "", "the newest policy is announced this often") \
    P(S, integer, peers, "32", "1", "4096", "",                                                    \
      "services expected, for the memory bound printed at start")                                  \
    P(S, text, listen, "127.0.0.1:7711", "", "255", "", "/healthz and /metrics; empty: none")

CONFIG_STRUCT(store_params, STORE_PARAMS);
extern const struct config_table store_table;

#endif
