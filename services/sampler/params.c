#include "sampler/params.h"

CONFIG_TABLE(sampler_table, "sampler", "makes trajectories", sampler_params, SAMPLER_PARAMS);
