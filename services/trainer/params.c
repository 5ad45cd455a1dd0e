#include "trainer/params.h"

#include "trainer/trainer.h"

#include <stdlib.h>

CONFIG_TABLE(trainer_table, "trainer", "the learner", trainer_params, TRAINER_PARAMS);

static int flow_levels(struct learner_options *l, const char *list, struct err *e)
{
    char item[CONFIG_TEXT_BYTES_MAX];
    for (const char *at = list; config_list_next(&at, item, sizeof item);) {
        char *end;
        const long n = strtol(item, &end, 10);
        if (*end != 0 || n < 8 || n > 4096 || n % 8 != 0 || l->flow_levels == LEARNER_FLOW_LEVELS_MAX)
            return err_set(e, ERR_INVALID,
                           "trainer.flow_channels: '%s': give at most %d multiples of 8, such as 64,128,256,256", list,
                           LEARNER_FLOW_LEVELS_MAX);
        l->flow_channels[l->flow_levels++] = (uint32_t)n;
    }
    return l->flow_levels > 0 ? 0 : err_set(e, ERR_INVALID, "trainer.flow_channels is empty");
}

int trainer_params_apply(struct trainer_options *o, const struct trainer_params *p, struct err *e)
{
    o->cache = p->cache;
    o->listen = p->listen;
    o->batch = (uint32_t)p->batch;
    o->selector = (enum replay_selector)p->selector;
    o->priority_k = p->priority_k;
    o->checkpoint_every = (uint32_t)p->checkpoint_every;
    o->path_kl_max = p->path_kl_max;
    o->learner = (struct learner_options){
        .threads = (int)p->threads,
        .lora_rank = (size_t)p->lora_rank,
        .objective = {.kind = (enum objective_kind)p->objective,
                      .scale = p->scale,
                      .beta = p->beta,
                      .delta_max = p->delta_max,
                      .lambda = p->lambda,
                      .policy_weight = p->policy_weight,
                      .ratio = (enum objective_ratio)p->ratio,
                      .clip = p->clip,
                      .weight_max = p->weight_max,
                      .advantage_max = p->advantage_max,
                      .standardise = p->standardise},
        .beta_warmup = p->beta_warmup,
        .psi = (enum learner_psi)p->psi,
        .proximal = p->proximal,
        .anchor = p->anchor,
        .lr = p->lr,
        .flow_lr = p->flow_lr,
        .lr_final = p->lr_final,
        .beta1 = p->beta1,
        .beta2 = p->beta2,
        .eps = p->eps,
        .weight_decay = p->weight_decay,
        .grad_norm_max = p->grad_norm_max,
        .flow_scale = p->flow_scale,
        .micro_batch = (uint32_t)p->micro_batch,
        .kl_states = (uint32_t)p->kl_states,
    };
    if (o->learner.objective.kind == OBJECTIVE_DAG_KL && o->learner.objective.ratio == RATIO_RESAMPLED &&
        o->learner.psi != PSI_NONE)
        return err_set(e, ERR_INVALID,
                       "trainer.ratio: resampled needs trainer.psi: none, since nobody scores the states that it draws");
    if (o->path_kl_max > 0.0 && o->learner.kl_states == 0)
        return err_set(e, ERR_INVALID, "trainer.path_kl_max needs trainer.kl_states above 0: nothing is measured without");
    return flow_levels(&o->learner, p->flow_channels, e);
}
