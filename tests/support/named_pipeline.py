# SPDX-License-Identifier: MIT
"""A pipeline whose head has all blendshapes by name, and whose codes have means and scales of their own."""

import numpy as np
import pytest
import torch
from components import make_named_head, make_pipeline

from facetalk_hf.motion.channels import Channels


@pytest.fixture(scope="module")
def named():
    pipe = make_pipeline(head=make_named_head())
    with torch.no_grad():
        pipe.denoiser.code_mean.normal_()
        pipe.denoiser.code_std.uniform_(0.5, 2)
    return pipe


def weights(pipe, given) -> np.ndarray:
    """Weights by name of codes."""
    return Channels(pipe.head, "").weights(given).numpy()
