/* SPDX-License-Identifier: Apache-2.0 */
/* test_account.c - keys, tiers, addresses behind proxies, and what a caller may and may not become.
 */
#include "quota/account.h"
#include "quota/address.h"
#include "quota/keys.h"
#include "quota/tiers.h"
#include "base/mem.h"
#include "src/quota/scratch.h"

static const char *write_file(const char *name, const char *text, mode_t mode)
{
    static char path[512];
    snprintf(path, sizeof path, "%s", scratch_path(name));
    FILE *f = fopen(path, "wb");
    REQUIRE(f && fwrite(text, 1, strlen(text), f) == strlen(text) && fclose(f) == 0);
    chmod(path, mode);
    return path;
}

static bt_accounts *accounts(const bt_accounts_options *opt)
{
    bt_err err = {0};
    bt_accounts *a = NULL;
    if (bt_accounts_open(opt, &a, &err) != BT_OK) fprintf(stderr, "accounts: %s\n", err.msg);
    REQUIRE(a != NULL);
    return a;
}

/* The account's name, or the status' label. */
static const char *who(const bt_accounts *a, const char *authorization, const char *api_key,
                       const char *peer, const char *forwarded)
{
    static bt_identity id;
    bt_err err = {0};
    bt_status s = bt_account_identify(a, authorization, api_key, peer, forwarded, &id, &err);
    if (s == BT_OK)
        CHECK(id.tier != NULL && id.account_id != 0);
    else
        CHECK(*err.msg);
    return s == BT_OK ? id.account : bt_status_get(s)->label;
}

static void presets_hold_the_published_quotas(void)
{
    static const struct {
        const char *preset, *tier;
        double minutes;
        bt_class cls;
    } row[] = {
        {"guide", "anonymous", 2, BT_CLASS_LOW},       {"guide", "free", 3.5, BT_CLASS_MEDIUM},
        {"guide", "pro", 25, BT_CLASS_HIGHEST},        {"guide", "team", 25, BT_CLASS_HIGHEST},
        {"guide", "enterprise", 45, BT_CLASS_HIGHEST}, {"2026", "anonymous", 2, BT_CLASS_LOW},
        {"2026", "free", 5, BT_CLASS_MEDIUM},          {"2026", "pro", 40, BT_CLASS_HIGHEST},
        {"2026", "team", 40, BT_CLASS_HIGHEST},        {"2026", "enterprise", 60, BT_CLASS_HIGHEST},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_tiers tiers;
        REQUIRE(bt_tiers_load(row[i].preset, &tiers, NULL) == BT_OK);
        const bt_tier *t = bt_tiers_find(&tiers, row[i].tier, strlen(row[i].tier));
        REQUIRE(t != NULL);
        CHECK_INT(t->quota_us, (int64_t)(row[i].minutes * 60e6));
        CHECK_INT(t->cls, row[i].cls);
        CHECK_INT(t->lease_max_s >= 60 && t->lease_max_s <= 300, 1);
        CHECK(t->slots >= 1 && t->queue >= 1 && t->weight > 0);
        CHECK_INT(tiers.n, 6);
        t = bt_tiers_find(&tiers, "owner", 5);
        REQUIRE(t != NULL);
        CHECK_INT(t->quota_us, BT_QUOTA_UNLIMITED);
        CHECK(bt_tiers_find(&tiers, "gold", 4) == NULL);
    }
}

