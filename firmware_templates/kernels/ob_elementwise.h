/* Elementwise float operators: output[i] = clamp(a[i] op b[i % period], low, high), one float32 rounding each.
 * period is n (same shape), the channel count (one value per channel) or 1. In place (output == a) is allowed. */
#ifndef OB_ELEMENTWISE_H
#define OB_ELEMENTWISE_H

#include "ob_common.h"

void ob_add_f32(const float *a, const float *b, int32_t n, int32_t period, float low, float high, float *output);
void ob_mul_f32(const float *a, const float *b, int32_t n, int32_t period, float low, float high, float *output);

#endif
