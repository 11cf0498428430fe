/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes: either refused with a sentence, or what cJSON read prints and parses again. */
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    cJSON *root = NULL, *again = NULL;
    bt_err err = {0};
    if (bt_json_parse((const char *)data, size, &root, &err)) {
        if (!err.msg[0]) abort();
        return 0;
    }
    char *text = cJSON_PrintUnformatted(root);
    if (text && bt_json_parse(text, strlen(text), &again, &err)) abort();
    cJSON_free(text);
    cJSON_Delete(again);
    cJSON_Delete(root);
    return 0;
}
