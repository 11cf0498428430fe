/* SPDX-License-Identifier: Apache-2.0 */
/* emu_warp.c - what the lanes of a warp do together: each lane deposits its operands and waits; the
 * last one to come checks that all came to the same place with the same mask, works out all results
 * and lets the others go. mma and ldmatrix are such collectives with the fragment layouts of the
 * PTX ISA (drawn in kernels/cuda_ptx.h). */
#include "emu_race.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void verify(const emu_warp *w, const emu_thread *t)
{
    for (uint32_t rest = t->mask; rest; rest &= rest - 1) {
        const emu_thread *o = &w->lane[__builtin_ctz(rest)];
        if (o->op == t->op && o->mask == t->mask && o->site.line == t->site.line &&
            (o->site.file == t->site.file || strcmp(o->site.file, t->site.file) == 0))
            continue;
        emu_bug(cudaErrorLaunchFailure, t->site,
                "divergent warp collective: lane %u is here with mask %08x, lane %u at %s:%d with "
                "mask %08x",
                t->lane, t->mask, o->lane, o->site.file, o->site.line, o->mask);
    }
}

/* Where a lane's shuffle reads from. */
static int shuffle_source(const emu_thread *t, int width)
{
    int lane = t->lane, first = lane & ~(width - 1), last = first + width - 1, from;
    switch (t->op) {
    case EMU_SHFL: return first | (t->arg & (width - 1));
    case EMU_SHFL_UP: from = lane - t->arg; return from < first ? lane : from;
    case EMU_SHFL_DOWN: from = lane + t->arg; return from > last ? lane : from;
    default: from = lane ^ (t->arg & 31); return from > last ? lane : from;
    }
}

static void shuffle(const emu_warp *w, uint32_t mask, int width)
{
    uint64_t in[32];
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int i = __builtin_ctz(rest);
        in[i] = w->lane[i].value;
    }
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        emu_thread *t = &w->lane[__builtin_ctz(rest)];
        int from = shuffle_source(t, width);
        if (!(mask >> from & 1))
            emu_bug(cudaErrorLaunchFailure, t->site,
                    "lane %u shuffles from lane %d, which is not in the mask %08x", t->lane, from,
                    mask);
        else
            t->value = in[from];
    }
}

static uint64_t reduce_two(int op, uint64_t a, uint64_t b)
{
    uint32_t x = (uint32_t)a, y = (uint32_t)b;
    switch (op) {
    case EMU_REDUCE_ADD: return (uint32_t)(x + y);
    case EMU_REDUCE_MIN: return (int32_t)x < (int32_t)y ? x : y;
    case EMU_REDUCE_MAX: return (int32_t)x > (int32_t)y ? x : y;
    case EMU_REDUCE_UMIN: return x < y ? x : y;
    case EMU_REDUCE_UMAX: return x > y ? x : y;
    case EMU_REDUCE_AND: return x & y;
    case EMU_REDUCE_OR: return x | y;
    default: return x ^ y;
    }
}

static void vote(const emu_warp *w, uint32_t mask, int op)
{
    uint64_t ballot = 0, sum = 0;
    bool first = true;
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        int i = __builtin_ctz(rest);
        uint64_t v = w->lane[i].value;
        if (v) ballot |= 1ull << i;
        sum = first ? (uint32_t)v : reduce_two(op, sum, v);
        first = false;
    }
    uint64_t result = op == EMU_BALLOT ? ballot
                      : op == EMU_ANY  ? ballot != 0
                      : op == EMU_ALL  ? ballot == mask
                                       : sum;
    for (uint32_t rest = mask; rest; rest &= rest - 1) w->lane[__builtin_ctz(rest)].value = result;
}

static void match_any(const emu_warp *w, uint32_t mask)
{
    uint64_t in[32];
    for (int i = 0; i < 32; i++) in[i] = w->lane[i].value;
    for (uint32_t a = mask; a; a &= a - 1) {
        int i = __builtin_ctz(a);
        uint32_t same = 0;
        for (uint32_t b = mask; b; b &= b - 1)
            if (in[__builtin_ctz(b)] == in[i]) same |= b & (~b + 1);
        w->lane[i].value = same;
    }
}

/* Conversions of 16-bit floats, exact. */
float emu_from_f16(uint32_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {(h & 0x7fff) << 13}, scale = {0x77800000}; // 2^112
    v.f *= scale.f;
    if ((h & 0x7c00) == 0x7c00) v.u |= 0x7f800000;
    v.u |= (h & 0x8000) << 16;
    return v.f;
}
float emu_from_bf16(uint32_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {h << 16};
    return v.f;
}

typedef float (*convert_fn)(uint32_t);

