/* dagline-trainer: DAG updates of the policy from the replay. */
#include "replay/replay_params.h"
#include "run/service.h"
#include "trainer/params.h"
#include "trainer/trainer.h"
#include "wire/net_params.h"

struct settings {
    struct trainer_params trainer;
    struct replay_params replay;
    struct net_params net;
};

static int check(void *arg, struct err *e)
{
    const struct settings *s = arg;
    struct trainer_options unused = {0};
    return trainer_params_apply(&unused, &s->trainer, e);
}

static int serve(void *arg, const char *yaml, struct err *e)
{
    const struct settings *s = arg;
    const struct wire_net_options net_o = net_options(&s->net, PARTY_TRAINER, "trainer");
    struct trainer_options o = {.store = s->net.store, .news = s->net.news};
    char password[CONFIG_TEXT_BYTES_MAX];
    struct loop *loop = NULL;
    struct wire_net *net = NULL;
    struct trainer *trainer = NULL;
    int rc = -1;
    (void)yaml;
    if (trainer_params_apply(&o, &s->trainer, e) == 0 && replay_options_of(&o.replay, &s->replay, "", password, e) == 0 &&
        loop_open(&loop, e) == 0 && wire_net_open(&net, &net_o, e) == 0 &&
        trainer_open(&trainer, net, loop, &o, e) == 0)
        rc = trainer_run(trainer, e);
    else if (e->code == ERR_CLOSED)
        rc = 0; /* asked to end before it began */
    trainer_close(trainer);
    wire_net_close(net);
    loop_close(loop);
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s;
    const struct service service = {
        .binary = "dagline-trainer",
        .name = "trainer",
        .about = "DAG updates of the policy from the replay",
        .listen = s.trainer.listen,
        .sections = {{&trainer_table, &s.trainer}, {&replay_table, &s.replay}, {&net_table, &s.net}},
        .check = check,
        .serve = serve,
        .arg = &s};
    return service_main(&service, argc, argv);
}
