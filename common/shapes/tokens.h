/* The tokenizer of the embedded model, made from the grammar: CLIP's byte-pair format, in which
 * every word of a caption is one token.
 *
 * Ids, in CLIP's order: 256 byte symbols, the same with "</w>", one per merge, <|startoftext|>,
 * <|endoftext|>.  Unlike CLIP's published configuration, whose ids are wrong by history, what
 * stands in the files is what is used: the end token is also the padding and the unknown token. */
#ifndef DAGLINE_SHAPES_TOKENS_H
#define DAGLINE_SHAPES_TOKENS_H

#include "base/err.h"

#include <stddef.h>

#define TOKENS_MERGES_MAX 512
#define TOKENS_WORD_BYTES_MAX 24 /* a word or a part of one, with "</w>" and the terminator */
#define TOKENS_LENGTH_MAX 32     /* model_max_length: the longest caption has 17 with both ends */

struct tokens_merge {
    char left[TOKENS_WORD_BYTES_MAX], right[TOKENS_WORD_BYTES_MAX];
};

struct tokens {
    int merges; /* the line order of merges.txt is their rank */
    struct tokens_merge merge[TOKENS_MERGES_MAX];
    int begin_id, end_id, vocabulary; /* vocabulary = end_id + 1 */
};

void tokens_init(struct tokens *t);

/* The parts into which the merges cut one lower-case ASCII word ("circle" -> "circle</w>"): CLIP's
 * BPE. Returns how many; parts[TOKENS_WORD_BYTES_MAX] rows. The word is shorter than
 * TOKENS_WORD_BYTES_MAX - 4 (asserted). */
int tokens_split(const struct tokens *t, const char *word,
                 char parts[TOKENS_WORD_BYTES_MAX][TOKENS_WORD_BYTES_MAX]);

/* The i-th word of the grammar, NULL past the last. */
const char *tokens_word(size_t i);

/* Writes vocab.json, merges.txt, tokenizer_config.json and special_tokens_map.json into the folder,
 * which is made where it is missing; each file is whole or absent. */
int shapes_tokenizer_write(const char *folder, struct err *e) MUST_USE;

#endif
