/* Internal to the kernels that need exp: one implementation, the same bits on every target. */
#ifndef OB_EXP_H
#define OB_EXP_H

#include "ob_common.h"

/* exp(x) for x <= 0; 0 below x = -87 (where the result is barely normal) and NaN for NaN. x = k ln 2 + r, ln 2 in two
 * parts so that r is accurate. exp(r) = 1 + (r + r^2 q(r)): the polynomial q, of degree 4, has the least relative error
 * of the whole on |r| <= ln(2)/2 (2^-28), and the small terms are added first. Over all floats in [-87, 0] the error is
 * below 1 ULP, and the result never falls as x rises. */
static inline float ob_exp_negative(float x) {
  if (!(x >= -87.0f)) {
    return x < 0.0f ? 0.0f : x;
  }
  const int32_t k = (int32_t)(x * 0x1.715476p+0f - 0.5f);
  const float kf = (float)k;
  const float high = kf * 0x1.62e4p-1f;
  const float low = kf * 0x1.7f7d1cp-20f;
  const float r = (x - high) - low;
  float q = 0x1.6a2434p-10f;
  q = q * r + 0x1.1239e2p-7f;
  q = q * r + 0x1.5558f2p-5f;
  q = q * r + 0x1.555492p-3f;
  q = q * r + 0x1.fffffcp-2f;
  const float p = 1.0f + (r + r * r * q);
  return p * ob_float_of((uint32_t)(k + 127) << 23);
}

#endif
