/* SPDX-License-Identifier: Apache-2.0 */
/* decode.h - tokens -> text while they are still coming: never half a character, stop strings over
 * bytes.
 *
 * One bt_decoder a sequence; fixed size after init, no allocation a token. The vocabulary's decoder
 * chain makes the text (decode_chain.h): whole characters that no later token can change. What
 * comes out, concatenated, equals the one-shot decode; bytes that are no UTF-8 become U+FFFD, one a
 * maximal invalid subpart under byte-level tokens, one a byte of the whole run under byte tokens.
 * Where a stop string is complete the text ends; of two that complete with the same byte the longer
 * one is cut, so the result does not depend on how the text falls into tokens. Thread: the owner's.
 */
#pragma once
#include "vocab/vocab.h"

typedef struct bt_decoder bt_decoder;

enum { BT_DECODE_STOPS_MAX = 64, BT_DECODE_STOP_BYTES_MAX = 4096 };

/* stop: n_stop NUL-terminated UTF-8 strings (copied), none empty; BT_EINVAL otherwise or past the
 * bounds above. skip_special: control and unknown tokens add nothing (else their name). at_start:
 * the text begins here, so the one leading space of SPM is dropped (false after a prompt). */
bt_status bt_decoder_open(const bt_vocab *v, const char *const *stop, int32_t n_stop,
                          bool skip_special, bool at_start, bt_decoder **out, bt_err *err);
void bt_decoder_close(bt_decoder *d); // NULL is fine
/* Feeds one token. *text (valid until the next call) is what has become certain: whole characters,
 * held back where a stop string may still be forming. True: a stop string is complete; *text ends
 * before it, and every later call returns true with no text. An id outside the vocabulary adds
 * nothing. */
bool bt_decoder_put(bt_decoder *d, int32_t token, const char **text, size_t *n);
/* The end of the sequence: what was held back. */
void bt_decoder_finish(bt_decoder *d, const char **text, size_t *n);

/* One-shot, as a decoder at_start without stop strings; BT_EINVAL names an id outside the
 * vocabulary. *out: bt_free. Always valid UTF-8, NUL-terminated. */
bt_status bt_decode(const bt_vocab *v, const int32_t *ids, size_t n_ids, bool skip_special,
                    char **out, size_t *n_out, bt_err *err);
