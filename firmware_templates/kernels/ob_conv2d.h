/* Convolution of [H, W, I] with filters [O, KH, KW, I], int8 or float; pixels outside the image are real 0.
 *
 * `patch` is scratch of KH * KW * I elements. int8 accumulators are the sum of (x - zero_point) * w, |acc| < 2^31.
 */
#ifndef OB_CONV2D_H
#define OB_CONV2D_H

#include "ob_common.h"
#include "ob_requantize.h"

typedef struct {
  ob_window window;
  int32_t in_channels, out_channels;
  int32_t zero_point; /* of the input; unused for float */
  int32_t pitch;      /* of int8 and float outputs, see ob_common.h */
} ob_conv2d_params;

/* int8 out, [OH, OW, O]. bias[o] is added to the accumulator. */
void ob_conv2d_i8(const ob_conv2d_params *params, const int8_t *input, const int8_t *filter, const int32_t *bias,
                  const int32_t *q, const int32_t *exponent, const ob_requantize_params *stage, int16_t *patch,
                  int8_t *output);

/* Packed bits out, [OH, OW, ceil(O/32)]: bit = (acc < threshold[o]), without bias. */
void ob_conv2d_i8_bits(const ob_conv2d_params *params, const int8_t *input, const int8_t *filter,
                       const int32_t *threshold, int16_t *patch, uint32_t *output);

/* The same two with SMLAD, two products at a time. Filters are pairs of int16, [ceil(O/4)][pairs][4] words with
 * pairs = ceil(KH * KW * I / 2), zeros where a pair or a group of four is not full; thresholds fill up the last four.
 * `patch` is scratch of `pairs` words. */
void ob_conv2d_i8_dsp(const ob_conv2d_params *params, const int8_t *input, const uint32_t *filter, const int32_t *bias,
                      const int32_t *q, const int32_t *exponent, const ob_requantize_params *stage, uint32_t *patch,
                      int8_t *output);
void ob_conv2d_i8_bits_dsp(const ob_conv2d_params *params, const int8_t *input, const uint32_t *filter,
                           const int32_t *threshold, uint32_t *patch, uint32_t *output);

/* float out, [OH, OW, O]: sum in the order of the filter, plus bias, clamped to [low, high]. */
void ob_conv2d_f32(const ob_conv2d_params *params, const float *input, const float *filter, const float *bias,
                   float low, float high, float *patch, float *output);

#endif
