/* Training objectives: scalars of transitions in, coefficients out.  Pure: no I/O, no clock, no random numbers, no
 * network.  Mathematics and sources: docs/numerics.md.
 *
 * An objective never sees a tensor.  Every one of them reaches the policy through log p_F alone, and
 * d log p_F / d eps is closed-form (diffusion/step.h), so that dL/d(log p_F) is all it must say:
 *     dL/d eps_i = d_log_pf * c_eps * z_i / sqrt(v),   z = (x_s - mu)/sqrt(v).
 *
 * Units: log-densities come in as sums over the D latent elements, in nats.  Inside, they are
 * multiplied by `scale` (S): 1 = nats, 1/D = the published convention (mean over elements).  Rewards
 * are multiplied by `beta`, flows are the network's output as it is; both are in the scaled unit. */
#ifndef DAGLINE_OBJECTIVE_OBJECTIVE_H
#define DAGLINE_OBJECTIVE_OBJECTIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is trained towards.  Below, c = S (log p_F - log q) for the objectives whose target is R^beta, and
 * c = S (log p_F - log p_base) for those that keep the prior (target p_base R^beta); F = f + beta psi, and F := beta r
 * at the terminal state; f = log F~ of the flow network. */
enum objective_kind {
    OBJECTIVE_DAG_DB,      /* delta = F_t + c - F_s for each transition; L = mean delta^2 (arXiv 2406.00633) */
    OBJECTIVE_DAG_SUBTB,   /* the same over every stretch m < n of a chain, weights lambda^(n-m), normalised */
    OBJECTIVE_DAG_KL,      /* the flow by DAG_DB; the policy by REINFORCE with advantage -delta (arXiv 2406.00633) */
    OBJECTIVE_TB,          /* (f_T + S log N(x_T) + sum c - beta r)^2 for each chain: f_T is log Z(c, x_T) */
    OBJECTIVE_VARGRAD,     /* variance of S log N(x_T) + sum c - beta r over the chains of one prompt */
    OBJECTIVE_RESIDUAL_DB, /* DAG_DB with the prior kept */
    OBJECTIVE_RTB,         /* (f_T + sum c - beta r)^2 with the prior kept (arXiv 2405.20971) */
    OBJECTIVE_RELATIVE_VARGRAD, /* variance of sum c - beta r with the prior kept */
    OBJECTIVE_GROUP_SOFTMAX, /* KL(softmax(beta r~) || softmax(S sum log p_F)) over the chains of one prompt; r~ is r
                              * standardised there (TMPO, arXiv 2605.10983) */
    OBJECTIVE_DDPO,        /* clipped policy gradient with the chain's advantage (arXiv 2305.13301) */
    OBJECTIVE_KINDS
};

/* Their names, in this order. */
#define OBJECTIVE_NAMES "dag_db|dag_subtb|dag_kl|tb|vargrad|residual_db|rtb|relative_vargrad|group_softmax|ddpo"
/* False where no kind has that name. */
bool objective_named(enum objective_kind *out, const char *name);

/* What an objective reads, so that nothing else is computed. */
struct objective_needs {
    bool whole_batch; /* its coefficients depend on the whole update: the batch is scored once before */
    bool whole_chain; /* every transition of a chain: run.transition_fraction 1 */
    bool flow;        /* the flow network */
    bool base;        /* log p_base */
    bool noising;     /* log q: eta 1 alone has a Markov noising kernel */
    bool groups;      /* several chains of one prompt in a batch: run.group_size above 1 */
};
struct objective_needs objective_needs(enum objective_kind kind);

/* How actions of another policy than the current one are weighed: every one by DAG_KL, TRUNCATED by DAG_DB and
 * RESIDUAL_DB as well.  Those two are regressions, whose optimum is the same for any actions where the policy can reach
 * it; one of fixed variance cannot, and without the weight stale actions pull it back to the policy that drew them. */
