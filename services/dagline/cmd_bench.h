/* dagline bench unet --unet FILE --batch B --latent N --tokens L --threads K: seconds of a
 * forward pass and of a forward and backward pass, with all weights or with adapters. */
#ifndef DAGLINE_CMD_BENCH_H
#define DAGLINE_CMD_BENCH_H

/* argv[0] is "bench".  Exit status: 0, 1 for a failure, 2 for usage. */
int cmd_bench(int argc, char **argv);

#endif
