/* The CLIP byte-pair tokenizer of a diffusers model folder: the door to utf8proc.
 *
 * Text -> HTML entities resolved (twice) -> NFC -> lower case -> pieces, the white space between
 * them dropped
 * (<|startoftext|> | <|endoftext|> | 's 't 're 've 'm 'll 'd | letters+ | one digit | other
 * non-space+)
 * -> UTF-8 bytes as 256 printable symbols, the last one of a piece with "</w>" -> merges by rank ->
 * ids. Agrees with OpenAI's CLIP tokenizer but for what ftfy repairs (mis-decoded text, curly
 * quotes) and the HTML names beyond amp lt gt quot apos nbsp and the numeric form.
 *
 * Thread rule: an open tokenizer is immutable; any number of threads may encode with it. */
#ifndef DAGLINE_DIFFUSION_TOKENIZER_H
#define DAGLINE_DIFFUSION_TOKENIZER_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKENIZER_TEXT_BYTES_MAX 16384u
#define TOKENIZER_VOCAB_MAX 1000000
#define TOKENIZER_LENGTH_MAX 1024

struct tokenizer;

/* Opens a tokenizer/ folder: vocab.json and merges.txt, or tokenizer.json alone; the special tokens
 * and the length from tokenizer_config.json and special_tokens_map.json where they exist (else
 * CLIP's: padding with <|endoftext|>, 77 positions). On success *out is the caller's. */
int tokenizer_open(struct tokenizer **out, const char *folder, struct err *e) MUST_USE;
/* Accepts NULL. */
void tokenizer_close(struct tokenizer *t);

/* The model's number of positions (77 for Stable Diffusion), and the size of the vocabulary. */
int tokenizer_length(const struct tokenizer *t);
int tokenizer_vocab_size(const struct tokenizer *t);

/* [BOS] pieces [EOS] padding: exactly `length` ids (2 <= length <= TOKENIZER_LENGTH_MAX).
 * *truncated (may be NULL) says whether pieces were cut off to make room. ERR_INVALID: not UTF-8,
 * or longer than TOKENIZER_TEXT_BYTES_MAX. */
int tokenizer_encode(const struct tokenizer *t, const char *text, int32_t *ids, int length,
                     bool *truncated, struct err *e) MUST_USE;

/* The pieces alone, without BOS, EOS and padding: at most max ids are written, *count is how many
 * the text has (it may exceed max). */
int tokenizer_pieces(const struct tokenizer *t, const char *text, int32_t *ids, size_t max,
                     size_t *count, struct err *e) MUST_USE;

#endif
