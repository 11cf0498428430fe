/* SPDX-License-Identifier: Apache-2.0 */
/* decode_chain.h - tokens to text by the steps of a tokenizer.json's decoder, while they come.
 *
 * A chain is a list of the decoders of the Rust `tokenizers` library, a Sequence written flat. It
 * is read-only after open and shared; a stream is the state of one sequence: fixed size, no
 * allocation a token. What comes out is whole characters that no later token can change, and
 * concatenated it is what the library gives for all tokens at once, with one exception: a run of
 * more than BT_CHAIN_RUN_BYTES byte tokens that turns out invalid behind that many bytes keeps the
 * characters already given. Needs no foreign library.
 *
 *   BYTE_LEVEL     the GPT-2 spelling of bytes; invalid ones: one U+FFFD a maximal subpart
 *   BYTES          tokens are raw bytes already (byte level, mapped at load); U+FFFD likewise
 *   BYTE_FALLBACK  <0xE2> and the like; one U+FFFD for each byte of a run that is not valid
 *   WORDPIECE      ' ' in front of tokens but the first and those with `pattern` (prefix) in front
 *   METASPACE      `pattern` (one character) to ' '; in the first token to nothing if `flag`
 *   FUSE           all tokens are one from here on
 *   STRIP          of each token up to `start` leading and `stop` trailing characters `pattern`
 *   REPLACE        `pattern`, a literal, to `content`
 *   BPE            `pattern` (suffix) to ' ', in the last token to nothing
 *   CTC            equal neighbours once, `pattern` (pad) dropped, empty tokens dropped; with
 *                  `flag`, clean-up and `content` (word delimiter) to ' '
 *   JOIN           no decoder: tokens with ' ' between
 * WORDPIECE with `flag` (clean-up): " ." to ".", " n't" to "n't" and so on within each token. */
#pragma once
#include "baton/status.h"
#include "file/gguf.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum bt_chain_kind {
    BT_CHAIN_BYTE_LEVEL,
    BT_CHAIN_BYTES,
    BT_CHAIN_BYTE_FALLBACK,
    BT_CHAIN_WORDPIECE,
    BT_CHAIN_METASPACE,
    BT_CHAIN_FUSE,
    BT_CHAIN_STRIP,
    BT_CHAIN_REPLACE,
    BT_CHAIN_BPE,
    BT_CHAIN_CTC,
    BT_CHAIN_JOIN,
} bt_chain_kind;

typedef struct bt_chain_step {
    bt_chain_kind kind;
    bt_str pattern, content; // UTF-8; borrowed until open returns
    uint32_t start, stop;
    /* WORDPIECE, CTC: clean-up. METASPACE: prepend_scheme is not "never". */
    bool flag;
} bt_chain_step;

enum {
    BT_CHAIN_STEPS_MAX = 16,
    BT_CHAIN_PATTERN_MAX = 255, // bytes of a pattern or content
    BT_CHAIN_STRIP_MAX = 1024,  // of `stop`, and of `start`
    BT_CHAIN_ROOM_MAX = 64 << 20,
    BT_CHAIN_RUN_BYTES = 32,    // of byte tokens that are held until their run has ended
};

typedef struct bt_decode_chain bt_decode_chain;
typedef struct bt_decode_stream bt_decode_stream;

/* token_max: bytes of the longest token that will be put. No steps (n == 0): tokens as they are.
 * Refused: too many steps, patterns that are empty where that has no meaning, too long, or not
 * UTF-8 (BT_EINVAL); BYTE_LEVEL behind a step that fuses, which would have to wait for the end of
 * the text, and chains that would need more than BT_CHAIN_ROOM_MAX (BT_EUNSUPPORTED). Copies the
 * strings. */
bt_status bt_decode_chain_open(const bt_chain_step *step, size_t n, size_t token_max,
                               bt_decode_chain **out, bt_err *err);
void bt_decode_chain_close(bt_decode_chain *c); // NULL is fine
/* The most bytes that one put or finish writes. */
size_t bt_decode_chain_room(const bt_decode_chain *c);

/* chain outlives the stream. at_start: the text begins with the first token put; false: it goes on
 * from text before it, so that nothing meant for the beginning is done (METASPACE and STRIP keep a
 * leading space, WORDPIECE and JOIN begin with one). */
bt_status bt_decode_stream_open(const bt_decode_chain *c, bool at_start, bt_decode_stream **out,
                                bt_err *err);
void bt_decode_stream_close(bt_decode_stream *s); // NULL is fine
void bt_decode_stream_reset(bt_decode_stream *s, bool at_start); // as just opened
/* The next token's text (n <= token_max) to what has become certain, written to dst
 * (bt_decode_chain_room); returns its length. Always valid UTF-8. Tokens that are skipped (special
 * ones) are not put at all: an empty token may still add a space. */
size_t bt_decode_stream_put(bt_decode_stream *s, const char *token, size_t n, char *dst);
/* No more tokens: what was held. The stream must be reset before the next put. */
size_t bt_decode_stream_finish(bt_decode_stream *s, char *dst);
