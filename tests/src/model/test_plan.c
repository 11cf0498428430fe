/* SPDX-License-Identifier: Apache-2.0 */
/* The planner: what fits is planned, what does not is refused with what would. */
#include "model/plan.h"
#include "kernels/quant/quant.h"
#include "model/tensors.h"
#include "test.h"
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

/* A device of round numbers: weights 100 MiB, 1 KiB of KV a token, scratch 16 KiB a row, a
 * sequence 1 MiB. */
static void fake_bytes(const bt_recipe *recipe, const bt_weights *weights,
                       const bt_device_plan *plan, uint64_t *weights_bytes, uint64_t *kv_bytes,
                       uint64_t *scratch_bytes)
{
    (void)recipe;
    (void)weights;
    *weights_bytes = 100 * MIB;
    *kv_bytes = (uint64_t)plan->n_pages * (uint64_t)plan->page_tokens * 1024 *
                (plan->kv_format == BT_KV_F32 ? 2 : 1);
    *scratch_bytes = (uint64_t)plan->rows_max * 16384 + (uint64_t)plan->seqs_max * MIB;
}

/* The same, with weights as large as their formats make them. */
static void real_bytes(const bt_recipe *recipe, const bt_weights *weights,
                       const bt_device_plan *plan, uint64_t *weights_bytes, uint64_t *kv_bytes,
                       uint64_t *scratch_bytes)
{
    fake_bytes(recipe, weights, plan, weights_bytes, kv_bytes, scratch_bytes);
    const bt_weight *head = &weights->head;
    *weights_bytes = bt_format_bytes(head->format, (size_t)head->rows * (size_t)head->cols);
    for (int32_t l = 0; l < recipe->n_layers; l++)
        for (int32_t i = 0; i < BT_MATRICES_PER_LAYER; i++) {
            const bt_weight *m = bt_layer_matrix(&weights->layers[l], i);
            *weights_bytes += bt_format_bytes(m->format, (size_t)m->rows * (size_t)m->cols);
        }
}

static const bt_recipe recipe = {.vocab = 32000, .ctx_train = 8192};

/* The reserve is 1/16, so 16/15 of it is what must be free for `usable` to be. */
static bt_plan_ask ask_with(uint64_t usable)
{
    bt_plan_ask a = {0};
    a.recipe = &recipe;
    a.bytes = fake_bytes;
    a.free_bytes = usable / 15 * 16 + 16;
    a.threads = 2;
    return a;
}

static void defaults_fill_what_is_free(void)
{
    bt_plan_ask a = ask_with(1000 * MIB);
    bt_plan p = {0};
    a.threads = 0;
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK(p.device.threads >= 1);
    CHECK_INT(p.device.seqs_max, 8);
    CHECK_INT(p.device.ctx, 4096);
    CHECK_INT(p.device.page_tokens, 16);
    CHECK_INT(p.device.rows_max, 512);
    CHECK_INT(p.device.out_max, 131); // 16 MiB of 125 KiB rows
    CHECK_INT(p.device.n_pages, 8 * 4096 / 16);
    CHECK_INT(p.weights_bytes, 100 * MIB);
    CHECK_INT(p.kv_bytes, 32 * MIB);
    CHECK_INT(p.scratch_bytes, 16 * MIB);
    CHECK_INT(p.total_bytes, 148 * MIB);
    CHECK_INT(p.free_bytes, a.free_bytes);
}

/* With less free than every slot at full context would take, pages shrink to the byte. */
static void pages_shrink_to_what_fits(void)
{
    bt_plan_ask a = ask_with(126 * MIB);
    bt_plan p = {0};
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.n_pages, 10 * 1024 / 16); // 126 - 100 - 16 MiB
    CHECK(p.total_bytes + p.reserve_bytes <= p.free_bytes);
    a.free_bytes -= 32;
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.n_pages, 10 * 1024 / 16 - 1);
    a = ask_with(126 * MIB);
    a.kv_format = BT_KV_F32;
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.n_pages, 5 * 1024 / 16);
    a = ask_with(120 * MIB); // exactly one sequence's context: the least
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.n_pages, 4096 / 16);
}

static void asks_are_honoured(void)
{
    bt_plan_ask a = ask_with(1000 * MIB);
    bt_plan p = {0};
    a.slots = 3;
    a.ctx = 1000;
    a.kv_tokens = 2001;
    a.step_tokens = 64;
    a.page_tokens = 32;
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.seqs_max, 3);
    CHECK_INT(p.device.ctx, 1000);
    CHECK_INT(p.device.n_pages, 63); // rounded up
    CHECK_INT(p.device.rows_max, 64);
    CHECK_INT(p.device.out_max, 64);
    CHECK_INT(p.device.threads, 2);
    a.ctx = 1 << 20; // more than the model was trained for: cut to that
    a.kv_tokens = 0;
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.ctx, 8192);
    CHECK_INT(p.device.n_pages, 3 * 8192 / 32);
    a.slots = 600; // a step must have room for one token of each slot
    CHECK_INT(bt_plan_make(&a, &p, NULL), BT_OK);
    CHECK_INT(p.device.rows_max, 600);
    CHECK_INT(p.device.out_max, 600);
}

