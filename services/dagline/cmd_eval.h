/* `dagline eval`: what a model of the embedded world can do, by the analytic judge. */
#ifndef DAGLINE_DAGLINE_CMD_EVAL_H
#define DAGLINE_DAGLINE_CMD_EVAL_H

int cmd_eval(int argc, char **argv);

#endif
