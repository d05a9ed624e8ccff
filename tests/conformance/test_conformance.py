"""Every registered part of ours passes the checks that `cnnbench check-plugin` runs, and wrong parts fail them."""

import functools
import itertools
from collections import defaultdict

import pytest
import torch
from test_models import AS_PUBLISHED
from torch import nn

from cnnbench import registry
from cnnbench.claims import measures as measures
from cnnbench.cli.check_plugin import MAKERS
from cnnbench.cli.choices import list_groups
from cnnbench.config.keys import Options, key
from cnnbench.config.model import ModelConfig
from cnnbench.config.trainer import OptimizerConfig, SchedulerConfig
from cnnbench.conformance.augmentations import AugmentPart
from cnnbench.conformance.checking import NotApplicable, list_checks, run_checks
from cnnbench.conformance.datasets import DataPart
from cnnbench.conformance.measures import MeasurePart
from cnnbench.conformance.metrics import MetricPart
from cnnbench.conformance.models import ModelPart
from cnnbench.conformance.optimizers import OptimizerPart, SchedulePart
from cnnbench.data import DatasetInfo, RegisteredAugmentation, Source, Split, find_transform

EMBEDDED = ("digits", "waves")  # datasets that need no files
NAMES = {
    "model": registry.list_names("model"),
    "data": EMBEDDED,
    "metric": registry.list_names("metric"),
    "augment": list_groups()["augment"],
    "measure": registry.list_names("measure"),
    "optimizer": registry.list_names("optimizer"),
    "scheduler": registry.list_names("scheduler"),
}
make_part = functools.cache(lambda kind, name: MAKERS[kind](name, ()))


CASES = [(kind, name, fact) for kind in NAMES for name in NAMES[kind] for fact in list_checks(kind)]


@pytest.mark.parametrize(("kind", "name", "fact"), CASES)
def test_every_part_does_what_it_must(kind, name, fact):
    part = make_part(kind, name)
    try:
        list_checks(kind)[fact](part)
    except NotApplicable:
        assert kind in ("augment", "measure") or registry.get_facts("model", name).get("dimensions") == (1,)
    if kind == "model" and name not in AS_PUBLISHED:
        assert not part.refused


class Wrong(nn.Module):
    """A network that looks right and keeps none of the promises."""

    def __init__(self, spec):
        super().__init__()
        self.seen = 0
        self.weight = nn.Parameter(torch.full((spec.in_channels * 10_000, spec.num_classes), 0.01))
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images):
        self.seen += 1
        pixels = images.flatten(1) + images.mean() + self.seen
        return pixels @ self.weight[: pixels.shape[1]]


class WrongOptions(Options):
    plain: int = 3
    stop: int = key("It ends with a full stop.", 3)


def find_problems(kind, part):
    return {outcome.check: outcome.reason for outcome in run_checks(kind, part) if outcome.result == "FAILS"}


@pytest.fixture
def own():
    """Registers parts that are removed afterwards."""

    def register(kind, name, builder, **facts):
        builder.__module__ = "elsewhere"  # a part of ours belongs to no plug-in
        registry.register(kind, name, **facts)(builder)

    with registry.own_parts("test"):
        yield register
    registry.remove_parts("test")


def test_a_wrong_model_fails_check_by_check(own):
    own("model", "wrong", Wrong)
    problems = find_problems("model", ModelPart("wrong", ModelConfig(name="wrong")))
    for fact, words in {
        "outputs have their shape, and every parameter gets a gradient": "unused gets no gradient",
        "width and depth change its size, or are refused": "model.width=2 does not change its",
        "an image gets the same output twice, to the bit": "two passes of the same images differ",
        "an image alone gets the same output as in a batch": "differ by up to",
        "its weights are a function of the seed alone": "another seed gives the same weights",
        "its state_dict holds everything that it has learned": "gives other outputs",
    }.items():
        assert words in problems[fact]


