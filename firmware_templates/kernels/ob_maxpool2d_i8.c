#include "ob_pool.h"

void ob_maxpool2d_i8(const ob_window *window, const int8_t *input, int32_t channels, int32_t low, int32_t high,
                     int32_t pitch, int8_t *output) {
  int32_t at = 0;
  for (int32_t oy = 0; oy < window->out_h; ++oy) {
    const int32_t y0 = ob_max(oy * window->stride_h - window->pad_h, 0);
    const int32_t y1 = ob_min(oy * window->stride_h - window->pad_h + window->kernel_h, window->in_h);
    for (int32_t ox = 0; ox < window->out_w; ++ox, at += pitch) {
      int8_t *out = output + at;
      const int32_t x0 = ob_max(ox * window->stride_w - window->pad_w, 0);
      const int32_t x1 = ob_min(ox * window->stride_w - window->pad_w + window->kernel_w, window->in_w);
      for (int32_t c = 0; c < channels; ++c) {
        int8_t best = INT8_MIN;
        for (int32_t y = y0; y < y1; ++y) {
          for (int32_t x = x0; x < x1; ++x) {
            const int8_t v = input[(y * window->in_w + x) * channels + c];
            best = v > best ? v : best;
          }
        }
        *out++ = (int8_t)ob_clamp(best, low, high);
      }
    }
  }
}
