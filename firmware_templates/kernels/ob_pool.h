/* Max and average pooling of [H, W, C]; the window is clipped to the image (dilation is 1).
 *
 * Output pixels are written in order, channel by channel, each after all reads of its window: the output may start at
 * the input's address where no window begins before the pixel, counted in order, that it gives, and pixels follow each
 * other in both. */
#ifndef OB_POOL_H
#define OB_POOL_H

#include "ob_common.h"

/* Packed bits: the maximum of +1/-1 is the AND of the words. */
void ob_bmaxpool2d(const ob_window *window, const uint32_t *input, int32_t words, uint32_t *output);

/* Packed bits: the maximum, but the minimum (the OR) in the channels whose bit of `minima` [words] is set. */
void ob_bpool2d(const ob_window *window, const uint32_t *input, const uint32_t *minima, int32_t words,
                uint32_t *output);

/* int8, then clamp to [low, high]. */
void ob_maxpool2d_i8(const ob_window *window, const int8_t *input, int32_t channels, int32_t low, int32_t high,
                     int32_t pitch, int8_t *output);

/* float, then clamp to [low, high]. */
void ob_maxpool2d_f32(const ob_window *window, const float *input, int32_t channels, float low, float high, int32_t pitch,
                      float *output);

/* Mean of the pixels inside the image. int8: of the stored values, half away from zero, then clamp to [low, high];
 * |sum| < 2^31. float: the sum in row-major order over the count, then clamp. Source: LiteRT's built-in kernels. */
void ob_averagepool2d_i8(const ob_window *window, const int8_t *input, int32_t channels, int32_t low, int32_t high,
                         int32_t pitch, int8_t *output);
void ob_averagepool2d_f32(const ob_window *window, const float *input, int32_t channels, float low, float high,
                          int32_t pitch, float *output);

#endif
