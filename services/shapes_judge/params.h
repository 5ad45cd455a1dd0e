/* The section `judge`. */
#ifndef DAGLINE_SHAPES_JUDGE_PARAMS_H
#define DAGLINE_SHAPES_JUDGE_PARAMS_H

#include "base/config.h"

#define JUDGE_PARAMS(P, S)                                                                         \
    P(S, text, listen, "127.0.0.1:8090", "", "255", "",                                            \
      "address of the service; it knows no keys")                                                  \
    P(S, integer, threads, "2", "1", "64", "", "pictures are looked at by so many")                \
    P(S, integer, images_max, "1024", "1", "4096", "images", "in one request")

CONFIG_STRUCT(judge_params, JUDGE_PARAMS);
extern const struct config_table judge_table;

#endif
