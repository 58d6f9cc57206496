# SPDX-License-Identifier: MIT
"""Controls of generation: each declared once, with default, range, unit and one sentence, and checked here alone.

The arguments of the pipeline, the options of the command, the Space and the tables of the documentation are made from
`MotionControls`. Only the standard library is imported; `processing` applies the controls.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypedDict

from ..blendshapes import LOOK_DEGREES
from ..conditions import AFFECT, BOUNDS, EMOTIONS, STYLE
from ..errors import FaceTalkError
from .options import Option, numbers_of, option, options_of


MOUTH_TEMPERATURE = 0.4
"""By default; docs/sampling.md has the numbers."""

BLINK_CONTRAST = 1.0
"""By default; docs/control.md has the numbers."""

FASTEST_BLINKS = 60.0
"""Blinks a minute; beyond it the lids would not have opened before they close again."""

Angles = float | Iterable[float]
FELT = EMOTIONS + AFFECT
"""What an emotion is mixed of."""


class Curve(Protocol):
    """Emotion and style over time, such as [`~facetalk_hf.motion.emotions.EmotionCurve`]."""

    def at(self, times: Any) -> Mapping[str, Any]:
        """Return values (T,) by name at times (T,) in s."""


Emotion = Mapping[str, Any] | str | Curve
_YAW, _PITCH = LOOK_DEGREES["Out"], LOOK_DEGREES["Up"]


@dataclass(kw_only=True)
class MotionControls:
    """Controls of a generated motion; a new one is a field more.

    Known phones steer the sampling itself. Codes are changed in the order mouth temperature, blink contrast,
    intensities, silence gate, smoothing, blink rate; then lip contacts and keyframes are made exact; the decoded
    animation gets gaze, head motion and its frame rate.
    """

    num_inference_steps: int | None = option(
        None, int, low=1, usual=100, unset="the model's own", flag="steps", live=True, help="Denoising steps."
    )
    guidance_scale: float | None = option(
        None, low=0, usual=4, unset="the model's own", live=True,
        help="Weight of the audio against none, 1 for plain samples at half the cost.",
    )  # fmt: skip
    num_samples: int = option(1, low=1, usual=4, help="Different motions for each clip.")
    mouth_temperature: float | None = option(
        None, low=0, high=1, unset=f"{MOUTH_TEMPERATURE} where the head names its shapes, else 1", live=True,
        help="Share of a sample's deviation from the motion expected of the audio that the mouth keeps.",
    )  # fmt: skip
    intensity: float = option(1.0, low=0, usual=2, live=True, help="Scale of the motion.")
    upper_face_intensity: float | None = option(
        None,
        low=0,
        usual=2,
        unset="that of intensity",
        live=True,
        help="Scale of the motion of all but mouth and jaw.",
    )
    silence_gate: bool = option(False, help="Rest the mouth where nobody speaks.")
    smoothing: float = option(
        0.0, low=0, usual=0.1, unit="seconds", help="Width of a Gaussian over time, of which 0.02 to 0.04 calms."
    )
    blink_contrast: float | None = option(
        None, low=0, high=1, unset=f"{BLINK_CONTRAST:g} where the head has lids", live=True,
        help="How far half blinks are shut or left out.",
    )  # fmt: skip
    blink_rate: float | None = option(
        None, low=0, high=FASTEST_BLINKS, unit="blinks a minute", unset="as generated",
        help="Blinks in place of the generated ones.",
    )  # fmt: skip
    gaze: tuple[Angles, Angles] | None = option(
        None, low=(-_YAW, -_PITCH), high=(_YAW, _PITCH), parts=("yaw", "pitch"), unit="degrees",
        unset="as generated", decoded=True,
        help="Direction of the eyes to the subject's left and up, in place of the generated one.",
    )  # fmt: skip
    head_motion: float = option(
        0.0, low=0, high=2, live=True, help="Strength of the head's motion, learnt or else seeded, 1 is usual."
    )
    fps: float | None = option(
        None, low=1, high=1000, unit="frames a second", unset="the model's own", decoded=True,
        help="Frame rate of animations and their codes, at the same speed.",
    )  # fmt: skip
    phone_strength: float = option(
        1.0, low=0, high=1,
        help="How far known phones move the mouth, from what the sound lets expect (0) to what they ask (1).",
    )  # fmt: skip
    look_ahead: float | None = option(
        None, low=0.04, usual=0.42, unit="seconds", unset="the model's own", live=True,
        help="How far the model listens ahead of a frame: less answers sooner, more hears better.",
    )  # fmt: skip
    emotion: Emotion | None = option(
        None, float, low=tuple(BOUNDS[name][0] for name in FELT), high=1, parts=FELT, keyed=True,
        words=("neutral", "auto"), unset="neutral", live=True,
        help="Emotion that is shown, mixed by name, or heard as arousal with auto.",
    )  # fmt: skip
    emotion_scale: float | None = option(
        None, low=0, usual=4, unset="the model's own", live=True,
        help="Weight of emotion and style against none told, 1 costs nothing.",
    )  # fmt: skip
    energy: float = option(0.0, low=-1, high=1, live=True, help="Style from listless to lively.")
    articulation: float = option(0.0, low=-1, high=1, live=True, help="Style from mumbling to crisp.")
    asymmetry: float = option(
        0.0, low=-1, high=1, live=True, help="Style that moves the subject's right or left side more."
    )

    def check(
        self,
        shape_names: Sequence[str] | None,
        output_type: str,
        condition_names: Sequence[str] | None = None,
        learnt_pose: bool = False,
    ) -> None:
        """Raise [`FaceTalkError`] for what cannot be done, before anything is computed.

        Args:
            shape_names (sequence of `str`, *optional*): of the head's shapes; `None` without a head or without names.
            output_type (`str`): of the pipeline.
            condition_names (sequence of `str`, *optional*): of the denoiser.
            learnt_pose (`bool`, *optional*, defaults to `False`): whether the denoiser moves the head.
        """
        self.check_ranges()
        for purpose, asked, lids in (
            ("upper_face_intensity other than intensity", self.uneven, False),
            ("silence_gate", self.silence_gate, False),
            ("mouth_temperature other than 1", self.mouth_temperature not in (None, 1), False),
            ("blink_rate", self.blink_rate is not None, True),
            ("blink_contrast", bool(self.blink_contrast), True),
        ):
            if asked and shape_names is None:
                raise needs_names(purpose)
            if asked and lids and not has_lids(shape_names):
                raise FaceTalkError(f"{purpose} needs a head with the shapes eyeBlink_L and eyeBlink_R")
        for item in options_of(self):
            decoded = item.decoded or (item.name == "head_motion" and not learnt_pose)
            if decoded and getattr(self, item.name) != item.default and output_type != "animation":
                raise FaceTalkError(f'{item.name} changes animations, not codes: use output_type="animation"')
        if (self.acts or self.emotion_scale not in (None, 1)) and not condition_names:
            raise FaceTalkError(
                "this model was not trained with emotion and style: leave out emotion, emotion_scale and "
                + ", ".join(STYLE)
            )

    @property
    def acts(self) -> bool:
        """Whether any emotion or style is asked for."""
        return self.emotion not in (None, "neutral", {}) or any(getattr(self, name) != 0 for name in STYLE)

    def for_codes(self, learnt_pose: bool = False) -> "MotionControls":
        """Leave out what changes decoded animations alone, for `output_type="expression"`.

        The motion of a head that a denoiser learnt is kept, because its eyes make up for it.
        """
        kept = replace(self, **{item.name: item.default for item in options_of(self) if item.decoded})
        return kept if learnt_pose else replace(kept, head_motion=0.0)

    def check_ranges(self, spell: Callable[[Option], str] | None = None) -> None:
        """Raise [`FaceTalkError`] for a value outside of its range; `spell` gives an option's name in the message."""
        for item in options_of(self):
            item.check(getattr(self, item.name), spell and spell(item))

    def check_live(self, learnt_pose: bool = False) -> None:
        """Raise [`FaceTalkError`] for a control that a stream cannot do; only a learnt head motion can be live."""
        for item in options_of(self):
            live = item.live and (learnt_pose or item.name != "head_motion")
            if not live and getattr(self, item.name) != item.default:
                raise FaceTalkError(f"{item.name} is for whole clips, a stream cannot do it: leave it out")
        if any(isinstance(numbers_of(value), list) for value in self._emotion_rows()):
            raise FaceTalkError("a stream does not know its frames: give emotions as numbers, or over time")

    def _emotion_rows(self) -> list[Any]:
        return list(self.emotion.values()) if isinstance(self.emotion, Mapping) else []

    def check_length(self, frames: Iterable[int]) -> None:
        """Raise [`FaceTalkError`] where gaze is given for another number of frames than a clip has."""
        for angles in map(numbers_of, self.gaze or ()):
            for count in frames if isinstance(angles, list) else ():
                if len(angles) != count:
                    raise FaceTalkError(f"gaze has {len(angles)} angles, the clip has {count} frames")
        for values in map(numbers_of, self._emotion_rows()):
            for count in frames if isinstance(values, list) else ():
                if len(values) != count:
                    raise FaceTalkError(f"emotion has {len(values)} values, the clip has {count} frames")

    @property
    def uneven(self) -> bool:
        """Whether mouth and upper face are to move by different factors."""
        return self.upper_face_intensity is not None and self.upper_face_intensity != self.intensity


class LiveOptions(TypedDict, total=False):
    """Names and types of the controls that a stream can do, for type checkers."""

    num_inference_steps: int | None
    guidance_scale: float | None
    look_ahead: float | None
    mouth_temperature: float | None
    intensity: float
    upper_face_intensity: float | None
    blink_contrast: float | None
    head_motion: float
    emotion: Emotion | None
    emotion_scale: float | None
    energy: float
    articulation: float
    asymmetry: float


class GenerationOptions(LiveOptions, total=False):
    """Names and types of all controls, for type checkers."""

    num_samples: int
    phone_strength: float
    silence_gate: bool
    smoothing: float
    blink_rate: float | None
    gaze: tuple[Angles, Angles] | None
    fps: float | None


def needs_names(purpose: str) -> FaceTalkError:
    """Make the error for what cannot be done on a head whose shapes have no names."""
    return FaceTalkError(f"{purpose} needs a head whose shapes have names, such as that of facetalk-tiny")


def has_lids(names: Iterable[str] | None) -> bool:
    """Return whether both lids are among a head's named shapes."""
    return {"eyeBlink_L", "eyeBlink_R"} <= set(names or ())
