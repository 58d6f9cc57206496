# SPDX-License-Identifier: MIT
"""Tiny pipelines that can be exported: a plain one, and one that acts, moves its head and hears closures."""

import torch
from components import make_denoiser, make_encoder, make_named_head, make_pipeline

from facetalk_hf import LogMelFeatureExtractor
from facetalk_hf.conditions import CONDITIONS
from facetalk_hf.phones.visemes import PHONES


DISTILLED = {"is_distilled": True, "num_inference_steps": 2, "guidance_scale": 1.0, "mouth_temperature": 1.0}
PLAIN = {"denoiser": {}, "encoder": {}}
ACTING = {
    "denoiser": {"condition_names": list(CONDITIONS), "pose_dim": 6, "intensity_range": (0.7, 1.3)},
    "encoder": {
        "num_stem_layers": 2, "look_ahead_choices": [2, 4], "num_phones": len(PHONES), "closure_threshold": 0.45,
    },
}  # fmt: skip


def make(config):
    torch.manual_seed(1)
    encoder = make_encoder(**config["encoder"])
    with torch.no_grad():
        encoder.motion_head.weight.normal_()  # lips that close, and open
    denoiser = make_denoiser(**config["denoiser"])
    for network in (encoder, denoiser):
        network.half().float()  # as checkpoints are
    return make_pipeline(
        denoiser=denoiser, audio_encoder=encoder, head=make_named_head(),
        feature_extractor=LogMelFeatureExtractor(), **DISTILLED,
    )  # fmt: skip
