"""Photographs for the demo, served over HTTP by the bucket of the local cloud. They are files of
scikit-image. Owns which of them are used. Their terms allow it:

astronaut, hubble_deep_field: NASA, in the public domain; chelsea (a cat), coffee, rocket: CC0.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

PHOTOGRAPHS = {
    "astronaut.png": "Eileen Collins, NASA",
    "coffee.png": "Coffee, by Rachel Michetti",
    "chelsea.png": "Chelsea, by Stefan van der Walt",
    "rocket.jpg": "Falcon 9, SpaceX",
    "hubble_deep_field.jpg": "The deep field of Hubble, NASA",
}
"""Captions by file name."""
URL_TTL_S = 3600
"""Seconds for which the URLs of the photographs work."""


def publish(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """Puts the photographs into the bucket of the local cloud whose env file holds `env`. Returns
    the `images` of an `animoto` task: URL and caption of each. Raises RuntimeError when
    scikit-image is not installed."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise RuntimeError("scikit-image is not installed; make dev installs it")
    folder = Path(spec.origin).parent / "data"
    s3: Any = boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", proxies={}),
    )
    images = []
    for name, caption in PHOTOGRAPHS.items():
        place = {"Bucket": env["TASKFLEET_BUCKET"], "Key": f"photographs/{name}"}
        s3.put_object(**place, Body=(folder / name).read_bytes())
        url = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_TTL_S)
        images.append({"url": url, "caption": caption})
    return images
