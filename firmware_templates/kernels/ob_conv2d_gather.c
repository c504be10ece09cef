#include "ob_conv2d_core.h"

static int16_t *fill(int16_t *patch, int32_t n) {
  for (int32_t i = 0; i < n; ++i) {
    *patch++ = 0;
  }
  return patch;
}

void ob_conv2d_gather(const ob_conv2d_params *params, const int8_t *input, int32_t oy, int32_t ox, int16_t *patch) {
  const ob_window *w = &params->window;
  const int32_t channels = params->in_channels;
  const int32_t zero_point = params->zero_point;
  const int32_t y0 = oy * w->stride_h - w->pad_h;
  const int32_t x0 = ox * w->stride_w - w->pad_w;
  int32_t y_first, y_end, x_first, x_end;
  ob_taps_inside(y0, w->in_h, w->kernel_h, w->dilation_h, &y_first, &y_end);
  ob_taps_inside(x0, w->in_w, w->kernel_w, w->dilation_w, &x_first, &x_end);
  /* undilated, the inside pixels of a row are one run */
  const int32_t runs = w->dilation_w == 1 ? 1 : x_end - x_first;
  const int32_t run = w->dilation_w == 1 ? (x_end - x_first) * channels : channels;
  const int32_t row_taps = w->kernel_w * channels;
  patch = fill(patch, y_first * row_taps);
  for (int32_t ky = y_first; ky < y_end; ++ky) {
    const int32_t y = y0 + ky * w->dilation_h;
    const int8_t *pixel = input + (y * w->in_w + x0 + x_first * w->dilation_w) * channels;
    patch = fill(patch, x_first * channels);
    for (int32_t r = 0; r < runs; ++r, pixel += w->dilation_w * channels) {
      for (int32_t i = 0; i < run; ++i) {
        *patch++ = (int16_t)(pixel[i] - zero_point);
      }
    }
    patch = fill(patch, (w->kernel_w - x_end) * channels);
  }
  (void)fill(patch, (w->kernel_h - y_end) * row_taps);
}
