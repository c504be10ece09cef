/* int8 quantization of n float values and back, as TFLite's built-in kernels compute it. LiteRT's vector code takes whole
 * blocks of eight elements and its scalar code the rest, and the two round differently; TFLM has the scalar code only.
 * Values beyond int8 saturate.
 * Element i is read before it is written: int8 output may start at the address of the float input.
 */
#ifndef OB_AFFINE_H
#define OB_AFFINE_H

#include "ob_common.h"

/* LiteRT, blocks: x * inverse rounded to even, with inverse = 1 / scale in float; rest: x / scale exactly, rounded half away
 * from zero. NaN gives the lowest value. */
void ob_quantize_f32_i8(const float *input, int32_t n, float scale, float inverse, int32_t zero_point, int8_t *output);

/* TFLM: x / scale in float, rounded half away from zero. NaN gives the lowest value. */
void ob_quantize_f32_i8_scalar(const float *input, int32_t n, float scale, int32_t zero_point, int8_t *output);

/* The first `blocks` elements: q * scale + offset, two roundings, with offset = -zero_point * scale; the rest:
 * (q - zero_point) * scale. */
void ob_dequantize_i8_f32(const int8_t *input, int32_t n, int32_t blocks, float scale, float offset,
                          int32_t zero_point, float *output);

#endif
