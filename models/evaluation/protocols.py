"""The evaluation protocols, as data: what is compared with what on which set (docs/method.md 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Protocol:
    """How a set is scored. The prediction is always regressed from vertices by the 17x6890 Human3.6M matrix."""

    truth: Literal[
        "stored", "posed", "parts"
    ]  # stored joints; joints of the stored pose and shape; label pictures
    joint_set: str = ""  # "J14" or "J17"
    per_action: bool = False
    note: str = ""

    @property
    def root(self) -> str:
        """What both sides are made relative to, in words."""
        if self.truth == "stored":
            return "prediction: its regressed pelvis subtracted; truth: as stored, which is root-centred"
        if self.truth == "posed":
            return "prediction and truth: the pelvis regressed from their own vertices subtracted (PVE too)"
        return "none: labels are compared in the picture"


PROTOCOLS = {
    "h36m-p1": Protocol("stored", "J14", note="all cameras of S9 and S11, every 5th frame"),
    "h36m-p2": Protocol("stored", "J14", per_action=True, note="frontal camera 60457274 of S9 and S11"),
    "3dpw": Protocol("posed", "J14", note="numbers of frames in use are 35,515 and 35,463: see samples"),
    "mpi-inf-3dhp": Protocol("stored", "J17", note="univ_annot3 of TS1-6; annot3 would give other numbers"),
    "lsp": Protocol("parts", note="person mask (2 classes) and six parts (7 classes), background included"),
    "synthetic": Protocol("posed", "J14", note="held-out rendered people; not comparable with real sets"),
}
