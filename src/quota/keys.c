/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/keys.h"
#include "base/buf.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "quota/text_file.h"
#include <stdlib.h>
#include <string.h>

typedef struct word {
    const char *s;
    size_t n;
} word;

/* Splits a line at blanks into at most max words; returns how many there are in all. */
static int line_words(const char *s, size_t n, word *w, int max)
{
    int count = 0;
    size_t i = 0;
    while (i < n) {
        while (i < n && (s[i] == ' ' || s[i] == '\t')) i++;
        size_t start = i;
        while (i < n && s[i] != ' ' && s[i] != '\t') i++;
        if (i == start) break;
        if (count < max) w[count] = (word){s + start, i - start};
        count++;
    }
    return count;
}

static bool account_name_ok(word w)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                  "0123456789._@:/-";
    if (w.n == 0 || w.n > BT_KEY_ACCOUNT_MAX) return false;
    for (size_t i = 0; i < w.n; i++)
        if (!w.s[i] || !strchr(allowed, w.s[i])) return false;
    return true;
}

static bool key_ok(word w)
{
    if (w.n > BT_KEY_BYTES_MAX) return false;
    for (size_t i = 0; i < w.n; i++)
        if (w.s[i] < 0x21 || w.s[i] > 0x7E) return false;
    return true;
}

static bt_status line_parse(const char *s, size_t n, const char *file, int line,
                            const bt_tiers *tiers, bt_key *out, bt_err *err)
{
    word w[3];
    if (line_words(s, n, w, 3) != 3)
        return bt_err_set(err, BT_EINVAL, 0, "%s:%d: expected three words: KEY ACCOUNT TIER", file,
                          line);
    if (!key_ok(w[0]))
        return bt_err_set(err, BT_EINVAL, 0,
                          "%s:%d: the key must be 1 to %d printable ASCII characters", file, line,
                          BT_KEY_BYTES_MAX);
    if (!account_name_ok(w[1]))
        return bt_err_set(err, BT_EINVAL, 0,
                          "%s:%d: the account name must be 1 to %d of A-Z a-z 0-9 . _ @ : / -",
                          file, line, BT_KEY_ACCOUNT_MAX);
    if (w[2].n == 5 && memcmp(w[2].s, "owner", 5) == 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "%s:%d: the tier owner is not for keys; use the owner token", file, line);
    out->tier = bt_tiers_find(tiers, w[2].s, w[2].n);
    if (!out->tier)
        return bt_err_set(err, BT_EINVAL, 0, "%s:%d: tier '%.*s' is not known", file, line,
                          (int)(w[2].n > 40 ? 40 : w[2].n), w[2].s);
    bt_sha256(w[0].s, w[0].n, out->hash);
    memcpy(out->account, w[1].s, w[1].n);
    out->account[w[1].n] = 0;
    out->line = line;
    return BT_OK;
}

static int by_account(const void *a, const void *b)
{
    const bt_key *x = a, *y = b;
    int order = strcmp(x->account, y->account);
    return order ? order : x->line - y->line;
}

static int by_hash(const void *a, const void *b)
{
    const bt_key *x = a, *y = b;
    int order = memcmp(x->hash, y->hash, 32);
    return order ? order : x->line - y->line;
}

/* Leaves the keys sorted by hash. */
static bt_status keys_check(bt_keys *k, const char *file, bt_err *err)
{
    if (k->n == 0) return BT_OK;
    qsort(k->key, k->n, sizeof *k->key, by_account);
    for (size_t i = 1; i < k->n; i++) {
        const bt_key *a = &k->key[i - 1], *b = &k->key[i];
        if (strcmp(a->account, b->account) == 0 && a->tier != b->tier)
            return bt_err_set(err, BT_EINVAL, 0,
                              "%s:%d: account '%s' is of tier %s here and of tier %s on line %d",
                              file, b->line, b->account, b->tier->name, a->tier->name, a->line);
    }
    qsort(k->key, k->n, sizeof *k->key, by_hash);
    for (size_t i = 1; i < k->n; i++)
        if (memcmp(k->key[i - 1].hash, k->key[i].hash, 32) == 0)
            return bt_err_set(err, BT_EINVAL, 0, "%s:%d: the same key is on line %d already", file,
                              k->key[i].line, k->key[i - 1].line);
    return BT_OK;
}

bt_status bt_keys_parse(const char *text, size_t len, const char *file, const bt_tiers *tiers,
                        bt_keys *out, bt_err *err)
{
    bt_keys k = {0};
    size_t cap = 0;
    bt_status st = BT_OK;
    int line = 0;
    size_t mark = bt_utf8_mark(text, len);
    text += mark;
    len -= mark;
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len, used = end ? n + 1 : n;
        const char *s = text;
        line++;
        if (n > 0 && s[n - 1] == '\r') n--;
        text += used;
        len -= used;
        word first;
        if (line_words(s, n, &first, 1) == 0 || first.s[0] == '#') continue;
        if (k.n == cap) {
            size_t bigger = cap ? cap * 2 : 16;
            bt_key *grown = bt_realloc(k.key, bigger * sizeof *grown);
            if (!grown) {
                st = bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading %s", file);
                goto done;
            }
            k.key = grown;
            cap = bigger;
        }
        if ((st = line_parse(s, n, file, line, tiers, &k.key[k.n], err)) != BT_OK) goto done;
        k.n++;
    }
    st = keys_check(&k, file, err);
done:
    if (st == BT_OK)
        *out = k;
    else
        bt_keys_release(&k);
    return st;
}

bt_status bt_keys_load(const char *path, const char *one_key, const bt_tiers *tiers, bt_keys *out,
                       bt_err *err)
{
    bt_buf text = BT_BUF_INIT;
    unsigned mode = 0;
    bt_status st = BT_OK;
    if (path) st = bt_text_file_read(path, "API-key file", BT_KEYS_FILE_MAX, &text, &mode, err);
    if (one_key) bt_buf_addf(&text, "\n%s default pro\n", one_key); // a line of its own at the end
    if (st == BT_OK && text.failed)
        st = bt_err_set(err, BT_ENOMEM, 0, "out of memory for the API keys");
    if (st == BT_OK)
        st = bt_keys_parse(text.data ? text.data : "", text.len, path ? path : "--api-key", tiers,
                           out, err);
    if (st == BT_OK && (mode & 007))
        bt_log(BT_LOG_WARN, "keys.readable",
               "file=%s mode=%04o: every user of this machine may open the API keys; chmod 600 it",
               path, mode);
    if (text.data) explicit_bzero(text.data, text.cap);
    bt_buf_release(&text);
    return st;
}

void bt_keys_release(bt_keys *k)
{
    bt_free(k->key);
    *k = (bt_keys){0};
}

const bt_key *bt_keys_find(const bt_keys *k, const uint8_t hash[static 32])
{
    size_t lo = 0, hi = k->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (memcmp(k->key[mid].hash, hash, 32) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < k->n && bt_secret_equal(k->key[lo].hash, hash, 32) ? &k->key[lo] : NULL;
}
