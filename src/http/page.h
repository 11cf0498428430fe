/* SPDX-License-Identifier: Apache-2.0 */
/* page.h - the page of GET /: page.html, put into the program by the assembler. */
#pragma once

extern const char bt__page[], bt__page_end[];
