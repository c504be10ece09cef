/* int32 accumulator to int8, as TFLite's built-in kernels round: acc * q * 2^(exponent - 31), by a rounding doubling high
 * multiplication and a shift that rounds half up (LiteRT's vector code) or half away from zero (its scalar code, TFLM).
 */
#ifndef OB_REQUANTIZE_H
#define OB_REQUANTIZE_H

#include "ob_common.h"

/* Output stage of an int8 operator: `q` and `exponent` per output channel, then zero point and clamp. Channels from
 * `half_up` on round half away from zero, those before half up. */
typedef struct {
  int32_t zero_point, low, high;
  int32_t half_up;
} ob_requantize_params;

/* The product alone. |q| < 2^31, exponent in -31..30; acc << exponent must fit int32 for a positive exponent. With
 * `away` the last shift rounds half away from zero. */
static inline int32_t ob_scale(int32_t acc, int32_t q, int32_t exponent, bool away) {
  const int32_t left = exponent > 0 ? exponent : 0;
  const int32_t right = exponent > 0 ? 0 : -exponent;
  const int64_t product = (int64_t)(acc * (int32_t)(1u << left)) * q + (INT64_C(1) << 30);
  /* |product| < 2^62, so the high part fits int32 */
  int32_t high = (int32_t)(product < 0 ? ~(~product >> 31) : product >> 31);
  high -= (int32_t)((uint32_t)(away && right > 0) & ((uint32_t)high >> 31));
  /* (h + 2^(r-1)) >> r without the sum, which could overflow */
  const int32_t up = right > 0 ? ob_shift_right(high, right - 1) & 1 : 0;
  return ob_shift_right(high, right) + up;
}

/* The product of an accumulator of `channel`, zero point and clamp. */
static inline int32_t ob_requantize(int32_t acc, int32_t q, int32_t exponent, int32_t channel,
                                    const ob_requantize_params *params) {
  const int32_t y = ob_scale(acc, q, exponent, channel >= params->half_up) + params->zero_point;
  return ob_clamp(y, params->low, params->high);
}

#endif
