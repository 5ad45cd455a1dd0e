/* dagline keys DIR: a CURVE key pair for each party and the allow-list (wire/keys.h). */
#ifndef DAGLINE_CMD_KEYS_H
#define DAGLINE_CMD_KEYS_H

/* argv[0] is "keys".  Returns the exit status: 0, 1 for a failure, 2 for usage. */
int cmd_keys(int argc, char **argv);

#endif
