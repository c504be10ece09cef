#include "ob_pool.h"

void ob_bpool2d(const ob_window *window, const uint32_t *input, const uint32_t *minima, int32_t words,
                uint32_t *output) {
  for (int32_t oy = 0; oy < window->out_h; ++oy) {
    const int32_t y0 = ob_max(oy * window->stride_h - window->pad_h, 0);
    const int32_t y1 = ob_min(oy * window->stride_h - window->pad_h + window->kernel_h, window->in_h);
    for (int32_t ox = 0; ox < window->out_w; ++ox) {
      const int32_t x0 = ob_max(ox * window->stride_w - window->pad_w, 0);
      const int32_t x1 = ob_min(ox * window->stride_w - window->pad_w + window->kernel_w, window->in_w);
      for (int32_t c = 0; c < words; ++c) {
        uint32_t best = UINT32_MAX;
        for (int32_t y = y0; y < y1; ++y) {
          for (int32_t x = x0; x < x1; ++x) {
            best &= input[(y * window->in_w + x) * words + c] ^ minima[c];
          }
        }
        *output++ = best ^ minima[c];
      }
    }
  }
}
