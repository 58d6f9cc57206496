# SPDX-License-Identifier: MIT
"""Meshes of one topology as codes: principal components of the vertices' displacement from the person's template.

With it a corpus of vertex sequences (VOCASET, FLAME trackings) trains the denoiser without a head: the codes are
coefficients, and a sampled code becomes a mesh again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..animation.head_animation import HeadAnimation
from ..arrays import read_npz
from ..errors import FaceTalkError
from ..files import atomic_path
from ..paths import BASIS


FILE = BASIS
"""The file of a corpus' basis in its folder."""


@dataclass
class VertexBasis:
    """Vertices v = template + sum_d code_d component_d, in mm. A code of zeros is the template: the face at rest.

    Components are orthogonal over all coordinates and scaled so that a coefficient of 1 moves the V vertices by 1 mm
    in the root mean square. So squared errors of codes are mean squared errors of vertices.

    Args:
        templates ((S, V, 3) float, mm): the faces of S people at rest.
        speakers (sequence of S `str`): their names.
        faces ((F, 3) int): triangles, counter-clockwise seen from outside.
        components ((D, V, 3) float, *optional*): by default codes are the displacements themselves, D = 3 V.
        lips ((V,) bool, *optional*): the vertices that lip errors are taken over.

    Raises:
        FaceTalkError: shapes that do not fit together, numbers that are not finite.
    """

    templates: np.ndarray
    speakers: tuple[str, ...]
    faces: np.ndarray
    components: np.ndarray | None = None
    lips: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.templates = np.asarray(self.templates, np.float32)
        self.speakers = tuple(str(name) for name in self.speakers)
        self.faces = np.asarray(self.faces, np.int32).reshape(-1, 3)
        if self.templates.ndim != 3 or self.templates.shape[2] != 3 or not self.templates.size:
            raise FaceTalkError(f"templates must be (S, V, 3), not {self.templates.shape}")
        if len(self.speakers) != len(self.templates) or len(set(self.speakers)) != len(self.speakers):
            raise FaceTalkError(f"{len(self.templates)} templates need as many different names, not {self.speakers}")
        if self.faces.size and not (self.faces.min() >= 0 and self.faces.max() < self.num_vertices):
            raise FaceTalkError(f"faces must index the {self.num_vertices} vertices of the templates")
        if self.components is not None:
            self.components = np.asarray(self.components, np.float32)
            if self.components.shape[1:] != self.templates.shape[1:]:
                raise FaceTalkError(f"components must be (D, {self.num_vertices}, 3), not {self.components.shape}")
        if self.lips is not None:
            self.lips = np.asarray(self.lips, bool)
            if self.lips.shape != (self.num_vertices,):
                raise FaceTalkError(f"lips must be ({self.num_vertices},), not {self.lips.shape}")
        for name in ("templates", "components"):
            if getattr(self, name) is not None and not np.isfinite(getattr(self, name)).all():
                raise FaceTalkError(f"{name} of a basis must be finite numbers")

    @property
    def num_vertices(self) -> int:
        """Return the number of vertices V."""
        return self.templates.shape[1]

    @property
    def code_dim(self) -> int:
        """Return the length of a code, D."""
        return 3 * self.num_vertices if self.components is None else len(self.components)

    @classmethod
    def fit(
        cls, displacements: np.ndarray, templates: Mapping[str, np.ndarray], faces: np.ndarray, components: int,
        lips: np.ndarray | None = None,
    ) -> "VertexBasis":  # fmt: skip
        """Compute the principal components of displacements from templates, about zero.

        Args:
            displacements ((N, V, 3) float, mm): frames of any people, N some hundreds to thousands.
            templates: name -> (V, 3) float, mm.
            faces ((F, 3) int), lips ((V,) bool, *optional*): of the topology.
            components (`int`): at most so many; fewer where the frames have no more. 0 for none: codes of 3 V numbers.

        Raises:
            FaceTalkError: no frame moves.
        """
        people = np.stack(list(templates.values()))
        if not components:
            return cls(people, tuple(templates), faces, None, lips)
        flat = np.asarray(displacements, np.float32).reshape(len(displacements), -1)
        # N is smaller than 3 V: diagonalise the N x N matrix. SciPy's svd would need all frames in double precision.
        gram = np.zeros((len(flat), len(flat)))
        for start in range(0, flat.shape[1], 4096):
            part = flat[:, start : start + 4096].astype(np.float64)
            gram += part @ part.T
        values, vectors = np.linalg.eigh(gram)
        order = np.argsort(values)[::-1][:components]
        order = order[values[order] > values.max(initial=0.0) * 1e-10]
        if not len(order) or values.max() <= 0:
            raise FaceTalkError("no frame of the training sequences differs from its template; are they templates?")
        parts = (vectors[:, order] / np.sqrt(values[order])).T.astype(np.float32) @ flat
        # The sign of an eigenvector is anybody's guess; the largest entry is positive in every run.
        parts *= np.sign(parts[np.arange(len(parts)), np.abs(parts).argmax(axis=1)])[:, None]
        scale = np.sqrt(people.shape[1])
        return cls(people, tuple(templates), faces, (scale * parts).reshape(-1, *people.shape[1:]), lips)

    def template(self, who: str | np.ndarray | None = None) -> np.ndarray:
        """Return a template (V, 3) in mm: a speaker's by name, one of the caller's own, or the mean of all.

        Raises:
            FaceTalkError: an unknown name, or another topology.
        """
        if who is None:
            return self.templates.mean(axis=0)
        if isinstance(who, str):
            if who not in self.speakers:
                raise FaceTalkError(f"no template of {who}; there are {', '.join(self.speakers[:8])}")
            return self.templates[self.speakers.index(who)]
        who = np.asarray(who, np.float32)
        if who.shape != (self.num_vertices, 3):
            raise FaceTalkError(f"a template must be ({self.num_vertices}, 3), not {who.shape}")
        return who

    def encode(self, vertices: np.ndarray, who: str | np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Encode vertices (T, V, 3) in mm: codes (T, D) float32 and residuals (T,), the mean vertex distance in mm."""
        if np.shape(vertices)[1:] != (self.num_vertices, 3):
            raise FaceTalkError(f"vertices must be (T, {self.num_vertices}, 3), not {np.shape(vertices)}")
        offsets = (np.asarray(vertices, np.float32) - self.template(who)).reshape(len(vertices), -1)
        if self.components is None:
            return offsets, np.zeros(len(offsets), np.float32)
        flat = self.components.reshape(len(self.components), -1)
        codes = offsets @ flat.T / self.num_vertices
        missed = (offsets - codes @ flat).reshape(len(offsets), -1, 3)
        return codes, np.linalg.norm(missed, axis=-1).mean(axis=1)

    def decode(self, codes: np.ndarray, who: str | np.ndarray | None = None) -> np.ndarray:
        """Decode codes (T, D) into vertices (T, V, 3) float32, mm."""
        codes = self._check(codes)
        flat = codes if self.components is None else codes @ self.components.reshape(len(self.components), -1)
        return flat.reshape(len(codes), -1, 3) + self.template(who)

    def animate(self, codes: np.ndarray, who: str | np.ndarray | None = None, **fields: Any) -> HeadAnimation:
        """Decode codes (T, D) into a [`HeadAnimation`], which can be saved as ply, obj, glb, mp4, ...

        Args:
            codes ((T, D) float): e.g. `pipe(audio, output_type="expression").expressions[0]`.
            who: see `template`.
            fields: of the animation: fps, audio, sampling_rate, colors, parts, ...
        """
        codes = self._check(codes)
        if self.components is None:
            return HeadAnimation.from_vertices(self.decode(codes, who), self.faces, expressions=codes, **fields)
        names = tuple(f"component_{i:02d}" for i in range(len(self.components)))
        return HeadAnimation(
            self.template(who), self.components, codes, names, self.faces, expressions=codes, **fields
        )

    def loss_matrix(self) -> np.ndarray:
        """Compute M (D, D) float32: the mean square of code @ M is that of the lip vertices' coordinates, mm^2.

        For `--loss-matrix` of training/train_denoiser.py: lips are few vertices, and plain errors of codes hardly see
        them. Components only.

        Raises:
            FaceTalkError: no components, or nobody has said where the lips are.
        """
        if self.components is None or self.lips is None or not self.lips.any():
            raise FaceTalkError("a matrix of the lips needs components and the lips' vertices")
        part = self.components[:, self.lips].reshape(self.code_dim, -1).astype(np.float64)
        values, vectors = np.linalg.eigh(part @ part.T * self.code_dim / part.shape[1])
        return (vectors * np.sqrt(values.clip(0))).astype(np.float32)

    def save(self, path: str | Path) -> Path:
        """Write the basis as an npz, whole or not at all; into a folder as `basis.npz`."""
        path = Path(path)
        path = path if path.suffix == ".npz" else path / FILE
        arrays = {name: getattr(self, name) for name in ("templates", "faces", "components", "lips")}
        with atomic_path(path) as temporary:
            np.savez(
                temporary, speakers=np.array(self.speakers, dtype=np.str_),
                **{name: value for name, value in arrays.items() if value is not None},
            )  # fmt: skip
        return path

    @classmethod
    def load(cls, path: str | Path) -> "VertexBasis":
        """Read what `save` wrote: the file, or the folder of a corpus that has one.

        Raises:
            FaceTalkError: no such file, or no basis in it.
        """
        path = Path(path)
        path = path / FILE if path.is_dir() else path
        try:
            arrays: dict[str, Any] = read_npz(path)
            arrays["speakers"] = tuple(arrays["speakers"].tolist())
            return cls(**arrays)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else error
            raise FaceTalkError(
                f"{path} is no basis of vertices; training/build_corpus.py writes one: {reason}"
            ) from error

    def _check(self, codes: np.ndarray) -> np.ndarray:
        codes = np.asarray(codes, np.float32)
        if codes.ndim != 2 or codes.shape[1] != self.code_dim:
            raise FaceTalkError(f"codes of this basis are (T, {self.code_dim}), not {codes.shape}")
        return codes
