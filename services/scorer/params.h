/* Settings of the scorer: sections `scorer` and `reward`; `replay` is in replay/replay_params.h. */
#ifndef DAGLINE_SCORER_PARAMS_H
#define DAGLINE_SCORER_PARAMS_H

#include "base/config.h"

#define SCORER_PARAMS(P, S)                                                                        \
    P(S, text, name, "0", "", "32", "", "which scorer this is, for logs and status")               \
    P(S, text, listen, "127.0.0.1:7713", "", "255", "", "/healthz and /metrics; empty: none")      \
    P(S, integer, peers, "32", "1", "1024", "",                                                    \
      "samplers expected, for the memory bound printed at start")                                  \
    P(S, choice, combine, "sum", "sum|product|min", "", "",                                        \
      "what several rewards (rewards.NAME.*) become: sum of weight x reward, product, or the "     \
      "least weight x reward")                                                                     \
    P(S, size, budget, "256MiB", "1MiB", "1TiB", "",                                               \
      "trajectories in hand and granted, together: the scorer's memory")                           \
    P(S, integer, window, "64", "1", "4096", "items", "granted to one sampler at a time")          \
    P(S, duration, peer_timeout, "30s", "2s", "1h", "",                                            \
      "a sampler silent for so long loses its credit")                                             \
    P(S, duration, drain, "30s", "100ms", "1h", "", "at SIGTERM, for what is in hand")             \
    P(S, duration, grant_every, "100ms", "5ms", "10s", "", "how often room is asked for again")

