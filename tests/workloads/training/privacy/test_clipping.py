"""The gradient of each record is clipped as a whole, whatever its layers, and a model that mixes rows is refused."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workloads.errors import UserError
from workloads.training.lora import LoraLinear
from workloads.training.privacy import clipping

WIDTH = 6


class Adapted(nn.Module):
    """An embedding that is frozen, a layer with an adapter, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, WIDTH).requires_grad_(False)
        self.middle = LoraLinear(nn.Linear(WIDTH, WIDTH).requires_grad_(False), rank=2, scale=1.5)
        self.norm = nn.RMSNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(torch.relu(self.middle(self.embedding(x))))
        return features


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.middle, self.norm = nn.Embedding(11, WIDTH), nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(torch.relu(self.middle(self.embedding(x))))
        return features


class Tied(Whole):
    """The embedding is the head, too, by a function beside the hooks."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) @ self.embedding.weight.T


class Mixing(Whole):
    """Each row sees the mean of all rows."""

    def forward(self, x: Tensor) -> Tensor:
        features = super().forward(x)
        return features + features.mean(0, keepdim=True)


class Normalised(Whole):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.norm(self.middle(self.embedding(x)).transpose(1, 2))
        return features


def model(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    made = make().train()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.1 * torch.randn(weight.shape)
    return made


def loss_of(made: nn.Module, x: Tensor) -> Tensor:
    loss: Tensor = (made(x) - 0.3).square().sum() * 10
    return loss


def tokens(rows: int) -> Tensor:
    return torch.randint(11, (rows, 5), generator=torch.Generator().manual_seed(1))


def alone(made: nn.Module, x: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(loss_of(made, x), weights))


@pytest.mark.parametrize("make", [Whole, Adapted])
@pytest.mark.parametrize("owners", [[0, 1, 2, 3], [0, 0, 1, 1], [1, 0, 0, 0]], ids=["records", "pairs", "persons"])
def test_the_sum_is_that_of_the_clipped_gradient_of_each_owner(
    make: Callable[[], nn.Module], owners: list[int]
) -> None:
    made, x, clip = model(make), tokens(4), 0.5
    gradients = clipping.RowGradients(made)
    count = max(owners) + 1
    gradients.enable(False)
    expected = [torch.zeros_like(weight) for weight in gradients.weights]
    for owner in range(count):
        rows = x[[n for n, each in enumerate(owners) if each == owner]]
        whole = alone(made, rows, gradients.weights)
        norm = torch.stack([each.square().sum() for each in whole]).sum().sqrt()
        assert norm > clip  # otherwise nothing is clipped
        for total, each in zip(expected, whole, strict=True):
            total += each * (clip / norm)
    gradients.enable(True)
    loss_of(made, x).backward()

    sums = clipping.clipped_sum(gradients.take(), torch.tensor(owners), count, clip)
    for each, total in zip(sums, expected, strict=True):
        assert each is not None
        torch.testing.assert_close(each, total, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [Whole, Adapted])
@pytest.mark.parametrize("rows", [1, 50])
def test_a_person_moves_the_sum_by_at_most_the_clip(make: Callable[[], nn.Module], rows: int) -> None:
    made = model(make)
    gradients = clipping.RowGradients(made)
    others = tokens(4)
    owners = torch.arange(4)

    def sums(x: Tensor, owners: Tensor) -> list[Tensor | None]:
        loss_of(made, x).backward()
        return clipping.clipped_sum(gradients.take(), owners, int(owners.max()) + 1, 0.5)

    without = sums(others, owners)
    person = torch.full((rows,), 4)
    with_person = sums(torch.cat([others, tokens(rows)]), torch.cat([owners, person]))
    moved = sum(float((a - b).square().sum()) for a, b in zip(with_person, without, strict=True))  # type: ignore[operator]
    assert 0.49 < moved**0.5 <= 0.5 + 1e-5


def test_a_gradient_that_is_not_finite_counts_as_zero() -> None:
    rows: list[Tensor | None] = [torch.tensor([[3.0, 4.0], [float("nan"), 0.0], [float("inf"), 0.0]]), None]
    [total, unused] = clipping.clipped_sum(rows, torch.arange(3), 3, 1.0)
    assert unused is None and total is not None
    torch.testing.assert_close(total, torch.tensor([0.6, 0.8]))


def prove(made: nn.Module) -> None:
    x = tokens(clipping.PROOF_ROWS)
    clipping.prove(clipping.RowGradients(made), lambda records: loss_of(made, x[records]))


@pytest.mark.parametrize("make", [Whole, Adapted])
def test_a_model_whose_rows_are_apart_is_proved_and_stays_as_it_is(make: Callable[[], nn.Module]) -> None:
    made = model(make)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    prove(made)
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("make", [Tied, Mixing, Normalised])
def test_a_model_without_a_gradient_for_each_row_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(UserError, match="the model cannot be trained privately"):
        prove(model(make))
