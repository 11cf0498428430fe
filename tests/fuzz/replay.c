/* SPDX-License-Identifier: Apache-2.0 */
/* replay.c - runs a fuzz target over files named on the command line, for builds without libFuzzer.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return 1;
        }
        fseek(f, 0, SEEK_END);
        long n = ftell(f);
        rewind(f);
        uint8_t *data = malloc((size_t)n + !n); // exact size, so that ASan sees one byte too far
        if (!data || fread(data, 1, (size_t)n, f) != (size_t)n) return 1;
        fclose(f);
        LLVMFuzzerTestOneInput(data, (size_t)n);
        free(data);
    }
    printf("%d corpus files replayed\n", argc - 1);
    return 0;
}