def test_wrong_options_fail_and_an_error_inside_a_part_is_a_problem(own):
    def build(spec, options: WrongOptions):
        raise NotImplementedError

    own("model", "wrong", build)
    problems = find_problems("model", ModelPart("wrong", ModelConfig(name="wrong")))
    assert "plain: declare it as plain: TYPE = key" in problems["its options are typed and documented"]
    assert "NotImplementedError" in problems["it runs in bf16"]


def test_a_wrong_dataset_fails_check_by_check():
    def read():
        info = DatasetInfo("other", in_channels=1, image_size=4, class_names=("a", "a", "b"))
        images = torch.randint(256, (20, 1, 4, 4), dtype=torch.uint8)
        labels = torch.arange(20) % 2
        return Source(info, Split(images, labels), Split(images[:5], labels[:5]))

    problems = find_problems("data", DataPart("wrong", read, ((1, 5, 5), 3)))
    for fact, words in {
        "its images have one shape and type, and a label each": "DatasetInfo.name must be 'wrong', not 'other'",
        "its classes have different names, and training images": "two classes have the same name",
        "its splits share no image": "5 of its images in test are in train too",
        "it has the same content each time it is read": "read again, train has other images or labels",
        "the shape it declares is that of its images": "its data_shape says",
        "it can be split and scaled": "overlap",
    }.items():
        assert words in problems[fact]


def test_a_wrong_metric_augmentation_and_measure_fail(own):
    def errors(confusion):
        return float(confusion.sum() - confusion.trace())

    def noise(pixels, draw):
        return pixels / 2 + torch.rand(pixels.shape)

    own("metric", "wrong", errors, share=True)
    own("augment", "wrong", noise)
    own("measure", "wrong", lambda run: 3, source="runs", low=1, high=0)
    problems = find_problems("metric", MetricPart("wrong"))
    assert "lies outside 0…1 (share=True)" in problems["it is a finite number for any predictions"]
    assert "is better than" in problems["no predictions are better than the right ones"]
    wrong = RegisteredAugmentation("wrong", find_transform("wrong", {}), None, 0)
    problems = find_problems("augment", AugmentPart("wrong", lambda channels: wrong))
    assert "draw all random numbers" in problems["an image is changed by its seed, epoch and index alone"]
    assert "an image alone is changed in the same way as in a batch" in problems
    problems = find_problems("measure", MeasurePart("wrong", lambda source: None))
    assert "source='runs'" in problems["it says what it reads, its range and its meaning"]


class Climbing:
    """An optimizer that climbs, ignores its learning rate, moves every weight, and hides its state."""

    def __init__(self, groups, lr, fused):
        self.param_groups, self.state = [{"lr": lr, **group} for group in groups], defaultdict(dict)
        self.steps = 0

    def zero_grad(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    def step(self):
        self.steps += 1
        for group in self.param_groups:
            for parameter in group["params"]:
                change = 1e-3 if parameter.grad is None else 0.05 * parameter.grad
                parameter.data.add_(change, alpha=self.steps)


def test_a_wrong_optimizer_and_a_wrong_schedule_fail_check_by_check(own):
    calls = itertools.count()
    own("optimizer", "wrong", Climbing)
    own("scheduler", "wrong", lambda total_steps, steps_per_epoch: lambda step: -next(calls))
    problems = find_problems("optimizer", OptimizerPart("wrong", OptimizerConfig(name="wrong")))
    for fact, words in {
        "its steps lower the loss": "with optimizer.lr=0.001, the loss goes from",
        "it follows the learning rate, and changes no weight without a gradient": "a step changes weights",
        "a resumed run takes the same steps, to the bit": "keep what they need as tensors in `state`",
    }.items():
        assert words in problems[fact]
    problems = find_problems("scheduler", SchedulePart("wrong", SchedulerConfig(name="wrong")))
    assert "step 0 of 6 has the factor -1" in problems["its factors are numbers from 0, however long the run"]
    assert "depend on the steps" in problems["a factor is a function of the step alone"]
