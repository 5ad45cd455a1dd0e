#include "wire/wire.h"

#include "base/file.h"
#include "base/mem.h"
#include "support/folder.h"
#include "support/suite.h"
#include "wire/codec.h"
#include "wire/keys.h"
#include "wire/loop.h"
#include "wire/zap.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zmq.h>

#define WAIT_MS 5000

static const char *make_keys(void)
{
    struct err e;
    ck_assert_msg(keys_create_folder(test_folder(), &e) == 0, "%s", e.text);
    return test_folder();
}

static struct wire_net *net_of(enum message_party party, const char *keys)
{
    struct wire_net *net;
    struct err e;
    const struct wire_net_options o = {
        .party = party, .sender = message_party_name(party), .keys = keys};
    ck_assert_msg(wire_net_open(&net, &o, &e) == 0, "%s", e.text);
    return net;
}

static struct wire *open_wire(struct wire_net *net, enum wire_role role, const char *endpoint)
{
    struct wire *w;
    struct err e;
    ck_assert_msg(wire_open(&w, net, role, endpoint, &e) == 0, "%s", e.text);
    return w;
}

static void send_empty(struct wire *w, enum message_kind kind)
{
    struct err e;
    struct message *m = message_new(kind);
    codec_put_empty(m);
    m->request = 7;
    ck_assert_msg(wire_wait_writable(w, WAIT_MS, &e) == 0, "%s", e.text);
    ck_assert_msg(wire_send(w, &m, &e) == 0, "%s", e.text);
    ck_assert_ptr_null(m);
}

static struct message *expect(struct wire *w, enum message_kind kind)
{
    struct message *m;
    struct err e;
    ck_assert_msg(wire_recv(w, &m, WAIT_MS, &e) == 0, "%s", e.text);
    ck_assert_str_eq(message_kind_name(m->kind), message_kind_name(kind));
    return m;
}

START_TEST(a_request_is_answered_over_ipc)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "ipc:///tmp/dagline-wire-%d.sock", getpid());
    struct wire *server = open_wire(net, WIRE_STORE_RPC, endpoint);
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, endpoint);
    send_empty(client, MESSAGE_GET_RUN);
    struct message *m = expect(server, MESSAGE_GET_RUN);
    ck_assert_uint_eq(m->request, 7);
    ck_assert_int_eq(m->party, PARTY_LOCAL);
    ck_assert_str_eq(m->sender, "store");
    struct message *reply = message_reply(m, MESSAGE_OK);
    struct err e;
    codec_put_empty(reply);
    ck_assert_int_eq(wire_send(server, &reply, &e), 0);
    message_free(m);
    m = expect(client, MESSAGE_OK);
    ck_assert_uint_eq(m->request, 7);
    message_free(m);
    wire_close(client);
    wire_close(server);
    wire_net_close(net);
    unlink(endpoint + 6);
}
END_TEST

START_TEST(large_payloads_arrive_whole_and_without_a_copy_at_the_sender)
{
    struct wire_net *net = net_of(PARTY_TRAINER, NULL);
    struct wire *server = open_wire(net, WIRE_STORE_RPC, "inproc://x");
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, "inproc://x");
    static const size_t sizes[] = {0, 1, 33, 65535, 65536, WIRE_BLOB_CHUNK_BYTES_MAX};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct err e;
        struct message *m = message_new(MESSAGE_PUT_BLOB);
        struct blob_chunk chunk = {.digest = {1}, .bytes_total = sizes[i]};
        uint8_t *bytes = mem_new(sizes[i], 1);
        for (size_t j = 0; j < sizes[i]; j++)
            bytes[j] = (uint8_t)(j * 31 + i);
        message_own_payload(m, bytes, sizes[i]);
        codec_put_put_blob(m, &chunk);
        ck_assert_int_eq(wire_wait_writable(client, WAIT_MS, &e), 0);
        ck_assert_int_eq(wire_send(client, &m, &e), 0);
        m = expect(server, MESSAGE_PUT_BLOB);
        ck_assert_uint_eq(m->payload_bytes, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++)
            ck_assert_uint_eq(m->payload[j], (uint8_t)(j * 31 + i));
        message_free(m);
    }
    wire_close(client);
    wire_close(server);
    wire_net_close(net);
}
END_TEST

