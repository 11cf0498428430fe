/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model that has been opened, checked and understood: a GGUF file, or a folder with
 * safetensors and a config.json.
 *
 * After open every tensor of the file is accounted for: each one the architecture needs is there
 * with the right shape, and there is none that it does not know. Thread: any, read-only. */
#pragma once
#include "baton/model.h"
#include "file/gguf.h"
#include "model/generation.h"
#include <stddef.h>

typedef struct bt_model {
    bt_recipe recipe;
    bt_weights weights;       // matrices point into the mapped file; norms and biases into floats
    const bt_gguf *gguf;      // keys of the tokenizer and the template are here too; NULL: a folder
    bt_generation generation; // what the model's own file says of sampling
    uint64_t n_params;        // elements of all tensors in use
    uint64_t weights_bytes;   // their bytes in the file
    size_t n_left;            // tensors of parts that see or hear, which are not used
    char note[200];           // what else the path might have meant; "" = nothing
    struct bt_safetensors *safetensors; // owned; NULL: a GGUF file
    bt_gguf *own;                       // owned; NULL if gguf is the caller's
    struct bt__conversion *conversion;  // owned: matrices that bt_model_convert() has to make
    size_t n_conversions;
    void *converted, *requantized; // owned: what bt_model_convert() and bt_model_requant() made
    float *floats;                 // owned: norms, biases and rope divisors as aligned F32
} bt_model;

/* path as in model/files.h. The model must outlive every device that loaded it. Sentences name the
 * file, and the key or the tensor. BT_ENOTFOUND, BT_EFORMAT, BT_EUNSUPPORTED, BT_ENOMEM. */
bt_status bt_model_open(const char *path, bt_model **out, bt_err *err);
/* The same from an open file; g is borrowed and must outlive the model. */
bt_status bt_model_from_gguf(const bt_gguf *g, bt_model **out, bt_err *err);
void bt_model_close(bt_model *m); // NULL is fine

/* Host memory that bt_model_convert() takes; 0: all matrices are as they are in the file. text:
 * "224 matrices of F8_E4M3 become BF16"; "" for none. */
uint64_t bt_model_convert_bytes(const bt_model *m, char text[static 96]);
/* Before a device loads the weights: makes the matrices that lie in the file as no device loads them.
 * progress is called with bytes done and in all; it may be NULL. BT_ENOMEM; BT_EFORMAT: a scale makes a
 * number that is not finite. */
bt_status bt_model_convert(bt_model *m, int threads,
                           void (*progress)(void *ud, uint64_t done, uint64_t total), void *ud,
                           bt_err *err);
