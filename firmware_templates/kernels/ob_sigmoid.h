/* Sigmoids of n float values, one implementation for host and target. Aliasing of input and output is allowed. */
#ifndef OB_SIGMOID_H
#define OB_SIGMOID_H

#include "ob_common.h"

/* 1 / (1 + exp(-x)), at most 2 ULP off; 0 below x = -87. */
void ob_logistic_f32(const float *input, int32_t n, float *output);

/* tanh(x), at most 2 ULP off. */
void ob_tanh_f32(const float *input, int32_t n, float *output);

/* x * clamp(x + 3, 0, 6) / 6. */
void ob_hard_swish_f32(const float *input, int32_t n, float *output);

#endif