START_TEST(a_failed_send_leaves_the_message_with_its_owner)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    struct wire *server = open_wire(net, WIRE_STORE_RPC, "inproc://x");
    struct message *m = message_new(MESSAGE_OK);
    struct err e;
    codec_put_empty(m);
    memcpy(m->peer, "nobody", 6);
    m->peer_bytes = 6;
    ck_assert_int_eq(wire_send(server, &m, &e), -1);
    ck_assert_int_eq(e.code, ERR_UNAVAILABLE);
    ck_assert_ptr_nonnull(m);
    message_free(m);
    wire_close(server);
    wire_net_close(net);
}
END_TEST

START_TEST(a_payload_over_the_limit_is_refused_at_the_sender)
{
    struct wire_net *net = net_of(PARTY_SAMPLER, NULL);
    struct wire *inbox = open_wire(net, WIRE_SCORER_INBOX, "inproc://x");
    struct wire *client = open_wire(net, WIRE_SCORER_CLIENT, "inproc://x");
    struct message *m = message_new(MESSAGE_TRAJECTORY);
    struct err e;
    const size_t over = ((size_t)16 << 20) + 1;
    message_own_payload(m, mem_new(over, 1), over);
    ck_assert_int_eq(wire_send(client, &m, &e), -1);
    ck_assert_int_eq(e.code, ERR_INVALID);
    ck_assert_ptr_nonnull(m);
    message_free(m);
    wire_close(client);
    wire_close(inbox);
    wire_net_close(net);
}
END_TEST

/* A raw peer on the same context sends whatever frames it likes. */
static void send_raw(void *socket, const struct codec_frame *frames, size_t count)
{
    for (size_t i = 0; i < count; i++)
        ck_assert_int_ge(
            zmq_send(socket, frames[i].data, frames[i].bytes, i + 1 < count ? ZMQ_SNDMORE : 0), 0);
}

START_TEST(malformed_frames_are_dropped_and_counted_and_the_peer_is_banned)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "ipc:///tmp/dagline-wire-%d.sock", getpid());
    struct wire *server = open_wire(net, WIRE_STORE_RPC, endpoint);
    void *context = zmq_ctx_new();
    void *raw = zmq_socket(context, ZMQ_DEALER);
    const int linger = 0;
    zmq_setsockopt(raw, ZMQ_LINGER, &linger, sizeof linger);
    ck_assert_int_eq(zmq_connect(raw, endpoint), 0);

    struct message *good = message_new(MESSAGE_GET_RUN);
    codec_put_empty(good);
    uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX];
    const size_t n = codec_put_envelope(good, envelope);
    const struct codec_frame right[2] = {{envelope, n}, {"", 0}};
    const struct codec_frame garbage[2] = {{"garbage", 7}, {"", 0}};
    const struct codec_frame one[1] = {{envelope, n}};
    const struct codec_frame extra[3] = {{envelope, n}, {"", 0}, {"x", 1}};
    const struct codec_frame many[6] = {{envelope, n}, {"", 0}, {"", 0}, {"", 0}, {"", 0}, {"", 0}};
    const struct codec_frame longer[2] = {{envelope, n}, {"body", 4}};
    send_raw(raw, garbage, 2);
    send_raw(raw, one, 1);
    send_raw(raw, extra, 3);
    send_raw(raw, many, 6);
    send_raw(raw, longer, 2);
    send_raw(raw, right, 2);
    message_free(expect(server, MESSAGE_GET_RUN));
    ck_assert_uint_eq(wire_stats(server).dropped_malformed, 5);
    for (int i = 0; i < 5; i++)
        send_raw(raw, garbage, 2);
    send_raw(raw, right, 2);
    struct message *m;
    struct err e;
    ck_assert_int_eq(wire_recv(server, &m, 300, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    ck_assert_uint_eq(wire_stats(server).peers_banned, 1);
    ck_assert_uint_eq(wire_stats(server).dropped_banned, 1);

    /* Others are still listened to. */
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, endpoint);
    send_empty(client, MESSAGE_GET_RUN);
    message_free(expect(server, MESSAGE_GET_RUN));
    message_free(good);
    zmq_close(raw);
    zmq_ctx_term(context);
    wire_close(client);
    wire_close(server);
    wire_net_close(net);
    unlink(endpoint + 6);
}
END_TEST

