/* dagline-store: the checkpoint store. */
#include "run/service.h"
#include "store/params.h"
#include "store/run.h"
#include "store/serve.h"

struct settings {
    struct store_params store;
    struct net_params net;
    struct run_params run;
};

static int check(void *arg, struct err *e)
{
    const struct settings *s = arg;
    return run_check(s->store.model, s->store.prompts, s->store.prompts_column, e);
}

static int start(void *arg, const char *yaml, struct err *e)
{
    const struct settings *s = arg;
    return serve(&s->store, &s->net, &s->run, yaml, e);
}

int main(int argc, char **argv)
{
    struct settings s;
    const struct service service = {
        .binary = "dagline-store",
        .name = "store",
        .about = "keeps runs, models, policies and checkpoints",
        .listen = s.store.listen,
        .sections = {{&run_table, &s.run}, {&store_table, &s.store}, {&net_table, &s.net}},
        .check = check,
        .serve = start,
        .arg = &s};
    return service_main(&service, argc, argv);
}
