/* int8 quantization of n float values and back, as LiteRT's built-in kernels compute it: whole blocks of eight elements
 * by vector instructions, the rest one by one, and the two round differently. Values beyond int8 saturate.
 * Element i is read before it is written: int8 output may start at the address of the float input.
 */
#ifndef OB_AFFINE_H
#define OB_AFFINE_H

#include "ob_common.h"

/* blocks: x * inverse rounded to even, with inverse = 1 / scale in float; rest: x / scale exactly, rounded half away
 * from zero. NaN gives the lowest value. */
void ob_quantize_f32_i8(const float *input, int32_t n, float scale, float inverse, int32_t zero_point, int8_t *output);

/* blocks: q * scale + offset, two roundings, with offset = -zero_point * scale; rest: (q - zero_point) * scale. */
void ob_dequantize_i8_f32(const int8_t *input, int32_t n, float scale, float offset, int32_t zero_point,
                          float *output);

#endif