static void a_tier_file_lies_over_the_guide(void)
{
    scratch_fresh();
    const char *file =
        write_file("tiers.json",
                   "{\"free\": {\"gpu_seconds\": 1.5, \"weight\": 2.5},\n"
                   " \"gold\": {\"gpu_seconds\": \"unlimited\", \"class\": \"highest\","
                   " \"weight\": 9, \"lease_max_s\": 600, \"slots\": 3, \"queue\": 5},\n"
                   " \"tin\": {\"gpu_seconds\": 0}}",
                   0600);
    bt_tiers tiers;
    REQUIRE(bt_tiers_load(file, &tiers, NULL) == BT_OK);
    const bt_tier *t = bt_tiers_find(&tiers, "free", 4);
    REQUIRE(t != NULL);
    CHECK_INT(t->quota_us, 1500000);
    CHECK_NEAR(t->weight, 2.5, 0);
    CHECK_INT(t->lease_max_s, 60); // as in the guide
    t = bt_tiers_find(&tiers, "gold", 4);
    REQUIRE(t != NULL);
    CHECK_INT(t->quota_us, BT_QUOTA_UNLIMITED);
    CHECK_INT(t->cls, BT_CLASS_HIGHEST);
    CHECK_INT(t->slots, 3);
    CHECK_INT(t->queue, 5);
    CHECK_INT(t->lease_max_s, 600);
    CHECK_INT(bt_tiers_find(&tiers, "pro", 3)->quota_us, 1500 * SECOND);
    bt_accounts *a = accounts(&(bt_accounts_options){.tiers = file, .default_tier = "tin"});
    bt_identity id;
    CHECK_INT(bt_account_identify(a, NULL, NULL, "192.0.2.1", NULL, &id, NULL), BT_OK);
    CHECK_STR(id.tier->name, "tin");
    bt_accounts_close(a);
}

static void tier_files_are_refused_by_name(void)
{
    static const struct {
        const char *text, *says;
    } row[] = {
        {"", "not JSON"},
        {"[]", "must be a JSON object"},
        {"{\"free\": 3}", "tier 'free': is not an object"},
        {"{\"free\": {\"gpu_secs\": 3}}", "key 'gpu_secs' is not known"},
        {"{\"free\": {\"weight\": 1, \"weight\": 2}}", "key 'weight' comes twice"},
        {"{\"free\": {}, \"free\": {}}", "tier 'free' comes twice"},
        {"{\"gold\": {\"weight\": 2}}", "gpu_seconds is missing"},
        {"{\"free\": {\"gpu_seconds\": -1}}", "gpu_seconds"},
        {"{\"free\": {\"gpu_seconds\": \"lots\"}}", "gpu_seconds"},
        {"{\"free\": {\"class\": \"best\"}}", "class must be low, medium or highest"},
        {"{\"free\": {\"weight\": 0}}", "weight"},
        {"{\"free\": {\"lease_max_s\": 0.5}}", "lease_max_s"},
        {"{\"free\": {\"slots\": 0}}", "slots"},
        {"{\"free\": {\"queue\": \"8\"}}", "queue"},
        {"{\"Free!\": {\"gpu_seconds\": 1}}", "'Free!' is no tier name"},
    };
    scratch_fresh();
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_err err = {0};
        bt_accounts *a = NULL;
        bt_accounts_options opt = {.tiers = write_file("t.json", row[i].text, 0600)};
        CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
        CHECK(a == NULL);
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s -> %s\n", row[i].text, err.msg);
        CHECK(strstr(err.msg, row[i].says) != NULL);
        CHECK(strstr(err.msg, "t.json") != NULL);
    }
    bt_err err = {0};
    bt_accounts *a = NULL;
    bt_accounts_options opt = {.tiers = scratch_path("absent.json")};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_ENOTFOUND);
    opt = (bt_accounts_options){.default_tier = "gold"};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
    opt = (bt_accounts_options){.default_tier = "owner"};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
    char many[4096] = "{";
    for (int i = 0; i < 40; i++) {
        size_t n = strlen(many);
        snprintf(many + n, sizeof many - n, "%s\"t%d\":{\"gpu_seconds\":1}", i ? "," : "", i);
    }
    strcat(many, "}");
    opt = (bt_accounts_options){.tiers = write_file("t.json", many, 0600)};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "more than 32") != NULL);
}

