/* SPDX-License-Identifier: Apache-2.0 */
/* emu_math.h - CUDA's integer and float intrinsics for the host. Those a GPU approximates (__expf,
 * __fdividef, rsqrtf ...) are the host's exact ones here: tolerances must allow for both. */
#pragma once

static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __popcll(unsigned long long v)
{
    return __builtin_popcountll(v);
}
static inline int __clz(int v)
{
    return v ? __builtin_clz((unsigned)v) : 32;
}
static inline int __clzll(long long v)
{
    return v ? __builtin_clzll((unsigned long long)v) : 64;
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline int __ffsll(long long v)
{
    return __builtin_ffsll(v);
}
static inline unsigned __brev(unsigned v)
{
    unsigned r = 0;
    for (int i = 0; i < 32; i++) r |= (v >> i & 1u) << (31 - i);
    return r;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return (unsigned)((unsigned long long)a * b >> 32);
}
static inline int __mulhi(int a, int b)
{
    return (int)((long long)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
    unsigned long long both = (unsigned long long)y << 32 | x;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned pick = s >> 4 * i & 0xf, byte = (unsigned)(both >> 8 * (pick & 7)) & 0xff;
        if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
        r |= byte << 8 * i;
    }
    return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((unsigned long long)hi << 32 | lo) << (n & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((unsigned long long)hi << 32 | lo) >> (n & 31));
}

static inline int __dp4a(int a, int b, int c)
{
    unsigned sum = (unsigned)c;
    for (int i = 0; i < 4; i++)
        sum += (unsigned)((int8_t)((unsigned)a >> 8 * i) * (int8_t)((unsigned)b >> 8 * i));
    return (int)sum;
}
static inline unsigned __dp4a(unsigned a, unsigned b, unsigned c)
{
    for (int i = 0; i < 4; i++) c += (a >> 8 * i & 0xff) * (b >> 8 * i & 0xff);
    return c;
}

/* Four bytes at a time. */
#define EMU_SIMD4(name, result)                                                                    \
    static inline unsigned name(unsigned a, unsigned b)                                            \
    {                                                                                              \
        unsigned r = 0;                                                                            \
        for (int i = 0; i < 4; i++) {                                                              \
            int x = (int8_t)(a >> 8 * i), y = (int8_t)(b >> 8 * i);                                \
            r |= ((unsigned)(result)&0xff) << 8 * i;                                               \
        }                                                                                          \
        return r;                                                                                  \
    }
EMU_SIMD4(__vadd4, x + y)
EMU_SIMD4(__vsub4, x - y)
EMU_SIMD4(__vsubss4, x - y < -128 ? -128 : x - y > 127 ? 127 : x - y)
EMU_SIMD4(__vaddss4, x + y < -128 ? -128 : x + y > 127 ? 127 : x + y)
EMU_SIMD4(__vcmpeq4, x == y ? 0xff : 0)
EMU_SIMD4(__vcmpne4, x != y ? 0xff : 0)
EMU_SIMD4(__vmaxs4, x > y ? x : y)
EMU_SIMD4(__vmins4, x < y ? x : y)
#undef EMU_SIMD4

static inline float __uint_as_float(unsigned v)
{
    return emu_from_bits<float>(v);
}
static inline float __int_as_float(int v)
{
    return emu_from_bits<float>((unsigned)v);
}
static inline unsigned __float_as_uint(float v)
{
    return (unsigned)emu_bits(v);
}
static inline int __float_as_int(float v)
{
    return (int)(unsigned)emu_bits(v);
}
static inline double __longlong_as_double(long long v)
{
    return emu_from_bits<double>((unsigned long long)v);
}
static inline long long __double_as_longlong(double v)
{
    return (long long)emu_bits(v);
}

/* Conversions saturate and turn NaN into 0, as the hardware's do. */
static inline int emu_to_int(double v)
{
    return v != v ? 0 : v <= -2147483648.0 ? INT32_MIN : v >= 2147483647.0 ? INT32_MAX : (int)v;
}
static inline unsigned emu_to_uint(double v)
{
    return !(v > 0) ? 0u : v >= 4294967295.0 ? UINT32_MAX : (unsigned)v;
}
static inline int __float2int_rn(float v)
{
    return emu_to_int((double)rintf(v));
}
static inline int __float2int_rz(float v)
{
    return emu_to_int((double)truncf(v));
}
static inline int __float2int_rd(float v)
{
    return emu_to_int((double)floorf(v));
}
static inline int __float2int_ru(float v)
{
    return emu_to_int((double)ceilf(v));
}
static inline unsigned __float2uint_rn(float v)
{
    return emu_to_uint((double)rintf(v));
}
static inline unsigned __float2uint_rz(float v)
{
    return emu_to_uint((double)truncf(v));
}
static inline float __int2float_rn(int v)
{
    return (float)v;
}
static inline float __uint2float_rn(unsigned v)
{
    return (float)v;
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __frcp_rn(float a)
{
    return 1.0f / a;
}
static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline double __dadd_rn(double a, double b)
{
    return a + b;
}
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float __frsqrt_rn(float a)
{
    return (float)(1.0 / sqrt((double)a));
}
static inline float rsqrtf(float a)
{
    return (float)(1.0 / sqrt((double)a));
}
static inline double rsqrt(double a)
{
    return 1.0 / sqrt(a);
}
/* The C library has functions of its own under these names. */
#define __expf emu_expf
#define __exp10f emu_exp10f
#define __logf emu_logf
#define __log2f emu_log2f
#define __powf emu_powf
#define __sinf emu_sinf
#define __cosf emu_cosf
#define __tanhf emu_tanhf
static inline float emu_expf(float a)
{
    return expf(a);
}
static inline float emu_exp10f(float a)
{
    return powf(10.0f, a);
}
static inline float emu_logf(float a)
{
    return logf(a);
}
static inline float emu_log2f(float a)
{
    return log2f(a);
}
static inline float emu_powf(float a, float b)
{
    return powf(a, b);
}
static inline float emu_sinf(float a)
{
    return sinf(a);
}
static inline float emu_cosf(float a)
{
    return cosf(a);
}
static inline float emu_tanhf(float a)
{
    return tanhf(a);
}
static inline float __saturatef(float a)
{
    return !(a > 0) ? 0.0f : a > 1 ? 1.0f : a;
}

#define EMU_MINMAX(type)                                                                           \
    static inline type min(type a, type b)                                                         \
    {                                                                                              \
        return b < a ? b : a;                                                                      \
    }                                                                                              \
    static inline type max(type a, type b)                                                         \
    {                                                                                              \
        return a < b ? b : a;                                                                      \
    }
EMU_MINMAX(int)
EMU_MINMAX(unsigned)
EMU_MINMAX(long)
EMU_MINMAX(unsigned long)
EMU_MINMAX(long long)
EMU_MINMAX(unsigned long long)
#undef EMU_MINMAX
static inline float min(float a, float b)
{
    return fminf(a, b);
}
static inline float max(float a, float b)
{
    return fmaxf(a, b);
}
static inline double min(double a, double b)
{
    return fmin(a, b);
}
static inline double max(double a, double b)
{
    return fmax(a, b);
}

/* Fused multiply-add of half types: exact product and sum, rounded once. f16 and bf16 products are
 * exact in double; the sum may round there only far below the half's own last bit. */
static inline __half __hfma(__half a, __half b, __half c)
{
    return __double2half((double)__half2float(a) * (double)__half2float(b) +
                         (double)__half2float(c));
}
static inline __half2 __hfma2(__half2 a, __half2 b, __half2 c)
{
    return __halves2half2(__hfma(__low2half(a), __low2half(b), __low2half(c)),
                          __hfma(__high2half(a), __high2half(b), __high2half(c)));
}
