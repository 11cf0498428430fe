/* SPDX-License-Identifier: Apache-2.0 */
/* model.h - a model file that has been opened, checked and understood.
 *
 * After open every tensor of the file is accounted for: each one the architecture needs is there
 * with the right shape, and there is none that it does not know. Thread: any, read-only. */
#pragma once
#include "baton/model.h"
#include "file/gguf.h"

typedef struct bt_model {
    bt_recipe recipe;
    bt_weights weights;     // matrices point into the mapped file; norms and biases into floats
    const bt_gguf *gguf;    // keys of the tokenizer and the template are here too
    uint64_t n_params;      // elements of all tensors in use
    uint64_t weights_bytes; // their bytes in the file
    bt_gguf *own;           // owned; NULL if gguf is the caller's
    void *requantized;      // owned: matrices converted by bt_model_requant(), or NULL
    float *floats;          // owned: norms, biases and rope divisors as aligned F32
} bt_model;

/* The model must outlive every device that loaded it. Sentences name the file, and the key or the
 * tensor. BT_ENOTFOUND, BT_EFORMAT, BT_EUNSUPPORTED, BT_ENOMEM. */
bt_status bt_model_open(const char *path, bt_model **out, bt_err *err);
/* The same from an open file; g is borrowed and must outlive the model. */
bt_status bt_model_from_gguf(const bt_gguf *g, bt_model **out, bt_err *err);
void bt_model_close(bt_model *m); // NULL is fine
