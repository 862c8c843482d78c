"""The foundation of the project: it knows neither networks nor data sets.

Every script imports this package first, so the environment variables of other packages are set here.
"""

import os
import sys

# onnxruntime would write a device id into the user's cache and look up a host of its maker; it asks this at its import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

# openvino would write ids into the home folder and ask a host of its maker; without this package it does neither.
sys.modules.setdefault("openvino_telemetry", None)
# gradio would report each start of the app to its maker and ask for its newest version.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

# Packages make their caches below the home folder. Where that is unknown, they would make a folder named "~".
if os.path.expanduser("~") == "~":
    os.environ["HOME"] = os.devnull