START_TEST(a_frame_over_the_limit_ends_the_connection_not_the_receiver)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    struct wire *server = open_wire(net, WIRE_STORE_RPC, "tcp://127.0.0.1:*");
    void *context = zmq_ctx_new();
    void *raw = zmq_socket(context, ZMQ_DEALER);
    const int linger = 0;
    zmq_setsockopt(raw, ZMQ_LINGER, &linger, sizeof linger);
    ck_assert_int_eq(zmq_connect(raw, wire_endpoint(server)), 0);
    const size_t huge = (size_t)8 << 20;
    char *bytes = mem_new(huge, 1);
    ck_assert_int_ge(zmq_send(raw, bytes, huge, 0), 0);
    struct message *m;
    struct err e;
    ck_assert_int_eq(wire_recv(server, &m, 300, &e), -1);
    ck_assert_uint_eq(wire_stats(server).dropped_malformed, 0);
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, wire_endpoint(server));
    send_empty(client, MESSAGE_GET_STATUS);
    message_free(expect(server, MESSAGE_GET_STATUS));
    mem_free(bytes);
    zmq_close(raw);
    zmq_ctx_term(context);
    wire_close(client);
    wire_close(server);
    wire_net_close(net);
}
END_TEST

START_TEST(kinds_that_do_not_belong_to_a_socket_are_refused)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    struct wire *server = open_wire(net, WIRE_STORE_RPC, "inproc://x");
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, "inproc://x");
    send_empty(client, MESSAGE_HELLO);
    struct message *m;
    struct err e, said;
    ck_assert_int_eq(wire_recv(server, &m, 100, &e), -1);
    ck_assert_uint_eq(wire_stats(server).dropped_kind, 1);
    m = expect(client, MESSAGE_ERROR);
    ck_assert_int_eq(codec_get_error(m, &said, &e), 0);
    ck_assert_str_eq(said.text, "local may not send hello here");
    message_free(m);
    wire_close(client);
    wire_close(server);
    wire_net_close(net);
}
END_TEST

START_TEST(endpoints_that_would_be_unsafe_are_refused)
{
    static const struct {
        const char *endpoint, *says;
    } cases[] = {
        {"tcp://0.0.0.0:7701", "insecure_plaintext"},
        {"tcp://store:7701", "insecure_plaintext"},
        {"tcp://*:7701", "insecure_plaintext"},
        {"tcp://127.evil.example:1", "insecure_plaintext"},
        {"pgm://x", "must start with"},
        {"udp://x:1", "must start with"},
        {"", "must start with"},
        {"tcp://128.0.0.1:1", "insecure_plaintext"},
    };
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct wire *w;
        struct err e;
        const int rc = wire_open(&w, net, WIRE_STORE_RPC, cases[i].endpoint, &e);
        ck_assert_msg(rc < 0, "%s was taken", cases[i].endpoint);
        ck_assert_msg(strstr(e.text, cases[i].says) != NULL, "%s: %s", cases[i].endpoint, e.text);
    }
    wire_net_close(net);
    struct err e;
    const struct wire_net_options o = {
        .party = PARTY_STORE, .sender = "store", .insecure_plaintext = true};
    ck_assert_int_eq(wire_net_open(&net, &o, &e), 0);
    wire_close(open_wire(net, WIRE_STORE_RPC, "tcp://0.0.0.0:*"));
    wire_net_close(net);
}
END_TEST

