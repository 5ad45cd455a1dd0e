/* dagline sweep KEY=V1,V2... NAME.yaml...: one `dagline run` for every combination of settings, a table and a figure. */
#ifndef DAGLINE_CMD_SWEEP_H
#define DAGLINE_CMD_SWEEP_H

/* argv[0] is "sweep".  Exit status: 0, 1 for a failure (also of a single run), 2 for usage. */
int cmd_sweep(int argc, char **argv);

#endif
