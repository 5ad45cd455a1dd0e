/* `dagline bench target`: objectives on densities of known answer. */
#ifndef DAGLINE_DAGLINE_CMD_BENCH_TARGET_H
#define DAGLINE_DAGLINE_CMD_BENCH_TARGET_H

/* argv[0] is "target". */
int cmd_bench_target(int argc, char **argv);

#endif
