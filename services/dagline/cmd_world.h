/* dagline world: pictures of the embedded world, and how well its judge reads them.
 *
 *   dagline world --seed S --count N -o grid.png [--captions]
 *   dagline world --judge N [--seed S] [--blur PX] [--noise SIGMA]
 *   dagline world --prompts N [--held-out | --open] [--seed S] */
#ifndef DAGLINE_CMD_WORLD_H
#define DAGLINE_CMD_WORLD_H

/* argv[0] is "world".  Returns the exit status: 0, 1 for a failure, 2 for usage; messages on
 * stderr. */
int cmd_world(int argc, char **argv);

#endif
