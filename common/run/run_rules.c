#include "run/run_rules.h"

int run_rules_objective(const struct run_spec *run, enum objective_kind kind, struct err *e)
{
    const struct objective_needs needs = objective_needs(kind);
    if (needs.whole_chain && run->transition_fraction < 1.0)
        return err_set(e, ERR_INVALID, "trainer.objective sums over whole chains: it needs run.transition_fraction 1, not %g",
                       run->transition_fraction);
    if (needs.noising && run->eta != 1.0)
        return err_set(e, ERR_INVALID, "trainer.objective balances against the noising kernel: it needs run.eta 1, not %g "
                       "(residual_db, rtb and relative_vargrad take any eta above 0)", run->eta);
    if (needs.groups && run->group_size < 2)
        return err_set(e, ERR_INVALID, "trainer.objective compares chains of one prompt: it needs run.group_size 2 or more");
    return 0;
}

int run_rules_batch(const struct run_spec *run, uint32_t batch, struct err *e)
{
    return !run->lockstep || run->lockstep_batch == batch
               ? 0
               : err_set(e, ERR_INVALID, "run.lockstep_batch is %u and trainer.batch is %u: in lockstep they must be the same",
                         run->lockstep_batch, batch);
}
