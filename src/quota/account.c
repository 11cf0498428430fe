/* SPDX-License-Identifier: Apache-2.0 */
#include "quota/account.h"
#include "base/crypto.h"
#include "base/mem.h"
#include "quota/keys.h"
#include "quota/tiers.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

struct bt_accounts {
    bt_tiers tiers;
    bt_keys keys;
    bt_proxies proxies;
    const bt_tier *anonymous, *owner; // in tiers
    uint8_t owner_hash[32];
    bool has_owner, has_keys, require_key;
};

/* The credential without blanks around it. */
static size_t credential_trim(const char **s)
{
    size_t n;
    *s += strspn(*s, " \t\r\n");
    n = strlen(*s);
    while (n > 0 && strchr(" \t\r\n", (*s)[n - 1])) n--;
    return n;
}

static bt_status accounts_set_owner(bt_accounts *a, const char *token, bt_err *err)
{
    size_t n = credential_trim(&token);
    if (n == 0)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the owner token is empty; give a long random one, or none");
    if (n > BT_KEY_BYTES_MAX)
        return bt_err_set(err, BT_EINVAL, 0, "the owner token is longer than %d bytes",
                          BT_KEY_BYTES_MAX);
    bt_sha256(token, n, a->owner_hash);
    a->has_owner = true;
    const bt_key *key = bt_keys_find(&a->keys, a->owner_hash);
    if (key)
        return bt_err_set(err, BT_EINVAL, 0,
                          "the owner token is also an API key (line %d of the key file)",
                          key->line);
    return BT_OK;
}

bt_status bt_accounts_open(const bt_accounts_options *opt, bt_accounts **out, bt_err *err)
{
    const char *tier = opt->default_tier ? opt->default_tier : "anonymous";
    const char *proxies = opt->trusted_proxy ? opt->trusted_proxy : "auto";
    bt_status st;
    bt_accounts *a = bt_calloc(1, sizeof *a);
    if (!a) return bt_err_set(err, BT_ENOMEM, 0, "out of memory while reading the accounts");
    if ((st = bt_tiers_load(opt->tiers ? opt->tiers : "guide", &a->tiers, err)) != BT_OK) goto done;
    a->owner = bt_tiers_find(&a->tiers, "owner", 5);
    a->anonymous = bt_tiers_find(&a->tiers, tier, strlen(tier));
    if (!a->anonymous || a->anonymous == a->owner) {
        st = bt_err_set(err, BT_EINVAL, 0, "'%.40s' cannot be the default tier: %s", tier,
                        a->anonymous ? "it is the owner's" : "there is no such tier");
        goto done;
    }
    if ((st = bt_proxies_parse(proxies, opt->behind_space, &a->proxies, err)) != BT_OK) goto done;
    a->has_keys = opt->api_keys || opt->api_key;
    a->require_key = opt->require_key;
    if (a->has_keys) st = bt_keys_load(opt->api_keys, opt->api_key, &a->tiers, &a->keys, err);
    if (st == BT_OK && opt->owner_token) st = accounts_set_owner(a, opt->owner_token, err);
done:
    if (st == BT_OK)
        *out = a;
    else
        bt_accounts_close(a);
    return st;
}

void bt_accounts_close(bt_accounts *a)
{
    if (!a) return;
    bt_keys_release(&a->keys);
    bt_free(a);
}

const char *bt_accounts_doubt(const bt_accounts *a)
{
    if (a->keys.n) return NULL;
    if (a->require_key)
        return "a key is required and there is none, so nobody but the owner gets in: give "
               "--api-keys FILE with a line KEY ACCOUNT TIER, or --api-key KEY";
    if (a->has_keys)
        return "the API-key file holds no key, so every key that is sent is refused: give it lines "
               "of KEY ACCOUNT TIER, or leave --api-keys out";
    return NULL;
}