enum objective_ratio {
    RATIO_NONE,      /* as if they were its own */
    RATIO_CLIPPED,   /* rho = exp(S log(p/b)) on the score, no gradient beyond exp(-+clip) (PPO) */
    RATIO_TRUNCATED, /* w = min(exp(log(p/b)), weight_max), in nats, on the transition's whole loss, the flow's too: the
                      * exact one-step correction, truncated */
    RATIO_RESAMPLED, /* another action, drawn by the current policy at the same state, in their place; the flow, and the
                      * last step, where only the stored action has a reward, by the truncated weight */
};

struct objective_settings {
    enum objective_kind kind;
    double scale;         /* S */
    double beta;          /* of this step, annealed by the caller: log R = beta * r */
    double delta_max;     /* Huber threshold on |delta| of the squared losses; 0: off */
    double lambda;        /* DAG_SUBTB */
    double policy_weight; /* DAG_KL: of the policy's part */
    enum objective_ratio ratio;
    double clip;          /* DDPO, DAG_KL by RATIO_CLIPPED: half-width of log rho, in the scaled unit */
    double weight_max;    /* RATIO_TRUNCATED */
    double advantage_max; /* DAG_KL, DDPO: clamp; 0: off */
    bool standardise;     /* DAG_KL: advantages over their standard deviation at the same step */
};

/* One transition x_t -> x_s of the batch. */
struct objective_transition {
    double log_pf;         /* log p_F(x_s | x_t) under the current policy */
    double log_pf_old;     /* the same under the policy that sampled it */
    double log_ratio_base; /* log p_F - log p_base */
    double log_pb;         /* log q(x_t | x_s), the noising kernel */
    double flow_t;         /* log F~(x_t, t, c) */
    double flow_s;         /* log F~(x_s, s, c); not read where s is terminal */
    double psi_t;          /* forward-looking reward at t, weighted, before beta */
    double psi_s;          /* the same at s; where s is terminal, the final image's reward itself */
    uint32_t step;         /* k of the chain, below OBJECTIVE_STEPS_MAX */
    bool terminal;         /* log F(x_s) := beta * psi_s, a constant */
    struct {
        bool drawn;
        double log_pf, log_pb, flow_s; /* as above, of x_t -> another x_s ~ p_F; psi is 0 there */
    } fresh;               /* RATIO_RESAMPLED */
};
#define OBJECTIVE_STEPS_MAX 1000

/* One chain: transitions [first, first + count) of the batch, in the order of their steps; count > 0. */
struct objective_chain {
    size_t first, count;
    uint32_t group;   /* chains with the same number have the same prompt */
    double reward;    /* of the final image */
    double log_prior; /* log N(x_T; 0, I), nats: TB and VARGRAD */
    double advantage; /* DDPO: standardised reward (trainer/advantage.h) */
};

struct objective_cotangent {
    double delta;     /* residual of the transition (or of its chain), or its advantage: scaled unit */
    double loss;      /* this transition's share of the loss */
    double weight;    /* the ratio or importance weight that was used; 1 without one */
    bool clipped;     /* its gradient was cut off by the clip, or its weight by weight_max */
    double d_log_pf;  /* dL / d log p_F (sum, nats); of the fresh action where one was drawn */
    double d_flow_t;  /* dL / d flow_t */
    double d_flow_s;  /* dL / d flow_s; 0 where s is terminal */
};

/* Chains [m] and the transitions that they name. */
struct objective_batch {
    const struct objective_transition *transition;
    const struct objective_chain *chain;
    size_t m;
    size_t transitions, chains; /* of the whole update: micro-batches add up to its mean */
};

/* Overwrites out[i] for every transition i of the chains.  psi, log q, log p_base and terminal rewards are constants;
 * gradient flows into both flows and log p_F (no target network).  An objective that needs the whole batch gets it whole. */
void objective_run(struct objective_cotangent *out, const struct objective_batch *b,
                   const struct objective_settings *o);

/* Linear warm-up of beta over the first `fraction` of `steps_total` updates; `step` counts from 0.
 * The published run starts at 0 and is full from half of the run on: fraction 0.5. */
double objective_beta(double beta, double fraction, uint64_t step, uint64_t steps_total);

/* The share of the learning rate at a step: 1 over the first half of the updates, then falling linearly to `last`
 * at the final one. */
double objective_decay(double last, uint64_t step, uint64_t steps_total);

#endif