static void keys_name_their_account(void)
{
    scratch_fresh();
    const char *file = write_file("keys",
                                  "# who    what\n"
                                  "sk-ann-1  ann  pro\r\n"
                                  "\n"
                                  "  sk-ann-2\tann\tpro  \n"
                                  "sk-org org/team:1@x free\n"
                                  "   # the end",
                                  0600);
    bt_accounts *a =
        accounts(&(bt_accounts_options){.api_keys = file, .owner_token = " open-sesame\n"});
    bt_identity one, two;
    CHECK_INT(bt_account_identify(a, "Bearer sk-ann-1", NULL, "::1", NULL, &one, NULL), BT_OK);
    CHECK_STR(one.account, "key:ann");
    CHECK_STR(one.tier->name, "pro");
    CHECK_INT(one.authenticated, 1);
    CHECK_INT(one.owner, 0);
    CHECK_INT(bt_account_identify(a, "bearer   sk-ann-2 ", NULL, "::1", NULL, &two, NULL), BT_OK);
    CHECK(one.account_id == two.account_id); // two keys, one account
    CHECK_STR(who(a, NULL, "sk-org", "::1", NULL), "key:org/team:1@x");
    CHECK_STR(who(a, "Bearer open-sesame", NULL, "::1", NULL), "owner");
    CHECK_INT(bt_account_identify(a, NULL, "open-sesame", "::1", NULL, &two, NULL), BT_OK);
    CHECK_INT(two.owner, 1);
    CHECK_INT(two.tier->quota_us, BT_QUOTA_UNLIMITED);
    CHECK(one.account_id != two.account_id);

    CHECK_STR(who(a, "Bearer sk-ann-3", NULL, "::1", NULL), "bad_credentials");
    CHECK_STR(who(a, "Bearer sk-ann", NULL, "::1", NULL), "bad_credentials");
    CHECK_STR(who(a, "Basic sk-ann-1", NULL, "::1", NULL), "bad_credentials");
    CHECK_STR(who(a, "sk-ann-1", NULL, "::1", NULL), "bad_credentials");
    CHECK_STR(who(a, "Bearersk-ann-1", NULL, "::1", NULL), "bad_credentials");
    CHECK_STR(who(a, NULL, "nope", "::1", NULL), "bad_credentials");
    /* The proxy of a private Space wants Authorization for itself: the other header is enough. */
    CHECK_STR(who(a, "Bearer hf_token", "sk-org", "::1", NULL), "key:org/team:1@x");
    CHECK_STR(who(a, "Bearer sk-org", "nope", "::1", NULL), "key:org/team:1@x");
    CHECK_STR(who(a, NULL, NULL, "192.0.2.7", NULL), "ip:192.0.2.7");
    CHECK_STR(who(a, "Bearer ", "", "192.0.2.7", NULL), "ip:192.0.2.7"); // nothing was offered
    char *longest = calloc(1, 2000);
    memset(longest, 'k', 1999);
    CHECK_STR(who(a, NULL, longest, "::1", NULL), "bad_credentials");
    free(longest);
    bt_accounts_close(a);
}

static void key_files_are_refused_by_line(void)
{
    static const struct {
        const char *text, *says;
    } row[] = {
        {"a b free\nonly two\n", ":2: expected three words"},
        {"one two free more\n", ":1: expected three words"},
        {"\n\nk1 a gold\n", ":3: tier 'gold' is not known"},
        {"k1 a owner\n", ":1: the tier owner is not for keys"},
        {"k1 a,b free\n", ":1: the account name must be"},
        {"k1 0123456789012345678901234567890123456789012345678 free\n", ":1: the account name"},
        {"k1 a free\nk2 b free\nk1 c free\n", ":3: the same key is on line 1"},
        {"k1 a free\nk2 a pro\n", ":2: account 'a' is of tier pro here and of tier free on line 1"},
        {"s\xC3\xA9"
         "cret a free\n",
         ":1: the key must be"},
    };
    scratch_fresh();
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_err err = {0};
        bt_accounts *a = NULL;
        bt_accounts_options opt = {.api_keys = write_file("keys", row[i].text, 0600)};
        CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
        if (!strstr(err.msg, row[i].says)) fprintf(stderr, "%s -> %s\n", row[i].text, err.msg);
        CHECK(strstr(err.msg, row[i].says) != NULL);
        CHECK(strstr(err.msg, "cret") == NULL); // no key is ever quoted
    }
    bt_err err = {0};
    bt_accounts *a = NULL;
    bt_accounts_options opt = {.api_keys = write_file("keys", "tok a free\n", 0600),
                               .owner_token = "tok"};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "also an API key (line 1") != NULL);
    opt.owner_token = "  ";
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EINVAL);
    opt = (bt_accounts_options){.api_keys = scratch_path("absent")};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_ENOTFOUND);
    opt = (bt_accounts_options){.api_keys = scratch_dir};
    CHECK_INT(bt_accounts_open(&opt, &a, &err), BT_EIO);
}

