#include "dagline/cmd_parity.h"

#include "dagline/command.h"
#include "dagline/parity.h"

#include <stdio.h>

#define PARITY_PARAMS(P, S)                                                                        \
    P(S, flag, fast, "no", "", "", "", "the fast kernels instead of the BLAS reference path")
CONFIG_STRUCT(parity_params, PARITY_PARAMS);
CONFIG_TABLE_OPTIONS(parity_table, "parity", "what is compared", parity_params, PARITY_PARAMS);

struct tally {
    size_t lines, over;
};

static void show(void *arg, const struct parity_line *l)
{
    struct tally *const t = arg;
    const int over = !(l->error <= l->limit);
    t->lines++;
    t->over += over ? 1u : 0u;
    printf("%-8.2e %s%s\n", l->error, l->name, over ? "  OVER THE LIMIT" : "");
}

static int compare(const void *params, const char *const *arguments, size_t count, struct err *e)
{
    const struct parity_params *o = params;
    struct tally t = {0, 0};
    (void)count;
    if (parity_run(arguments[0], !o->fast, show, &t, e) < 0)
        return -1;
    printf("%zu compared, %zu over the limit\n", t.lines, t.over);
    return t.over == 0 ? 0 : 1;
}

int cmd_parity(int argc, char **argv)
{
    struct parity_params p;
    const struct command command = {
        .name = "dagline parity",
        .about = "the engine against DIR/{model/, reference.safetensors, "
                 "unet_param_grads.safetensors, lora/}: one line for each "
                 "output and gradient with its largest error relative to the largest reference "
                 "value; exit status 1 where one "
                 "exceeds 2e-5 (outputs) or 2e-4 (gradients)",
        .arguments = "DIR",
        .arguments_min = 1,
        .arguments_max = 1,
        .table = &parity_table,
        .params = &p,
        .work = compare,
    };
    return command_main(&command, argc, argv);
}
