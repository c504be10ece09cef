"""CIFAR-10.

`cifar10` is what two processor cores reach in hours and a microcontroller holds. Recipes with the accuracy of a
publication train for as long as is usual there, and want a GPU; `expected_source` says in what else they differ.
"""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from onebit.core.datasets import CIFAR10_NAMES
from onebit.core.metadata import Preprocessing
from onebit.train.methods import (
    Ede,
    ErGradient,
    ErWeights,
    NormalizerFree,
    Recu,
    TwoStep,
    WeightConstraint,
    WeightTransition,
)
from onebit.train.models.blocks import real_valued
from onebit.train.models.residual import bireal_resnet, residual_net, resnet8_hybrid
from onebit.train.models.vgg import small_cifar, vgg_small
from onebit.train.optimizers import SGD, Adam, Bop
from onebit.train.recipes.base import (
    Augmentation,
    CosineSchedule,
    LinearSchedule,
    RandomCrop,
    Recipe,
    TwoStepSchedule,
)

CIFAR10_PREPROCESSING = Preprocessing(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
"""Mean and standard deviation of the training images' channels, on the scale of 0 to 1."""


def small_residual_net() -> nn.Module:
    """Residual network of 43 KB of binary weights: 32 channels at 32x32, 64 at 16x16, 128 at 8x8."""
    return residual_net(widths=(32, 64, 128), units=(0, 4, 2), activation="prelu")


def comparison_net() -> nn.Module:
    """Residual network of width 16, on which the methods are compared: 16, 32, 64 channels."""
    return residual_net(widths=(16, 32, 64), units=(0, 3, 3), activation="prelu")


def comparison_teacher() -> nn.Module:
    """The same network with real weights and activations."""
    return real_valued(comparison_net())


def vgg_w32() -> nn.Module:
    """VGG-Small at a quarter of the width."""
    return vgg_small(widths=(32, 64, 128))


def vgg_small_paper() -> nn.Module:
    """VGG-Small at the width of its paper: 4.6 million weights."""
    return vgg_small(widths=(128, 256, 512))


def resnet20() -> nn.Module:
    """ResNet-20 with repeated channels on shortcuts and PReLU behind each sum: 0.27 million weights."""
    return bireal_resnet(blocks=(3, 3, 3), activation="prelu")


def resnet18() -> nn.Module:
    """ResNet-18 for 32x32 images, RPReLU behind each sum: 11 million weights."""
    return bireal_resnet(blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), activation="rprelu")


def reactnet18() -> nn.Module:
    """ResNet-18 with learned thresholds and RPReLU."""
    return residual_net(widths=(64, 128, 256, 512), units=(4, 4, 4, 4), activation="rprelu", threshold=True)


def reactnet18_bnfree() -> nn.Module:
    """ReActNet-18 without batch norm, to be trained with `normalizer_free`."""
    widths = (64, 128, 256, 512)
    return residual_net(widths=widths, units=(4, 4, 4, 4), activation="rprelu", threshold=True, norm=False)


_BASE = Recipe(
    name="cifar10",
    description="binary residual CNN whose .tflite stays below 64 KB",
    model=small_residual_net,
    dataset="cifar10",
    input_shape=(3, 32, 32),
    classes=CIFAR10_NAMES,
    epochs=60,
    batch_size=128,
    schedule=CosineSchedule(peak=4e-3, warmup_epochs=1.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4, small_size=24, small_until=0.8)),
    preprocessing=CIFAR10_PREPROCESSING,
    precision="bf16-mixed",
    validate_every=5,
)

CIFAR10 = replace(_BASE, expected_accuracy=0.8207, expected_source="measured")

COMPARISON = replace(
    _BASE,
    name="cifar10-comparison",
    description="width-16 residual CNN on 10,000 images: what methods are compared on (--method)",
    model=comparison_net,
    epochs=10,
    augmentation=Augmentation(flip=True, crop=RandomCrop(24, pad=0)),
    train_images=10_000,
    validate_every=10,
)

TEACHER = replace(
    COMPARISON,
    name="cifar10-comparison-teacher",
    description="the same net with real weights and activations, for the methods that need a teacher",
    model=comparison_teacher,
    latent_clamp=None,
)

BOP = replace(
    COMPARISON,
    name="cifar10-comparison-bop",
    description="the same net and data with the optimizer Bop in place of Adam",
    optimizer=Bop(),
)

VGG_W32 = replace(
    _BASE,
    name="cifar10-vgg-w32",
    description="VGG-Small at a quarter of the width: packed bits between its first and its last layer",
    model=vgg_w32,
    epochs=30,
    expected_accuracy=0.7941,
    expected_source="measured",
    schedule=CosineSchedule(peak=5e-3, warmup_epochs=1.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4)),
)

