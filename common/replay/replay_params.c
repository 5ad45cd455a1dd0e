#include "replay/replay_params.h"

CONFIG_TABLE(replay_table, "replay", "the replay buffer in Redis", replay_params, REPLAY_PARAMS);

int replay_options_of(struct replay_options *o, const struct replay_params *p, const char *run_id,
                      char password[CONFIG_TEXT_BYTES_MAX], struct err *e)
{
    password[0] = 0;
    if (p->password[0] != 0 &&
        config_read_secret(p->password, password, CONFIG_TEXT_BYTES_MAX, e) < 0)
        return err_wrap(e, "replay.password");
    *o = (struct replay_options){
        .address = p->address,
        .user = p->user,
        .password = password,
        .run_id = run_id,
        .bytes_max = (uint64_t)p->bytes_max_bytes,
        .items_min = (uint32_t)p->items_min,
        .samples_per_insert = p->samples_per_insert,
        .ahead_max = (uint32_t)p->ahead_max,
        .uses_max = (uint32_t)p->uses_max,
        .age_max = (uint32_t)p->age_max,
        .timeout_ms = (uint32_t)p->timeout_ms,
    };
    return 0;
}
