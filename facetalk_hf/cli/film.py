# SPDX-License-Identifier: MIT
"""Options of what is drawn: size of the picture, camera, background."""

import re
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from ..errors import FaceTalkError
from .common import FILMS, Format, check_number


Size: TypeAlias = Annotated[
    str, typer.Option(metavar="N|WxH", help="Pixels of the video: its edge, or width and height; 1080x1920 is 9:16.")
]
Yaw: TypeAlias = Annotated[
    float, typer.Option(metavar="DEG", help="Turn of the camera around the head, to the subject's left.")
]
Pitch: TypeAlias = Annotated[float, typer.Option(metavar="DEG", help="Turn of the camera upwards.")]
Zoom: TypeAlias = Annotated[float, typer.Option(metavar="X", help="How much closer the camera comes; 1 to 4.")]
Background: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="#rrggbb|PICTURE|transparent",
        help="What is behind the head.",
        show_default="a studio in mp4, nothing in webm and png",
    ),
]


def read_film(
    formats: list[Format], size: str, yaw: float, pitch: float, zoom: float, background: str | None
) -> dict[str, Any]:
    """Check the options of what is drawn, and return them as a writer of videos takes them; FaceTalkError."""
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", size.lower())
    if not found:
        raise FaceTalkError(f"--size must be a number or WIDTHxHEIGHT such as 1080x1920, not {size}")
    width, height = int(found[1]), int(found[2] or found[1])
    for edge in (width, height):
        check_number("--size", edge, 64, 3840)
        if edge % 2:
            raise FaceTalkError(f"--size must be even for video, not {size}")
    check_number("--yaw", yaw, -180, 180)
    check_number("--pitch", pitch, -80, 80)
    check_number("--zoom", zoom, 1, 4)
    if background is None or not set(formats) & set(FILMS):
        background = None
    elif background == "transparent":
        if Format.mp4 in formats:
            raise FaceTalkError("an mp4 cannot be transparent: add --format webm or --format png in its place")
    else:
        if not background.startswith("#") and not Path(background).is_file():
            raise FaceTalkError(f"no background {background!r}: give #rrggbb, a picture that exists, or transparent")
        from ..rendering.background import draw_background

        draw_background(background, 16, 16)  # what is wrong with it is said before the work begins
    return {"size": (width, height), "yaw": yaw, "pitch": pitch, "zoom": zoom, "background": background}
