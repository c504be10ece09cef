/* memcpy and its kin, and their names in the Arm EABI, so that a firmware links without a C library.
 *
 * Word at a time where both sides are aligned: instruction counts then resemble those with a real library. Compile
 * with -fno-builtin, or the compiler recognises the loops and makes memcpy call itself. */
#include <stdint.h>
#include <string.h>

/* Words alias what the caller stored under any type. */
typedef uint32_t __attribute__((may_alias)) word;

void *memcpy(void *restrict to, const void *restrict from, size_t n)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((((uintptr_t)t | (uintptr_t)f) & 3u) == 0u) {
        word *tw = to;
        const word *fw = from;
        for (; n >= 16u; n -= 16u, tw += 4, fw += 4) {
            const word a = fw[0];
            const word b = fw[1];
            const word c = fw[2];
            const word d = fw[3];
            tw[0] = a;
            tw[1] = b;
            tw[2] = c;
            tw[3] = d;
        }
        for (; n >= 4u; n -= 4u) {
            *tw++ = *fw++;
        }
        t = (unsigned char *)tw;
        f = (const unsigned char *)fw;
    }
    while (n-- != 0u) {
        *t++ = *f++;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t n)
{
    unsigned char *t = to;
    const unsigned char *f = from;
    if ((uintptr_t)t - (uintptr_t)f >= n) { /* the target does not start inside the source: forward is safe */
        while (n-- != 0u) {
            *t++ = *f++;
        }
    } else {
        while (n-- != 0u) {
            t[n] = f[n];
        }
    }
    return to;
}

void *memset(void *to, int value, size_t n)
{
    unsigned char *t = to;
    const word pattern = 0x01010101u * (uint32_t)(unsigned char)value;
    for (; n != 0u && ((uintptr_t)t & 3u) != 0u; n--) {
        *t++ = (unsigned char)value;
    }
    word *tw = (word *)t;
    for (; n >= 16u; n -= 16u, tw += 4) {
        tw[0] = pattern;
        tw[1] = pattern;
        tw[2] = pattern;
        tw[3] = pattern;
    }
    for (; n >= 4u; n -= 4u) {
        *tw++ = pattern;
    }
    t = (unsigned char *)tw;
    while (n-- != 0u) {
        *t++ = (unsigned char)value;
    }
    return to;
}

int memcmp(const void *a, const void *b, size_t n)
{
    const unsigned char *x = a;
    const unsigned char *y = b;
    for (; n != 0u; n--, x++, y++) {
        if (*x != *y) {
            return *x < *y ? -1 : 1;
        }
    }
    return 0;
}

#if defined(__ARM_EABI__)
/* The EABI promises the compiler 4- and 8-byte alignment in the variants with a number, and swaps memset's arguments. */
#define EABI_NAMES(declare) declare() declare(4) declare(8)
#define COPY(align)                                              \
    void __aeabi_memcpy##align(void *, const void *, size_t);    \
    void __aeabi_memcpy##align(void *t, const void *f, size_t n) \
    {                                                            \
        memcpy(t, f, n);                                         \
    }
#define MOVE(align)                                               \
    void __aeabi_memmove##align(void *, const void *, size_t);    \
    void __aeabi_memmove##align(void *t, const void *f, size_t n) \
    {                                                             \
        memmove(t, f, n);                                         \
    }
#define SET(align)                                       \
    void __aeabi_memset##align(void *, size_t, int);     \
    void __aeabi_memset##align(void *t, size_t n, int v) \
    {                                                    \
        memset(t, v, n);                                 \
    }
#define CLEAR(align)                                \
    void __aeabi_memclr##align(void *, size_t);     \
    void __aeabi_memclr##align(void *t, size_t n)   \
    {                                               \
        memset(t, 0, n);                            \
    }
EABI_NAMES(COPY)
EABI_NAMES(MOVE)
EABI_NAMES(SET)
EABI_NAMES(CLEAR)
#endif
