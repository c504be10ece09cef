/* Filter [O, I] times input [I]. */
#ifndef OB_FULLY_CONNECTED_H
#define OB_FULLY_CONNECTED_H

#include "ob_common.h"
#include "ob_requantize.h"

typedef struct {
  int32_t inputs, outputs;
  int32_t zero_point; /* of the input; unused for float */
} ob_fully_connected_params;

/* int8: bias[o] plus the sum of (x - zero_point) * w, requantized with q[o], exponent[o]. */
void ob_fully_connected_i8(const ob_fully_connected_params *params, const int8_t *input, const int8_t *filter,
                           const int32_t *bias, const int32_t *q, const int32_t *exponent,
                           const ob_requantize_params *stage, int8_t *output);

/* float: sum in index order, plus bias, clamped to [low, high]. */
void ob_fully_connected_f32(const ob_fully_connected_params *params, const float *input, const float *filter,
                            const float *bias, float low, float high, float *output);

#endif
