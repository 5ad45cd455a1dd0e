#include "scorer/params.h"

CONFIG_TABLE(scorer_table, "scorer", "the reward-scorer adapter", scorer_params, SCORER_PARAMS);
CONFIG_TABLE(reward_table, "reward", "where rewards come from", reward_params, REWARD_PARAMS);
CONFIG_TABLE_REPEATED(rewards_table, "rewards", "several rewards as one, in the place of `reward`",
                      reward_params, REWARD_PARAMS);
