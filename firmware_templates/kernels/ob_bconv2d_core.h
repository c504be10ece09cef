/* Internal to the ob_bconv2d_* kernels: gathering a window, and counting differing signs. */
#ifndef OB_BCONV2D_CORE_H
#define OB_BCONV2D_CORE_H

#include "ob_bconv2d.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#endif

/* Copy the window of output pixel (oy, ox) to `patch` as [groups][KH][KW][group_words], outside pixels as 0.
 * Returns NULL, or with zero padding where some taps are outside, the corrections of x [O]. */
const int16_t *ob_bconv2d_gather(const ob_bconv2d_params *params, const uint32_t *input, int32_t oy, int32_t ox,
                                 uint32_t *patch);

/* h, l = carry and sum of the bitwise addition a + b + c (a full adder on 32 lanes). */
#define OB_CSA(h, l, a, b, c)                \
  do {                                       \
    const uint32_t csa_a = (a);              \
    const uint32_t csa_b = (b);              \
    const uint32_t csa_c = (c);              \
    const uint32_t csa_u = csa_a ^ csa_b;    \
    (h) = (csa_a & csa_b) | (csa_u & csa_c); \
    (l) = csa_u ^ csa_c;                     \
  } while (0)

/* Bit counts of the eight nibbles of x, 0..4 each. */
static inline uint32_t ob_count_nibbles(uint32_t x) {
  x -= (x >> 1) & 0x55555555u;
  return (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
}

/* Bit counts of the four bytes of a ^ b over nine words, 0..72 each. Nine words are what a 3x3 window has per word of
 * channels. Five full and two half adders turn them into counters of weight 1, 2, 4, 8, so that four counts of nibbles
 * do for nine; weights are applied while the fields have room (nibbles: 4 + 2 * 4, bytes: 24 + 4 * 24). */
static inline uint32_t ob_count_nine(const uint32_t *a, const uint32_t *b) {
  uint32_t c1, c2, c3, c4, c5, s1, s2, s3, ones, twos;
  OB_CSA(c1, s1, a[0] ^ b[0], a[1] ^ b[1], a[2] ^ b[2]);
  OB_CSA(c2, s2, a[3] ^ b[3], a[4] ^ b[4], a[5] ^ b[5]);
  OB_CSA(c3, s3, a[6] ^ b[6], a[7] ^ b[7], a[8] ^ b[8]);
  OB_CSA(c4, ones, s1, s2, s3);
  OB_CSA(c5, twos, c1, c2, c3);
  const uint32_t c6 = twos & c4;
  twos ^= c4;
  const uint32_t low = ob_count_nibbles(ones) + 2u * ob_count_nibbles(twos);
  const uint32_t high = ob_count_nibbles(c5 ^ c6) + 2u * ob_count_nibbles(c5 & c6);
  return (low & 0x0F0F0F0Fu) + ((low >> 4) & 0x0F0F0F0Fu) +
         4u * ((high & 0x0F0F0F0Fu) + ((high >> 4) & 0x0F0F0F0Fu));
}

/* sum + the four bytes of x. */
static inline uint32_t ob_add_bytes(uint32_t sum, uint32_t x) {
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
  return __usada8(x, 0u, sum);
#else
  x = (x & 0x00FF00FFu) + ((x >> 8) & 0x00FF00FFu);
  return sum + (x & 0xFFFFu) + (x >> 16);
#endif
}

/* Number of differing signs in n words. */
static inline int32_t ob_count_differing(const uint32_t *a, const uint32_t *b, int32_t n) {
  uint32_t sum = 0u;
  for (; n >= 9; n -= 9, a += 9, b += 9) {
    sum = ob_add_bytes(sum, ob_count_nine(a, b));
  }
  for (; n > 0; --n, ++a, ++b) {
    sum += (uint32_t)ob_popcount(*a ^ *b);
  }
  return (int32_t)sum;
}

/* What the inner loops need, copied out of the parameters: kernels write through pointers that might alias them. */
typedef struct {
  int32_t row_words;     /* words of one filter */
  int32_t group_outputs; /* output channels per group; out_channels for one group */
  int32_t out_channels;
} ob_bconv2d_shape;

static inline ob_bconv2d_shape ob_bconv2d_shape_of(const ob_bconv2d_params *params) {
  const ob_bconv2d_shape shape = {
      .row_words = params->window.kernel_h * params->window.kernel_w * (params->words / params->groups),
      .group_outputs = params->out_channels / params->groups,
      .out_channels = params->out_channels,
  };
  return shape;
}

/* x of output channel o for a gathered window; `correction` is what ob_bconv2d_gather returned. */
static inline int32_t ob_bconv2d_x(const ob_bconv2d_shape *shape, const uint32_t *patch, const uint32_t *filter,
                                   int32_t o, const int16_t *correction) {
  const bool one_group = shape->group_outputs == shape->out_channels;
  const uint32_t *signs = one_group ? patch : patch + o / shape->group_outputs * shape->row_words;
  const int32_t x = 2 * ob_count_differing(signs, filter + o * shape->row_words, shape->row_words);
  return correction == NULL ? x : x + correction[o];
}

#endif
