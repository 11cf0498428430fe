/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_sentencepiece.c - any bytes as a model: refused, or all that the header promises holds. */
#include "base/assert.h"
#include "base/utf8.h"
#include "file/sentencepiece.h"
#include <math.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_id(const bt_spm *m, int32_t id, bt_spm_type type)
{
    BT_ASSERT(id >= -1 && id < (int64_t)m->n_pieces);
    BT_ASSERT(id < 0 || m->piece[id].type == type);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bt_spm *m = NULL;
    bt_err err = {0};
    if (bt_spm_open_memory(data, size, "fuzz", &m, &err) != BT_OK) {
        BT_ASSERT(m == NULL && err.msg[0]);
        return 0;
    }
    BT_ASSERT(m->unk >= 0);
    check_id(m, m->unk, BT_SPM_UNKNOWN);
    check_id(m, m->bos, BT_SPM_CONTROL);
    check_id(m, m->eos, BT_SPM_CONTROL);
    check_id(m, m->pad, BT_SPM_CONTROL);
    for (size_t i = 0; i < m->n_pieces; i++) {
        const bt_spm_piece *p = &m->piece[i];
        BT_ASSERT(p->piece.n > 0 && bt_utf8_valid_prefix(p->piece.s, p->piece.n) == p->piece.n);
        BT_ASSERT(isfinite(p->score) && p->type >= BT_SPM_NORMAL && p->type <= BT_SPM_BYTE);
    }
    for (int k = 0; k < 256; k++) {
        check_id(m, m->byte_id[k], BT_SPM_BYTE);
        BT_ASSERT(!m->byte_fallback || m->byte_id[k] >= 0);
    }
    volatile char sum = 0; // the whole map can be read
    for (size_t i = 0; i < m->charsmap.n; i++) sum = (char)(sum + m->charsmap.s[i]);
    bt_spm_close(m);
    return 0;
}