/* What the process says on stderr while fn runs. */
static void with_stderr(const char *keys, char *said, size_t cap)
{
    FILE *f = tmpfile();
    int saved = dup(STDERR_FILENO);
    REQUIRE(f && saved >= 0);
    fflush(stderr);
    dup2(fileno(f), STDERR_FILENO);
    bt_accounts *a = NULL;
    bt_status s = bt_accounts_open(&(bt_accounts_options){.api_keys = keys}, &a, NULL);
    dup2(saved, STDERR_FILENO);
    close(saved);
    CHECK_INT(s, BT_OK);
    bt_accounts_close(a);
    rewind(f);
    said[fread(said, 1, cap - 1, f)] = 0;
    fclose(f);
}

static void a_readable_key_file_is_told(void)
{
    char said[1024];
    scratch_fresh();
    with_stderr(write_file("keys", "tok a free\n", 0644), said, sizeof said);
    CHECK(strstr(said, "keys.readable") && strstr(said, "chmod 600"));
    CHECK(strstr(said, "tok") == NULL);
    with_stderr(write_file("keys", "tok a free\n", 0600), said, sizeof said);
    CHECK_STR(said, "");
}

static void one_key_can_be_given_directly(void)
{
    bt_identity id;
    bt_err err = {0};
    bt_accounts *a = accounts(&(bt_accounts_options){.api_key = "sesame"});
    CHECK_INT(bt_account_identify(a, "Bearer sesame", NULL, "10.0.0.1", NULL, &id, &err), BT_OK);
    CHECK_STR(id.account, "key:default");
    CHECK_STR(id.tier->name, "pro");
    CHECK_INT(bt_account_identify(a, "Bearer other", NULL, "10.0.0.1", NULL, &id, &err), BT_EAUTH);
    bt_accounts_close(a);
}

static void without_keys_everyone_is_anonymous(void)
{
    /* Many clients always send some key; a server that knows none has nothing to refuse. */
    bt_accounts *a = accounts(&(bt_accounts_options){.owner_token = "boss"});
    CHECK_STR(who(a, "Bearer sk-whatever", NULL, "192.0.2.7", NULL), "ip:192.0.2.7");
    CHECK_STR(who(a, "Bearer boss", NULL, "192.0.2.7", NULL), "owner");
    CHECK_STR(who(a, NULL, NULL, "no address", NULL), "ip:unknown");
    CHECK_STR(who(a, NULL, NULL, NULL, NULL), "ip:unknown");
    bt_accounts_close(a);
    a = accounts(&(bt_accounts_options){.owner_token = "boss", .require_key = true});
    CHECK_STR(who(a, NULL, NULL, "192.0.2.7", NULL), "bad_credentials");
    CHECK_STR(who(a, "Bearer x", NULL, "192.0.2.7", NULL), "bad_credentials");
    CHECK_STR(who(a, "Bearer boss", NULL, "192.0.2.7", NULL), "owner");
    bt_accounts_close(a);
}

