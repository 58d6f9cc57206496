# SPDX-License-Identifier: MIT
"""FaceTalkPipeline as a Hub custom pipeline.

`DiffusionPipeline.from_pretrained(folder, custom_pipeline="./pipelines", trust_remote_code=True)` looks for the class
here.
"""

from facetalk_hf import FaceTalkPipeline as FaceTalkPipeline
