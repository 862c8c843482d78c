"""What several tests of data sets share."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def numbers(request: pytest.FixtureRequest) -> dict[str, np.ndarray]:
    """Goldens of the 2020 code's crops, augmentation and DensePose labels."""
    with np.load(request.config.rootpath / "tests" / "golden" / "data_functions.npz") as file:
        return {name.replace("__", "/"): file[name] for name in file.files}
