/* `dagline run`: a whole run on this machine. */
#ifndef DAGLINE_DAGLINE_CMD_RUN_H
#define DAGLINE_DAGLINE_CMD_RUN_H

int cmd_run(int argc, char **argv);

#endif
