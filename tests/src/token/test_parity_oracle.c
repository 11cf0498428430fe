/* SPDX-License-Identifier: Apache-2.0 */
/* LABEL ci */
/* TIMEOUT 1800 */
/* test_parity_oracle.c - the golden files of the tokenizers are what PyPI `tokenizers` says today:
 * made again and compared, where that package is installed. BATON_ORACLE_PYTHON names the Python
 * that has it (default python3). */
#include "test.h"

static char python[512];

static int run(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "'%s' %s", python, arguments);
    int rc = system(command);
    return rc;
}

static void parity_is_what_the_library_says(void)
{
    CHECK_INT(run(BATON_SOURCE_DIR "/tests/data/text-parity/make.py --check 2>/dev/null"), 0);
}

static void cases_are_what_the_library_says(void)
{
    CHECK_INT(run(BATON_SOURCE_DIR "/scripts/make_text_golden.py --check 2>/dev/null"), 0);
}

int main(void)
{
    const char *named = getenv("BATON_ORACLE_PYTHON");
    snprintf(python, sizeof python, "%s", named ? named : "python3");
    if (run("-c 'import tokenizers, gguf' 2>/dev/null") != 0)
        SKIP("no Python with tokenizers and gguf; BATON_ORACLE_PYTHON names one");
    RUN(parity_is_what_the_library_says);
    RUN(cases_are_what_the_library_says);
    return TEST_END();
}
