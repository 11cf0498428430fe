/* SPDX-License-Identifier: Apache-2.0 */
/* emu_symbol.c - a kernel's name from its address, out of the program's own symbol table (kernels
 * are static functions, which the dynamic linker does not know). */
#define _GNU_SOURCE
#include "emu_internal.h"
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

char *__cxa_demangle(const char *mangled, char *out, size_t *bytes, int *status);

static const unsigned char *image;
static size_t image_bytes;
static uintptr_t base;

static int first_object(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size, (void)user;
    base = info->dlpi_addr;
    return 1;
}

static void load(void)
{
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) return;
    if (fstat(fd, &st) == 0 && st.st_size > (off_t)sizeof(Elf64_Ehdr)) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p != MAP_FAILED) {
            image = p;
            image_bytes = (size_t)st.st_size;
        }
    }
    close(fd);
    dl_iterate_phdr(first_object, NULL);
}

/* The bytes of section s, or NULL when the file does not have them. */
static const void *section(const Elf64_Shdr *s)
{
    return s->sh_offset <= image_bytes && s->sh_size <= image_bytes - s->sh_offset
               ? image + s->sh_offset
               : NULL;
}

static const char *lookup(const void *kernel)
{
    const Elf64_Ehdr *h = (const void *)image;
    if (!image || memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 ||
        h->e_shoff > image_bytes - (size_t)h->e_shnum * sizeof(Elf64_Shdr))
        return NULL;
    const Elf64_Shdr *all = (const void *)(image + h->e_shoff);
    for (int i = 0; i < h->e_shnum; i++) {
        const Elf64_Sym *sym = section(&all[i]);
        if (all[i].sh_type != SHT_SYMTAB || !sym || all[i].sh_link >= h->e_shnum) continue;
        const char *names = section(&all[all[i].sh_link]);
        for (size_t n = all[i].sh_size / sizeof *sym; names && n > 0; n--, sym++)
            if (ELF64_ST_TYPE(sym->st_info) == STT_FUNC &&
                base + sym->st_value == (uintptr_t)kernel &&
                sym->st_name < all[all[i].sh_link].sh_size)
                return names + sym->st_name;
    }
    return NULL;
}

const char *emu_kernel_name(const void *kernel)
{
    static char name[200];
    if (!image) load();
    const char *found = lookup(kernel);
    char *plain = found ? __cxa_demangle(found, NULL, NULL, NULL) : NULL;
    if (found)
        snprintf(name, sizeof name, "%s", plain ? plain : found);
    else
        snprintf(name, sizeof name, "at %p", kernel);
    free(plain);
    return name;
}