/* 2 layers of 7 matrices of 1024 x 1024 and the head: 30 MiB in f16, 15.5 in int8, 7.8 in int4. */
static void refusals_name_the_quantization_that_fits(void)
{
    static const char byte = 0;
    static const struct {
        uint64_t usable;
        int32_t format;
        const char *says;
    } row[] = {{29, BT_FORMAT_F16, "missing: --quant int8 and a context of 4096 would fit"},
               {17, BT_FORMAT_F16, "missing: --quant int4 and a context of 4096 would fit"},
               {10, BT_FORMAT_F16, "missing: --quant int4 and a context of 544 would fit"},
               {8, BT_FORMAT_F16, "missing: a file of at most 3.3 bits a weight would fit"},
               {15, BT_FORMAT_Q4_K, NULL},
               {7, BT_FORMAT_Q4_K, "missing: a file of at most 2."},
               {3, BT_FORMAT_F16, "missing: use a smaller model or quantization"}};
    bt_recipe r = {.vocab = 1024, .ctx_train = 8192, .n_layers = 2, .hidden = 1024};
    r.tied_head = true;
    bt_layer_weights layers[2];
    for (size_t k = 0; k < sizeof row / sizeof *row; k++) {
        bt_weight m = {row[k].format, 1024, 1024, &byte};
        bt_weights w = {.layers = layers, .head = m, .embed = m};
        for (int32_t i = 0; i < 2 * BT_MATRICES_PER_LAYER; i++)
            *bt_layer_matrix(&layers[i / BT_MATRICES_PER_LAYER], i % BT_MATRICES_PER_LAYER) = m;
        bt_plan_ask a = ask_with(row[k].usable * MIB);
        bt_plan p;
        bt_err err = {0};
        a.recipe = &r;
        a.weights = &w;
        a.bytes = real_bytes;
        a.slots = 1;
        a.step_tokens = 32;
        bt_status status = bt_plan_make(&a, &p, &err);
        CHECK_INT(status, row[k].says ? BT_ENOMEM : BT_OK);
        if (row[k].says && !strstr(err.msg, row[k].says)) CHECK_STR(err.msg, row[k].says);
        CHECK(w.head.format == row[k].format && layers[1].w_down.format == row[k].format);
    }
}

static void refusals_say_what_is_missing(void)
{
    bt_plan_ask a = ask_with(119 * MIB);
    bt_plan p = {.total_bytes = 7};
    bt_err err = {0};
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_ENOMEM);
    CHECK_STR(err.msg, "weights take 100.0 MiB, KV 4.0 MiB and scratch 16.0 MiB; of the memory "
                       "119.0 MiB may be used, so 1.0 MiB are missing: a context of 3072 would "
                       "fit");
    CHECK_INT(p.total_bytes, 7); // untouched
    a.ctx = 3072;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_OK); // it told the truth
    a = ask_with(102 * MIB);
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_ENOMEM);
    CHECK(strstr(err.msg, "1 slot, 32 tokens a step and a context of 512 would fit"));
    a.slots = 1;
    a.step_tokens = 32;
    a.ctx = 512;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_OK);
    a = ask_with(90 * MIB);
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_ENOMEM);
    CHECK(strstr(err.msg, "missing: use a smaller model or quantization"));
    a = ask_with(130 * MIB);
    a.kv_tokens = 1 << 20;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_ENOMEM);
    CHECK(strstr(err.msg, "KV 1.0 GiB"));
    a.kv_tokens = 100; // nobody asked for a longer context: it follows
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_OK);
    CHECK_INT(p.device.ctx, 100);
    CHECK_INT(p.device.n_pages, 7);
    a.ctx = 4096;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "100 KV tokens cannot hold one sequence of 4096"));
    a = ask_with(1000 * MIB);
    a.slots = -1;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_EINVAL);
    CHECK_STR(err.msg, "slots cannot be -1; expected 1 to 4096, or 0 for the default");
    a.slots = 0;
    a.ctx = 1 << 25;
    CHECK_INT(bt_plan_make(&a, &p, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "ctx cannot be 33554432"));
}

/* For any free memory: what is planned fits, and one page more would not or is not wanted. */
static void plans_are_tight(void)
{
    for (uint64_t usable = 100 * MIB; usable < 160 * MIB; usable += 333333) {
        bt_plan_ask a = ask_with(usable);
        bt_plan p = {0};
        if (bt_plan_make(&a, &p, NULL) != BT_OK) {
            CHECK(usable < 120 * MIB);
            continue;
        }
        uint64_t room = p.free_bytes - p.reserve_bytes, page = 16 * 1024;
        CHECK(p.total_bytes <= room);
        CHECK(p.total_bytes + page > room || p.device.n_pages == 8 * 4096 / 16);
    }
}

