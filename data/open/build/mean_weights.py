"""Average the SMPL regressors of two weights files; everything else comes from the second.

    python -m data.open.build.mean_weights BEFORE.safetensors AFTER.safetensors MEAN.safetensors

A network that was trained on is often best half-way between its weights before and after, when the second training
saw other data than the first (Wortsman et al., CVPR 2022).
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import argparse
import logging
from collections.abc import Mapping

from torch import Tensor

from models.inference.weights import WeightsConfig, load_network
from utils.checkpoint import export_safetensors
from utils.command_line import ALL_GOOD
from utils.io import require_free
from utils.runtime import report_error

log = logging.getLogger(__name__)

REGRESSOR = "iuv2smpl."


def mean_regressor(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The second state with the mean of both regressors; counters stay as they are."""
    return {
        key: (before[key] + value) / 2 if key.startswith(REGRESSOR) and value.is_floating_point() else value
        for key, value in after.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", help="weights that the second training started from")
    parser.add_argument("after", help="weights that it ended with")
    parser.add_argument("out", help="file to write")
    args = parser.parse_args(argv)
    try:
        require_free(args.out, overwrite=False)
        before, _ = load_network(WeightsConfig(checkpoint=args.before))
        after, report = load_network(WeightsConfig(checkpoint=args.after))
        if before.state_dict().keys() != after.state_dict().keys():
            raise ValueError(f"{args.before} and {args.after} hold weights of different networks.")
        state = mean_regressor(before.state_dict(), after.state_dict())
        export_safetensors(args.out, state, report.meta | {"scores": "{}"})  # the second's are not its
    except (OSError, ValueError) as error:
        return report_error(log, error)
    return ALL_GOOD


if __name__ == "__main__":
    run_script(main)
