"""A page for the browser: drop an image or a clip, see its people as bodies and IUV, download files of them.

The server says its address and serves this machine only, unless --host opens it; Ctrl-C ends it. Files stay on this
machine and are removed after an hour, or when the server ends.

Exit code 1: the server could not start; 130 or 143: a signal ended it.
"""

from __future__ import annotations

from utils.script import run_script, start_script

if __name__ == "__main__":
    start_script()

import logging
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets.people.images import EXTENSIONS
from models import InferenceConfig, load_predictor
from models.inference.uploads import AS_ONE, CLIPS, Limits, Results, Uploads
from utils.config import option, parse_config
from utils.export.densepose import PRESETS
from utils.packages import require_packages
from utils.runtime import report_error, setup_logging

if TYPE_CHECKING:
    from gradio import Blocks, Progress
    from gradio.components import Component

log = logging.getLogger("app")

SAMPLES = [
    str(Path(__file__).resolve().parent / "examples" / f"rendered_{number}.jpg") for number in (1, 2, 3, 4)
]
SWEEP = 600  # seconds between looks for files that are too old
FONT, MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")  # others would come from the network
BACKDROP = (0.18, 0.2, 0.24, 1.0)  # RGBA behind the light bodies
STYLE = ".label-clear-button { display: none; }"  # would take files off the list of results
INTRO = """# DaNet: bodies from dense body parts

Drop an image or a clip of people. Each person becomes an IUV map and a posed 3D body; files are below them."""
FAULT = "This is a fault of the program, not of the file; the terminal of the server tells more."