static void bytes_are_told_in_units(void)
{
    char t[16];
    CHECK_STR(bt_bytes_text(0, t), "0 B");
    CHECK_STR(bt_bytes_text(1023, t), "1023 B");
    CHECK_STR(bt_bytes_text(1024, t), "1.0 KiB");
    CHECK_STR(bt_bytes_text(1024 * 1024 - 1, t), "1.0 MiB");
    CHECK_STR(bt_bytes_text(5ull << 30, t), "5.0 GiB");
    CHECK_STR(bt_bytes_text(UINT64_MAX, t), "16.0 EiB");
}

/* A made-up machine ----------------------------------------------------------------------------*/

static char root[64];

/* Writes root/path, making its folders. */
static void put(const char *path, const char *content)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *p = full + strlen(root) + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(full, 0700);
            *p = '/';
        }
    FILE *f = fopen(full, "w");
    REQUIRE(f && fputs(content, f) >= 0);
    fclose(f);
}

static void machine(void)
{
    snprintf(root, sizeof root, "/tmp/baton-plan-XXXXXX");
    REQUIRE(mkdtemp(root));
    put("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         1000000 kB\n"
                        "MemAvailable:    8388608 kB\nBuffers: 1 kB\n");
}

static void unmake(void)
{
    char command[128];
    REQUIRE(strncmp(root, "/tmp/baton-plan-", 16) == 0);
    snprintf(command, sizeof command, "rm -r %s", root);
    REQUIRE(system(command) == 0);
}

static bt_memory memory(void)
{
    bt_memory m = {0};
    bt_err err = {0};
    CHECK_INT(bt_memory_read(root, &m, &err), BT_OK);
    return m;
}

static void memory_of_a_plain_machine(void)
{
    machine();
    bt_memory m = memory();
    CHECK_INT(m.total_bytes, 16384 * MIB);
    CHECK_INT(m.free_bytes, 8192 * MIB);
    CHECK(!m.limited);
    put("proc/self/cgroup", "0::/user/box\n"); // groups without limits
    put("sys/fs/cgroup/user/memory.max", "max\n");
    m = memory();
    CHECK(!m.limited && m.free_bytes == 8192 * MIB);
    unmake();
}

static void memory_under_cgroup_v2(void)
{
    machine();
    put("proc/self/cgroup", "0::/user/box\n");
    put("sys/fs/cgroup/user/box/memory.max", "max\n");
    put("sys/fs/cgroup/user/memory.max", "4294967296\n"); // 4 GiB, one level up
    put("sys/fs/cgroup/user/memory.current", "3221225472\n");
    put("sys/fs/cgroup/user/memory.stat",
        "anon 1\nfile 2\nactive_file 4096\ninactive_file 1073741824\nslab 3\n");
    bt_memory m = memory();
    CHECK(m.limited);
    CHECK_INT(m.total_bytes, 4096 * MIB);
    CHECK_INT(m.free_bytes, 2048 * MIB);            // 4 - (3 - 1)
    put("sys/fs/cgroup/memory.max", "536870912\n"); // a container sees its limit at the top
    m = memory();
    CHECK_INT(m.total_bytes, 512 * MIB);
    CHECK_INT(m.free_bytes, 512 * MIB);
    put("sys/fs/cgroup/memory.current", "999999999999\n"); // over its limit
    m = memory();
    CHECK_INT(m.free_bytes, 0);
    unmake();
}

static void memory_under_cgroup_v1(void)
{
    machine();
    put("proc/self/cgroup", "12:cpu:/docker/a\n9:memory:/docker/a\n0::/\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1610612736\n");
    put("sys/fs/cgroup/memory/memory.stat", "inactive_file 7\ntotal_inactive_file 536870912\n");
    bt_memory m = memory();
    CHECK(m.limited);
    CHECK_INT(m.total_bytes, 2048 * MIB);
    CHECK_INT(m.free_bytes, 1024 * MIB);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"); // none
    m = memory();
    CHECK(!m.limited && m.free_bytes == 8192 * MIB);
    unmake();
}

static void memory_that_cannot_be_read(void)
{
    machine();
    put("proc/meminfo", "MemTotal: lots\n");
    bt_memory m = {.free_bytes = 7};
    bt_err err = {0};
    CHECK_INT(bt_memory_read(root, &m, &err), BT_EIO);
    CHECK(strstr(err.msg, "cannot read the free memory"));
    CHECK_INT(m.free_bytes, 7);
    unmake();
    CHECK_INT(bt_memory_read("", &m, &err), BT_OK); // this very machine
    CHECK(m.free_bytes > MIB && m.total_bytes >= m.free_bytes);
}

int main(void)
{
    RUN(defaults_fill_what_is_free);
    RUN(pages_shrink_to_what_fits);
    RUN(asks_are_honoured);
    RUN(refusals_say_what_is_missing);
    RUN(refusals_name_the_quantization_that_fits);
    RUN(plans_are_tight);
    RUN(bytes_are_told_in_units);
    RUN(memory_of_a_plain_machine);
    RUN(memory_under_cgroup_v2);
    RUN(memory_under_cgroup_v1);
    RUN(memory_that_cannot_be_read);
    return TEST_END();
}