START_TEST(listed_keys_are_let_in_with_their_party)
{
    const char *keys = make_keys();
    struct wire_net *store = net_of(PARTY_STORE, keys), *sampler = net_of(PARTY_SAMPLER, keys);
    struct wire *server = open_wire(store, WIRE_STORE_RPC, "tcp://127.0.0.1:*");
    struct wire *client = open_wire(sampler, WIRE_STORE_CLIENT, wire_endpoint(server));
    send_empty(client, MESSAGE_GET_RUN);
    struct message *m = expect(server, MESSAGE_GET_RUN);
    ck_assert_int_eq(m->party, PARTY_SAMPLER);
    message_free(m);

    /* What only a trainer may do is refused to a sampler's key. */
    send_empty(client, MESSAGE_TAKE_TOKEN);
    struct err e;
    ck_assert_int_eq(wire_recv(server, &m, 200, &e), -1);
    ck_assert_uint_eq(wire_stats(server).dropped_kind, 1);
    message_free(expect(client, MESSAGE_ERROR));

    struct wire_net *trainer = net_of(PARTY_TRAINER, keys);
    struct wire *other = open_wire(trainer, WIRE_STORE_CLIENT, wire_endpoint(server));
    send_empty(other, MESSAGE_TAKE_TOKEN);
    m = expect(server, MESSAGE_TAKE_TOKEN);
    ck_assert_int_eq(m->party, PARTY_TRAINER);
    message_free(m);
    wire_close(client);
    wire_close(other);
    wire_close(server);
    wire_net_close(sampler);
    wire_net_close(trainer);
    wire_net_close(store);
}
END_TEST

/* No message may arrive from a client of this net within the time of several handshakes. */
static void refused(struct wire *server, struct wire_net *net)
{
    struct wire *client = open_wire(net, WIRE_STORE_CLIENT, wire_endpoint(server));
    struct err e;
    struct message *m;
    ck_assert_int_eq(wire_wait_writable(client, 700, &e), -1);
    ck_assert_int_eq(wire_recv(server, &m, 100, &e), -1);
    ck_assert_int_eq(e.code, ERR_TIMEOUT);
    wire_close(client);
}

START_TEST(an_unknown_key_is_refused_until_it_is_listed)
{
    const char *keys = make_keys();
    struct wire_net *store = net_of(PARTY_STORE, keys);
    struct wire *server = open_wire(store, WIRE_STORE_RPC, "tcp://127.0.0.1:*");

    /* A folder of its own making, with the true store's public key in it. */
    char theirs[64] = "/tmp/dagline-wire-XXXXXX", from[128], to[128];
    struct err e;
    ck_assert_ptr_nonnull(mkdtemp(theirs));
    ck_assert_int_eq(keys_create_folder(theirs, &e), 0);
    snprintf(from, sizeof from, "%s/store.pub", keys);
    snprintf(to, sizeof to, "%s/store.pub", theirs);
    ck_assert_int_eq(unlink(to), 0);
    ck_assert_int_eq(symlink(from, to), 0);
    struct wire_net *stranger = net_of(PARTY_SAMPLER, theirs);
    refused(server, stranger);

    /* Reloaded when it changes: two keys of one role may be valid at a time. */
    char public_text[KEYS_TEXT_BYTES], path[128];
    ck_assert_int_eq(keys_load_public(public_text, theirs, "sampler", &e), 0);
    snprintf(path, sizeof path, "%s/allow", keys);
    FILE *f = fopen(path, "a");
    fprintf(f, "%s sampler # the new one\n", public_text);
    fclose(f);
    struct wire *client = open_wire(stranger, WIRE_STORE_CLIENT, wire_endpoint(server));
    send_empty(client, MESSAGE_GET_RUN);
    message_free(expect(server, MESSAGE_GET_RUN));
    wire_close(client);
    wire_close(server);
    wire_net_close(stranger);
    wire_net_close(store);
    ck_assert_int_eq(file_remove_tree(theirs, &e), 0);
}
END_TEST

START_TEST(a_plaintext_peer_of_a_keyed_socket_is_refused)
{
    const char *keys = make_keys();
    struct wire_net *store = net_of(PARTY_STORE, keys), *plain = net_of(PARTY_SAMPLER, NULL);
    struct wire *server = open_wire(store, WIRE_STORE_RPC, "tcp://127.0.0.1:*");
    refused(server, plain);
    wire_close(server);
    wire_net_close(plain);
    wire_net_close(store);
}
END_TEST

