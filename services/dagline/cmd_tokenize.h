/* dagline tokenize --model DIR: lines of text on stdin, lines of token ids on stdout. */
#ifndef DAGLINE_CMD_TOKENIZE_H
#define DAGLINE_CMD_TOKENIZE_H

/* argv[0] is "tokenize".  Exit status: 0, 1 for a failure, 2 for usage. */
int cmd_tokenize(int argc, char **argv);

#endif
