/* exp(beta * (x - max)) / sum over each row of n values. The output may start at the input's address. */
#ifndef OB_SOFTMAX_H
#define OB_SOFTMAX_H

#include "ob_common.h"

/* int8 with the output fixed at scale 1/256, zero point -128, as LiteRT's built-in kernel computes it: `table`[256] is
 * exp(-beta * scale * d) for the distance d to the maximum; float32 sums in index order. */
void ob_softmax_i8(const int8_t *input, int32_t rows, int32_t n, const float *table, int8_t *output);

/* The same quantization, as TFLM computes it in fixed point: `table`[256] is that exp times 2^31, 0 where it is too small.
 * A row has at most 4095 values. */
void ob_softmax_i8_fixed(const int8_t *input, int32_t rows, int32_t n, const int32_t *table, int8_t *output);

/* float. exp is computed as 2^k * p(r) with a degree-6 polynomial on |r| <= ln(2)/2, the same on every target, with an
 * error below 1 ULP. */
void ob_softmax_f32(const float *input, int32_t rows, int32_t n, float beta, float *output);

#endif