PUBLISHED = replace(
    _BASE,
    optimizer=SGD(weight_decay=1e-4, binary_weight_decay=1e-4),
    schedule=CosineSchedule(peak=0.1, warmup_epochs=5.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4)),
    latent_clamp=None,
)
"""What the published recipes share: SGD with momentum at 0.1, cosine, mirror images and shifts by up to 4 pixels."""

VGG_SMALL = replace(
    PUBLISHED,
    name="cifar10-vgg-small",
    description="VGG-Small at its published width, ReCU weights",
    model=vgg_small_paper,
    expected_accuracy=0.922,
    expected_source="ReCU, but for: no Hardtanh, batch norm in front of the pools",
    epochs=600,
    batch_size=256,
    optimizer=SGD(weight_decay=5e-4, binary_weight_decay=5e-4),
    methods=(Recu(),),
)

RESNET20 = replace(
    PUBLISHED,
    name="cifar10-resnet20",
    description="ResNet-20 with weight transition and weight constraint, EDE gradients",
    model=resnet20,
    expected_accuracy=0.889,
    expected_source="weight constraint and transition, but for: formulas inferred from the abstract, EDE of inputs too",
    epochs=400,
    optimizer=SGD(weight_decay=1e-4),  # none of binary weights, as the constraint wants it
    schedule=CosineSchedule(peak=0.1),
    # s_th <= 0.25 mean |w0| is below T >= 1.2 mean |w| unless weights shrink to a fifth of what they were
    methods=(Ede(t_start=1e-3), WeightTransition(), WeightConstraint()),
)

RESNET18 = replace(
    PUBLISHED,
    name="cifar10-resnet18",
    description="ResNet-18 with ER-BNN weights and gradients",
    model=resnet18,
    expected_accuracy=0.938,
    expected_source="ER-BNN, but for: shortcuts of repeated channels instead of 1x1 convolutions",
    epochs=1000,
    optimizer=SGD(weight_decay=2e-4, binary_weight_decay=2e-4),
    schedule=CosineSchedule(peak=0.1, warmup_epochs=16.0),
    augmentation=Augmentation(flip=True, crop=RandomCrop(32, pad=4, fill="edge")),
    methods=(ErWeights(), ErGradient()),
)

REACTNET18 = replace(
    PUBLISHED,
    name="cifar10-reactnet18",
    description="ReActNet-18: learned thresholds, RPReLU, Adam with a linear schedule",
    model=reactnet18,
    expected_accuracy=0.9231,
    expected_source="BNN - BN = ?, its baseline, but for: repeated shortcuts, initial weights, one step, no teacher",
    epochs=256,
    batch_size=256,
    optimizer=Adam(weight_decay=1e-5),
    schedule=LinearSchedule(peak=1e-3),
    latent_clamp=1.0,
)

REACTNET18_TWO_STEP = replace(
    REACTNET18,
    name="cifar10-reactnet18-two-step",
    description="ReActNet-18, real weights first, then binary ones; with a teacher: --method two_step "
    "--method distillation:teacher=PATH",
    expected_source="BNN - BN = ?, its baseline, but for: repeated shortcuts, initial weights, no teacher",
    epochs=512,
    optimizer=Adam(weight_decay=1e-5, binary_weight_decay=1e-5),  # in step 1, where the weights are real-valued
    schedule=TwoStepSchedule(peak=1e-3),
    methods=(TwoStep(),),
)

REACTNET18_BNFREE = replace(
    REACTNET18,
    name="cifar10-reactnet18-bnfree",
    description="ReActNet-18 without batch norm: standardised weights, gradients clipped per unit",
    model=reactnet18_bnfree,
    expected_accuracy=0.9208,
    expected_source="BNN - BN = ?, but for: repeated shortcuts, initial weights, one step, no teacher",
    methods=(NormalizerFree(),),
)

SMALLCIFAR = replace(
    VGG_W32,
    name="smallcifar",
    description="three 5x5 convolutions and a binary dense layer: 11 KB",
    model=small_cifar,
    expected_accuracy=0.6993,
    expected_source="measured",
    epochs=20,
)

RESNET8_HYBRID = replace(
    _BASE,
    name="resnet8-hybrid",
    description="MLPerf Tiny's ResNet-8 with an 8-bit first stage and binary separable convolutions",
    model=resnet8_hybrid,
    expected_accuracy=0.6042,
    expected_source="measured",
    epochs=15,
)

CIFAR_RECIPES = (
    CIFAR10, COMPARISON, TEACHER, BOP, VGG_W32, VGG_SMALL, RESNET20, RESNET18, REACTNET18, REACTNET18_TWO_STEP,
    REACTNET18_BNFREE, SMALLCIFAR, RESNET8_HYBRID,
)  # fmt: skip
