# SPDX-License-Identifier: MIT
"""Names and order of the 53 blendshape weights that the expression codes of our head stand for."""

EXPRESSIONS: tuple[str, ...] = (
    "browDown_L", "browDown_R", "browInnerUp_L", "browInnerUp_R", "browOuterUp_L", "browOuterUp_R", "cheekPuff_L",
    "cheekPuff_R", "cheekSquint_L", "cheekSquint_R", "eyeBlink_L", "eyeBlink_R", "eyeLookDown_L", "eyeLookDown_R",
    "eyeLookIn_L", "eyeLookIn_R", "eyeLookOut_L", "eyeLookOut_R", "eyeLookUp_L", "eyeLookUp_R", "eyeSquint_L",
    "eyeSquint_R", "eyeWide_L", "eyeWide_R", "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose",
    "mouthDimple_L", "mouthDimple_R", "mouthFrown_L", "mouthFrown_R", "mouthFunnel", "mouthLeft",
    "mouthLowerDown_L", "mouthLowerDown_R", "mouthPress_L", "mouthPress_R", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmile_L", "mouthSmile_R",
    "mouthStretch_L", "mouthStretch_R", "mouthUpperUp_L", "mouthUpperUp_R", "noseSneer_L", "noseSneer_R",
)  # fmt: skip
"""The ARKit-like shapes of ICT-FaceKit, in its order. ARKit joins browInnerUp_L/_R and cheekPuff_L/_R to one each."""

INDEX: dict[str, int] = {name: index for index, name in enumerate(EXPRESSIONS)}

MOUTH: tuple[str, ...] = tuple(name for name in EXPRESSIONS if name.startswith(("mouth", "jaw")))
"""The shapes that speech moves; the others (brows, lids, gaze, cheeks, nose) only accompany it."""

LOOK_DEGREES: dict[str, float] = {"Up": 25.0, "Down": 25.0, "In": 30.0, "Out": 30.0}
"""How far an eye turns for a weight of one of eyeLookUp, eyeLookDown, eyeLookIn and eyeLookOut."""

GAZE_PREFIX = "gaze_"
"""How the names of targets begin that make a turn of the eyeballs exact (`animation.gaze`): not channels of ARKit."""

TONGUE: tuple[str, ...] = ("tongueOut", "tongueTipUp", "tongueTipDown", "tongueBackUp", "tongueWide")
"""The shapes of the tongue, which no expression code holds: they are driven by phones, and follow the other targets of
an animation. tongueOut is ARKit's; the others are close to Audio2Face's tongueTipUp, tongueTipDown, tongueRollUp and
tongueWide."""
