/* SPDX-License-Identifier: Apache-2.0 */
/* usage.h - the crash file seen from front: made before an engine starts, read while it runs,
 * loaded when it is dead. The layout and the writer's rules are baton/usage.h's.
 *
 * ORDER that keeps the books whole, whoever dies when: the engine writes the file before it reports
 * a step; front posts a request, commits, and only then tells the engine to release it; it settles
 * the file (bt_ledger_settle_engine) when the engine is dead. Thread: the owner's. */
#pragma once
#include "baton/status.h"
#include "baton/usage.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct bt_usage bt_usage;

/* Makes DIR/usage/BOOT.use (and the folder), all its disk space taken at once: a full disk is told
 * here, not to a running engine. boot: not 0. */
bt_status bt_usage_create(const char *dir, uint64_t boot, bt_usage **out, bt_err *err);
const char *bt_usage_path(const bt_usage *u); // for the engine and bt_ledger_settle_engine
/* The books of one finished step. EBUSY: the writer was faster several times over; ask again.
 * EFORMAT: they do not add up; a file that was cut short gets its length back, and from the
 * engine's next step on it is whole. */
bt_status bt_usage_read(const bt_usage *u, bt_usage_bank *out, bt_err *err);
int bt_usage_fd(const bt_usage *u); // to sync what is in the file now; once a second is plenty
void bt_usage_close(bt_usage *u); // the file stays; NULL is fine

/* Reads a file that nobody writes any more. EFORMAT: truncated, foreign, or its sums do not add up
 * in either bank (if only the newest is torn, as by a loss of power, the one before it is taken).
 */
bt_status bt_usage_load(const char *path, uint64_t *boot, bt_usage_bank *out, bt_err *err);
/* As load, on the file's bytes. name is for sentences. */
bt_status bt_usage_parse(const void *data, size_t len, const char *name, uint64_t *boot,
                         bt_usage_bank *out, bt_err *err);
/* Whether a bank's numbers can be: n in range, busy == house + closed + sum(used), no request
 * twice. */
bool bt_usage_bank_ok(const bt_usage_bank *b);
