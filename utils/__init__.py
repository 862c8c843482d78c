"""What every part of the project uses; it knows neither networks nor data sets.

Every way into the project comes through here first, so this is where other packages are told how to behave.
"""

import os

# onnxruntime would write a device id into the user's cache and look up a host of its maker; it asks this at its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# Packages make their caches below the home folder. Where nobody knows it, they would make a folder named "~" here.
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = os.devnull
