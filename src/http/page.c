/* SPDX-License-Identifier: Apache-2.0 */
#include "http/page.h"

/* The path is looked up along the include directories, of which src is one. */
__asm__(".pushsection .rodata\n"
        ".globl bt__page\n"
        ".globl bt__page_end\n"
        "bt__page:\n"
        ".incbin \"http/page.html\"\n"
        "bt__page_end:\n"
        ".byte 0\n"
        ".popsection\n");
