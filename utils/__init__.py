"""The foundation of the project: it knows neither networks nor data sets.

Every script imports this package first, so the environment variables of other packages are set here.
"""

import os

# onnxruntime would write a device id into the user's cache and look up a host of its maker; it asks this at its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Packages make their caches below the home folder. Where that is unknown, they would make a folder named "~".
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = os.devnull