/* Fills rows [row0, row0 + 8) and the k's of one fragment register of all lanes. */
static void unpack(const emu_warp *w, bool is_b, int reg, int row0, int k0, int per_reg,
                   convert_fn convert, float m[][32])
{
    int bits = 32 / per_reg;
    uint32_t field = bits == 32 ? UINT32_MAX : (1u << bits) - 1;
    for (int l = 0; l < 32; l++) {
        uint32_t v = is_b ? w->lane[l].b[reg] : w->lane[l].a[reg];
        for (int i = 0; i < per_reg; i++)
            m[row0 + l / 4][k0 + l % 4 * per_reg + i] = convert(v >> i * bits & field);
    }
}

static float from_s8(uint32_t b)
{
    return (float)(int8_t)b;
}

/* D = A B + D. Products and their sum are exact in double here and rounded once when added to the
 * accumulator; hardware rounds in an order of its own, within a few units of the last place. */
static void mma(const emu_warp *w, int op)
{
    float a[16][32], b[8][32];
    int per_reg = op == EMU_MMA_S8 ? 4 : 2, half = per_reg * 4, k = half * 2;
    convert_fn convert = op == EMU_MMA_F16    ? emu_from_f16
                         : op == EMU_MMA_BF16 ? emu_from_bf16
                                              : from_s8;
    for (int reg = 0; reg < 4; reg++)
        unpack(w, false, reg, reg % 2 * 8, reg / 2 * half, per_reg, convert, a);
    for (int reg = 0; reg < 2; reg++) unpack(w, true, reg, 0, reg * half, per_reg, convert, b);
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < 4; i++) {
            const float *row = a[l / 4 + i / 2 * 8], *col = b[l % 4 * 2 + i % 2];
            double sum = 0;
            for (int j = 0; j < k; j++) sum += (double)row[j] * (double)col[j];
            if (op == EMU_MMA_S8) {
                int32_t *d = w->lane[l].d;
                d[i] = (int32_t)((uint32_t)d[i] + (uint32_t)(int32_t)sum);
            } else {
                float *d = w->lane[l].d;
                d[i] = (float)((double)d[i] + sum);
            }
        }
    }
}

static void ldmatrix(const emu_warp *w, int op)
{
    bool trans = op == EMU_LDMATRIX_X4_TRANS;
    int n = op == EMU_LDMATRIX_X4 || op == EMU_LDMATRIX_X4_TRANS ? 4 : 2;
    for (int i = 0; i < n; i++) {
        uint16_t m[8][8];
        for (int r = 0; r < 8; r++) memcpy(m[r], w->lane[i * 8 + r].a, 16);
        for (int l = 0; l < 32; l++) {
            int x = l / 4, y = l % 4 * 2;
            uint32_t lo = trans ? m[y][x] : m[x][y], hi = trans ? m[y + 1][x] : m[x][y + 1];
            ((uint32_t *)w->lane[l].d)[i] = lo | hi << 16;
        }
    }
}

static void complete(emu_warp *w, const emu_thread *t, int width)
{
    switch (t->op) {
    case EMU_SYNC: w->epoch++; break;
    case EMU_SHFL:
    case EMU_SHFL_UP:
    case EMU_SHFL_DOWN:
    case EMU_SHFL_XOR: shuffle(w, t->mask, width); break;
    case EMU_MATCH_ANY: match_any(w, t->mask); break;
    case EMU_MMA_F16:
    case EMU_MMA_BF16:
    case EMU_MMA_S8: mma(w, t->op); break;
    case EMU_LDMATRIX_X2:
    case EMU_LDMATRIX_X4:
    case EMU_LDMATRIX_X4_TRANS: ldmatrix(w, t->op); break;
    default: vote(w, t->mask, t->op); break;
    }
}

/* The running lane has deposited its operands. */
static void rendezvous(emu_thread *t, int width)
{
    emu_warp *w = emu_warp_of(t);
    uint32_t bit = 1u << t->lane;
    if (!(t->mask & bit))
        emu_bug(cudaErrorLaunchFailure, t->site,
                "lane %u calls a warp collective whose mask %08x lacks it", t->lane, t->mask);
    if (t->mask & ~w->live)
        emu_bug(cudaErrorLaunchFailure, t->site,
                "warp collective with mask %08x, but lanes %08x have exited", t->mask,
                t->mask & ~w->live);
    w->waiting |= bit;
    if ((w->waiting & t->mask) == t->mask) {
        verify(w, t);
        complete(w, t, width);
        w->waiting &= ~t->mask;
        emu_lanes_ready(w, t->mask & ~bit);
    } else {
        emu_thread_block(EMU_AT_WARP);
    }
}

