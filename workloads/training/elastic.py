"""An elastic run: processes are lost and come, and those that stay go on from the last commit, which is in memory."""

from typing import Any

from workloads.training import order
from workloads.training.loop import Training


def run(training: Training, last: int) -> bool:
    """Take steps until *last* are done, with whoever is there; return False if it was told to stop before.

    A process that was lost costs the steps since the last commit; one that joins, none. Before the first line of
    `going` no process may talk to the others: those that stay are waiting for newcomers in Horovod's own exchange.
    """
    workers, config, metrics = training.around.workers, training.config, training.around.metrics
    hvd: Any = workers.hvd  # type: ignore[attr-defined]
    model, training.optimizer = workers.average(training.model, training.optimizer)
    state = hvd.elastic.TorchState(
        model=training.model, optimizer=training.optimizer, step=training.step, scaler=training.scaler.state_dict(),
        tuning=training.tuning and training.tuning.state_dict(),
    )  # fmt: skip

    def commit() -> None:
        if training.step % config.commit_every_steps == 0:
            state.step, state.scaler = training.step, training.scaler.state_dict()
            state.tuning = training.tuning and training.tuning.state_dict()
            state.commit()

    @hvd.elastic.run
    def going(state: Any) -> bool:
        training.step = state.step
        training.scaler.load_state_dict(state.scaler)
        if training.tuning:
            training.tuning.load_state_dict(state.tuning)
        world = workers.size
        shares = [
            len(range(config.global_batch)[order.share(0, config.global_batch, rank, world)]) for rank in range(world)
        ]
        metrics.tell(event="world", step=state.step, world=world, rank=workers.rank, shares=shares)
        metrics.say(f"step {state.step}: {world} processes with {', '.join(map(str, shares))} examples each step")
        return training.run(model, last, commit)

    return bool(going(state))
