#include "ob_depthwise_conv2d_core.h"

#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
#include <arm_acle.h>
#endif

/* Accumulator of one channel, whose values are `input` and `filter` at the taps. */
static inline int32_t dot1(const ob_depthwise_tap *taps, int32_t count, const int8_t *input, const int8_t *filter,
                           int32_t zero_point) {
  int32_t acc = 0;
  for (int32_t i = 0; i < count; ++i) {
    acc += (input[taps[i].x] - zero_point) * filter[taps[i].w];
  }
  return acc;
}

/* Accumulators of four channels in a row. With DSP instructions a word holds the four, widened two at a time: the even
 * channels as they lie, the odd ones after a rotation by a byte. */
static inline void dot4(const ob_depthwise_tap *taps, int32_t count, const int8_t *input, const int8_t *filter,
                        int32_t zero_point, int32_t acc[4]) {
  int32_t a0 = 0;
  int32_t a1 = 0;
  int32_t a2 = 0;
  int32_t a3 = 0;
#if defined(__ARM_FEATURE_DSP) && __ARM_FEATURE_DSP
  const int16x2_t minus = (int16x2_t)(((uint32_t)-zero_point & 0xFFFFu) * 0x10001u);
  for (int32_t i = 0; i < count; ++i) {
    const uint32_t x = ob_load_word(input + taps[i].x);
    const uint32_t w = ob_load_word(filter + taps[i].w);
    const int32_t x02 = (int32_t)__sxtab16(minus, (int8x4_t)x);
    const int32_t x13 = (int32_t)__sxtab16(minus, (int8x4_t)((x >> 8) | (x << 24)));
    const int32_t w02 = (int32_t)__sxtb16((int8x4_t)w);
    const int32_t w13 = (int32_t)__sxtb16((int8x4_t)((w >> 8) | (w << 24)));
    a0 = __smlabb(x02, w02, a0);
    a1 = __smlabb(x13, w13, a1);
    a2 = __smlatt(x02, w02, a2);
    a3 = __smlatt(x13, w13, a3);
  }
#else
  for (int32_t i = 0; i < count; ++i) {
    const int8_t *x = input + taps[i].x;
    const int8_t *w = filter + taps[i].w;
    a0 += (x[0] - zero_point) * w[0];
    a1 += (x[1] - zero_point) * w[1];
    a2 += (x[2] - zero_point) * w[2];
    a3 += (x[3] - zero_point) * w[3];
  }
#endif
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
}

void ob_depthwise_conv2d_i8(const ob_depthwise_conv2d_params *params, const int8_t *input, const int8_t *filter,
                            const int32_t *bias, const int32_t *q, const int32_t *exponent,
                            const ob_requantize_params *stage, ob_depthwise_tap *taps, int8_t *output) {
  const int32_t outputs = params->in_channels * params->multiplier;
  const int32_t fours = params->multiplier == 1 ? outputs - outputs % 4 : 0;
  const int32_t zero_point = params->zero_point;
  const ob_requantize_params to_int8 = *stage;
  int32_t at = 0;
  for (int32_t oy = 0; oy < params->window.out_h; ++oy) {
    for (int32_t ox = 0; ox < params->window.out_w; ++ox, at += params->pitch) {
      int8_t *out = output + at;
      const int32_t count = ob_depthwise_list(params, oy, ox, taps);
      int32_t o = 0;
      for (; o < fours; o += 4) {
        int32_t acc[4];
        dot4(taps, count, input + o, filter + o, zero_point, acc);
        for (int32_t k = o; k < o + 4; ++k) {
          out[k] = (int8_t)ob_requantize(acc[k - o] + bias[k], q[k], exponent[k], k, &to_int8);
        }
      }
      for (; o < outputs; ++o) {
        const int32_t acc = dot1(taps, count, input + o / params->multiplier, filter + o, zero_point) + bias[o];
        out[o] = (int8_t)ob_requantize(acc, q[o], exponent[o], o, &to_int8);
      }
    }
  }
}