uint64_t emu_collective(int op, uint32_t mask, uint64_t value, int arg, int width, const char *file,
                        int line)
{
    emu_thread *t = emu_thread_running();
    t->op = op;
    t->mask = mask;
    t->value = value;
    t->arg = arg;
    t->site = (emu_site){file, line};
    if (width < 1 || width > 32 || (width & (width - 1)))
        emu_bug(cudaErrorLaunchFailure, t->site, "shuffle width %d is not a power of two up to 32",
                width);
    if (op >= EMU_REDUCE_ADD && op <= EMU_REDUCE_XOR && emu_arch_now()->sm < 80)
        emu_bug(cudaErrorNoKernelImageForDevice, t->site, "__reduce_*_sync needs sm_80");
    rendezvous(t, width);
    return t->value;
}

void emu_lane_exits(emu_warp *w, emu_thread *t)
{
    for (uint32_t rest = w->waiting; rest; rest &= rest - 1) {
        const emu_thread *o = &w->lane[__builtin_ctz(rest)];
        if (o->mask >> t->lane & 1)
            emu_bug(cudaErrorLaunchFailure, o->site,
                    "lane %u has exited, but lane %u waits for it here (mask %08x)", t->lane,
                    o->lane, o->mask);
    }
}

void emu_mma(int op, void *d, const uint32_t *a, const uint32_t *b, const char *file, int line)
{
    emu_thread *t = emu_thread_running();
    int sm = emu_arch_now()->sm;
    t->op = op;
    t->mask = UINT32_MAX;
    t->arg = 0;
    t->d = d;
    t->a = a;
    t->b = b;
    t->site = (emu_site){file, line};
    if (op == EMU_MMA_BF16 && sm < 80)
        emu_bug(cudaErrorNoKernelImageForDevice, t->site,
                "this mma needs sm_80, the device is sm_%d", sm);
    rendezvous(t, 32);
}

void emu_ldmatrix(int op, uint32_t *r, const void *row, const char *file, int line)
{
    emu_thread *t = emu_thread_running();
    bool x2 = op == EMU_LDMATRIX_X2;
    t->op = op;
    t->mask = UINT32_MAX;
    t->arg = 0;
    t->d = r;
    t->a = row;
    t->site = (emu_site){file, line};
    if (!x2 || t->lane < 16 || emu_arch_now()->sm == 75) {
        if ((uintptr_t)row % 16) emu_misaligned(row, 16, file, line);
        if (!emu_in_shared(row, 16))
            emu_bug(cudaErrorIllegalAddress, t->site,
                    "ldmatrix: %p is not 16 bytes of the block's shared memory", row);
    }
    if (!x2 || t->lane < 16)
        emu_race_access(row, 16, 16, false, false, (uintptr_t)__builtin_return_address(0));
    rendezvous(t, 32);
}

/* cp.async: the bytes come at the wait, not before; until then their place holds poison. */
void emu_cp_async(void *smem, const void *global, int bytes, bool valid, const char *file, int line)
{
    emu_thread *t = emu_thread_running();
    emu_site site = {file, line};
    size_t size = (size_t)bytes;
    if ((uintptr_t)smem % size) emu_misaligned(smem, size, file, line);
    if (valid && (uintptr_t)global % size) emu_misaligned(global, size, file, line);
    if (!emu_in_shared(smem, size))
        emu_bug(cudaErrorIllegalAddress, site,
                "cp.async: %p is not %d bytes of the block's shared memory", smem, bytes);
    const char *wrong = valid ? emu_memory_check(global, size) : NULL;
    if (wrong) emu_bug(cudaErrorIllegalAddress, site, "cp.async from %p: %s", global, wrong);
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    emu_race_access(smem, size, size, true, false, pc);
    if (valid) emu_race_access(global, size, size, false, false, pc);
    if (emu_arch_now()->sm == 75) {
        if (valid)
            memcpy(smem, global, size);
        else
            memset(smem, 0, size);
        return;
    }
    if (t->n_copies == t->copies_max) {
        t->copies_max = t->copies_max ? 2 * t->copies_max : 16;
        t->copies = emu_must(realloc(t->copies, t->copies_max * sizeof *t->copies));
    }
    t->copies[t->n_copies++] = (emu_copy){smem, valid ? global : NULL, size, t->group, pc};
    emu_poison(smem, size);
}

void emu_cp_async_commit(void)
{
    emu_thread_running()->group++;
}

/* Makes the copies of groups before `upto` visible. */
static void copies_finish(emu_thread *t, uint32_t upto)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->n_copies; i++) {
        const emu_copy *c = &t->copies[i];
        if (c->group >= upto) {
            t->copies[kept++] = *c;
            continue;
        }
        emu_race_access(c->to, c->bytes, c->bytes, true, false,
                        c->pc); // written now, not when it was asked for
        if (c->from)
            memcpy(c->to, c->from, c->bytes);
        else
            memset(c->to, 0, c->bytes);
    }
    t->n_copies = kept;
}

void emu_cp_async_wait(int groups)
{
    emu_thread *t = emu_thread_running();
    copies_finish(t, t->group > (uint32_t)groups ? t->group - (uint32_t)groups : 0);
}
