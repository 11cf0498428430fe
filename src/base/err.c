/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - the table of status codes, and sentences about errors. */
#include "baton/status.h"
#include <stdarg.h>
#include <stdio.h>

const bt_status_info *bt_status_get(int status)
{
    switch (status) {
#define X(name, value, http, retry, label, text)                                                   \
    case value: {                                                                                  \
        static const bt_status_info info = {#name, label, text, http, retry};                      \
        return &info;                                                                              \
    }
        BT_STATUS_MAP(X)
#undef X
    default: return bt_status_get(BT_EINTERNAL);
    }
}

bt_status bt_err_set(bt_err *err, bt_status st, int32_t sys, const char *fmt, ...)
{
    if (!err) return st;
    err->code = st;
    err->sys = sys;
    err->field[0] = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return st;
}

bt_status bt_err_field(bt_err *err, bt_status st, const char *field, const char *fmt, ...)
{
    if (!err) return st;
    err->code = st;
    err->sys = 0;
    snprintf(err->field, sizeof err->field, "%s", field);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    return st;
}
