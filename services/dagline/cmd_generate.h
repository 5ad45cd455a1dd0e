/* dagline generate --model DIR [--policy FILE] --prompt P ... -o FILE.png: a picture from a prompt.
 */
#ifndef DAGLINE_CMD_GENERATE_H
#define DAGLINE_CMD_GENERATE_H

/* argv[0] is "generate".  Exit status: 0, 1 for a failure, 2 for usage. */
int cmd_generate(int argc, char **argv);

#endif
