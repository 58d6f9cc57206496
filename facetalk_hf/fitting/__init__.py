# SPDX-License-Identifier: MIT
"""Expression codes of recorded heads, from point clouds. To be read in this order:

`point_clouds`, `inputs`: files; `config`: weights of the objective. `poses`, `alignment`: the head's pose a frame.
`posed_field`: the distance field that is fitted, as `bidirectional_field`, `search_field` or, for many sequences at
once, `batched_field`; `fields` chooses. `observations`, `window_solver`: some frames at a time. `blinks`,
`expressions`: whole sequences. `identity`: the person. `sequence`: all steps; `report`, `pictures`: their results.
"""
