# SPDX-License-Identifier: MIT
"""Decode heads whose motion is linear in the expression code: morph targets of one surface an identity."""

import hashlib

import numpy as np
import torch

from ..animation.head_animation import HeadAnimation
from ..blendshapes import TONGUE
from ..errors import FaceTalkError
from ..files import kept_arrays
from ..mesh.geometry import Part, boundary_edges, join
from ..mesh.isosurface import graded_axis, sample_field, smooth_surface, triangulate
from ..mesh.parts import HAIR
from ..mesh.topology import remove_handles
from ..models.digest import weights_digest
from ..models.nphm import NUM_LANDMARKS, NPHMModel
from ..units import MILLIMETRES
from .appearance import paint_head, palette
from .decoder import HeadDecoder, HeadGeometry, Identity, end_at_neck, nearest_vertices, opening
from .eyelids import seal_blink
from .eyes import cut_eye_openings, eyeballs, finish_lids
from .facial_weights import facial_weights
from .field_values import CHUNK, evaluate
from .hair_styles import HairStyle, even_stubble, loose_hair, without_flecks, without_patches
from .lips import seal_lips
from .teeth import JAW_MAPS, teeth


FOCUS = ((-0.19, 0.19), (-0.25, 0.2), (0.04, 0.36))  # where eyes, nose and mouth are: the grid is finest there
# Ears stick out to both sides and behind the face, and a helix is 3 mm thick: coarser lines tear it to shards.
EARS = (((-0.4, -0.28, 3.0), (0.28, 0.4, 3.0)), (), ((-0.37, -0.17, 2.6),))
CELLS = (1.33, 1.0, 1.29)  # for the ears, in excess of a grid that is fine at the face alone
DEEPEST_REPAIR = 1.0 / MILLIMETRES  # a handle that takes more than a millimetre is no error of the field


