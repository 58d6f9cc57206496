# SPDX-License-Identifier: MIT
"""Live speech to motion, as a Hub custom pipeline: the call takes chunks and yields frames.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="./pipelines/streaming.py", trust_remote_code=True)
for output in pipe(chunks, sampling_rate=16000, output_type="arkit"):
    send(output.arkit)
"""

from collections.abc import Iterable, Iterator
from typing import Any

import facetalk_hf
from facetalk_hf.pipeline.streaming import SpeechStreamOutput


# diffusers looks for the one pipeline class in this file's names, so the other must not be among them.
class FaceTalkStreamingPipeline(facetalk_hf.FaceTalkPipeline):
    """[`FaceTalkPipeline`] whose call is `stream`; the arguments and errors are those of that method."""

    def __call__(self, chunks: Iterable, sampling_rate: int, **options: Any) -> Iterator[SpeechStreamOutput]:
        """Yield the frames of the sound so far, as [`SpeechStreamOutput`]."""
        return self.stream(chunks, sampling_rate, **options)
