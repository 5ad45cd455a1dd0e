/* dagline status: what a store knows of its run: newest policy and checkpoint, and each service
 * with the weights that it applies, so that samplers which missed an update are seen by their
 * digest. */
#ifndef DAGLINE_CMD_STATUS_H
#define DAGLINE_CMD_STATUS_H

#include "wire/codec.h"

#include <stdio.h>

/* argv[0] is "status".  Returns the exit status: 0, 1 for a failure, 2 for usage. */
int cmd_status(int argc, char **argv);

/* The table alone; one service a line, silent ones (no report for STATUS_SILENT_S) marked. */
#define STATUS_SILENT_S 30.0
void status_print(FILE *to, const struct status *s);

#endif
