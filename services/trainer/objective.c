#include "trainer/objective.h"

#include <assert.h>
#include <math.h>

double objective_beta(double beta, double fraction, uint64_t step, uint64_t steps_total)
{
    const double ramp = fraction * (double)steps_total;
    return ramp <= 0.0 || (double)step >= ramp ? beta : beta * (double)step / ramp;
}

double objective_decay(double last, uint64_t step, uint64_t steps_total)
{
    const double half = 0.5 * (double)steps_total, past = (double)step - half;
    const double most = (double)steps_total - 1.0 - half; /* steps count from 0 */
    if (past <= 0.0 || most <= 0.0)
        return 1.0;
    return past >= most ? last : 1.0 + (last - 1.0) * past / most;
}

void objective_dag_db(struct objective_cotangent *out, const struct objective_transition *in, size_t n,
                      size_t count, const struct objective_settings *o)
{
    assert(count >= n && n > 0 && o->scale > 0.0 && o->delta_max >= 0.0);
    const double share = 1.0 / (double)count;
    for (size_t i = 0; i < n; i++) {
        const struct objective_transition *x = &in[i];
        const double log_f_t = x->flow_t + o->beta * x->psi_t;
        const double log_f_s = (x->terminal ? 0.0 : x->flow_s) + o->beta * x->psi_s;
        const double delta = log_f_t + o->scale * (x->log_pf - x->log_pb) - log_f_s;

        double slope = delta; /* half of dloss/ddelta */
        double loss = delta * delta;
        if (o->delta_max > 0.0 && fabs(delta) > o->delta_max) {
            slope = copysign(o->delta_max, delta);
            loss = o->delta_max * (2.0 * fabs(delta) - o->delta_max);
        }
        const double d_delta = 2.0 * slope * share;
        out[i] = (struct objective_cotangent){
            .delta = delta,
            .loss = loss * share,
            .d_log_pf = d_delta * o->scale,
            .d_flow_t = d_delta,
            .d_flow_s = x->terminal ? 0.0 : -d_delta,
        };
    }
}
