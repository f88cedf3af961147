"""An elastic run: processes join and leave, and the others continue from the last commit, which is in memory."""

from typing import Any

from workloads.training import order
from workloads.training.loop import Training


def run(training: Training, last: int) -> bool:
    """Take steps until step *last*, with the processes that are present; return False if a signal stopped the run.

    A lost process costs the steps since the last commit; a joining process costs none. Before the first line of
    `resume` no process may communicate: the others wait for new processes in Horovod's own exchange.
    """
    workers, config, metrics = training.context.workers, training.config, training.context.metrics
    hvd: Any = workers.hvd  # type: ignore[attr-defined]
    model, training.optimizer = workers.average_gradients(training.model, training.optimizer)
    state = hvd.elastic.TorchState(
        model=training.model, optimizer=training.optimizer, step=training.step, scaler=training.scaler.state_dict(),
        tuning=training.tuning and training.tuning.state_dict(), saved=training.last_saved,
        earlier_data=training.earlier_data,
    )  # fmt: skip

    def commit() -> None:
        if training.step % config.commit_every_steps == 0:
            state.step, state.scaler = training.step, training.scaler.state_dict()
            state.tuning, state.saved = training.tuning and training.tuning.state_dict(), training.last_saved
            state.commit()

    @hvd.elastic.run
    def resume(state: Any) -> bool:
        training.step, training.last_saved, training.earlier_data = state.step, state.saved, state.earlier_data
        training.scaler.load_state_dict(state.scaler)
        if training.tuning:
            training.tuning.load_state_dict(state.tuning)
        world = workers.size
        shares = [
            len(range(config.global_batch)[order.share(0, config.global_batch, rank, world)]) for rank in range(world)
        ]
        metrics.log(event="world", step=state.step, world=world, rank=workers.rank, shares=shares)
        metrics.print(f"step {state.step}: {world} processes take {', '.join(map(str, shares))} examples per step")
        return training.run(model, last, commit)

    return bool(resume(state))
