/* SPDX-License-Identifier: Apache-2.0 */
/* park.c - an engine without work gives its device memory back, and takes it again. */
#include "engine/engine_internal.h"

static bool has_requests(const bt_engine *e)
{
    for (int32_t i = 0; i < e->slots; i++)
        if (e->request[i].id) return true;
    return false;
}

bt_status bt_engine_park(bt_engine *e, bt_err *err)
{
    bt_residency r = {0};
    if (e->parked) return BT_OK;
    if (!e->backend->park)
        return bt_err_set(err, BT_EUNSUPPORTED, 0, "a model on the %s cannot be parked",
                          e->backend->name);
    if (has_requests(e))
        return bt_err_set(err, BT_EBUSY, 0,
                          "requests are running; they end before a model is parked");
    bt_status st = bt__engine_settle(e, err);
    if (!st) st = e->backend->park(e->dev, &r, err);
    if (st) {
        e->faulted = true;
        return st;
    }
    bt_kv_forget_all(&e->kv);
    e->parked = true;
    bt__emit_residency(e, 1, &r);
    return BT_OK;
}

bt_status bt_engine_wake(bt_engine *e, bt_err *err)
{
    bt_residency r = {0};
    if (!e->parked) return BT_OK;
    bt_status st = e->backend->wake(e->dev, bt__emit_load, e, &r, err);
    if (st) return st;
    e->parked = false;
    bt__emit_residency(e, 0, &r);
    return BT_OK;
}
