/* SPDX-License-Identifier: Apache-2.0 */
/* decode_chain_parts.h - the machines of a decoder chain, for who builds and who runs them. Private
 * to src/vocab. */
#pragma once
#include "vocab/decode_chain.h"

enum {
    BT__REPLACEMENT_BYTES = 3, // of U+FFFD
    BT__TAIL_MAX = 3,
    BT__BYTE_TOKEN_BYTES = 6,
    BT__OPS_A_STEP_MAX = 16
};

typedef enum bt__op_kind {
    BT__OP_FUSE,
    BT__OP_LOSSY, // bytes to UTF-8; fuses
    OP_BYTE_MAP,  // GPT-2 spelling to bytes, whole tokens
    BT__OP_RUN,   // byte fallback
    BT__OP_SPACE, // ' ' before tokens without the prefix
    BT__OP_JOIN,  // ' ' before tokens
    BT__OP_REPLACE,
    BT__OP_STRIP,
    BT__OP_LAST,     // suffix to ' ', in the last token to nothing; whole tokens
    BT__OP_DEDUP,    // equal neighbours once; whole tokens
    BT__OP_NONEMPTY, // empty tokens dropped
} bt__op_kind;

typedef struct bt__op {
    bt__op_kind kind;
    uint8_t n_pattern, n_content;
    bool drop_in_first; // REPLACE: in the first token the pattern becomes nothing
    bool fused;         // what comes in is one token
    uint32_t start, stop;
    size_t cap, at; // bytes of its buffer, and where it lies in the stream's memory
    char pattern[BT_CHAIN_PATTERN_MAX], content[BT_CHAIN_PATTERN_MAX];
    uint8_t fail[BT_CHAIN_PATTERN_MAX]; // REPLACE: longest proper border of pattern[0..i]
} bt__op;

/* What a token becomes once the machines have nothing in hand (decode_chain.c). */
typedef enum bt__quick {
    BT__QUICK_NONE,
    BT__QUICK_COPY,    // itself
    BT__QUICK_REPLACE, // itself, with one op's pattern replaced
    BT__QUICK_SPACE,   // itself behind a space, or without the prefix
} bt__quick;

struct bt_decode_chain {
    size_t token_max, room, buffers; // bytes
    size_t n_ops;
    bt__quick quick;
    uint32_t quick_op; // BT__QUICK_REPLACE: which
    bool quick_runs;   // there is a RUN: tokens that begin with '<' are for the machines
    bool after[256];   // BT__QUICK_SPACE: behind a space these may begin a clean-up
    bt__op op[];
};

typedef enum bt__run_state { BT__RUN_HELD, BT__RUN_BAD, BT__RUN_LONG } bt__run_state;

typedef struct bt__op_state {
    bool seen;    // a token has begun (or, not at_start, text stands before)
    bool first;   // this token is the first
    bool waiting; // RUN: may be a byte token; SPACE: may have the prefix; STRIP: at the beginning;
                  // NONEMPTY: nothing has come; LAST, DEDUP: the buffer holds an earlier token
    bt__run_state run;
    uint32_t k;      // bytes of the pattern that stand matched
    uint32_t n;      // STRIP: characters dropped or held
    uint32_t n_tail; // LOSSY, RUN
    size_t n_buf, n_prev;
    char tail[BT_CHAIN_RUN_BYTES];
    char head[BT__BYTE_TOKEN_BYTES]; // RUN: the beginning of a token
} bt__op_state;

struct bt_decode_stream {
    const bt_decode_chain *chain; // borrowed
    char *dst;                    // of the call that runs
    size_t n_dst;
    bool quiet;   // no machine holds anything, and none is at its beginning
    char *buffer; // in the same allocation
    bt__op_state state[];
};
