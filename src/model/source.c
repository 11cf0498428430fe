/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - finds a table's name in a file, and says which of its tensors nobody asked for. */
#include "model/source.h"
#include "base/assert.h"
#include "base/mem.h"
#include <stdio.h>
#include <string.h>

/* How families write what others begin with "model.": stripped of that, behind something else. A
 * model saved without its head has nothing before its names. */
static const struct {
    const char *strip, *add;
} beginnings[] = {
    {"", ""},       {"", "language_model."}, {"model.", "model.language_model."},
    {"model.", ""}, {"transformer.", ""},
};

static size_t begins(const char *s, const char *with)
{
    size_t n = strlen(with);
    return strncmp(s, with, n) == 0 ? n : 0;
}

bt_status bt__source_init(bt__source *s, const bt_gguf *gguf, const bt_safetensors *safetensors,
                          const char *embed, bt_err *err)
{
    *s = (bt__source){.gguf = gguf, .safetensors = safetensors, .strip = "", .add = ""};
    s->naming = gguf ? BT_NAMING_GGUF : BT_NAMING_HF;
    s->label = gguf ? bt_gguf_label(gguf) : bt_safetensors_label(safetensors);
    s->used = bt_calloc(bt__source_n(s) + 1, sizeof *s->used);
    if (!s->used) return bt_err_set(err, BT_ENOMEM, 0, "out of memory to open %s", s->label);
    for (size_t i = 0; safetensors && i < BT_COUNT(beginnings); i++) {
        s->strip = beginnings[i].strip;
        s->add = beginnings[i].add;
        if (bt__source_find(s, embed)) return BT_OK;
    }
    s->strip = s->add = "";
    return BT_OK;
}

void bt__source_release(bt__source *s)
{
    bt_free(s->used);
    s->used = NULL;
}

size_t bt__source_n(const bt__source *s)
{
    return s->gguf ? bt_gguf_n_tensors(s->gguf) : bt_safetensors_n_tensors(s->safetensors);
}

const bt_file_tensor *bt__source_at(const bt__source *s, size_t i)
{
    return s->gguf ? bt_gguf_tensor_at(s->gguf, i) : bt_safetensors_at(s->safetensors, i);
}

const bt_file_tensor *bt__source_find(const bt__source *s, const char *name)
{
    char full[BT_FILE_NAME_MAX + 1];
    if (s->gguf) return bt_gguf_tensor_find(s->gguf, name);
    if (!*s->strip && !*s->add) return bt_safetensors_find(s->safetensors, name);
    /* The head stands outside of what has a beginning of its own, or inside. */
    size_t skip = *s->strip ? begins(name, s->strip) : 0;
    bool inside = !*s->strip || skip;
    int n = snprintf(full, sizeof full, "%s%s", inside ? s->add : "", name + skip);
    return n > 0 && n < (int)sizeof full ? bt_safetensors_find(s->safetensors, full) : NULL;
}

/* Unused tensors that are no fault --------------------------------------------------------- */

/* Buffers that old files keep, and scales for activations of 8 bits, which there are not. */
static const char *const superfluous[] = {
    ".attn_rot_embd.weight",
    ".attn_rot_embd",
    ".rotary_emb.inv_freq",
    ".attn.bias",
    ".attn.masked_bias",
    ".attention.bias",
    ".attention.masked_bias",
    ".input_scale",
    ".k_scale",
    ".v_scale",
    ".q_scale",
    ".weight_shape",
    ".weight_format",
    ".SCB_format",
    ".output_scale",
    ".input_global_scale",
};

/* Parts of models that see or hear, and layers that foretell more than one token. */
static const char *const other_parts[] = {
    "visual.", "vision_", "multi_modal_projector.", "mm_",
    "audio_",  "image_",  "embed_vision",           "embed_audio",
    "mtp.",    "talker.",
};

static bool ends(bt_str name, const char *end)
{
    size_t n = strlen(end);
    return name.n >= n && memcmp(name.s + name.n - n, end, n) == 0;
}

static bool is_other_part(bt_str name)
{
    if (name.n > 6 && memcmp(name.s, "model.", 6) == 0) name = (bt_str){name.s + 6, name.n - 6};
    for (size_t i = 0; i < BT_COUNT(other_parts); i++) {
        size_t n = strlen(other_parts[i]);
        if (name.n >= n && memcmp(name.s, other_parts[i], n) == 0) return true;
    }
    return false;
}

bt_status bt__source_check(const bt__source *s, const bt_recipe *r, bool rest, size_t *n_left,
                           bt_err *err)
{
    *n_left = 0;
    for (size_t i = 0; i < bt__source_n(s); i++) {
        bt_str name = bt__source_at(s, i)->name;
        bool fine = s->used[i];
        for (size_t k = 0; k < BT_COUNT(superfluous) && !fine; k++)
            fine = ends(name, superfluous[k]);
        if (!fine && rest && is_other_part(name)) {
            fine = true;
            ++*n_left;
        }
        /* The head of a file that says that it is the embedding, which it repeats. */
        if (!fine && r->tied_head && s->safetensors) fine = ends(name, "lm_head.weight");
        if (!fine)
            return bt_err_set(err, BT_EUNSUPPORTED, 0,
                              "%s has a tensor '%s' that the architecture %s does not know",
                              s->label, bt_str_shown(name).s, r->arch);
    }
    return BT_OK;
}
