"""Checkpoints with tensors: what torch has comes back bit by bit. Runs in the environment of the workloads."""

import pytest

torch = pytest.importorskip("torch", reason="torch is in the environment of the workloads alone")

from safetensors.torch import load_file  # noqa: E402 - which has torch

from tests.support import sample_checkpoints  # noqa: E402
from workloads.checkpoint import BadState, Checkpoints, layout, newest  # noqa: E402


def training():
    torch.manual_seed(7)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.5)


def train(model, optimizer, schedule, steps):
    for _ in range(steps):
        model(torch.randn(5, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


def state(model, optimizer, schedule):
    return {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "rng": torch.get_rng_state(),
    }


def test_a_training_that_goes_on_ends_with_the_same_bits(tmp_path):
    whole = training()
    with Checkpoints(tmp_path) as checkpoints:
        train(*whole, 5)
        checkpoints.save(5, state(*whole))
        train(*whole, 6)  # while it is written

        again = training()
        assert checkpoints.wait()
        loaded = checkpoints.load(checkpoints.newest())
        for part, name in zip(again, ("model", "optimizer", "schedule"), strict=True):
            part.load_state_dict(loaded[name])
        torch.set_rng_state(loaded["rng"])
        train(*again, 6)

    for name, value in whole[0].state_dict().items():
        assert torch.equal(value, again[0].state_dict()[name]), name
    assert whole[2].get_last_lr() == again[2].get_last_lr()


def test_the_snapshot_is_what_was_there_when_it_was_taken(tmp_path):
    weights = torch.arange(1_000_000, dtype=torch.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": weights})
        weights += 1

    assert torch.equal(newest_state(tmp_path)["weights"] + 1, weights)


def newest_state(directory):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.load(checkpoints.newest())


def test_every_sort_of_tensor_comes_back(tmp_path):
    sorts = (
        torch.float64,
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
    )
    values = {str(sort): torch.tensor([[1, 0, 3]]).to(sort) for sort in (*sorts, torch.uint8, torch.bool)}
    values |= {"8": torch.tensor([0.5, 2]).to(torch.float8_e4m3fn), "turned": torch.arange(6).view(2, 3).T}
    values |= {"none": torch.empty(0, 3), "one": torch.tensor(2.5), "nan": torch.tensor(float("nan"))}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, values)

    back = newest_state(tmp_path)
    assert back.keys() == values.keys()
    for name, value in values.items():
        assert back[name].dtype == value.dtype and back[name].shape == value.shape, name
        bits = (item.contiguous().view(torch.uint8) if item.numel() > 1 else item for item in (back[name], value))
        assert torch.equal(*bits) or name == "nan", name
    assert back["nan"].isnan()


def test_others_can_read_the_file(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"model": {"weight": torch.ones(3), "bias": torch.zeros(2, dtype=torch.bfloat16)}, "n": 1})

    [path] = tmp_path.glob("step-*/*.safetensors")
    assert load_file(path).keys() == {"model/weight", "model/bias"}


def test_tied_weights_are_kept_once_and_names_never_meet(tmp_path):
    tied = torch.randn(100)
    state = {"tied": tied, "again": tied, "part": tied[:50], "a/b": torch.ones(1), "a": {"b": torch.zeros(1)}}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)

    back = newest_state(tmp_path)
    assert back["tied"] is back["again"]
    assert torch.equal(back["tied"], tied) and torch.equal(back["part"], tied[:50])
    assert (back["a/b"].item(), back["a"]["b"].item()) == (1, 0)


def test_a_state_of_another_shape_takes_other_memory(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"weights": torch.ones(10)})
        checkpoints.save(2, {"weights": torch.ones(500_000)})
        assert checkpoints.wait()
        before = checkpoints._snapshot
        checkpoints.save(3, {"weights": torch.zeros(500_000)})
        assert checkpoints.wait()
        assert checkpoints._snapshot is before

    assert layout.steps(tmp_path) == [1, 2, 3]
    assert newest_state(tmp_path)["weights"].sum() == 0


@pytest.mark.parametrize(
    "bad", [torch.zeros(2, dtype=torch.complex64), torch.eye(2).to_sparse()] if torch else (), ids=["complex", "sparse"]
)
def test_what_the_format_has_not_is_refused_before_the_first_step(tmp_path, bad):
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(BadState, match="state/model/bad: .* cannot store a tensor of"),
    ):
        checkpoints.prepare({"model": {"bad": bad}})


def test_a_flipped_byte_of_a_weight_is_found(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"weights": torch.randn(100_000)})
            assert checkpoints.wait()
    [path] = (tmp_path / layout.step_name(2)).glob("*.safetensors")
    sample_checkpoints.flip(path, 200_000)

    assert newest(tmp_path).step == 1
