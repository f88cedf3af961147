"""The two declarations of a federation: that of its coordinator, and that of each site; both without PyTorch."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from workloads.config_schema import ConfigSchema, Positive
from workloads.errors import Diagnostic, UserError
from workloads.training.config import ImageClassifier, TrainingConfig

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
REPEATS_MAX = 3
"""Times that a site trains one round: a coordinator that lost an answer asks again, and each answer tells it more."""
SITES_MAX = 64
"""Most sites of a federation; the coordinator has the updates of all in memory."""


ROUNDS_MAX = 1000
"""Most rounds of a federation; a transcript with the statements of 64 sites then has about 20 MB."""


class Terms(ConfigSchema):
    """The parts of a federation that its coordinator declares, and to which each site agrees by declaring the same."""

    federation: Name
    members: tuple[Name, ...] = Field(min_length=1, max_length=SITES_MAX)
    """All sites, by name."""
    rounds: int = Field(ge=1, le=ROUNDS_MAX)
    """Rounds of the whole training."""
    aggregation: Literal["robust"] = "robust"
    """How updates are combined: *robust* shows each update to the coordinator, which excludes updates by content."""
    rule: Literal["trimmed-mean", "krum"] = "trimmed-mean"
    """The robust mean: without the largest and smallest values of each weight, or of the updates with near others."""
    tolerated: PositiveInt = 1
    """Number of sites whose updates may be wrong."""
    clip_norm: Positive
    """Maximum norm of an update; sites and coordinator both scale longer ones down."""
    strategy: Literal["fedavg", "fedprox"] = "fedavg"
    proximal: Positive = 0.01
    """Weight of the distance from the received model in the loss of each site, for fedprox."""
    code: Digest
    """Digest of the workloads' code, which `python -m workloads.federation digests` prints."""
    recipe: Digest
    """Digest of the recipe, all of it except the data."""

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        if wrong := [*self._problems()]:
            raise ValueError("; and ".join(wrong))
        return self

    @property
    def sites_min(self) -> int:
        """Number of good updates that a round needs.

        Source: Blanchard et al. 2017, arXiv:1703.02757, section 4 (Krum: n > 2f + 2); a trimmed mean keeps one value.
        """
        return 2 * self.tolerated + (3 if self.rule == "krum" else 1)

    @property
    def members_min(self) -> int:
        """Number of members with which *tolerated* sites cannot end a round by wrong updates or by none."""
        return self.sites_min + self.tolerated

    def _problems(self) -> Iterator[str]:
        if len({*self.members}) < len(self.members):
            yield "each site is a member once"
        if len(self.members) < self.members_min:
            yield (
                f"{self.rule} with {self.tolerated} tolerated needs {self.members_min} sites, "
                f"and members has {len(self.members)}"
            )


class SiteConfig(ConfigSchema):
    """The declaration of one site: its terms, and its own side of them."""

    site: Name
    """Name of this site among the members."""
    terms: Terms
    recipe: TrainingConfig
    """The training, with the data of this site."""

    @model_validator(mode="after")
    def _check_site(self) -> Self:
        if self.site not in self.terms.members:
            raise ValueError(f"site is one of the members: {', '.join(self.terms.members)}")
        return self


def recipe_digest(recipe: TrainingConfig) -> str:
    """Return the SHA-256 of *recipe* without its data, which differ between sites."""
    return sha256(recipe.model_copy(update={"data": None}).model_dump_json(warnings=False).encode()).hexdigest()


def check_recipe(recipe: TrainingConfig, rounds: int) -> None:
    """Raise unless *recipe* can be trained by a federation in *rounds*.

    Raises:
        UserError: The message has all reasons.
    """
    problems = [*_recipe_problems(recipe, rounds)]
    if problems:
        raise UserError(
            *(Diagnostic(f"recipe.{where}", problem, rule, help) for where, problem, rule, help in problems)
        )


def _recipe_problems(recipe: TrainingConfig, rounds: int) -> Iterator[tuple[str, str, str, str]]:
    if not isinstance(recipe.model, ImageClassifier):
        expected = "an image classifier: all of its weights are trained, and none follows from counts of private rows"
        yield "model.kind", f"got {recipe.model.kind}", expected, "Use such a model"
    if recipe.fine_tuning:
        expected = "a training from the coordinator's weights, which take the place of a parent"
        yield "fine_tuning", "got a parent", expected, "Remove it"
    if recipe.privacy:
        expected = "a recipe without it: rounds take the steps of a training without noise, and no ledger charges them"
        yield "privacy", "got a promise that a federation does not keep", expected, "Remove it"
    if recipe.elastic or recipe.sharding != "none":
        yield (
            "sharding",
            "got several processes for one model",
            "one process at each site",
            "Remove sharding and elastic",
        )
    if recipe.steps % rounds:
        expected = f"a multiple of the {rounds} rounds"
        yield "steps", f"got {recipe.steps}", expected, f"Write {max(1, recipe.steps // rounds) * rounds}"
