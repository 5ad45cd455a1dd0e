/* dagline parity DIR [--fast] [--all]: every output and every gradient against reference values,
 * one line each. */
#ifndef DAGLINE_CMD_PARITY_H
#define DAGLINE_CMD_PARITY_H

/* argv[0] is "parity".  Exit status: 0 within the limits, 1 not or unreadable, 2 for usage. */
int cmd_parity(int argc, char **argv);

#endif
