# SPDX-License-Identifier: MIT
"""From expression codes to a talking head: an identity's surface once, then a weighted sum of its motion fields."""

from collections import OrderedDict

import numpy as np
import torch

from ..animation.head_animation import HeadAnimation
from ..errors import FaceTalkError
from ..mesh.geometry import boundary_edges, cut_where_negative
from ..mesh.isosurface import graded_axis, sample_field, smooth_surface, triangulate
from ..mesh.topology import remove_handles
from ..models.nphm import NUM_LANDMARKS, NPHMModel
from ..units import MILLIMETRES
from .appearance import paint_head, palette
from .decoder import HeadGeometry, Identity, _array, aperture
from .eyelids import seal_blink
from .eyes import JAW_MAPS, Part, cut_eye_openings, eyeballs, finish_lids, join, teeth
from .facial_weights import facial_weights
from .lips import seal_lips


FOCUS = ((-0.19, 0.19), (-0.25, 0.2), (0.04, 0.36))  # where eyes, nose and mouth are: the grid is finest there


class HeadDecoder:
    """Decodes expression codes with an NPHM head; surface and fields of the last identities stay in memory.

    `HeadDecoder(head)` of a head with another deformation, as converted ones have, is a `VertexDecoder`
    (`official_decoding`), which is called in the same way.

    Args:
        head (`NPHMModel`): a head with a bilinear forward deformation, or any other, see above.
        resolution (`int`, *optional*, defaults to 128): grid cells along the height of the head.
        facial_smoothing (`bool`, *optional*, defaults to `True`): damp motion away from the face (FaceTalk, sec. 4).
        cache_size (`int`, *optional*, defaults to 4): identities kept.
    """

    def __new__(cls, head: NPHMModel | None = None, *_: object, **__: object) -> "HeadDecoder":
        config = head.config if cls is HeadDecoder and head is not None else None
        if config is not None and (config.deformation == "backward" or config.forward_type != "bilinear"):
            from .vertex_decoder import VertexDecoder

            cls = VertexDecoder
        return super().__new__(cls)

    def __init__(self, head: NPHMModel, resolution: int = 128, facial_smoothing: bool = True, cache_size: int = 4):
        self._prepare(head, resolution, facial_smoothing, cache_size)

    def _prepare(self, head: NPHMModel, resolution: int, facial_smoothing: bool, cache_size: int) -> None:
        self.head, self.resolution, self.facial_smoothing = head, resolution, facial_smoothing
        self.cache_size = cache_size
        self._cache: OrderedDict[bytes, HeadGeometry] = OrderedDict()

    def __call__(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> HeadAnimation:
        """Decode a sequence.

        Args:
            expressions ((T, D) float): expression codes.
            identity: `None` or `"zero"` for the mean head, the number of a named identity, `"random:SEED"` for a
                new one, or a code (Z,) float.

        Returns:
            `HeadAnimation` of T frames with landmarks and lip aperture, without audio.

        Raises:
            FaceTalkError: codes of another size than the head's.
        """
        expressions, identity = self.check_codes(expressions), self.identity_code(identity)
        weights = self.weights(expressions)
        geometry = self.geometry(identity)
        landmarks = geometry.landmarks + np.tensordot(weights, geometry.landmark_targets, 1)
        return HeadAnimation(
            base=geometry.base, targets=geometry.targets, weights=weights, target_names=geometry.names,
            faces=geometry.faces, colors=geometry.colors, parts=geometry.parts, expressions=expressions,
            identity=identity, landmarks=landmarks.astype(np.float32),
            lip_aperture=aperture(landmarks) - aperture(geometry.landmarks),
        )  # fmt: skip

    def check(self, identity: Identity, code_dim: int) -> None:
        """Raise FaceTalkError for an identity that the head has not, or expression codes of another size than its."""
        size = self.head.config.expression_dim
        if code_dim != size:
            raise FaceTalkError(
                f"this head takes expression codes of {size} numbers, but the denoiser gives {code_dim}: "
                "it has to be trained on codes of this head"
            )
        self.identity_code(identity)

    def check_codes(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Expression codes as (T, D) float32; FaceTalkError for any other shape."""
        expressions, size = _array(expressions), self.head.config.expression_dim
        if expressions.ndim != 2 or expressions.shape[1] != size:
            raise FaceTalkError(f"expressions must have shape (frames, {size}), not {expressions.shape}")
        return expressions

    def weights(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Weights (T, R) of the morph targets for expression codes (T, D); they are the same for every identity.

        Raises:
            FaceTalkError: codes of another size than the head's.
        """
        expressions = self.check_codes(expressions)
        net = self.head.forward_net
        with torch.no_grad():
            codes = torch.from_numpy(expressions).to(net.coefficient_map.weight)
            # Relative to z = 0, the rest pose: the constant part is in the base already.
            return (net.coefficients(codes) - net.coefficient_map.bias).float().cpu().numpy()

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the R morph targets."""
        count = len(self.head.forward_net.coefficient_map.bias)
        return tuple(self.head.config.expression_names or (f"field_{i:02d}" for i in range(count)))

    def identity_code(self, identity: Identity = None) -> np.ndarray:
        """The code (Z,) float that a name, number or code stands for."""
        if identity is None or isinstance(identity, str) and identity == "zero":
            return np.zeros(self.head.identity_dim, np.float32)
        if isinstance(identity, (int, np.integer)):
            count = len(self.head.identity_codes)
            if not 0 <= identity < count:
                raise FaceTalkError(f"identity must be 0 to {count - 1}, not {identity}")
            return _array(self.head.identity_codes[int(identity)])
        if isinstance(identity, str):
            name, _, seed = identity.partition(":")
            if name != "random" or not (seed.isdecimal() and len(seed) < 19):
                raise FaceTalkError(f'identity must be "zero", a number, "random:SEED" or a code, not {identity!r}')
            return _array(self.head.sample_identity(torch.Generator().manual_seed(int(seed))))
        identity = _array(identity)
        if identity.shape != (self.head.identity_dim,):
            raise FaceTalkError(
                f"identity must hold {self.head.identity_dim} numbers for this head, not {identity.shape}"
            )
        if not np.isfinite(identity).all():
            raise FaceTalkError("identity holds numbers that are not finite")
        return identity

    def geometry(self, identity: np.ndarray) -> HeadGeometry:
        """The surface and fields of an identity code (Z,) float, from memory if it was decoded before."""
        key = identity.tobytes()
        if key not in self._cache:
            self._cache[key] = self._build(identity)
            while len(self._cache) > self.cache_size:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    @torch.no_grad()
    def _build(self, identity: np.ndarray) -> HeadGeometry:
        head = self.head
        code = torch.from_numpy(identity).to(head.anchor_mean)[None]
        points = head.feature_points(code)
        features = points[0, NUM_LANDMARKS:].float().cpu().numpy() * MILLIMETRES
        centers, radius = features[:2], np.linalg.norm(features[2:4] - features[:2], axis=1)

        canonical, faces = self.canonical_surface(code)
        if not len(faces):
            raise FaceTalkError("this identity code has no surface; use one near the codes the head was trained on")
        if head.config.neck_plane is not None:
            # The field rounds off the edge of the cap under the neck: end the mesh just above it, along a clean line.
            above = head.above_neck(canonical)
            canonical, faces, _, _ = cut_where_negative(canonical, faces, above)
        canonical, faces, _, _ = cut_eye_openings(canonical * MILLIMETRES, faces, centers, radius)

        fields = self._fields(canonical / MILLIMETRES, code)
        point_fields = head.deformation_basis(points[:, :NUM_LANDMARKS], code)[0].float().cpu().numpy() * MILLIMETRES
        rest = head.forward_net.coefficient_map.bias.float().cpu().numpy()
        open_mouth = points[0, :NUM_LANDMARKS].float().cpu().numpy() * MILLIMETRES
        landmarks = open_mouth + np.tensordot(point_fields, rest, (1, 0)).reshape(NUM_LANDMARKS, 3)
        base = canonical + np.einsum("vrc,r->vc", fields, rest)
        base = seal_lips(base, canonical, landmarks, open_mouth)
        if self.facial_smoothing:
            # Only the motion is damped, never the way from the canonical pose to rest.
            fields = fields * facial_weights(base, landmarks[48:68].mean(0))[:, None, None]
        fields = self._seal_blinks(fields, base, faces, centers, radius)
        tones = palette(identity)
        iris = tones.pop("iris")
        colors, parts = paint_head(base, landmarks, centers, radius, faces=faces, **tones)

        names = self.target_names
        skin = Part(base, faces, colors, parts, {name: fields[:, i] for i, name in enumerate(names)})
        # A morph takes the lid along a chord, which cuts into the ball half-way: 1.4 mm of retreat make room for it.
        extra = join([eyeballs(centers, radius, iris, sink=1.4), self._teeth(features, names, rest)])
        whole = join([finish_lids(skin, centers, radius), extra])
        targets = np.stack([whole.targets[name] for name in names])
        return HeadGeometry(
            base=whole.vertices, targets=targets, names=names, faces=whole.faces, colors=whole.colors,
            parts=whole.parts, landmarks=landmarks.astype(np.float32),
            landmark_targets=point_fields.transpose(1, 0, 2).astype(np.float32),
        )  # fmt: skip

    def canonical_surface(self, code: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """The smoothed surface of an identity (1, Z), before the neck and the eyes are cut: (V, 3) in model units
        and (F, 3)."""
        values, axes = self.sample_grid(code)
        vertices, faces = triangulate(remove_handles(values), axes)
        return (smooth_surface(vertices, faces) if len(faces) else vertices), faces

    @torch.no_grad()
    def sample_grid(self, code: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
        """Signed distances (nx, ny, nz) of an identity code (1, Z) on the grid, and its three axes, in model units."""
        low, high = np.asarray(self.head.config.bounds)

        def field(points: np.ndarray) -> np.ndarray:
            values = [self.head.sdf(self._tensor(part), code)[0].float().cpu() for part in _chunks(points)]
            return torch.cat(values).numpy()

        size = (high - low) / (high - low).max() * self.resolution
        cells = [max(16, 16 * round(float(count) / 16)) for count in size]
        axes = [
            graded_axis(float(a), float(b), count, focus, 2.2)
            for a, b, count, focus in zip(low, high, cells, FOCUS, strict=True)
        ]
        return sample_field(field, axes), axes

    def _fields(self, points: np.ndarray, code: torch.Tensor) -> np.ndarray:
        """Motion fields (V, R, 3) in mm at canonical points (V, 3)."""
        net, controls = self.head.forward_net, self.head.controls(code)
        glob, _ = self.head.split_identity(code)
        fields = [net.basis(self._tensor(part), controls, glob)[0].float().cpu() for part in _chunks(points)]
        return torch.cat(fields).numpy() * MILLIMETRES

    def _seal_blinks(self, fields, base, faces, centers, radius) -> np.ndarray:
        """The fields (V, R, 3) with blinks that close the eyes, where the head has blinks by name."""
        names = self.head.config.expression_names or []
        rim = np.unique(boundary_edges(faces))
        for side, center, size in zip("LR", centers, radius, strict=True):
            if f"eyeBlink_{side}" in names:
                index = names.index(f"eyeBlink_{side}")
                edge = rim[np.linalg.norm(base[rim] - center, axis=1) < 1.6 * size]
                fields[:, index] = seal_blink(base, fields[:, index], edge, center, float(size))
        return fields

    def _teeth(self, features: np.ndarray, names: tuple[str, ...], rest: np.ndarray) -> Part:
        """Teeth at rest: the lower arch was predicted in the canonical pose, from which the jaw has to be closed."""
        upper, lower = features[4:9], features[9:14]
        matrix, shift = np.eye(3), np.zeros(3)
        for name, jaw in JAW_MAPS.items():
            if name in names:
                amount = -rest[names.index(name)]
                matrix, shift = matrix + amount * jaw[:, :3], shift + amount * jaw[:, 3]
        return teeth(upper, np.linalg.solve(matrix, (lower - shift).T).T)

    def _tensor(self, points: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(points)).to(self.head.anchor_mean)[None]


def _chunks(points: np.ndarray, size: int = 8192) -> list[np.ndarray]:
    """Pieces that stay in the processor's cache; larger ones are slower."""
    return [points[start : start + size] for start in range(0, len(points), size)]
