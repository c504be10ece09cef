/* Depthwise convolution of [H, W, I] with filters [KH, KW, O], O = I * multiplier, int8 or float: output channel o reads
 * input channel o / multiplier. Pixels outside the image are real 0, so their taps are skipped.
 *
 * `taps` is scratch of KH * KW elements. int8 accumulators are the sum of (x - zero_point) * w plus bias[o],
 * |acc| < 2^31.
 */
#ifndef OB_DEPTHWISE_CONV2D_H
#define OB_DEPTHWISE_CONV2D_H

#include "ob_common.h"
#include "ob_requantize.h"

typedef struct {
  ob_window window;
  int32_t in_channels, multiplier;
  int32_t zero_point; /* of the input; unused for float */
  int32_t pitch;      /* see ob_common.h */
} ob_depthwise_conv2d_params;

/* Where a tap reads: an element of the input and one of the filter. */
typedef struct {
  int32_t x, w;
} ob_depthwise_tap;

/* int8 out, [OH, OW, O], requantized with q[o], exponent[o]. */
void ob_depthwise_conv2d_i8(const ob_depthwise_conv2d_params *params, const int8_t *input, const int8_t *filter,
                            const int32_t *bias, const int32_t *q, const int32_t *exponent,
                            const ob_requantize_params *stage, ob_depthwise_tap *taps, int8_t *output);

/* float out, [OH, OW, O]: sum in the order of the filter, plus bias, clamped to [low, high]. */
void ob_depthwise_conv2d_f32(const ob_depthwise_conv2d_params *params, const float *input, const float *filter,
                             const float *bias, float low, float high, ob_depthwise_tap *taps, float *output);

#endif
