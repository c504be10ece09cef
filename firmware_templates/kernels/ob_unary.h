/* y = f(x) for n elements. Aliasing of input and output is allowed. */
#ifndef OB_UNARY_H
#define OB_UNARY_H

#include "ob_common.h"

/* Any function of int8: table[256], the result for x at index x + 128. `runs` runs of `length` elements, which follow each
 * other `pitch_in` and `pitch_out` elements apart: pixels that are some channels of larger maps, or all in one run. */
void ob_table_i8(const int8_t *input, int32_t runs, int32_t length, int32_t pitch_in, int32_t pitch_out,
                 const int8_t *table, int8_t *output);

/* The ReLU family: limited to [low, high] by comparisons, which NaN and -0 pass. */
void ob_clamp_f32(const float *input, int32_t n, float low, float high, float *output);

/* x if x >= least, else alpha * x; least is 0, or the least float above. */
void ob_leaky_relu_f32(const float *input, int32_t n, float alpha, float least, float *output);

/* |x|; NaN loses its sign. */
void ob_abs_f32(const float *input, int32_t n, float *output);

/* 1 above 0, -1 below 0, else (0, -0, NaN) 0. */
void ob_sign_f32(const float *input, int32_t n, float *output);

/* The nearest integer, ties to even; values in [-0.5, 0) give +0. */
void ob_round_f32(const float *input, int32_t n, float *output);

#endif
