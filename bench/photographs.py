"""Photographs for benchmarks, and a server that hands them out as slowly as a distant one. They are
those that scikit-image ships, cropped, scaled and grained from a fixed seed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ProcessPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DISTINCT = 60
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")


def make_photograph(number: int, path: Path) -> None:
    """Even ones have 12 megapixels, odd ones about 2; every fifth is turned by EXIF."""
    import numpy as np
    import skimage
    from PIL import Image

    rng = np.random.default_rng(number)
    name = NAMES[number % len(NAMES)]
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        image = image.convert("RGB")
    size = (4000, 3000) if number % 2 == 0 else (1600 + 2 * int(rng.integers(0, 120)), 1200)
    share = rng.uniform(0.7, 1.0)
    width, height = image.width * share, image.height * share
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box), np.int16)
    grain = rng.normal(0, 5, (*pixels.shape[:2], 1)).astype(np.int16)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    if number % 5 == 4:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6
    image.save(path, "JPEG", quality=88, exif=exif)


def make_photographs(folder: Path) -> list[Path]:
    paths = [folder / f"{number:03d}.jpg" for number in range(DISTINCT)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(make_photograph, missing, [paths[number] for number in missing]))
    return paths


class Server:
    """Serves the folder on loopback: each answer begins `latency_s` late and flows at most at
    `rate` bytes a second (0: as fast as it goes)."""

    def __init__(self, folder: Path, latency_s: float, rate: float) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(latency_s)
                data = (folder / self.path.rpartition("/")[2]).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                begun = time.monotonic()
                step = 1 << 16 if rate else len(data)
                for at in range(0, len(data), step):
                    if rate:
                        time.sleep(max(0.0, begun + at / rate - time.monotonic()))
                    self.wfile.write(data[at : at + step])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
