/* Reductions of [outer, count, inner] over the middle axis, to [outer, inner]. Outputs are written in order, each after
 * all reads of its own: the output may start at the input's address. */
#ifndef OB_REDUCE_H
#define OB_REDUCE_H

#include "ob_common.h"
#include "ob_requantize.h"

typedef struct {
  int32_t outer, count, inner;
} ob_reduce_shape;

/* int8 mean: the sum minus `start`, requantized with q, exponent, an element of `inner` being a channel.
 * |sum - start| < 2^31. */
void ob_mean_i8(const ob_reduce_shape *shape, const int8_t *input, int32_t start, int32_t q, int32_t exponent,
                const ob_requantize_params *stage, int8_t *output);

/* float mean: the sum in index order, over the count. */
void ob_mean_f32(const ob_reduce_shape *shape, const float *input, float *output);

/* Maximum; of floats at least `lowest`, and of equal ones, -0 and 0, the last, or `backwards` the first. */
void ob_reduce_max_i8(const ob_reduce_shape *shape, const int8_t *input, int8_t *output);
void ob_reduce_max_f32(const ob_reduce_shape *shape, const float *input, float lowest, bool backwards, float *output);

#endif
