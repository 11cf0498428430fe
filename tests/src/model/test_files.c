/* SPDX-License-Identifier: Apache-2.0 */
/* test_files.c - what a path means: a GGUF file, a folder of safetensors, or a sentence about what
 * is there instead. */
#include "base/mem.h"
#include "model/files.h"
#include "test.h"
#include <sys/stat.h>

static char root[64];

static void clear(void)
{
    char command[200];
    if (!root[0]) {
        snprintf(root, sizeof root, "/tmp/baton-files-XXXXXX");
        REQUIRE(mkdtemp(root));
    }
    snprintf(command, sizeof command, "rm -rf %s/m && mkdir %s/m", root, root);
    REQUIRE(system(command) == 0);
}

/* A folder with these files, names in spaces. */
static void folder(const char *names)
{
    char list[400], path[200];
    clear();
    snprintf(list, sizeof list, "%s", names);
    for (char *save = NULL, *name = strtok_r(list, " ", &save); name;
         name = strtok_r(NULL, " ", &save)) {
        snprintf(path, sizeof path, "%s/m/%s", root, name);
        FILE *f = fopen(path, "wb");
        REQUIRE(f && fputs("x", f) >= 0 && fclose(f) == 0);
    }
}

/* rest: behind root. weights "" means: not found, with a sentence that holds folder_or_says. */
static void expect(const char *rest, const char *weights, const char *folder_or_says)
{
    static bt_model_files f;
    char path[200], want[200];
    bt_err err = {0};
    snprintf(path, sizeof path, "%s%s", root, rest);
    bt_status st = bt_model_files_find(path, &f, &err);
    if (!*weights) {
        bool says = st && strstr(err.msg, folder_or_says);
        CHECK(says && strlen(err.msg) + 1 < sizeof err.msg);
        if (!says) fprintf(stderr, "%s: got: %s\nnot: %s\n", rest, err.msg, folder_or_says);
        return;
    }
    CHECK_INT(st, BT_OK);
    if (st) fprintf(stderr, "%s: %s\n", rest, err.msg);
    if (st) return;
    snprintf(want, sizeof want, "%s/m/%s", root, weights);
    CHECK_STR(f.weights, want);
    snprintf(want, sizeof want, "%s%s", *folder_or_says ? root : "", folder_or_says);
    CHECK_STR(f.folder, want);
}

#define PARTS                                                                                      \
    "model-00001-of-00002.safetensors model-00002-of-00002.safetensors "                           \
    "model.safetensors.index.json "

static void folders(void)
{
    folder("config.json model.safetensors tokenizer.json");
    expect("/m", "model.safetensors", "/m");
    expect("/m/", "model.safetensors", "/m");
    expect("/m///", "model.safetensors", "/m");
    expect("/m/model.safetensors", "model.safetensors", "/m");
    expect("/m/config.json", "model.safetensors", "/m");
    expect("/m/other.safetensors", "other.safetensors", "/m"); // its reader says that there is none
    folder("config.json " PARTS);
    expect("/m", "model.safetensors.index.json", "/m");
    expect("/m/model.safetensors.index.json", "model.safetensors.index.json", "/m");
    expect("/m/model-00002-of-00002.safetensors", "model.safetensors.index.json", "/m");
    folder("config.json model.safetensors consolidated.safetensors adapter_model.safetensors");
    expect("/m", "model.safetensors", "/m");
    folder("config.json weights.safetensors pytorch_model.bin");
    expect("/m", "weights.safetensors", "/m");
    folder("config.json " PARTS "model.fp16.safetensors.index.json");
    expect("/m", "model.safetensors.index.json", "/m");
}

static void gguf(void)
{
    folder("a.gguf");
    expect("/m", "a.gguf", "");
    expect("/m/a.gguf", "a.gguf", "");
    expect("/m/none.gguf", "none.gguf", ""); // as above
    folder("b-00001-of-00002.gguf b-00002-of-00002.gguf mmproj-b.gguf config.json");
    expect("/m", "b-00001-of-00002.gguf", "");
    folder("a.gguf b.gguf");
    expect("/m", "", "holds 2 GGUF models; name the one to use, for example");
    folder("a.gguf model.safetensors");
    expect("/m", "a.gguf", "");
}

static void both(void)
{
    static bt_model_files f;
    char path[200];
    folder("config.json model.safetensors a.gguf");
    expect("/m", "model.safetensors", "/m");
    snprintf(path, sizeof path, "%s/m", root);
    CHECK_INT(bt_model_files_find(path, &f, NULL), BT_OK);
    CHECK_STR(f.note, "the folder has a GGUF model too; to use it instead, name it: a.gguf");
}

static void refusals(void)
{
    folder("model.safetensors");
    expect("/m", "", "holds safetensors but no config.json");
    folder("adapter_config.json adapter_model.safetensors");
    expect("/m", "", "a LoRA adapter");
    folder("adapter_config.json weights.safetensors");
    expect("/m", "", "a LoRA adapter");
    folder("config.json a.safetensors b.safetensors");
    expect("/m", "", "holds 2 .safetensors files and no index");
    folder("config.json pytorch_model.bin");
    expect("/m", "", "PyTorch pickles");
    folder("consolidated.00.pth");
    expect("/m", "", "PyTorch pickles");
    folder("config.json tokenizer.json");
    expect("/m", "", "config.json but no weights");
    folder("README.md");
    expect("/m", "", "a directory without a model");
    folder("config.json model-00001-of-00002.safetensors");
    expect("/m/model-00001-of-00002.safetensors", "", "config.json but no weights");
    char path[5000];
    bt_err err = {0};
    static bt_model_files f;
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = 0;
    CHECK_INT(bt_model_files_find(path, &f, &err), BT_EINVAL);
    CHECK(strstr(err.msg, "too long"));
    clear();
}

static void names(void)
{
    static const char *const row[][2] = {
        {"models/a.gguf", "a"},
        {"a.gguf", "a"},
        {"org/name", "name"},
        {"org/name/", "name"},
        {"org/name//", "name"},
        {"org/name/model.safetensors", "name"},
        {"name/config.json", "name"},
        {"model.safetensors", "model.safetensors"},
        {"", ""},
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char name[32];
        bt_model_name(row[i][0], name, sizeof name);
        CHECK_STR(name, row[i][1]);
    }
}

int main(void)
{
    RUN(names);
    RUN(folders);
    RUN(gguf);
    RUN(both);
    RUN(refusals);
    return TEST_END();
}
