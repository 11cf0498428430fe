/* SPDX-License-Identifier: Apache-2.0 */
#include "base/stop.h"
#include "base/clock.h"

bool bt__stop_look(bt_stop *s)
{
    s->left = BT_STOP_UNITS;
    if (s->why == BT_OK && s->flag && atomic_load_explicit(s->flag, memory_order_relaxed))
        s->why = BT_ECANCELLED;
    if (s->why == BT_OK && s->end_ns && bt_thread_ns() >= s->end_ns) s->why = BT_ETOOBIG;
    if (s->why) s->left = 0;
    return s->why != BT_OK;
}

bt_status bt_stop_why(const bt_stop *s, bt_err *err)
{
    if (s->why != BT_ETOOBIG) return bt_err_set(err, s->why, 0, "%s", bt_status_get(s->why)->text);
    return bt_err_set(err, s->why, 0,
                      "this text takes too long to be worked through; send it in shorter parts");
}
