"""Packed signs: the layout, word by word."""

from __future__ import annotations

import numpy as np
import pytest

from onebit.core import bits

CHANNELS = [1, 2, 31, 32, 33, 63, 64, 65, 100]


@pytest.mark.parametrize("channels", CHANNELS)
def test_channel_c_is_bit_c_mod_32_of_word_c_div_32(channels: int) -> None:
    for c in range(channels):
        negative = np.zeros((1, channels), np.bool_)
        negative[0, c] = True
        words = [int(w) & 0xFFFFFFFF for w in bits.pack(negative)[0]]
        assert words == [(1 << c % 32) if i == c // 32 else 0 for i in range(-(-channels // 32))]


@pytest.mark.parametrize("channels", CHANNELS)
def test_pack_and_unpack_are_inverse(channels: int, rng: np.random.Generator) -> None:
    negative = rng.random((2, 3, 4, channels)) < 0.5
    words = bits.pack(negative)
    assert words.dtype == np.int32
    assert words.shape == (2, 3, 4, bits.words_for(channels))
    np.testing.assert_array_equal(bits.unpack(words, channels), negative)
    np.testing.assert_array_equal(bits.signs(words, channels), np.where(negative, -1, 1))
    assert bits.signs(words, channels).dtype == np.float32


@pytest.mark.parametrize("channels", CHANNELS)
def test_unused_bits_are_zero(channels: int) -> None:
    words = bits.pack(np.ones((5, channels), np.bool_))
    assert bits.unpack(words, 32 * bits.words_for(channels)).sum() == 5 * channels


def test_the_highest_bit_makes_a_word_negative() -> None:
    negative = np.zeros(32, np.bool_)
    negative[31] = True
    assert bits.pack(negative).tolist() == [-(2**31)]


def test_words_for() -> None:
    assert [bits.words_for(c) for c in (1, 31, 32, 33, 64, 65)] == [1, 1, 1, 2, 2, 3]


def test_views_that_are_not_contiguous(rng: np.random.Generator) -> None:
    negative = rng.random((4, 40, 6)) < 0.5
    words = bits.pack(negative.transpose(0, 2, 1))
    np.testing.assert_array_equal(bits.unpack(words[::2], 40), negative.transpose(0, 2, 1)[::2])
