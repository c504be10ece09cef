/* Internal to the int8 ob_conv2d_* kernels: gathering a window, and four dot products at a time. */
#ifndef OB_CONV2D_CORE_H
#define OB_CONV2D_CORE_H

#include "ob_conv2d.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#endif

/* Copy the window of output pixel (oy, ox), the zero point subtracted, outside pixels as 0. */
void ob_conv2d_gather(const ob_conv2d_params *params, const int8_t *input, int32_t oy, int32_t ox, int16_t *patch);

/* Add the dot products of a gathered window with filters o .. o + 3 (as far as they exist) of [O, taps] to acc. Four
 * channels share each load of the window. */
static inline void ob_dot4_i8(const int16_t *patch, const int8_t *filter, int32_t taps, int32_t o, int32_t outputs,
                              int32_t acc[4]) {
  const int8_t *w0 = filter + o * taps;
  const int8_t *w1 = o + 1 < outputs ? w0 + taps : w0;
  const int8_t *w2 = o + 2 < outputs ? w1 + taps : w0;
  const int8_t *w3 = o + 3 < outputs ? w2 + taps : w0;
  int32_t a0 = acc[0];
  int32_t a1 = acc[1];
  int32_t a2 = acc[2];
  int32_t a3 = acc[3];
  for (int32_t i = 0; i < taps; ++i) {
    const int32_t x = patch[i];
    a0 += x * w0[i];
    a1 += x * w1[i];
    a2 += x * w2[i];
    a3 += x * w3[i];
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
}

/* acc + the dot product of two pairs of int16. */
static inline int32_t ob_add_products(uint32_t x, uint32_t w, int32_t acc) {
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
  return __smlad((int16x2_t)x, (int16x2_t)w, acc);
#else
  const int32_t low = (int32_t)(x & 0xFFFFu) - (int32_t)((x & 0x8000u) << 1);
  const int32_t high = (int32_t)(x >> 16) - (int32_t)((x >> 31) << 16);
  const int32_t w_low = (int32_t)(w & 0xFFFFu) - (int32_t)((w & 0x8000u) << 1);
  const int32_t w_high = (int32_t)(w >> 16) - (int32_t)((w >> 31) << 16);
  return acc + low * w_low + high * w_high;
#endif
}

/* Add the dot products for four channels to acc: `patch` has an even number of int16, `quad` points to filters
 * [pairs][4] of pairs of int16. */
static inline void ob_dot4_pairs(const uint32_t *patch, const uint32_t *quad, int32_t pairs, int32_t acc[4]) {
  int32_t a0 = acc[0];
  int32_t a1 = acc[1];
  int32_t a2 = acc[2];
  int32_t a3 = acc[3];
  for (int32_t i = 0; i < pairs; ++i, quad += 4) {
    const uint32_t x = ob_load_word(patch + i);
    a0 = ob_add_products(x, quad[0], a0);
    a1 = ob_add_products(x, quad[1], a1);
    a2 = ob_add_products(x, quad[2], a2);
    a3 = ob_add_products(x, quad[3], a3);
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
}

#endif