/* ZeroMQ itself lets everyone in when no handler runs: the option must turn that round. */
START_TEST(without_the_handler_no_new_client_is_accepted)
{
    const char *keys = make_keys();
    struct keys_pair own;
    struct err e;
    ck_assert_int_eq(keys_load(&own, keys, "store", &e), 0);
    for (int enforce = 0; enforce <= 1; enforce++) {
        void *context = zmq_ctx_new();
        void *server = zmq_socket(context, ZMQ_ROUTER);
        const int one = 1, linger = 0;
        char endpoint[64], path[128];
        size_t n = sizeof endpoint;
        struct zap *zap;
        snprintf(path, sizeof path, "%s/allow", keys);
        ck_assert_int_eq(zap_open(&zap, context, path, &e), 0);
        zmq_setsockopt(server, ZMQ_LINGER, &linger, sizeof linger);
        zmq_setsockopt(server, ZMQ_CURVE_SERVER, &one, sizeof one);
        zmq_setsockopt(server, ZMQ_CURVE_SECRETKEY, own.secret_text, 40);
        zmq_setsockopt(server, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN_NAME, strlen(ZAP_DOMAIN_NAME));
        ck_assert_int_eq(zmq_setsockopt(server, 93, &enforce, sizeof enforce), 0);
        ck_assert_int_eq(zmq_bind(server, "tcp://127.0.0.1:*"), 0);
        zmq_getsockopt(server, ZMQ_LAST_ENDPOINT, endpoint, &n);
        zap_close(zap);
        struct wire_net *sampler = net_of(PARTY_SAMPLER, keys);
        struct wire *client = open_wire(sampler, WIRE_STORE_CLIENT, endpoint);
        const int in = wire_wait_writable(client, enforce ? 1000 : WAIT_MS, &e);
        ck_assert_msg((in == 0) == (enforce == 0), "enforce=%d: writable=%d", enforce, in == 0);
        wire_close(client);
        wire_net_close(sampler);
        zmq_close(server);
        zmq_ctx_term(context);
    }
}
END_TEST

START_TEST(late_subscribers_are_counted_and_hear_only_what_they_asked_for)
{
    struct wire_net *net = net_of(PARTY_STORE, NULL);
    struct wire *news = open_wire(net, WIRE_STORE_NEWS, "inproc://news");
    struct wire *one = open_wire(net, WIRE_NEWS_CLIENT, "inproc://news");
    struct wire *two = open_wire(net, WIRE_NEWS_CLIENT, "inproc://news");
    struct err e;
    ck_assert_int_eq(wire_subscribe(one, MESSAGE_NEWS_POLICY, &e), 0);
    ck_assert_int_eq(wire_subscribe(two, MESSAGE_NEWS_STOP, &e), 0);
    uint32_t heard = 0;
    while (heard < 2)
        heard += wire_subscriptions(news);
    struct message *m = message_new(MESSAGE_NEWS_STOP);
    codec_put_empty(m);
    ck_assert_int_eq(wire_send(news, &m, &e), 0);
    const struct policy_ref policy = {.version = 3, .digest = {9}, .bytes = 10, .token = 1};
    m = message_new(MESSAGE_NEWS_POLICY);
    codec_put_policy(m, &policy);
    ck_assert_int_eq(wire_send(news, &m, &e), 0);
    message_free(expect(two, MESSAGE_NEWS_STOP));
    m = expect(one, MESSAGE_NEWS_POLICY);
    struct policy_ref got;
    ck_assert_int_eq(codec_get_policy(m, &got, &e), 0);
    ck_assert_uint_eq(got.version, 3);
    message_free(m);
    wire_close(one);
    wire_close(two);
    wire_close(news);
    wire_net_close(net);
}
END_TEST

START_TEST(the_memory_bound_grows_with_peers_and_the_largest_message)
{
    struct wire_net *net = net_of(PARTY_SCORER, NULL);
    struct wire *w = open_wire(net, WIRE_SCORER_INBOX, "inproc://x");
    ck_assert_uint_eq(wire_bytes_bound(w, 0), 0);
    ck_assert_uint_eq(wire_bytes_bound(w, 2), 2 * (5 * ((uint64_t)16 << 20) + 256 * 4096));
    wire_close(w);
    wire_net_close(net);
}
END_TEST

/* ---- loop ---- */

struct ticks {
    struct loop *loop;
    int count, drained;
};

static int tick(void *arg, struct err *e)
{
    struct ticks *t = arg;
    (void)e;
    if (++t->count == 3)
        loop_stop(t->loop);
    return 0;
}

static int drain(void *arg, struct err *e)
{
    struct ticks *t = arg;
    (void)e;
    t->drained++;
    loop_stop(t->loop);
    return 0;
}

