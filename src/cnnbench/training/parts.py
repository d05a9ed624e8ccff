"""Parts of a network by name: which are frozen, and which have a learning rate of their own.

A name is a module's path, such as `features.stage1`, or a glob, such as `*norm*`. It covers every parameter in a module
that it matches, and a parameter that it matches itself.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from itertools import accumulate

from torch import nn

from cnnbench.registry import find_nearest

FEATURES = "features"  # in a network without such a module, all its parts but the last


def assign_parts(model: nn.Module, names: Iterable[str], key: str) -> dict[str, str]:
    """The name that covers each parameter, by the parameter's path; where several do, the longest.

    Args:
        key: of the config, for error messages, such as `model.freeze`.

    Raises:
        ValueError: a name covers no parameter; the message has the nearest module.
    """
    # Whatever order they come in: a config that only orders them differently is the same run.
    wanted = sorted(names, key=lambda name: (-len(name), name))
    globs = {name: _expand(model, name) for name in wanted}
    assigned, used = {}, set()
    for path, _ in model.named_parameters():
        around = [*accumulate(path.split("."), "{}.{}".format)]
        matching = [name for name in wanted if any(fnmatchcase(one, glob) for one in around for glob in globs[name])]
        used |= {*matching}
        if matching:
            assigned[path] = matching[0]
    for name in wanted:
        if name not in used:
            raise ValueError(_explain_no_effect(model, name, key))
    return assigned


def freeze_parts(model: nn.Module, names: Iterable[str]) -> None:
    """Exclude parts of a network from training: their parameters need no gradient. See `set_training_mode`.

    Raises:
        ValueError: a name covers no parameter, or together they cover all.
    """
    key = "model.freeze"
    frozen = assign_parts(model, names, key)
    parameters = dict(model.named_parameters())
    if frozen and len(frozen) == len(parameters):
        raise ValueError(f"{key}=[{','.join(names)}] covers the whole network, so that nothing is left to train")
    for path in frozen:
        parameters[path].requires_grad_(False)


def set_training_mode(model: nn.Module) -> None:
    """Set a network to training, but its frozen modules to evaluation."""
    model.train()
    for module in model.modules():
        parameters = [*module.parameters()]
        # A frozen batch norm would otherwise update its statistics, and a frozen dropout add noise.
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


def _expand(model: nn.Module, name: str) -> list[str]:
    """The globs that a name means."""
    if name != FEATURES or hasattr(model, FEATURES):
        return [name]
    return [child for child, module in model.named_children() if any(True for _ in module.parameters())][:-1]


def _explain_no_effect(model: nn.Module, name: str, key: str) -> str:
    modules = [path for path, _ in model.named_modules() if path]
    if any(fnmatchcase(path, name) for path in modules):
        return f"{key}: {name!r} has no parameters"
    near = find_nearest(name, [*modules, *(path for path, _ in model.named_parameters())])
    hint = f" Did you mean {near!r}?" if near else ""
    children = ", ".join(child for child, _ in model.named_children())
    return (
        f"{key}: the network has no part {name!r}.{hint} It consists of {children}; `cnnbench summary` lists the parts "
        "of these"
    )
