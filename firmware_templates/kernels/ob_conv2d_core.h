/* Internal to the int8 ob_conv2d_* kernels: gathering a window, and the dot product. */
#ifndef OB_CONV2D_CORE_H
#define OB_CONV2D_CORE_H

#include "ob_conv2d.h"

/* Copy the window of output pixel (oy, ox), the zero point subtracted, outside pixels as 0. */
void ob_conv2d_gather(const ob_conv2d_params *params, const int8_t *input, int32_t oy, int32_t ox, int16_t *patch);

static inline int32_t ob_dot_i8(const int16_t *x, const int8_t *w, int32_t n) {
  int32_t acc = 0;
  for (int32_t i = 0; i < n; ++i) {
    acc += x[i] * w[i];
  }
  return acc;
}

#endif
