/* dagline-scorer: the reward-scorer adapter. */
#include "run/service.h"
#include "scorer/backend.h"
#include "scorer/scorer.h"
#include "scorer/trial.h"

#include <string.h>

static int check(void *arg, struct err *e)
{
    const struct scorer_settings *o = arg;
    return o->rewards.count > 0 ? backend_check_combined(&o->rewards, (enum backend_combination)o->scorer.combine, e)
                                : backend_check(&o->reward, e);
}

static int serve(void *arg, const char *yaml, struct err *e)
{
    struct scorer *s = NULL;
    int rc = scorer_open(&s, arg, e);
    (void)yaml;
    if (rc == 0 && s != NULL)
        rc = scorer_run(s, e);
    scorer_close(s);
    return rc;
}

int main(int argc, char **argv)
{
    static struct scorer_settings o;
    o.rewards.items = o.rewards_items;
    if (argc > 1 && strcmp(argv[1], "score") == 0)
        return trial_score(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "check") == 0)
        return trial_check(argc - 1, argv + 1);
    const struct service service = {.binary = "dagline-scorer",
                                    .name = "scorer",
                                    .about = "gets the rewards of trajectories and stores both in the replay",
                                    .listen = o.scorer.listen,
                                    .sections = {{&scorer_table, &o.scorer},
                                                 {&reward_table, &o.reward},
                                                 {&rewards_table, &o.rewards},
                                                 {&replay_table, &o.replay},
                                                 {&net_table, &o.net}},
                                    .check = check,
                                    .serve = serve,
                                    .arg = &o};
    return service_main(&service, argc, argv);
}
