"""What every model must do."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbench import registry
from cnnbench.analysis import summarize
from cnnbench.config.model import ModelConfig
from cnnbench.conformance.checking import Fault, NotApplicable, check, require
from cnnbench.models import NetworkSpec, build_model
from cnnbench.reproducibility import make_generator
from cnnbench.training.tasks import get_task

SHAPES = ((1, 28), (3, 32), (3, 64))  # channels and length of a side: those of MNIST, CIFAR and small photographs
MULTIPLIERS: list[dict[str, Any]] = [{"width": width, "depth": depth} for width in (0.5, 1, 2) for depth in (1, 2)]
VARIED: list[dict[str, Any]] = [{}, {"width": 2}, {"depth": 2}]
CLASSES = 7
CLOSE = 1e-4  # between an image alone and among others: sums of another batch size round differently


@dataclass
class ModelPart:
    """A registered model, with the options of its YAML file.

    Attributes:
        refused: the settings that it refuses by a ValueError, such as a width, which is allowed.
    """

    name: str
    config: ModelConfig
    refused: list[str] = field(default_factory=list)

    @property
    def dimensions(self) -> int:
        """2 if it takes images, 1 if it takes only signals."""
        return max(registry.get_facts("model", self.name).get("dimensions", (2,)))

    def build(
        self, in_channels: int = 1, side: int = 28, *, seed: int = 0, device: str = "cpu", **shared: Any
    ) -> nn.Module:
        """The model for data of a shape; `shared` are arguments of `NetworkSpec`, instead of those of the config."""
        given = {"activation": self.config.activation, "dropout": self.config.dropout, **shared}
        spec = NetworkSpec(in_channels, (side,) * self.dimensions, CLASSES, **given)
        return build_model(self.name, spec, options=self.config.options, seed=seed, device=device)

    def try_build(self, in_channels: int = 1, side: int = 28, **shared: Any) -> nn.Module | None:
        """As `build`; None if the model refuses these settings."""
        try:
            return self.build(in_channels, side, **shared)
        except ValueError as error:
            self.refused.append(f"{in_channels}×{side} {shared}: {error}")
            return None

    def build_smallest(self) -> tuple[nn.Module, Tensor]:
        """The model for the first of `SHAPES` that it takes, and two images; a ValueError if it takes none."""
        for shape in SHAPES[:-1]:
            if (model := self.try_build(*shape)) is not None:
                return model, self.draw_images(2, *shape)
        return self.build(*SHAPES[-1]), self.draw_images(2, *SHAPES[-1])

    def draw_images(self, count: int, in_channels: int = 1, side: int = 28) -> Tensor:
        """Random images, or signals, always the same."""
        shape = (count, in_channels, *[side] * self.dimensions)
        return torch.randn(shape, generator=make_generator(0, "conformance"))

    def list_variants(self) -> Iterator[tuple[nn.Module, Tensor]]:
        """The model in all shapes, widths and depths that it takes, with three images."""
        # Large images in one size only, because they take most of the time.
        for shape, sizes in (*itertools.product(SHAPES[:2], MULTIPLIERS), (SHAPES[2], MULTIPLIERS[2])):
            if (model := self.try_build(*shape, **sizes)) is not None:
                yield model, self.draw_images(3, *shape)


@check("model", "outputs have their shape, and every parameter gets a gradient")
def _check_outputs(part: ModelPart) -> None:
    built = 0
    for model, images in part.list_variants():
        built += 1
        outputs = model(images)
        expected = (len(images), CLASSES) if get_task(model).has_classes else tuple(images.shape)
        require(
            isinstance(outputs, Tensor) and tuple(outputs.shape) == expected,
            f"for inputs {tuple(images.shape)} the outputs must be a tensor {expected}, not "
            f"{tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__}",
        )
        outputs.square().sum().backward()  # a plain sum gives no gradient through a softmax or a norm
        for name, parameter in model.named_parameters():
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            require(
                reached or not parameter.requires_grad,
                f"the parameter {name} gets no gradient from inputs {tuple(images.shape)}: is it used?",
            )
    require(built, f"it takes none of the shapes {SHAPES}: {part.refused[:1]}")


@check("model", "width and depth change its size, or are refused")
def _check_multipliers(part: ModelPart) -> None:
    shape = next((shape for shape in SHAPES if part.try_build(*shape) is not None), SHAPES[-1])
    count = _count_parameters(part.build(*shape))
    for name in ("width", "depth"):
        model = part.try_build(*shape, **{name: 2})
        require(
            model is None or _count_parameters(model) > count,
            f"model.{name}=2 does not change its {count:,} parameters: use spec.{name}, or refuse it with "
            f'spec.require_defaults("{name}")',
        )


@check("model", "an image gets the same output twice, to the bit")
def _check_repeats(part: ModelPart) -> None:
    """Also with dropout, which is off in an evaluation."""
    model, images = part.build_smallest()
    side = images.shape[-1]
    dropped = part.try_build(images.shape[1], side, dropout=0.5)
    for one in (model, dropped):
        if one is not None:
            one.eval()
            require(torch.equal(one(images), one(images)), "in eval mode, two passes of the same images differ")


@check("model", "an image alone gets the same output as in a batch")
def _check_batches(part: ModelPart) -> None:
    """In eval mode, no image may influence another."""
    model, images = part.build_smallest()
    model.eval()
    images = part.draw_images(5, *images.shape[1:3])
    with torch.no_grad():
        together, alone = model(images), torch.cat([model(image[None]) for image in images])
    largest = float((together - alone).abs().max())
    require(
        largest <= CLOSE * max(1.0, float(together.abs().max())),
        f"in eval mode, an image's outputs differ by up to {largest:.2g} between a batch of five and it alone",
    )


@check("model", "its weights are a function of the seed alone")
def _check_seeds(part: ModelPart) -> None:
    """Whatever state torch's own generator is in."""
    _, images = part.build_smallest()
    shape = images.shape[1], images.shape[2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = part.build(*shape, seed=5).state_dict()
        torch.manual_seed(2)
        second, other = part.build(*shape, seed=5).state_dict(), part.build(*shape, seed=6).state_dict()
    for name in first:
        require(torch.equal(first[name], second[name]), f"{name} differs between two models of one seed")
    require(any(not torch.equal(first[name], other[name]) for name in first), "another seed gives the same weights")


@check("model", "its state_dict holds everything that it has learned")
def _check_state(part: ModelPart) -> None:
    trained, images = part.build_smallest()
    trained.train()
    trained(images)  # running means of norms change
    other = part.build(images.shape[1], images.shape[2], seed=1)
    other.load_state_dict({name: value.clone() for name, value in trained.state_dict().items()})
    same = torch.equal(trained.eval()(images), other.eval()(images))
    require(same, "a model that has loaded the state_dict of another one gives other outputs")


@check("model", "its parameters and multiply-accumulates are counted")
def _check_costs(part: ModelPart) -> None:
    """`summary` agrees with torch's own counter, and needs no memory for the weights."""
    for (in_channels, side), sizes in (*(((1, 28), sizes) for sizes in VARIED), ((3, 40), {})):
        model = part.try_build(in_channels, side, **sizes)
        if model is None:
            continue
        image = part.draw_images(1, in_channels, side)
        with FlopCounterMode(display=False) as counter:
            model.eval()(image)
        described = summarize(part.build(in_channels, side, device="meta", **sizes), image.shape[1:])
        # Torch counts a multiply-accumulate as two operations.
        expected = {"macs": counter.get_total_flops() // 2, "parameters": _count_parameters(model)}
        for name, value in expected.items():
            found = getattr(described, name)
            require(found == value, f"`cnnbench summary` counts {found:,} {name}, and torch {value:,}")


@check("model", "it runs in bf16")
def _check_bf16(part: ModelPart) -> None:
    """As `trainer.precision=bf16` does."""
    model, images = part.build_smallest()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require(model(images).isfinite().all(), "some outputs are not finite")


@check("model", "torch can export it")
def _check_export(part: ModelPart) -> None:
    model, images = part.build_smallest()
    model.eval()
    try:
        exported = torch.export.export(model, (images,))
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise Fault(f"torch.export: {type(error).__name__}: {reason[0] if reason else ''}") from error
    torch.testing.assert_close(exported.module()(images), model(images))


@check("model", "it takes images that are not square")
def _check_rectangles(part: ModelPart) -> None:
    if part.dimensions != 2:
        raise NotApplicable("it takes signals")
    spec = NetworkSpec(1, (28, 40), CLASSES, activation=part.config.activation, dropout=part.config.dropout)
    try:
        model = build_model(part.name, spec, options=part.config.options)
    except ValueError as error:
        raise NotApplicable(f"it refuses them: {error}") from None
    images = torch.randn(2, 1, 28, 40, generator=make_generator(0, "conformance"))
    expected = (2, CLASSES) if get_task(model).has_classes else tuple(images.shape)
    found = tuple(model.eval()(images).shape)
    require(found == expected, f"for images of 28×40 the outputs must be {expected}, not {found}")


def _count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