static void names_that_nobody_has(void)
{
    static const struct {
        const char *name, *like; // NULL: there is such an account; "": nothing is like it
    } row[] = {
        {"owner", NULL},
        {"key:alice", NULL},
        {"ip:192.0.2.1", NULL},
        {"ip:127.0.0.1", NULL},
        {"ip:unknown", NULL},
        {"ip:2001:db8:1:2::/64", NULL},
        {"alice", "key:alice"},
        {"Alice", "key:alice"},
        {"key:ALICE", "key:alice"},
        {"192.0.2.1", "ip:192.0.2.1"},
        {"ip:192.0.2.1:80", "ip:192.0.2.1"},
        {"ip:::1", "ip:127.0.0.1"},
        {"ip:2001:DB8:1:2::7", "ip:2001:db8:1:2::/64"},
        {"ip:2001:db8:1:2::/48", "ip:2001:db8:1:2::/64"},
        {"nosuch", ""},
        {"key:nosuch", ""},
        {"key:192.0.2.1", ""},
        {"ip:alice", ""},
        {"a b/../c", ""},
        {"ip:", ""},
        {"", ""},
        {"key:alice-and-a-name-that-is-longer-than-any-account-can-have-been", ""},
    };
    scratch_fresh();
    bt_accounts *a = accounts(
        &(bt_accounts_options){.api_keys = write_file("keys", "sk-a alice pro\n", 0600)});
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_err err = {0};
        bt_status st = bt_accounts_name_check(a, row[i].name, &err);
        CHECK_INT(st, row[i].like ? BT_ENOTFOUND : BT_OK);
        if (row[i].like && *row[i].like)
            CHECK(strstr(err.msg, "did you mean") && strstr(err.msg, row[i].like));
        else if (row[i].like)
            CHECK(strstr(err.msg, "key:NAME") && !strstr(err.msg, "mean"));
    }
    bt_accounts_close(a);
}

static void addresses_are_read(void)
{
    static const struct {
        const char *text, *account;
    } row[] = {
        {"192.0.2.1", "ip:192.0.2.1"},
        {" 192.0.2.1:8080 ", "ip:192.0.2.1"},
        {"::ffff:192.0.2.1", "ip:192.0.2.1"},
        {"[::ffff:c000:201]:9", "ip:192.0.2.1"},
        {"2001:db8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"},
        {"[2001:db8:1:2::9]:443", "ip:2001:db8:1:2::/64"},
        {"\"[2001:db8:1:2::9]\"", "ip:2001:db8:1:2::/64"},
        {"fe80::1%eth0", "ip:fe80::/64"},
        {"::1", "ip:127.0.0.1"},
        {"1.2.3", NULL},
        {"1.2.3.4.5", NULL},
        {"1.2.3.4:", NULL},
        {"1.2.3.4:123456", NULL},
        {"1.2.3.4:x", NULL},
        {"[1.2.3.4]", NULL},
        {"[::1", NULL},
        {"[::1]x", NULL},
        {"1.2.3.4%eth0", NULL},
        {"", NULL},
        {"unknown", NULL},
        {"_hidden", NULL},
        {"256.1.1.1", NULL},
        {"1:2:3:4:5:6:7:8:9", NULL},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_address a;
        char name[64];
        bool ok = bt_address_parse(row[i].text, strlen(row[i].text), &a);
        if (ok != (row[i].account != NULL)) fprintf(stderr, "'%s'\n", row[i].text);
        CHECK_INT(ok, row[i].account != NULL);
        if (!ok || !row[i].account) continue;
        bt_address_account(&a, name);
        CHECK_STR(name, row[i].account);
    }
}

static void networks_hold_what_one_party_may_have(void)
{
    static const struct {
        const char *address, *network;
    } row[] = {
        {"192.0.2.1", "192.0.2.0/24"},
        {"::ffff:192.0.2.200", "192.0.2.0/24"},
        {"192.0.3.1", "192.0.3.0/24"},
        {"2001:db8:1:2::3", "2001:db8:1::/48"},
        {"2001:db8:1:ffff::3", "2001:db8:1::/48"},
        {"2001:db8:2:2::3", "2001:db8:2::/48"},
    };
    bt_accounts_options opt = {.api_key = "k", .trusted_proxy = "127.0.0.1"};
    bt_accounts *accounts = NULL;
    bt_err err = {0};
    bt_identity id[6], named;
    REQUIRE(bt_accounts_open(&opt, &accounts, &err) == BT_OK);
    for (int i = 0; i < 6; i++) {
        bt_address a;
        char name[64];
        REQUIRE(bt_address_parse(row[i].address, strlen(row[i].address), &a));
        bt_address_network(&a, name);
        CHECK_STR(name, row[i].network);
        CHECK_INT(
            bt_account_identify(accounts, NULL, NULL, "127.0.0.1", row[i].address, &id[i], &err),
            BT_OK);
        CHECK(id[i].network != 0);
    }
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++)
            CHECK_INT(id[i].network == id[k].network, strcmp(row[i].network, row[k].network) == 0);
    CHECK(id[3].account_id != id[4].account_id); // each /64 pays for itself
    CHECK_INT(bt_account_identify(accounts, NULL, "k", "192.0.2.1", NULL, &named, &err), BT_OK);
    CHECK(named.network == 0);
    bt_accounts_close(accounts);
}

