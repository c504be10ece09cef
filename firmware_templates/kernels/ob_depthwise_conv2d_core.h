/* Internal to the ob_depthwise_conv2d_* kernels: the taps of a window that lie inside the image. */
#ifndef OB_DEPTHWISE_CONV2D_CORE_H
#define OB_DEPTHWISE_CONV2D_CORE_H

#include "ob_depthwise_conv2d.h"

/* List the taps inside the image of output pixel (oy, ox), row by row, for channel 0; returns their number. All channels
 * walk the same list, so that the geometry is paid once per pixel. */
static inline int32_t ob_depthwise_list(const ob_depthwise_conv2d_params *params, int32_t oy, int32_t ox,
                                        ob_depthwise_tap *taps) {
  const ob_window *v = &params->window;
  const int32_t outputs = params->in_channels * params->multiplier;
  const int32_t y = oy * v->stride_h - v->pad_h;
  const int32_t x = ox * v->stride_w - v->pad_w;
  int32_t ky, ky_end, kx_first, kx_end;
  int32_t count = 0;
  ob_taps_inside(y, v->in_h, v->kernel_h, v->dilation_h, &ky, &ky_end);
  ob_taps_inside(x, v->in_w, v->kernel_w, v->dilation_w, &kx_first, &kx_end);
  for (; ky < ky_end; ++ky) {
    const int32_t row = (y + ky * v->dilation_h) * v->in_w + x;
    for (int32_t kx = kx_first; kx < kx_end; ++kx, ++count) {
      taps[count].x = (row + kx * v->dilation_w) * params->in_channels;
      taps[count].w = (ky * v->kernel_w + kx) * outputs;
    }
  }
  return count;
}

#endif
