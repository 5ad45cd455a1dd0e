#include "support/wire_sampler.h"

#include "base/clock.h"
#include "base/mem.h"
#include "run/run_chain.h"
#include "support/trajectories.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define HELLO_MS 500
#define RESEND_MS 3000
#define STORE_MS 30000

void wire_sampler_open(struct wire_sampler *s, const char *store, const char *news,
                       const char *scorer,
                       void (*acked)(void *arg, const uint8_t id[TRAJECTORY_ID_BYTES]), void *arg)
{
    struct err e;
    memset(s, 0, sizeof *s);
    s->flight = WIRE_SAMPLER_FLIGHT;
    s->acked = acked;
    s->arg = arg;
    const struct wire_net_options net = {.party = PARTY_SAMPLER, .sender = "sampler/test"};
    const struct store_client_options so = {.endpoint = store, .timeout_ms = STORE_MS};
    const bool ok = wire_net_open(&s->net, &net, &e) == 0 &&
                    store_client_open(&s->store, s->net, &so, &e) == 0 &&
                    store_client_run(s->store, &s->run, &e) == 0 &&
                    store_client_slot_take(s->store, &s->slot, &e) == 0 &&
                    store_client_policy(s->store, NULL, &s->policy, &e) == 0 &&
                    news_open(&s->news, s->net, news, NEWS_WANT_POLICY | NEWS_WANT_STOP, &e) == 0 &&
                    wire_open(&s->wire, s->net, WIRE_SCORER_CLIENT, scorer, &e) == 0;
    ck_assert_msg(ok, "%s", e.text);
    run_chain_digest(s->chain, &s->run);
}

void wire_sampler_close(struct wire_sampler *s)
{
    for (size_t i = 0; i < s->flight; i++)
        trajectory_free(s->item[i].t);
    wire_close(s->wire);
    news_close(s->news);
    store_client_close(s->store);
    run_spec_done(&s->run);
    wire_net_close(s->net);
}

size_t wire_sampler_waiting(const struct wire_sampler *s)
{
    size_t n = 0;
    for (size_t i = 0; i < s->flight; i++)
        n += s->item[i].t != NULL;
    return n;
}

/* Everything of the run's form: the last step is taken by its mean, so that chain state steps - 1
 * is terminal. */
static struct trajectory *make(struct wire_sampler *s)
{
    const struct trajectory_shape shape = {
        .states = s->run.steps, .latent_side = s->run.latent_height, .image_side = 64};
    struct trajectory *t = trajectories_make(s->slot, s->counter, &shape);
    trajectory_id(t->id, s->run.run_id, s->slot, s->counter++);
    memcpy(t->schedule_digest, s->chain, sizeof t->schedule_digest);
    t->policy_version = s->policy.version;
    memcpy(t->policy_digest, s->policy.digest, sizeof t->policy_digest);
    for (uint32_t i = 0; i < t->state_count; i++) {
        t->states[i].has_image = s->run.forward_looking && !t->states[i].terminal;
        t->states[i].timestep = 900 - 100 * i;
    }
    return t;
}

static void hear(struct wire_sampler *s)
{
    struct news_item item;
    struct err e;
    while (news_poll(s->news, &item, 0, &e) == 0) {
        if (item.kind == NEWS_STOP)
            s->stopped = true;
        else if (item.policy.token >= s->policy.token)
            s->policy = item.policy;
    }
}

static void say_hello(struct wire_sampler *s, int64_t now_ms)
{
    struct err e;
    if (now_ms - s->hello_ms < HELLO_MS)
        return;
    s->hello_ms = now_ms;
    struct message *m = message_new(MESSAGE_HELLO);
    codec_put_hello(m, &(struct hello){.item_bytes = 256 << 10, .slot = s->slot});
    if (wire_send(s->wire, &m, &e) < 0)
        message_free(m);
}

static void send_due(struct wire_sampler *s, int64_t now_ms)
{
    struct err e;
    for (size_t i = 0; i < s->flight; i++) {
        if (s->item[i].t == NULL && !s->drained) {
            s->item[i].t = make(s);
            s->item[i].bytes = codec_trajectory_bytes(s->item[i].t);
            s->item[i].sent_ms = -1;
        }
        const bool due = s->item[i].t != NULL &&
                         (s->item[i].sent_ms < 0 || now_ms - s->item[i].sent_ms > RESEND_MS);
        if (!due || s->items_sent >= s->items_granted ||
            s->bytes_sent + s->item[i].bytes > s->bytes_granted)
            continue;
        struct message *m = message_new(MESSAGE_TRAJECTORY);
        ck_assert_msg(codec_put_trajectory(m, s->item[i].t, &e) == 0, "%s", e.text);
        if (wire_send(s->wire, &m, &e) < 0) {
            message_free(m);
            return;
        }
        s->item[i].sent_ms = now_ms;
        s->items_sent++;
        s->bytes_sent += s->item[i].bytes;
    }
}

static void take_credit(struct wire_sampler *s, const struct message *m)
{
    struct credit c;
    struct err e;
    ck_assert_msg(codec_get_credit(m, &c, &e) == 0, "%s", e.text);
    if (c.session != s->session) {
        s->session = c.session;
        s->sessions++;
        s->items_granted = s->bytes_granted = s->items_sent = s->bytes_sent = 0;
        for (size_t i = 0; i < s->flight; i++)
            s->item[i].sent_ms = -1;
    }
    s->items_granted = c.items > s->items_granted ? c.items : s->items_granted;
    s->bytes_granted = c.bytes > s->bytes_granted ? c.bytes : s->bytes_granted;
}

static void take_ack(struct wire_sampler *s, const struct message *m)
{
    struct ack a;
    struct err e;
    ck_assert_msg(codec_get_ack(m, &a, &e) == 0, "%s", e.text);
    if (a.outcome == ACK_STORED || a.outcome == ACK_DUPLICATE)
        s->acked(s->arg, a.id);
    for (size_t i = 0; i < s->flight; i++) {
        if (s->item[i].t == NULL || memcmp(s->item[i].t->id, a.id, sizeof a.id) != 0)
            continue;
        trajectory_free(s->item[i].t);
        s->item[i].t = NULL;
        s->stored += a.outcome == ACK_STORED;
        s->duplicate += a.outcome == ACK_DUPLICATE;
        if (a.outcome == ACK_REJECTED || a.outcome == ACK_FAILED) {
            s->failed++;
            memcpy(s->reason, a.reason, sizeof s->reason);
        }
    }
}

void wire_sampler_turn(struct wire_sampler *s)
{
    struct err e;
    const int64_t now_ms = clock_mono_ms(NULL);
    hear(s);
    say_hello(s, now_ms);
    send_due(s, now_ms);
    for (struct message *m; wire_recv(s->wire, &m, 0, &e) == 0; message_free(m)) {
        if (m->kind == MESSAGE_CREDIT)
            take_credit(s, m);
        else if (m->kind == MESSAGE_ACK)
            take_ack(s, m);
    }
}
