"""Which steps train the estimator, the regressor, or both (paper section 3.5; docs/method.md 7.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Stage(Enum):
    """IUV: the estimator alone. RENDERED, ESTIMATED: the regressor alone, on such maps. JOINT: everything."""

    IUV = auto()
    RENDERED = auto()
    ESTIMATED = auto()
    JOINT = auto()

    @property
    def trains_estimator(self) -> bool:
        """Whether the IUV estimator learns."""
        return self in (Stage.IUV, Stage.JOINT)

    @property
    def trains_regressor(self) -> bool:
        """Whether the body's regressor learns."""
        return self is not Stage.IUV


@dataclass(frozen=True)
class Stages:
    """The stage of every step: IUV, then RENDERED, then ESTIMATED, then JOINT.

    Args:
        pretr_step: steps of the IUV stage.
        rendered_steps, estimated_steps: steps of the RENDERED and of the ESTIMATED stage.
        always_rendered: the RENDERED stage never ends (`input_mode` iuv_gt).
    """

    pretr_step: int
    rendered_steps: int = 0
    estimated_steps: int = 0
    always_rendered: bool = False

    def at(self, step: int) -> Stage:
        """Stage of the step that follows `step` finished ones."""
        iuv, rendered, estimated = self._ends
        if step < iuv:
            return Stage.IUV
        if self.always_rendered or step < rendered:
            return Stage.RENDERED
        return Stage.ESTIMATED if step < estimated else Stage.JOINT

    @property
    def _ends(self) -> tuple[int, int, int]:
        """Number of finished steps at which each stage but the last ends."""
        rendered = self.pretr_step + self.rendered_steps
        return self.pretr_step, rendered, rendered + self.estimated_steps

    def between(self, step: int, total: int) -> list[Stage]:
        """Stages of the steps from `step` to `total`, each once, in their order."""
        firsts = sorted({step, *(end for end in self._ends if step < end)})
        return list(dict.fromkeys(self.at(first) for first in firsts if first < total))

    def require_whole_epochs(self, steps_per_epoch: int) -> None:
        """Raise ValueError when a RENDERED stage does not begin and end with an epoch.

        Its images are not painted, which is decided for whole epochs.
        """
        if self.rendered_steps and (
            self.pretr_step % steps_per_epoch or self.rendered_steps % steps_per_epoch
        ):
            raise ValueError(
                f"With --rendered_steps the stages must be whole epochs of {steps_per_epoch} steps."
            )

    def rendered_epochs(self, steps_per_epoch: int, epochs: int) -> range:
        """Epochs, of `epochs`, with RENDERED steps only."""
        end = epochs * steps_per_epoch if self.always_rendered else self._ends[1]
        return range(-(-self.pretr_step // steps_per_epoch), end // steps_per_epoch)
