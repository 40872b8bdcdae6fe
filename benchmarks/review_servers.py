"""The two servers that `benchmarks.review_load` compares, each in a process of its own.

    python -m benchmarks.review_servers desk RUN PORT
    python -m benchmarks.review_servers deepzoom SLIDES PORT [--keep-alive]

`deepzoom` is the usual way: OpenSlide's DeepZoomGenerator behind Flask, as in openslide-python's own example for many
slides, with its defaults (tiles of 254 px and an overlap of 1, JPEG quality 75, ten slides kept open, a thread for each
request). With `--keep-alive` connections are kept, as a server for production would.
"""

import argparse
import io
import threading
from collections import OrderedDict
from pathlib import Path


def serve_desk(run: Path, port: int) -> None:
    """The review desk as `histograde review` starts it."""
    from workflows.review.app import create_app
    from workflows.review.desk import Settings
    from workflows.review.serving import listen, serve

    serve(create_app(Settings(run, port=port)), listen("127.0.0.1", port), lambda: None)


def serve_deepzoom(folder: Path, port: int, keep_alive: bool) -> None:
    """DeepZoomGenerator behind Flask."""
    import openslide
    from flask import Flask, make_response
    from openslide.deepzoom import DeepZoomGenerator
    from werkzeug.serving import WSGIRequestHandler, make_server

    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    open_slides: OrderedDict[int, DeepZoomGenerator] = OrderedDict()
    lock = threading.Lock()
    cache = openslide.OpenSlideCache(128 << 20)

    def generator(number: int) -> DeepZoomGenerator:
        with lock:
            if number in open_slides:
                open_slides.move_to_end(number)
                return open_slides[number]
        slide = openslide.OpenSlide(str(paths[number]))
        slide.set_cache(cache)
        with lock:
            if len(open_slides) >= 10:
                open_slides.popitem(last=False)
            open_slides[number] = DeepZoomGenerator(slide, tile_size=254, overlap=1, limit_bounds=False)
            return open_slides[number]

    app = Flask(__name__)

    @app.route("/<int:number>_files/<int:level>/<int:column>_<int:row>.jpeg")
    def tile(number: int, level: int, column: int, row: int):  # type: ignore[no-untyped-def]
        picture = generator(number).get_tile(level, (column, row))
        buffer = io.BytesIO()
        picture.save(buffer, "jpeg", quality=75)
        response = make_response(buffer.getvalue())
        response.mimetype = "image/jpeg"
        return response

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def log_request(self, *_: object) -> None:
            pass

    make_server("127.0.0.1", port, app, threaded=True, request_handler=Quiet).serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=("desk", "deepzoom"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("port", type=int)
    parser.add_argument("--keep-alive", action="store_true")
    asked = parser.parse_args()
    if asked.server == "desk":
        serve_desk(asked.folder, asked.port)
    else:
        serve_deepzoom(asked.folder, asked.port, asked.keep_alive)


if __name__ == "__main__":
    main()