static void proxies_are_believed_as_far_as_they_go(void)
{
    static const struct {
        const char *trust;
        int space;
        const char *peer, *forwarded, *account;
    } row[] = {
        /* nobody is trusted: the header is wind */
        {"", 0, "203.0.113.9", "198.51.100.1", "ip:203.0.113.9"},
        {"auto", 0, "10.0.0.1", "198.51.100.1", "ip:10.0.0.1"},
        {"auto", 0, "127.0.0.1", "198.51.100.1", "ip:127.0.0.1"},
        /* a Space: private peers are its proxy */
        {"auto", 1, "10.16.4.1", "198.51.100.1", "ip:198.51.100.1"},
        {"auto", 1, "::ffff:10.16.4.1", "198.51.100.1", "ip:198.51.100.1"},
        {"auto", 1, "100.64.0.3", "198.51.100.1", "ip:198.51.100.1"},
        {"auto", 1, "fd00::5", "2001:db8:9::1", "ip:2001:db8:9::/64"},
        {"auto", 1, "203.0.113.9", "198.51.100.1", "ip:203.0.113.9"},
        /* right-most hop that is not trusted: what a client wrote itself stands further left */
        {"auto", 1, "10.0.0.1", "1.1.1.1, 198.51.100.1", "ip:198.51.100.1"},
        {"auto", 1, "10.0.0.1", "1.1.1.1,198.51.100.1,10.2.3.4 , 10.9.9.9", "ip:198.51.100.1"},
        {"auto", 1, "10.0.0.1", "10.5.5.5, 10.2.3.4", "ip:10.5.5.5"}, // all trusted: left-most
        {"auto", 1, "10.0.0.1", "garbage, 198.51.100.1", "ip:198.51.100.1"},
        /* what cannot be read counts for nothing */
        {"auto", 1, "10.0.0.1", "198.51.100.1, garbage", "ip:10.0.0.1"},
        {"auto", 1, "10.0.0.1", "198.51.100.1,", "ip:10.0.0.1"},
        {"auto", 1, "10.0.0.1", "unknown, 10.2.2.2", "ip:10.0.0.1"},
        {"auto", 1, "10.0.0.1", "", "ip:10.0.0.1"},
        {"auto", 1, "10.0.0.1", NULL, "ip:10.0.0.1"},
        /* named networks */
        {"203.0.113.0/24", 0, "203.0.113.9", "198.51.100.1", "ip:198.51.100.1"},
        {"203.0.113.0/24", 0, "203.0.114.9", "198.51.100.1", "ip:203.0.114.9"},
        {"203.0.113.8/29, 198.51.100.1", 0, "203.0.113.15", "8.8.8.8,198.51.100.1", "ip:8.8.8.8"},
        {"203.0.113.8/29", 0, "203.0.113.16", "8.8.8.8", "ip:203.0.113.16"},
        {"::/0", 0, "203.0.113.9", "8.8.8.8", "ip:203.0.113.9"}, // IPv6 only
        {"0.0.0.0/0", 0, "203.0.113.9", "8.8.8.8", "ip:8.8.8.8"},
        {"2001:db8::/33", 0, "2001:db8:7fff::1", "8.8.8.8", "ip:8.8.8.8"},
        {"2001:db8::/33", 0, "2001:db8:8000::1", "8.8.8.8", "ip:2001:db8:8000::/64"},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        bt_accounts *a = accounts(&(bt_accounts_options){.trusted_proxy = row[i].trust,
                                                         .behind_space = row[i].space != 0});
        const char *got = who(a, NULL, NULL, row[i].peer, row[i].forwarded);
        if (strcmp(got, row[i].account) != 0) fprintf(stderr, "row %zu\n", i);
        CHECK_STR(got, row[i].account);
        bt_accounts_close(a);
    }
    static const char *const bad[] = {"10.0.0.0/33", "10.0.0.0/", "fd00::/129",   "proxy.local",
                                      "10.0.0.1,",   ",10.0.0.1", "10.0.0.0/8/8", "10.0.0.0/-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bt_proxies p;
        bt_err err = {0};
        bt_status s = bt_proxies_parse(bad[i], false, &p, &err);
        if (strcmp(bad[i], "10.0.0.1,") == 0)
            CHECK_INT(s, BT_OK); // a comma at the end is no harm
        else
            CHECK_INT(s, BT_EINVAL);
    }
    /* Longer than anyone's chain: not walked for ever, not believed. */
    char hops[2000] = "8.8.8.8";
    for (int i = 0; i < 100; i++) strcat(hops, ",10.0.0.1");
    bt_accounts *a = accounts(&(bt_accounts_options){.behind_space = true});
    CHECK_STR(who(a, NULL, NULL, "10.0.0.1", hops), "ip:10.0.0.1");
    bt_accounts_close(a);
}

