#include "ob_conv2d_core.h"

void ob_conv2d_gather(const ob_conv2d_params *params, const int8_t *input, int32_t oy, int32_t ox, int16_t *patch) {
  const ob_window *w = &params->window;
  const int32_t y0 = oy * w->stride_h - w->pad_h;
  const int32_t x0 = ox * w->stride_w - w->pad_w;
  for (int32_t ky = 0; ky < w->kernel_h; ++ky) {
    const int32_t y = y0 + ky * w->dilation_h;
    for (int32_t kx = 0; kx < w->kernel_w; ++kx) {
      const int32_t x = x0 + kx * w->dilation_w;
      if (y >= 0 && y < w->in_h && x >= 0 && x < w->in_w) {
        const int8_t *pixel = input + (y * w->in_w + x) * params->in_channels;
        for (int32_t c = 0; c < params->in_channels; ++c) {
          *patch++ = (int16_t)(pixel[c] - params->zero_point);
        }
      } else {
        for (int32_t c = 0; c < params->in_channels; ++c) {
          *patch++ = 0;
        }
      }
    }
  }
}