START_TEST(the_loop_runs_timers_until_it_is_stopped)
{
    struct ticks t = {0};
    struct err e;
    ck_assert_int_eq(loop_open(&t.loop, &e), 0);
    ck_assert_int_eq(loop_add_timer(t.loop, 1, tick, &t, NULL, &e), 0);
    ck_assert_int_eq(loop_run(t.loop, &e), 0);
    ck_assert_int_eq(t.count, 3);
    loop_close(t.loop);
}
END_TEST

START_TEST(the_first_signal_drains_and_the_second_ends_the_process)
{
    struct ticks t = {0};
    struct err e;
    ck_assert_int_eq(loop_open(&t.loop, &e), 0);
    loop_on_drain(t.loop, drain, &t);
    kill(getpid(), SIGTERM);
    ck_assert_int_eq(loop_run(t.loop, &e), 0);
    ck_assert_int_eq(t.drained, 1);
    ck_assert(loop_draining(t.loop));
    kill(getpid(), SIGTERM);
    ck_abort_msg("alive after the second signal");
}
END_TEST

static int on_pipe(void *arg, int fd, int events, struct err *e)
{
    struct ticks *t = arg;
    char byte;
    ck_assert_int_eq(events, LOOP_READ);
    ck_assert_int_eq(read(fd, &byte, 1), 1);
    loop_stop(t->loop);
    t->count++;
    (void)e;
    return 0;
}

START_TEST(the_loop_watches_descriptors)
{
    struct ticks t = {0};
    struct err e;
    int fds[2];
    ck_assert_int_eq(pipe(fds), 0);
    ck_assert_int_eq(loop_open(&t.loop, &e), 0);
    ck_assert_int_eq(loop_add_fd(t.loop, fds[0], LOOP_READ, on_pipe, &t, &e), 0);
    ck_assert_int_eq(loop_poll(t.loop, 0, &e), 0);
    ck_assert_int_eq(t.count, 0);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(loop_run(t.loop, &e), 0);
    ck_assert_int_eq(t.count, 1);
    loop_close(t.loop);
}
END_TEST

/* Two rewards of 192 calls each. */
START_TEST(the_loop_watches_the_calls_of_several_rewards)
{
    struct ticks t = {0};
    struct err e;
    int fds[2] = {-1, -1};
    ck_assert_int_eq(loop_open(&t.loop, &e), 0);
    for (int i = 0; i < 2 * 192; i++) {
        ck_assert_msg(pipe(fds) == 0, "pipe %d: %s", i, strerror(errno));
        ck_assert_msg(loop_add_fd(t.loop, fds[0], LOOP_READ, on_pipe, &t, &e) == 0, "%s", e.text);
    }
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(loop_run(t.loop, &e), 0);
    ck_assert_int_eq(t.count, 1);
    loop_close(t.loop);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("wire/wire");
    const TTest *const tests[] = {
        a_request_is_answered_over_ipc,
        large_payloads_arrive_whole_and_without_a_copy_at_the_sender,
        a_failed_send_leaves_the_message_with_its_owner,
        a_payload_over_the_limit_is_refused_at_the_sender,
        malformed_frames_are_dropped_and_counted_and_the_peer_is_banned,
        a_frame_over_the_limit_ends_the_connection_not_the_receiver,
        kinds_that_do_not_belong_to_a_socket_are_refused,
        endpoints_that_would_be_unsafe_are_refused,
        listed_keys_are_let_in_with_their_party,
        an_unknown_key_is_refused_until_it_is_listed,
        a_plaintext_peer_of_a_keyed_socket_is_refused,
        without_the_handler_no_new_client_is_accepted,
        late_subscribers_are_counted_and_hear_only_what_they_asked_for,
        the_memory_bound_grows_with_peers_and_the_largest_message,
        the_loop_runs_timers_until_it_is_stopped,
        the_loop_watches_descriptors,
        the_loop_watches_the_calls_of_several_rewards,
    };
    TCase *plain = tcase_create("wire");
    tcase_set_timeout(plain, 30);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(plain, tests[i]);
    TCase *ended = tcase_create("ended by a signal");
    tcase_set_timeout(ended, 30);
    tcase_add_test_raise_signal(ended, the_first_signal_drains_and_the_second_ends_the_process,
                                SIGTERM);
    suite_add_tcase(suite, plain);
    suite_add_tcase(suite, ended);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
