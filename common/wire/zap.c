#include "wire/zap.h"

#include "base/log.h"
#include "base/mem.h"
#include "wire/keys.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <zmq.h>

#define ZAP_ENDPOINT "inproc://zeromq.zap.01"
#define ZAP_FRAMES_MAX 8
#define ZAP_FRAME_BYTES_MAX 256

struct zap {
    pthread_t thread;
    void *context;
    void *socket;  /* REP; the thread's own once it runs */
    void *control; /* PAIR of the opening thread */
    void *stop;    /* PAIR of the handler thread */
    char *allow_path;
    struct stat seen; /* the file as last read */
    struct keys_allow_list allowed;
};

struct frame {
    char data[ZAP_FRAME_BYTES_MAX];
    size_t bytes;
};

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void reload(struct zap *z)
{
    struct stat now;
    struct err e;
    if (stat(z->allow_path, &now) < 0 || same_file(&now, &z->seen))
        return;
    z->seen = now;
    struct keys_allow_list *fresh = mem_new(1, sizeof *fresh);
    if (keys_allow_load(fresh, z->allow_path, &e) < 0) {
        log_err("allow_list_kept", &e);
    } else {
        z->allowed = *fresh;
        log_event(LOG_INFO, "allow_list_read", "keys=%zu", z->allowed.count);
    }
    mem_free(fresh);
}

/* One request of at most ZAP_FRAMES_MAX frames; frames beyond the limits are read and forgotten.
 * Returns their number, 0 for none, -1 when the socket is gone. */
static int read_request(void *socket, struct frame frames[ZAP_FRAMES_MAX])
{
    int count = 0, more = 1;
    while (more) {
        zmq_msg_t m;
        zmq_msg_init(&m);
        if (zmq_msg_recv(&m, socket, count == 0 ? ZMQ_DONTWAIT : 0) < 0) {
            zmq_msg_close(&m);
            return errno == EAGAIN || errno == EINTR ? 0 : -1;
        }
        if (count < ZAP_FRAMES_MAX) {
            struct frame *f = &frames[count];
            f->bytes = zmq_msg_size(&m) < sizeof f->data ? zmq_msg_size(&m) : 0;
            memcpy(f->data, zmq_msg_data(&m), f->bytes);
            f->data[f->bytes] = 0;
        }
        count++;
        more = zmq_msg_more(&m);
        zmq_msg_close(&m);
    }
    return count;
}

static void answer(struct zap *z, const struct frame *request_id, enum message_party party)
{
    const bool ok = party != PARTY_LOCAL;
    const char *user = ok ? message_party_name(party) : "";
    const char *code = ok ? "200" : "400";
    zmq_send(z->socket, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(z->socket, request_id->data, request_id->bytes, ZMQ_SNDMORE);
    zmq_send(z->socket, code, 3, ZMQ_SNDMORE);
    zmq_send(z->socket, ok ? "OK" : "no", 2, ZMQ_SNDMORE);
    zmq_send(z->socket, user, strlen(user), ZMQ_SNDMORE);
    zmq_send(z->socket, "", 0, 0);
}

/* RFC 27: version, request id, domain, address, routing id, mechanism, credentials. */
static int serve_one(struct zap *z)
{
    struct frame f[ZAP_FRAMES_MAX];
    const int n = read_request(z->socket, f);
    if (n <= 0)
        return n;
    enum message_party party = PARTY_LOCAL;
    if (n == 7 && strcmp(f[0].data, "1.0") == 0 && strcmp(f[2].data, ZAP_DOMAIN_NAME) == 0 &&
        strcmp(f[5].data, "CURVE") == 0 && f[6].bytes == KEYS_RAW_BYTES) {
        reload(z);
        party = keys_allow_find(&z->allowed, (const uint8_t *)f[6].data);
    }
    if (party == PARTY_LOCAL)
        log_event(LOG_WARN, "client_refused", "address=%s mechanism=%s", n > 3 ? f[3].data : "",
                  n > 5 ? f[5].data : "");
    static const struct frame none;
    answer(z, n > 1 ? &f[1] : &none, party);
    return 0;
}

static void *handler(void *arg)
{
    struct zap *z = arg;
    zmq_pollitem_t items[2] = {{.socket = z->socket, .events = ZMQ_POLLIN},
                               {.socket = z->stop, .events = ZMQ_POLLIN}};
    for (;;) {
        if (zmq_poll(items, 2, -1) < 0) {
            if (errno == EINTR)
                continue;
            break;
        }
        if (items[1].revents != 0 || (items[0].revents != 0 && serve_one(z) < 0))
            break;
    }
    zmq_close(z->socket);
    zmq_close(z->stop);
    return NULL;
}

static void *plain_socket(void *context, int type, struct err *e)
{
    void *s = zmq_socket(context, type);
    const int none = 0;
    if (s == NULL || zmq_setsockopt(s, ZMQ_LINGER, &none, sizeof none) < 0)
        err_set(e, ERR_IO, "authenticator: %s", zmq_strerror(errno));
    return s;
}

int zap_open(struct zap **out, void *context, const char *allow_path, struct err *e)
{
    *out = NULL;
    struct zap *z = mem_new(1, sizeof *z);
    char pair[64];
    snprintf(pair, sizeof pair, "inproc://dagline.zap.%p", (void *)z);
    z->context = context;
    z->allow_path = mem_strdup(allow_path);
    if (stat(allow_path, &z->seen) < 0) {
        err_sys(e, errno, "allow-list %s (make one with `dagline keys DIR`)", allow_path);
        goto fail;
    }
    if (keys_allow_load(&z->allowed, allow_path, e) < 0)
        goto fail;
    if ((z->socket = plain_socket(context, ZMQ_REP, e)) == NULL ||
        (z->control = plain_socket(context, ZMQ_PAIR, e)) == NULL ||
        (z->stop = plain_socket(context, ZMQ_PAIR, e)) == NULL)
        goto fail;
    if (zmq_bind(z->socket, ZAP_ENDPOINT) < 0 || zmq_bind(z->control, pair) < 0 ||
        zmq_connect(z->stop, pair) < 0) {
        err_set(e, ERR_IO, "authenticator: %s", zmq_strerror(errno));
        goto fail;
    }
    const int failed = pthread_create(&z->thread, NULL, handler, z);
    if (failed != 0) {
        err_sys(e, failed, "authenticator: no thread");
        goto fail;
    }
    *out = z;
    return 0;
fail:
    if (z->socket != NULL)
        zmq_close(z->socket);
    if (z->control != NULL)
        zmq_close(z->control);
    if (z->stop != NULL)
        zmq_close(z->stop);
    mem_free(z->allow_path);
    mem_free(z);
    return -1;
}

void zap_close(struct zap *z)
{
    if (z == NULL)
        return;
    zmq_send(z->control, "", 0, 0);
    pthread_join(z->thread, NULL);
    zmq_close(z->control);
    mem_free(z->allow_path);
    mem_free(z);
}
