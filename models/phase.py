"""A phase of a training step: one loss, the networks it trains, and what it has to be given."""
import dataclasses
from typing import Callable, Optional


@dataclasses.dataclass(frozen=True)
class Phase:
    """One loss with the networks that it updates, run every `interval` steps (lazy regularization).

    name: names the phase, and seeds its randomness: switching another phase off changes none of its draws.
    trains: names of the networks it updates.
    interval: steps from one run to the next.
    takes: what the loss is given by name: 'reals' [N, H, W, 3], or an option of the run that is a schedule, whose
        value at the step it gets, None instead of 0.
    num_samples: how many images of the whole batch it generates.
    sample: (nets, seed [2], models.sampling.BatchPart) -> the batch of random inputs; None if it generates nothing.
    loss: (nets, batch, *tracked, *taken) -> (loss, {statistic: value}), scalars, means over the part.
    regularized_every: the interval of the lazy regularizer of the same networks, for Adam's correction; 0 for none.
    measure: (nets, batch) -> a mean over the part that is needed of the whole batch, before the loss; None for none.
    track: (nets, that mean of the whole batch) -> `tracked`, a tuple of tensors; it moves a running mean, once a step.
    """
    name: str
    trains: tuple[str, ...]
    interval: int
    takes: tuple[str, ...]
    num_samples: int
    sample: Callable
    loss: Callable
    regularized_every: int = 0
    measure: Optional[Callable] = None
    track: Optional[Callable] = None
