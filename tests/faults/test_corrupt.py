"""A short `make corrupt`: no damage to a checkpoint, the cache or the config is accepted."""

import corrupt
import pytest

NAMES = ("config", "best", "last", "cache")


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return corrupt.make_targets(tmp_path_factory.mktemp("corrupt"))


@pytest.mark.parametrize("name", NAMES)
def test_no_damage_is_accepted(targets, name):
    for target in (target for target in targets if target.name.startswith(name)):
        counts = corrupt.measure(target, flips=120, blocks=30, seed=0)
        assert {outcome for _, outcome in counts} == {"refused"}, counts
        assert {kind for kind, _ in counts} == {"bits", "blocks", "cuts"}
    assert {target.name.split(".")[0] for target in targets} == set(NAMES)


def test_damage_that_is_accepted_is_counted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    counts = corrupt.measure(corrupt.Target("file", path, path.read_bytes), flips=10, blocks=5, seed=0)
    assert counts == {("bits", "ACCEPTED"): 10, ("blocks", "ACCEPTED"): 5, ("cuts", "ACCEPTED"): 2}
    assert path.read_bytes() == b"x" * 100
