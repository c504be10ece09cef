#include "ob_bconv2d_core.h"

static uint32_t *fill(uint32_t *patch, int32_t n) {
  for (int32_t i = 0; i < n; ++i) {
    *patch++ = 0u;
  }
  return patch;
}

const int16_t *ob_bconv2d_gather(const ob_bconv2d_params *params, const uint32_t *input, int32_t oy, int32_t ox,
                                 uint32_t *patch) {
  const ob_window *w = &params->window;
  const int32_t words = params->words;
  const int32_t group_words = words / params->groups;
  const int32_t y0 = oy * w->stride_h - w->pad_h;
  const int32_t x0 = ox * w->stride_w - w->pad_w;
  int32_t y_first, y_end, x_first, x_end;
  ob_taps_inside(y0, w->in_h, w->kernel_h, w->dilation_h, &y_first, &y_end);
  ob_taps_inside(x0, w->in_w, w->kernel_w, w->dilation_w, &x_first, &x_end);
  /* undilated and in one group, the inside pixels of a row are one run */
  const bool contiguous = w->dilation_w == 1 && params->groups == 1;
  const int32_t runs = contiguous ? 1 : x_end - x_first;
  const int32_t run = contiguous ? (x_end - x_first) * words : group_words;
  const int32_t row_words = w->kernel_w * group_words;
  for (int32_t g = 0; g < params->groups; ++g) {
    patch = fill(patch, y_first * row_words);
    for (int32_t ky = y_first; ky < y_end; ++ky) {
      const int32_t y = y0 + ky * w->dilation_h;
      const uint32_t *pixel = input + (y * w->in_w + x0 + x_first * w->dilation_w) * words + g * group_words;
      patch = fill(patch, x_first * group_words);
      for (int32_t r = 0; r < runs; ++r, pixel += w->dilation_w * words) {
        for (int32_t i = 0; i < run; ++i) {
          *patch++ = pixel[i];
        }
      }
      patch = fill(patch, (w->kernel_w - x_end) * group_words);
    }
    patch = fill(patch, (w->kernel_h - y_end) * row_words);
  }
  const int16_t *border = params->border;
  const bool all_inside = y_end - y_first == w->kernel_h && x_end - x_first == w->kernel_w;
  if (border == NULL || all_inside) {
    return NULL;
  }
  const int32_t number = border[oy] * params->border_cols + border[w->out_h + ox] - params->border_skip;
  return border + w->out_h + w->out_w + number * params->out_channels;
}
