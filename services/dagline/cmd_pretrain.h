/* `dagline pretrain`: the embedded model from scratch. */
#ifndef DAGLINE_DAGLINE_CMD_PRETRAIN_H
#define DAGLINE_DAGLINE_CMD_PRETRAIN_H

int cmd_pretrain(int argc, char **argv);

#endif