#define REWARD_PARAMS(P, S)                                                                        \
    P(S, text, backend, "oip-v2", "", "64", "",                                                    \
      "a service: oip-v2, openai-chat, json, json:unirl, json:flow-factory, json:openrlhf, "       \
      "json:hf-endpoint, json:bentoml, pickle:llava, pickle:deqa, pickle:geneval, "                \
      "pickle:unifiedreward, pickle:verl-omni, raw, multipart, latents (with run.decode: no); "    \
      "or builtin:shapes, builtin:shapes_colour, "                                                 \
      "builtin:jpeg_compressibility, "                                                             \
      "builtin:jpeg_incompressibility, builtin:colourfulness, builtin:hue_warm, "                  \
      "builtin:brightness; or by a CLIP model builtin:aesthetic, builtin:clipscore, "              \
      "builtin:pickscore, builtin:hpsv2")                                                          \
    P(S, text, url, "http://127.0.0.1:8090", "", "1000", "",                                       \
      "of the service, without its path; several, separated by commas, share the calls")           \
    P(S, text, path, "", "", "400", "", "behind url (not oip-v2); empty: the form's own")          \
    P(S, text, model, "shapes-judge", "", "128", "", "model name of the service")                  \
    P(S, choice, image_format, "png", "png|jpeg", "", "",                                          \
      "files of the pictures, JPEG of quality 95 (not oip-v2, pickle)")                            \
    P(S, text, template, "", "", "1000", "",                                                       \
      "json: the request, a document or its file, with $prompts $images $metadatas, or "           \
      "[\"$each\", ...] with $prompt $image $metadata; $model $id")                                \
    P(S, text, scores, "", "", "400", "",                                                          \
      "where the scores are in an answer (not oip-v2, openai-chat), as in /results/*/score (* "    \
      "the item's place, ? the only member)")                                                      \
    P(S, choice, judge, "number", "number|yes_no", "", "",                                         \
      "openai-chat: a number in the answer, or the probability of yes (logprobs)")                 \
    P(S, text, question,                                                                           \
      "How well does this picture match the prompt \"{prompt}\"? Answer with a number from 0 to "  \
      "10.",                                                                                       \
      "", "1000", "", "openai-chat: what is asked about the picture")                              \
    P(S, text, pattern, "([0-9]+([.][0-9]+)?)( *(/|out of) *[0-9]+([.][0-9]+)?)?", "", "400", "",  \
      "openai-chat: POSIX extended expression whose first group is the number; the last match "    \
      "counts")                                                                                    \
    P(S, text, clip, "", "", "1000", "",                                                           \
      "folder of a CLIP model in transformers' layout, for the built-in rewards that need one")    \
    P(S, text, head, "", "", "1000", "", "builtin:aesthetic: the head's safetensors file")         \
    P(S, integer, clip_threads, "0", "0", "256", "", "of the CLIP model; 0: all cores")            \
    P(S, text, model_version, "", "", "64", "", "empty: the service's choice")                     \
    P(S, flag, binary, "yes", "", "", "", "tensors as raw bytes behind the JSON, not inside it")   \
    P(S, text, image_input, "", "", "128", "", "tensor for images; empty: by the metadata")        \
    P(S, text, prompt_input, "", "", "128", "", "tensor for prompts; empty: by the metadata")      \
    P(S, text, metadata_input, "", "", "128", "", "tensor for prompt metadata; empty: by name")    \
    P(S, text, output, "", "", "128", "", "tensor of the score; empty: by the metadata")           \
    P(S, integer, batch, "64", "1", "1024", "images", "in one call")                               \
    P(S, size, batch_max, "64MiB", "1KiB", "1GiB", "", "pixels of one call, as RGB")              \
    P(S, duration, linger, "5ms", "0", "1s", "", "wait for a fuller batch while others run")       \
    P(S, integer, concurrency, "4", "1", "64", "calls",                                            \
      "at one time at one endpoint; less after 429 and 503")                                       \
    P(S, duration, timeout, "30s", "100ms", "1h", "", "of one call")                               \
    P(S, duration, deadline, "2m", "100ms", "1d", "", "of one batch with all its tries")           \
    P(S, integer, retries, "8", "0", "100", "tries", "after transport errors, 408 425 429 5xx")    \
    P(S, duration, backoff, "200ms", "1ms", "1m", "", "least backoff; grows, with jitter")         \
    P(S, flag, hedge, "no", "", "", "",                                                            \
      "a call slower than 95 of 100 is sent once more, elsewhere where there are several urls")    \
    P(S, integer, cache, "0", "0", "100000000", "scores",                                          \
      "kept in the replay's Redis by picture, prompt and metadata (about 300 bytes each); 0: none") \
    P(S, size, answer_max, "1MiB", "1KiB", "64MiB", "", "larger answers are refused")              \
    P(S, real, scale, "1", "", "", "", "reward = offset + scale * score")                          \
    P(S, real, offset, "0", "", "", "", "reward = offset + scale * score")                         \
    P(S, real, score_min, "-1e30", "", "", "", "a lower score is a wrong answer")                  \
    P(S, real, score_max, "1e30", "", "", "", "a higher score is a wrong answer")                  \
    P(S, real, weight, "1", "", "", "", "of rewards.NAME in the combination; 0: kept beside it")   \
    P(S, choice, normalise, "none", "none|zscore|percentile", "", "",                              \
      "of rewards.NAME: against its own last `window` values; gate is before, weight after it")    \
    P(S, integer, window, "4096", "2", "1000000", "values", "of rewards.NAME: see normalise")      \
    P(S, real, gate, "-1e30", "", "", "",                                                          \
      "of rewards.NAME: below it the combination is `gated` at most")                              \
    P(S, real, gated, "0", "", "", "", "of rewards.NAME: see gate")                                \
    P(S, text, tags, "", "", "400", "",                                                            \
      "of rewards.NAME: for prompts of these tags alone; empty: all")                              \
    P(S, secret, bearer, "", "", "1000", "", "file of the token for Authorization: Bearer")        \
    P(S, secret, header, "", "", "1000", "",                                                       \
      "file of one more header line, such as X-Api-Key: ...")                                      \
    P(S, text, client_cert, "", "", "1000", "",                                                    \
      "PEM file of our certificate, for services that ask for one")                                \
    P(S, text, client_key, "", "", "1000", "", "PEM file of its key")                              \
    P(S, flag, allow_private, "no", "", "", "",                                                    \
      "a public name in url may stand for a private address")                                      \
    P(S, flag, allow_plain, "no", "", "", "", "http, without TLS, to public addresses")            \
    P(S, text, ca_file, "", "", "1000", "", "CA certificates for https; empty: the system's")

CONFIG_STRUCT(scorer_params, SCORER_PARAMS);
CONFIG_STRUCT(reward_params, REWARD_PARAMS);
extern const struct config_table scorer_table;
extern const struct config_table reward_table;  /* `reward`: one alone */
extern const struct config_table rewards_table; /* `rewards.NAME`: several, in the place of that */

#endif
