/* SPDX-License-Identifier: Apache-2.0 */
/* status.h - what a fallible function returns, and the sentence that explains it.
 *
 * 0 is success, negatives are errors, everywhere. This map is the only table from a status to its
 * HTTP code, retry flag and label. Results leave by out-pointer, untouched on failure; the last
 * argument is a `bt_err *` (may be NULL) that carries a finished sentence. Thread: any. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* name, value, http, retry (1: the same request may succeed later), label, default text */
#define BT_STATUS_MAP(X)                                                                           \
    X(OK, 0, 200, 0, "ok", "ok")                                                                   \
    X(EINVAL, -1, 400, 0, "invalid_request", "the request is not valid")                           \
    X(EQUOTA, -2, 429, 0, "quota_exhausted", "the account's device-time quota is used up")         \
    X(EBUSY, -3, 429, 1, "queue_full", "the queue is full")                                        \
    X(ENOMEM, -4, 503, 1, "out_of_memory", "out of memory")                                        \
    X(EAUTH, -5, 401, 0, "bad_credentials", "missing or unknown credentials")                      \
    X(EFORBIDDEN, -6, 403, 0, "forbidden", "this account may not do that")                         \
    X(ENOTFOUND, -7, 404, 0, "not_found", "no such thing here")                                    \
    X(EMETHOD, -8, 405, 0, "method_not_allowed", "this route does not take that method")           \
    X(ETOOBIG, -9, 413, 0, "too_large", "the request body is too large")                           \
    X(ECONTEXT, -10, 400, 0, "context_length_exceeded", "the prompt does not fit the context")     \
    X(EUNSUPPORTED, -11, 501, 0, "not_supported", "not supported")                                 \
    X(EFORMAT, -12, 500, 0, "bad_file", "a file is damaged or of an unknown format")               \
    X(EIO, -13, 500, 0, "io_error", "an input or output operation failed")                         \
    X(EDEVICE, -14, 503, 1, "device_fault", "the device failed")                                   \
    X(ETIMEOUT, -15, 503, 1, "timeout", "a time limit was reached")                                \
    X(ECANCELLED, -16, 499, 0, "cancelled", "the client went away")                                \
    X(ENOTREADY, -17, 503, 1, "not_ready", "the model is still loading")                           \
    X(ECLOSED, -18, 503, 1, "shutting_down", "the server is shutting down")                        \
    X(ESTORAGE, -19, 503, 1, "storage_unavailable", "the ledger cannot be written just now")       \
    X(EINTERNAL, -20, 500, 0, "internal_error", "internal error")                                  \
    X(ENODEVICE, -21, 503, 0, "no_device", "the device that was asked for cannot be used")         \
    X(ESLOW, -22, 408, 1, "request_timeout", "the request came too slowly")                        \
    X(EMODEL, -23, 500, 0, "model_fault",                                                          \
      "the model's logits are not finite (NaN or infinity): its file or its format is at fault")

typedef enum bt_status {
#define X(name, value, http, retry, label, text) BT_##name = value,
    BT_STATUS_MAP(X)
#undef X
} bt_status;

typedef struct bt_err {
    bt_status code;
    int32_t sys;   // errno, sqlite or CUDA code behind it; 0 if none
    char msg[248]; // a finished sentence without a final stop
    char field[64]; // of a request: the one at fault, "prompt"; "" = none
} bt_err;

typedef struct bt_status_info {
    const char *name, *label, *text;
    int16_t http;
    int16_t retry;
} bt_status_info;

/* Never NULL; an unknown value reads as EINTERNAL. */
const bt_status_info *bt_status_get(int status);

/* Fills err (if not NULL) and returns code, so that `return bt_err_set(...)` reads well. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
bt_status
bt_err_set(bt_err *err, bt_status code, int32_t sys, const char *fmt, ...);
/* The same of one field of a request. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
bt_status
bt_err_field(bt_err *err, bt_status code, const char *field, const char *fmt, ...);

#ifdef __cplusplus
}
#endif
