/* Shared by all onebit kernels. C99, freestanding, no heap, no global state.
 *
 * Packed signs: bit 1 is -1, bit 0 is +1; channel c of a pixel is word c / 32, bit c % 32; unused bits are 0.
 * Tensors are [H, W, C] in row-major order, batch 1. Filters are [O, KH, KW, I].
 * `pitch`: elements from one pixel of the output to the next. Where it is more than the channels, the output is some
 * channels of a larger map, in which it lies, and the others are left as they are.
 * All pointers must be aligned for their type and must not overlap unless a kernel says so.
 */
#ifndef OB_COMMON_H
#define OB_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define OB_NOINLINE __attribute__((noinline))
#define OB_UNUSED __attribute__((unused))
#define OB_INFINITY __builtin_inff()
/* Starts at a multiple of 4 bytes, whatever its type. */
#define OB_ALIGNED __attribute__((aligned(4)))
#else
#include <string.h>

#define OB_NOINLINE
#define OB_UNUSED
#define OB_INFINITY (1.0f / 0.0f)
#define OB_ALIGNED
#endif

/* One spatial window: input and output extent, kernel, stride, dilation, and the padding before the first pixel. */
typedef struct {
  int32_t in_h, in_w, out_h, out_w;
  int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  int32_t pad_h, pad_w;
} ob_window;

/* Number of set bits, 0..32. */
static inline int32_t ob_popcount(uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0F0F0F0Fu;
  return (int32_t)((x * 0x01010101u) >> 24);
}

/* The word shifted right by one, the sign bit of v on top. After n <= 32 calls, the word >> (32 - n) holds the signs with
 * the first in bit 0. */
static inline uint32_t ob_shift_in_sign(uint32_t word, int32_t v) {
  return (word >> 1) | ((uint32_t)v & 0x80000000u);
}

/* The bits of a float. Comparing them is cheap; without floating point registers every comparison of floats is a call. */
static inline uint32_t ob_bits_of(float x) {
  const union {
    float value;
    uint32_t bits;
  } both = {x};
  return both.bits;
}

/* The float that has these bits. */
static inline float ob_float_of(uint32_t x) {
  const union {
    uint32_t bits;
    float value;
  } both = {x};
  return both.value;
}

/* The word at `place`, which was written as smaller elements: a copy is what the aliasing rules allow, and compiles to
 * one load. The builtin stays one under -ffreestanding, where a plain memcpy is a call. */
static inline uint32_t ob_load_word(const void *place) {
  uint32_t word;
#if defined(__GNUC__) || defined(__clang__)
  __builtin_memcpy(&word, place, sizeof word);
#else
  memcpy(&word, place, sizeof word);
#endif
  return word;
}

static inline int32_t ob_max(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t ob_min(int32_t a, int32_t b) { return a < b ? a : b; }

/* v limited to [low, high]. */
static inline int32_t ob_clamp(int32_t v, int32_t low, int32_t high) {
  return v < low ? low : (v > high ? high : v);
}

/* v limited to int8. One comparison decides for a value inside, which most are. */
static inline int8_t ob_saturate_i8(int32_t v) {
  return (int8_t)((uint32_t)(v + 128) <= 255u ? v : (v < 0 ? -128 : 127));
}

/* The taps of one axis that lie inside the image are first .. end - 1, for a window that starts at pixel `start`. */
static inline void ob_taps_inside(int32_t start, int32_t size, int32_t kernel, int32_t dilation, int32_t *first,
                                  int32_t *end) {
  *first = start >= 0 ? 0 : ob_min((dilation - 1 - start) / dilation, kernel);
  *end = kernel;
  if (start + (kernel - 1) * dilation >= size) {
    *end = ob_max(*first, start >= size ? 0 : (size - start + dilation - 1) / dilation);
  }
}

/* A shift right that rounds toward minus infinity whatever the compiler does with negative numbers. */
static inline int32_t ob_shift_right(int32_t v, int32_t n) { return v < 0 ? ~(~v >> n) : v >> n; }

#endif