class BlendshapeDecoder(HeadDecoder):
    """Decodes expression codes with a bilinear forward head, exactly: base + sum of weight times motion field.

    Eyeballs and teeth are added to the head's surface, and lips and lids closed that the networks leave ajar.

    Args:
        head (`NPHMModel`): a head with a bilinear forward deformation.
        resolution, cache_size: see [`HeadDecoder`].
        facial_smoothing (`bool`, *optional*, defaults to `True`): damp motion away from the face (FaceTalk, sec. 4).
    """

    def __init__(
        self, head: NPHMModel, resolution: int = 128, facial_smoothing: bool = True, cache_size: int = 4
    ) -> None:
        if not head.is_linear:
            raise FaceTalkError("this head's motion is not linear in the code: make_decoder makes its decoder")
        super().__init__(head, resolution, cache_size)
        self.facial_smoothing = facial_smoothing

    def __call__(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> HeadAnimation:
        """Decode expression codes (T, D) into an animation of T frames; see [`HeadDecoder.__call__`]."""
        expressions, identity = self.check_codes(expressions), self.identity_code(identity)
        landmarks = self.landmarks(expressions, identity)
        geometry, weights = self.geometry(identity), self.weights(expressions)
        # No code moves the tongue: `HeadAnimation.with_tongue` does.
        still = np.zeros((len(weights), len(TONGUE)), np.float32)
        assert geometry.tongue is not None  # `build` makes it
        return HeadAnimation(
            base=geometry.base, targets=geometry.tongue, weights=np.concatenate([weights, still], 1),
            target_names=(*geometry.names, *TONGUE), faces=geometry.faces, colors=geometry.colors,
            parts=geometry.parts, expressions=expressions, identity=identity, landmarks=landmarks,
            lip_aperture=opening(landmarks, geometry.landmarks), landmark_vertices=geometry.landmark_vertices,
        )  # fmt: skip

    def weights(self, expressions: np.ndarray | torch.Tensor) -> np.ndarray:
        """Compute the weights (T, R) float32 of the morph targets for expression codes (T, D)."""
        expressions = self.check_codes(expressions)
        net = self.head.forward_net
        with torch.no_grad():
            codes = torch.from_numpy(expressions).to(net.coefficient_map.weight)
            # Relative to z = 0, the rest pose: the constant part is in the base already.
            return (net.coefficients(codes) - net.coefficient_map.bias).float().cpu().numpy()

    def landmarks(self, expressions: np.ndarray | torch.Tensor, identity: Identity = None) -> np.ndarray:
        """Compute the landmarks (T, 68, 3) float32 in mm of expression codes (T, D)."""
        weights, geometry = self.weights(expressions), self.geometry(self.identity_code(identity))
        return (geometry.landmarks + np.tensordot(weights, geometry.landmark_targets, 1)).astype(np.float32)

    @property
    def target_names(self) -> tuple[str, ...]:
        """Names of the R morph targets: blendshapes, or field_00 and so on where the head names none."""
        count = len(self.head.forward_net.coefficient_map.bias)
        return tuple(self.head.config.expression_names or (f"field_{i:02d}" for i in range(count)))

    @torch.no_grad()
    def _build(self, identity: np.ndarray) -> HeadGeometry:
        head = self.head
        code = torch.from_numpy(identity).to(head.anchor_mean)[None]
        points = head.feature_points(code)
        features = points[0, NUM_LANDMARKS:].float().cpu().numpy() * MILLIMETRES
        centers, radius = features[:2], np.linalg.norm(features[2:4] - features[:2], axis=1)

        canonical, faces = end_at_neck(head, *self.canonical_surface(code))
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
            fields *= facial_weights(base, landmarks[48:68].mean(0))[:, None, None]
        fields = self._seal_blinks(fields, base, faces, centers, radius)
        person = identity.copy()
        person[head.hair] = 0  # who changes the hair keeps the skin
        tones = palette(person, self.look)
        iris = tones.pop("iris")
        depth = self._hair_depth(canonical, faces, code, open_mouth)
        colors, parts = paint_head(base, landmarks, centers, radius, faces=faces, hair_depth=depth, **tones)

        if depth is not None:
            parts = np.where(loose_hair(depth, faces), HAIR, parts).astype(np.uint8)

        names = self.target_names
        skin = Part(base, faces, colors, parts, {name: fields[:, i] for i, name in enumerate(names)})
        # A morph takes the lid along a chord, which cuts into the ball half-way: 1.4 mm of retreat make room for it.
        extra = join([eyeballs(centers, radius, iris, sink=1.4), self._teeth(features, names, rest)])
        whole = join([finish_lids(skin, centers, radius), extra])
        targets = np.stack([whole.targets[name] for name in (*names, *TONGUE)])
        return HeadGeometry(
            base=whole.vertices, targets=targets[: len(names)], names=names, faces=whole.faces, colors=whole.colors,
            parts=whole.parts, landmarks=landmarks.astype(np.float32),
            landmark_targets=point_fields.transpose(1, 0, 2).astype(np.float32), tongue=targets,
            landmark_vertices=nearest_vertices(canonical, open_mouth),
        )  # fmt: skip

    def canonical_surface(self, code: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Extract and smooth the surface of an identity (1, Z), before neck and eyes are cut.

        Returns: vertices (V, 3) float32 in model units and faces (F, 3) int32; none where the field has no surface.
        """

        def extract() -> dict[str, np.ndarray]:
            values, axes = self.sample_grid(code)
            vertices, faces = triangulate(remove_handles(values, DEEPEST_REPAIR), axes)
            return {"vertices": smooth_surface(vertices, faces) if len(faces) else vertices, "faces": faces}

        grid = self.resolution, FOCUS, EARS, CELLS, DEEPEST_REPAIR
        found = kept_arrays("surface", self._digest(repr(grid), code), extract)
        return found["vertices"], found["faces"]

    def _digest(self, more: str, *values: torch.Tensor) -> bytes:
        """Digest the head's weights and what else results depend on, the first of the tensors' kind included."""
        key = hashlib.sha256(repr((more, str(values[0].device), values[0].dtype)).encode())
        key.update(weights_digest(self.head.state_dict()))
        for value in values:
            key.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return key.digest()

    @torch.no_grad()
    def sample_grid(self, code: torch.Tensor) -> tuple[np.ndarray, list[np.ndarray]]:
        """Sample signed distances (nx, ny, nz) of an identity code (1, Z) on a grid; also give its three axes.

        Both in model units. The grid is finest where eyes, nose, mouth and ears are.
        """
        head = self.head
        low, high = np.asarray(head.config.bounds)

        def field(points: np.ndarray) -> np.ndarray:
            return evaluate(lambda part: head.sdf(part.to(code), code), points, code.device, CHUNK)

        size = (high - low) / (high - low).max() * self.resolution * CELLS
        cells = [max(16, 16 * round(float(count) / 16)) for count in size]
        axes = [
            graded_axis(float(a), float(b), count, focus, 2.2, details)
            for a, b, count, focus, details in zip(low, high, cells, FOCUS, EARS, strict=True)
        ]
        return sample_field(field, axes), axes

    def _fields(self, points: np.ndarray, code: torch.Tensor) -> np.ndarray:
        """Compute motion fields (V, R, 3) in mm at canonical points (V, 3)."""
        net, controls = self.head.forward_net, self.head.controls(code)
        glob, _ = self.head.split_identity(code)
        # A point is described by 460 numbers here: pieces of a quarter stay in the cache, and in memory that is there.
        fields = evaluate(lambda part: net.basis(part.to(code), controls, glob), points, code.device, CHUNK // 4)
        fields *= MILLIMETRES
        return fields

    def _hair_depth(
        self, vertices: np.ndarray, faces: np.ndarray, code: torch.Tensor, landmarks: np.ndarray
    ) -> np.ndarray | None:
        """Measure how far (V,) vertices (V, 3) are off the same head without hair, if it has any.

        All in mm, in the canonical pose, as the landmarks (68, 3) are.
        """
        hair = self.head.hair
        if not self.head.config.hair_dim:
            return None
        points, worn = vertices / MILLIMETRES, HairStyle.of_vector(code[0, hair].float().cpu().numpy())
        bald = code.clone()
        bald[0, hair] = torch.from_numpy(HairStyle("none").vector()).to(code)

        def measure() -> dict[str, np.ndarray]:
            return {"depth": evaluate(lambda part: self.head.sdf(part.to(code), bald), points, code.device, CHUNK)}

        key = self._digest("", bald, torch.from_numpy(points))
        depth = kept_arrays("hair", key, measure)["depth"] * MILLIMETRES
        beard = (worn.beard > 0.05) & (vertices[:, 1] < landmarks[33, 1])
        depth = without_flecks(depth, faces, beard)
        if worn.kind == "receding":
            depth = without_patches(depth, faces, vertices, vertices[:, 1] > landmarks[27, 1])
        return even_stubble(depth, faces, beard)

    def _seal_blinks(
        self, fields: np.ndarray, base: np.ndarray, faces: np.ndarray, centers: np.ndarray, radius: np.ndarray
    ) -> np.ndarray:
        """Close the eyes in the blinks among the fields (V, R, 3), where the head has blinks by name."""
        names = self.head.config.expression_names or []
        rim = np.unique(boundary_edges(faces))
        for side, center, size in zip("LR", centers, radius, strict=True):
            if f"eyeBlink_{side}" in names:
                index = names.index(f"eyeBlink_{side}")
                edge = rim[np.linalg.norm(base[rim] - center, axis=1) < 1.6 * size]
                fields[:, index] = seal_blink(base, fields[:, index], edge, center, float(size))
        return fields

    def _teeth(self, features: np.ndarray, names: tuple[str, ...], rest: np.ndarray) -> Part:
        """Make teeth at rest: the lower arch was predicted in the canonical pose, from which the jaw is closed."""
        upper, lower = features[4:9], features[9:14]
        matrix, shift = np.eye(3), np.zeros(3)
        for name, jaw in JAW_MAPS.items():
            if name in names:
                amount = -rest[names.index(name)]
                matrix, shift = matrix + amount * jaw[:, :3], shift + amount * jaw[:, 3]
        return teeth(upper, np.linalg.solve(matrix, (lower - shift).T).T)
