"""Real photographs for the demo, served over HTTP by the local cloud's own bucket. They are those
that scikit-image ships; owns which, and under what terms they are free:

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
"""File name -> caption."""
URL_TTL_S = 3600


def publish(env: Mapping[str, str]) -> list[dict[str, Any]]:
    """The pictures of an `animoto` task, put into the bucket of the local cloud whose variables
    are `env`. RuntimeError when scikit-image is not installed."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise RuntimeError("scikit-image is not installed; make dev installs it")
    folder = Path(found.origin).parent / "data"
    s3: Any = boto3.client(
        "s3",
        endpoint_url=env["AWS_ENDPOINT_URL"],
        region_name=env["AWS_DEFAULT_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        config=Config(signature_version="s3v4", proxies={}),
    )
    pictures = []
    for name, caption in PHOTOGRAPHS.items():
        place = {"Bucket": env["TASKFLEET_BUCKET"], "Key": f"photographs/{name}"}
        s3.put_object(**place, Body=(folder / name).read_bytes())
        url = s3.generate_presigned_url("get_object", Params=place, ExpiresIn=URL_TTL_S)
        pictures.append({"url": url, "caption": caption})
    return pictures
