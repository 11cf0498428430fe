/* SPDX-License-Identifier: Apache-2.0 */
/* page.h - the page of GET /: page.html, put into the program by the assembler. */
#pragma once

extern const char bt__page[], bt__page_end[];

/* Its Content-Security-Policy: only the style and the script that are in it, by their hashes, and
 * calls to this server. Says nothing about who may frame it: Spaces show it in a frame. Thread:
 * any; the text is static. */
const char *bt__page_policy(void);