bt_status bt_accounts_name_check(const bt_accounts *a, const char *name, bt_err *err)
{
    char like[64] = "";
    bt_address address;
    bool key = strncmp(name, "key:", 4) == 0, ip = strncmp(name, "ip:", 3) == 0;
    const char *rest = name + (key ? 4 : ip ? 3 : 0);
    if (strcmp(name, "owner") == 0 || strcmp(name, "ip:unknown") == 0) return BT_OK;
    if (!key && bt_address_parse(rest, strcspn(rest, "/"), &address))
        bt_address_account(&address, like);
    for (size_t i = 0; !ip && i < a->keys.n; i++) {
        const char *account = a->keys.key[i].account;
        if (strcasecmp(account, rest) != 0) continue;
        snprintf(like, sizeof like, "key:%s", account);
        if (strcmp(account, rest) == 0) break;
    }
    if (*like && strcmp(like, name) == 0) return BT_OK;
    if (*like)
        return bt_err_set(err, BT_ENOTFOUND, 0, "there is no account \"%.64s\"; did you mean %s?",
                          name, like);
    return bt_err_set(err, BT_ENOTFOUND, 0,
                      "there is no account \"%.64s\": there are key:NAME for the names of the key "
                      "file, ip:ADDRESS (ip:PREFIX/64) for visitors without a key, and owner",
                      name);
}

bool bt_accounts_trusts(const bt_accounts *a, const bt_address *peer)
{
    return bt_proxies_trust(&a->proxies, peer);
}

/* Never 0. Nobody may be able to choose a name with another's id: a part of a SHA-256 instead of a
 * fast hash. */
static uint64_t name_id(const char *name)
{
    uint8_t hash[32];
    uint64_t id;
    bt_sha256(name, strlen(name), hash);
    memcpy(&id, hash, sizeof id);
    return id ? id : 1;
}

static void identity_name(bt_identity *id, const char *prefix, const char *name)
{
    snprintf(id->account, sizeof id->account, "%s%s", prefix, name);
    id->account_id = name_id(id->account);
}

/* True if this credential is known; then *out is filled. */
static bool identify_credential(const bt_accounts *a, const char *s, size_t n, bt_identity *out)
{
    uint8_t hash[32];
    if (n > BT_KEY_BYTES_MAX) return false;
    bt_sha256(s, n, hash);
    if (a->has_owner && bt_secret_equal(hash, a->owner_hash, 32)) {
        identity_name(out, "", "owner");
        out->tier = a->owner;
        out->owner = true;
    } else {
        const bt_key *key = bt_keys_find(&a->keys, hash);
        if (!key) return false;
        identity_name(out, "key:", key->account);
        out->tier = key->tier;
    }
    out->authenticated = true;
    return true;
}

/* The token of "Bearer TOKEN"; *n = 0 if the header holds none. False: another scheme. */
static bool bearer_token(const char *header, const char **s, size_t *n)
{
    *s = header;
    *n = credential_trim(s);
    if (*n == 0) return true;
    if (*n < 6 || strncasecmp(*s, "bearer", 6) != 0) return false;
    if (*n > 6 && !strchr(" \t", (*s)[6])) return false;
    *s += 6;
    *n = credential_trim(s);
    return true;
}

bt_status bt_account_identify(const bt_accounts *a, const char *authorization, const char *api_key,
                              const char *peer, const char *forwarded, bt_identity *out,
                              bt_err *err)
{
    bt_identity id = {.tier = a->anonymous};
    bool offered = false, readable = true;
    const char *s;
    size_t n;
    /* X-Api-Key first: in front of a private Space the proxy takes Authorization for itself. */
    if (api_key) {
        s = api_key;
        n = credential_trim(&s);
        offered = n > 0;
        if (n > 0 && identify_credential(a, s, n, &id)) goto known;
    }
    if (authorization) {
        readable = bearer_token(authorization, &s, &n);
        offered = offered || n > 0;
        if (readable && n > 0 && identify_credential(a, s, n, &id)) goto known;
    }
    if (offered && (a->has_keys || a->require_key))
        return bt_err_set(err, BT_EAUTH, 0, "%s",
                          !readable ? "Authorization must be 'Bearer KEY'"
                          : a->require_key
                              ? "the API key is not known here; check it"
                              : "the API key is not known here; check it, or send none");
    if (a->require_key)
        return bt_err_set(err, BT_EAUTH, 0,
                          "this server needs an API key: send 'Authorization: Bearer KEY'");
    bt_address client;
    if (bt_proxies_client(&a->proxies, peer, forwarded, &client)) {
        char name[64];
        bt_address_account(&client, name);
        identity_name(&id, "", name);
        bt_address_network(&client, name);
        id.network = name_id(name);
    } else {
        identity_name(&id, "ip:", "unknown");
    }
known:
    *out = id;
    return BT_OK;
}