/* Every prefix in a buffer of its exact size: what reads past the end is seen by the sanitizer. */
static void truncated_files_are_only_refused(void)
{
    static const char keys[] =
        "\xEF\xBB\xBF# c\nsk-1 ann pro\r\n\tsk-2  bob free # no\nsk-3 c team";
    static const char tier[] = "{\"free\": {\"gpu_seconds\": 210, \"class\": \"medium\", "
                               "\"weight\": 1, \"lease_max_s\": 60, \"slots\": 2, \"queue\": 8}}";
    bt_tiers guide;
    CHECK(bt_tiers_preset("guide", &guide));
    for (size_t n = 0; n < sizeof keys; n++) {
        char *copy = malloc(n + !n);
        memcpy(copy, keys, n);
        bt_keys k = {0};
        if (bt_keys_parse(copy, n, "keys", &guide, &k, NULL) == BT_OK) bt_keys_release(&k);
        free(copy);
    }
    for (size_t n = 0; n < sizeof tier; n++) {
        char *copy = malloc(n + !n);
        memcpy(copy, tier, n);
        bt_tiers t = guide;
        bt_err err = {0};
        bt_status s = bt_tiers_parse(copy, n, "tiers", &t, &err);
        CHECK_INT(s == BT_OK, n == sizeof tier - 1);
        CHECK(s == BT_OK || *err.msg);
        free(copy);
    }
    static const char list[] = "\"[2001:db8::1]:443\" ,10.0.0.1:80, fe80::1%eth0";
    for (size_t n = 0; n < sizeof list; n++) {
        char *copy = malloc(n + !n);
        bt_address a;
        memcpy(copy, list, n);
        bt_address_parse(copy, n, &a);
        free(copy);
    }
}

static void memory_can_run_out(void)
{
    scratch_fresh();
    const char *file = write_file("keys", "k1 a free\nk2 b pro\n", 0600);
    for (long n = 1;; n++) {
        bt_accounts *a = NULL;
        bt_err err = {0};
        bt_accounts_options opt = {.api_keys = file, .owner_token = "boss"};
        bt_mem_fail_at(n);
        bt_status s = bt_accounts_open(&opt, &a, &err);
        bool failed = bt_mem_failed();
        bt_mem_fail_at(0);
        CHECK_INT(s, failed ? BT_ENOMEM : BT_OK);
        CHECK((a != NULL) == !failed);
        bt_accounts_close(a);
        if (!failed) break;
        CHECK(*err.msg && n < 100);
    }
}

int main(void)
{
    RUN(presets_hold_the_published_quotas);
    RUN(a_tier_file_lies_over_the_guide);
    RUN(tier_files_are_refused_by_name);
    RUN(keys_name_their_account);
    RUN(key_files_are_refused_by_line);
    RUN(a_readable_key_file_is_told);
    RUN(one_key_can_be_given_directly);
    RUN(without_keys_everyone_is_anonymous);
    RUN(names_that_nobody_has);
    RUN(addresses_are_read);
    RUN(networks_hold_what_one_party_may_have);
    RUN(proxies_are_believed_as_far_as_they_go);
    RUN(truncated_files_are_only_refused);
    RUN(memory_can_run_out);
    scratch_done();
    return TEST_END();
}
