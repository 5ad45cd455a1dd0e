/* A trajectory into its message and back, checksums included, against memcpy of the same bytes: the
 * embedded model's (20 states of 16x16x4, pictures of 64x64) and a large one (64x64x4, 512x512). */
#include "base/mem.h"
#include "support/bench.h"
#include "support/trajectories.h"
#include "wire/codec.h"

#include <stdio.h>

#define SECONDS_MIN 1.0

static const struct {
    const char *name;
    struct trajectory_shape shape;
} cases[] = {
    {"20 states 16x16x4, 64x64 pixels", {.states = 20, .latent_side = 16, .image_side = 64}},
    {"8 states 64x64x4, 512x512 pixels", {.states = 8, .latent_side = 64, .image_side = 512}},
};

struct packed {
    struct message *message;
    uint8_t envelope[MESSAGE_ENVELOPE_BYTES_MAX];
    size_t envelope_bytes;
};

static int encode(struct packed *p, const struct trajectory *t, struct err *e)
{
    p->message = message_new(MESSAGE_TRAJECTORY);
    if (codec_put_trajectory(p->message, t, e) < 0)
        return -1;
    p->envelope_bytes = codec_put_envelope(p->message, p->envelope);
    return 0;
}

static int decode(const struct packed *p, struct err *e)
{
    const struct codec_frame frames[] = {{p->envelope, p->envelope_bytes},
                                         {p->message->body, p->message->body_bytes},
                                         {p->message->payload, p->message->payload_bytes}};
    struct message m = {0};
    struct trajectory *t = NULL;
    if (codec_get_frames(&m, frames, 3, MESSAGE_PAYLOAD_BYTES_MAX, e) < 0 ||
        codec_get_trajectory(&m, &t, e) < 0)
        return -1;
    trajectory_free(t);
    return 0;
}

static void print(const char *verb, const char *name, size_t bytes, double seconds)
{
    char what[96], more[64];
    snprintf(what, sizeof what, "%s %s", verb, name);
    snprintf(more, sizeof more, ",\"us\":%.1f,\"bytes\":%zu", seconds * 1e6, bytes);
    bench_print(&(struct bench_figure){.bench = "codec",
                                       .what = what,
                                       .figure = 1e-9 * (double)bytes / seconds,
                                       .unit = "GB/s",
                                       .floor = 1e-9 * (double)bytes / bench_memcpy_s(bytes),
                                       .floor_name = "memcpy",
                                       .more = more});
}

static int bench(size_t i, struct err *e)
{
    struct trajectory *t = trajectories_make(0, 1, &cases[i].shape);
    double encoded_s = 1e9, decoded_s = 1e9;
    size_t bytes = 0;
    const double start = bench_thread_s();
    int rc = 0;
    do {
        struct packed p;
        const double from = bench_thread_s();
        rc = encode(&p, t, e);
        const double between = bench_thread_s();
        if (rc == 0)
            rc = decode(&p, e);
        const double to = bench_thread_s();
        bytes = p.envelope_bytes + p.message->body_bytes + p.message->payload_bytes;
        message_free(p.message);
        encoded_s = between - from < encoded_s ? between - from : encoded_s;
        decoded_s = to - between < decoded_s ? to - between : decoded_s;
    } while (rc == 0 && bench_thread_s() - start < SECONDS_MIN);
    trajectory_free(t);
    if (rc < 0)
        return -1;
    print("encode", cases[i].name, bytes, encoded_s);
    print("decode", cases[i].name, bytes, decoded_s);
    return 0;
}

int main(void)
{
    struct err e;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (bench(i, &e) < 0) {
            fprintf(stderr, "bench_codec: %s\n", e.text);
            return 1;
        }
    return 0;
}
