/* A reward service tried out by hand, without a run (`dagline reward`, which hands over to these):
 *
 *   score   pictures and a prompt through the reward, or the several rewards, of these settings
 *   check   which form a service speaks, what it says about sample pictures, how fast, in which
 *           batches; and the settings for it */
#ifndef DAGLINE_SCORER_TRIAL_H
#define DAGLINE_SCORER_TRIAL_H

/* argv[0] is "score" or "check".  Exit status: 0, 1 for a failure, 2 for usage. */
int trial_score(int argc, char **argv);
int trial_check(int argc, char **argv);

#endif
