/* dagline bench tempered --policy FILE --beta B: whether a policy that was trained on builtin:shapes_colour draws colours as
 * often as p_base(colour | prompt) exp(beta r(colour)) / Z asks, by total variation. */
#ifndef DAGLINE_CMD_BENCH_TEMPERED_H
#define DAGLINE_CMD_BENCH_TEMPERED_H

/* argv[0] is "tempered".  Exit status: 0, 1 for a failure, 2 for usage. */
int cmd_bench_tempered(int argc, char **argv);

#endif
