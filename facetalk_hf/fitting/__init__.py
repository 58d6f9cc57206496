# SPDX-License-Identifier: MIT
"""Expression codes of recorded heads, from point clouds.

The modules in the order in which they are best read:

- `point_clouds`, `inputs`: files; `config`: weights of the objective.
- `poses`, `alignment`: the head's pose in each frame.
- `posed_field`: the distance field that is fitted; `bidirectional_field`, `search_field` and, for many sequences at
  once, `batched_field` are its kinds; `fields` chooses.
- `observations`, `window_solver`: some frames at a time; `blinks`, `expressions`: whole sequences.
- `identity`: the person. `sequence`, `many`: all steps. `report`, `pictures`: their results.
"""