@dataclass(frozen=True)
class AppConfig(InferenceConfig):
    """Settings of the app."""

    host: str = option("127.0.0.1", "address to serve; 0.0.0.0 lets other machines in")
    port: int = option(7860, "port of the address")
    max_megabytes: int = option(100, "largest file")
    max_megapixels: int = option(40, "largest image or frame of a clip")
    max_frames: int = option(900, "longest clip")
    max_waiting: int = option(8, "files that may wait for their turn; others are turned away")

    def __post_init__(self):
        super().__post_init__()
        for name in ("max_megabytes", "max_megapixels", "max_frames", "max_waiting"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port must be a number from 1 to 65535, got {self.port}.")


def main(argv: Sequence[str] | None = None) -> int:
    config = parse_config(AppConfig, argv, __doc__)
    setup_logging()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # the server asks itself whether it is up
    try:
        require_packages("app.py", "app", "gradio", "av", "pygltflib")
        require_free_port(config.host, config.port)
        with served(config) as address:
            log.info("The page is at %s ; Ctrl-C ends it.", address)
            threading.Event().wait()
    except (ValueError, OSError, ImportError) as error:
        return report_error(log, error)
    return 0


def require_free_port(host: str, port: int) -> None:
    """Raise OSError where the address cannot be served: before weights are loaded, and in a sentence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise OSError(
            f"The page cannot be served: {error.strerror}; give another --host or --port."
        ) from error


@contextmanager
def served(config: AppConfig) -> Iterator[str]:
    """Context in which the page is served at the address that it gives; files of the page are removed at its end."""
    predictor = load_predictor(config)
    log.info(predictor.describe())
    limits = Limits(config.max_megapixels * 1_000_000, config.max_frames)
    with tempfile.TemporaryDirectory(prefix="danet-app-") as folder:
        results, copies = Path(folder, "results"), Path(folder, "gradio")
        results.mkdir()
        os.environ["GRADIO_TEMP_DIR"] = str(copies)  # where gradio puts what is uploaded and what is shown
        uploads = Uploads(predictor, results, limits)
        blocks = page(uploads)
        try:
            yield start(blocks, config)
        finally:
            blocks.close(verbose=False)
            uploads.end()


def start(blocks: Blocks, config: AppConfig) -> str:
    """Serve the page from threads of their own; returns its address."""
    import gradio as gr

    _, address, _ = blocks.queue(max_size=config.max_waiting, api_open=False).launch(
        server_name=config.host,
        server_port=config.port,
        share=False,
        quiet=True,
        prevent_thread_lock=True,
        show_error=True,
        max_file_size=config.max_megabytes * 1_000_000,
        theme=gr.themes.Default(primary_hue="sky", font=FONT, font_mono=MONO),
        footer_links=[],
        css=STYLE,
        ssr_mode=False,
    )
    return address


def page(uploads: Uploads) -> Blocks:
    """The page, not yet served."""
    import gradio as gr

    lifetime = (SWEEP, int(uploads.limits.seconds))
    with gr.Blocks(title="DaNet", analytics_enabled=False, delete_cache=lifetime) as blocks:
        gr.Markdown(INTRO)
        with gr.Row():
            with gr.Column(scale=1):
                given, samples, again = inputs()
            with gr.Column(scale=2):
                shown = outputs()
        text, person, model, bodies = shown[0], shown[4], shown[5], shown[-1]
        private = {"api_visibility": "private"}
        once = {"concurrency_limit": 1, "concurrency_id": "people", "show_progress_on": text, **private}
        find = job(uploads)
        # First, all is emptied: an error must not stand beside the results of another file.
        at_once = {"queue": False, "show_progress": "hidden", **private}
        given_file = gr.on([given[0].upload, again.click], lambda: updates(None), None, shown, **at_once)
        sample = samples.click(lambda row: [row[0], *updates(None)], samples, [given[0], *shown], **at_once)
        for emptied in (given_file, sample):
            emptied.then(find, given, shown, **once)
        person.input(lambda paths, number: paths[number], [bodies, person], model, **private)
    return blocks


def inputs() -> tuple[list[Component], Component, Component]:
    """Components of file, preset and whether the image is a crop; the samples; the button."""
    import gradio as gr

    file = gr.File(label="Image or clip", file_types=[*EXTENSIONS, *CLIPS], type="filepath")
    look, paths = gr.Image(visible=False), [[path] for path in SAMPLES]
    samples = gr.Dataset(components=[look], samples=paths, label="Or one of these")
    preset = gr.Dropdown(list(PRESETS), value="iuv-rgb", label="DensePose map for download")
    is_crop = gr.Checkbox(label=AS_ONE)
    return [file, preset, is_crop], samples, gr.Button("Find people", variant="primary")


def outputs() -> list[Component]:
    """Components in the order of `updates`."""
    import gradio as gr

    text = gr.Markdown("The results come here.", min_height=60)
    with gr.Row():
        look = {"format": "png", "height": 360, "buttons": ["download", "fullscreen"], "interactive": False}
        image, iuv = gr.Image(label="Bodies", **look), gr.Image(label="IUV: part, U, V", **look)
    video = gr.Video(label="Bodies", height=400, buttons=["download"], interactive=False, visible=False)
    person = gr.Radio(label="Person of the 3D view", type="index", visible=False)
    # Seen from the start: gradio 6.31 shows nothing in a 3D view that appears together with its body.
    model = gr.Model3D(label="3D view", height=400, clear_color=BACKDROP, interactive=False)
    files = gr.File(label="Files", file_count="multiple", interactive=False, visible=False)
    return [text, image, iuv, video, person, model, files, gr.Markdown(), gr.State(())]


def job(uploads: Uploads) -> Callable[..., list[Any]]:
    """What the page calls with a file and the settings; it gives the updates of what is shown."""
    import gradio as gr

    def find(path: str | None, preset: str, is_crop: bool, progress: Progress = gr.Progress()):  # noqa: B008
        if path is None:
            raise gr.Error("Drop an image or a clip first.", print_exception=False)
        try:
            results = uploads.results(
                Path(path), preset, is_crop, lambda done, count: progress((done, count), unit="frames")
            )
        except (ValueError, OSError) as error:
            sentence = str(error).replace(f"{Path(path).parent}{os.sep}", "")
            raise gr.Error(sentence, duration=None, print_exception=False) from error
        except Exception as error:
            log.exception("%s", Path(path).name)
            raise gr.Error(FAULT, duration=None, print_exception=False) from error
        return updates(results)

    return find


def updates(results: Results | None) -> list[Any]:
    """The values of text, image, IUV, video, person, 3D view, files, note and bodies on the page; None empties them."""
    import gradio as gr

    if results is None:
        hidden = gr.update(value=None, visible=False)
        return ["", *[gr.update(value=None, visible=True)] * 2, hidden, hidden, None, hidden, "", ()]
    names = [f"{number} (confidence {value:.2f})" for number, value in enumerate(results.confidence, 1)]
    is_clip = results.video is not None
    return [
        results.text,
        gr.update(value=results.image, visible=not is_clip),
        gr.update(value=results.iuv, visible=not is_clip),
        gr.update(value=str(results.video) if is_clip else None, visible=is_clip),
        gr.update(choices=names, value=names[0], visible=len(names) > 1),
        str(results.bodies[0]),
        gr.update(value=[str(path) for path in results.files], visible=True),
        results.note,
        tuple(str(path) for path in results.bodies),
    ]


if __name__ == "__main__":
    run_script(main)
