/* `dagline reward score|check`: a reward service tried out; dagline-scorer does it (scorer/trial.h). */
#ifndef DAGLINE_DAGLINE_CMD_REWARD_H
#define DAGLINE_DAGLINE_CMD_REWARD_H

int cmd_reward(int argc, char **argv);

#endif
