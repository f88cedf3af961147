"""One site: it checks each request against its own declaration, trains on its own data, and writes its transcript."""

from pathlib import Path

import numpy as np

from workloads.errors import Diagnostic, UserError
from workloads.federation import transcript as transcripts
from workloads.federation import weights as arrays
from workloads.federation.aggregation import find_flaw
from workloads.federation.config import REPEATS_MAX, SiteConfig, check_recipe, recipe_digest
from workloads.federation.local_training import initial_model, train_round
from workloads.federation.messages import LOSS_MAX, RoundReply, RoundRequest, Statement
from workloads.federation.transcript import Entry, Transcript
from workloads.federation.weights import Weights
from workloads.tracking.provenance import code_digest

FILE = "transcript.json"


class Site:
    """The side of one operator. The code that runs on the data is the site's own; requests are data."""

    def __init__(self, config: SiteConfig, out: Path, key: Path) -> None:
        """
        Args:
            out: Directory for the transcript and the metrics.
            key: Private SSH key that signs the transcript and the answers.

        Raises:
            UserError: The recipe cannot be federated, or code or recipe differ from the terms.
        """
        check_recipe(config.recipe, config.terms.rounds)
        self._config, self._out, self.key = config, out, key
        self.name = config.site
        for name, found in (("code", code_digest()), ("recipe", recipe_digest(config.recipe))):
            expected = getattr(config.terms, name)
            if found != expected:
                help = "Use the release and the recipe of all sites, or agree on new terms"
                raise self._refusal(f"terms.{name}", f"the {name} of this site has the digest {found}", expected, help)
        self.path = out / FILE
        self._transcript = transcripts.read(self.path) if self.path.exists() else Transcript(site=self.name)
        self.shapes = initial_model(config.recipe)

    def train(self, request: RoundRequest, model: Weights) -> tuple[RoundReply, dict[str, np.ndarray]]:
        """Return the answer to *request* and the update of *model*, clipped, after all checks.

        Raises:
            UserError: The site refuses the request, or cannot train; nothing of the site has left it.
        """
        self._check(request, model)
        terms, recipe = self._config.terms, self._config.recipe
        proximal = terms.proximal if terms.strategy == "fedprox" else None
        trained = train_round(recipe, model, request.round, terms.rounds, proximal, self._out)
        update = arrays.clip(trained.update, terms.clip_norm)
        if not arrays.are_finite(update):
            raise self._refusal("update", "it has numbers that are not finite", "", "Lower the learning rate")
        digest = arrays.digest(update)
        entries = (*self._transcript.entries, Entry(request=request, update=digest))
        self._write(self._transcript.model_copy(update={"entries": entries}))
        score = trained.score
        reply = RoundReply(
            site=self.name,
            round=request.round,
            request=request.digest,
            update=digest,
            loss=score.loss if score.loss <= LOSS_MAX else LOSS_MAX,  # also one that is no number
            accuracy=score.accuracy,
        )
        return reply, update

    def conclude(self, statement: Statement) -> None:
        """Write the *statement* about the last round into the transcript.

        Raises:
            UserError: The statement contradicts what the site sent, or an earlier statement, which stays.
        """
        if statement.round != self._config.terms.rounds:
            expected = f"{self._config.terms.rounds}, the last one"
            raise self._refusal("statement", f"it is about round {statement.round}", expected, "Ask for the last one")
        self._check_statement(statement)
        if (earlier := self._transcript.conclusion) == statement:
            return
        if earlier:
            problem = "the coordinator has sent another statement about the last round before"
            raise self._refusal("statement", problem, "the same one", "Compare the transcripts of all sites")
        self._write(self._transcript.model_copy(update={"conclusion": statement}))

    def _check(self, request: RoundRequest, model: Weights) -> None:
        declared = self._config.terms
        for name, value in declared:
            if (asked := getattr(request.terms, name)) != value:
                help = "Ask the coordinator for the terms, and agree on them by another declaration"
                raise self._refusal(f"terms.{name}", f"the coordinator asks for {asked}", f"{value}", help)
        if request.round > declared.rounds:
            raise self._refusal("round", f"got {request.round}", f"at most {declared.rounds}", "End the run")
        answered = [entry.request.round for entry in self._transcript.entries]
        if answered and request.round < answered[-1]:
            help = f"Use another directory than {self._out} for another training"
            raise self._refusal("round", f"got {request.round}", f"{answered[-1]} or a later one", help)
        if self._transcript.conclusion:
            raise self._refusal("round", f"got {request.round} after the end", "no request", "End the run")
        if any(entry.request.round == request.round and entry.request != request for entry in self._transcript.entries):
            problem = f"round {request.round} was asked for before with another model or statement"
            raise self._refusal("round", problem, "the same request", "Compare the transcripts of all sites")
        if answered.count(request.round) >= REPEATS_MAX:
            problem = f"round {request.round} was answered {REPEATS_MAX} times"
            raise self._refusal("round", problem, "the next round", "Ask the coordinator why it repeats the round")
        if flaw := find_flaw(model, self.shapes):
            raise self._refusal("model", flaw, "the model of the recipe", "Ask the coordinator for its recipe")
        if (digest := arrays.digest(model)) != request.model:
            raise self._refusal("model", f"its digest is {digest}", request.model, "Ask for the round again")
        self._check_origin(request)

    def _check_origin(self, request: RoundRequest) -> None:
        """Raise unless the model of *request* is that of the seed, or that of the statement about the round before.

        Weights that were made for it can copy rows into an update.
        """
        statement, seed = request.statement, arrays.digest(self.shapes)
        if request.round == 1:
            if statement or request.model != seed:
                problem = f"round 1 starts from the model {request.model}"
                raise self._refusal(
                    "model", problem, f"that of the recipe's seed, {seed}", "Ask for the recipe's model"
                )
            return
        if statement is None:
            problem = f"round {request.round} comes without the statement about the round before"
            raise self._refusal("statement", problem, "", "Ask the coordinator for the whole request")
        if (statement.round, statement.model) != (request.round - 1, request.model):
            problem = f"the statement is about round {statement.round} and the model {statement.model}"
            expected = f"round {request.round - 1}, and the model to start from"
            raise self._refusal("statement", problem, expected, "Ask the coordinator for its statements")
        self._check_statement(statement)

    def _check_statement(self, statement: Statement) -> None:
        sent = [entry.update for entry in self._transcript.entries if entry.request.round == statement.round]
        listed = statement.updates.get(self.name)
        if listed is not None and listed not in sent:
            problem = f"the coordinator lists an update of this site in round {statement.round} that it did not send"
            raise self._refusal("statement", problem, ", ".join(sent) or "no update", "Compare with the other sites")
        members = {*self._config.terms.members}
        if differing := members ^ (statement.updates.keys() | statement.excluded.keys()):
            problem = f"{', '.join(sorted(differing))}: not named in the statement, or no member"
            raise self._refusal("statement", problem, "each member, and no other site", "Ask for the statement again")

    def _write(self, transcript: Transcript) -> None:
        transcripts.write(transcript, self.path, self.key)
        self._transcript = transcript

    def _refusal(self, where: str, problem: str, expected: str, help: str) -> UserError:
        return UserError(Diagnostic(f"{self.name}: {where}", problem, expected, help))
