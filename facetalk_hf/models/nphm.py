# SPDX-License-Identifier: MIT
"""NPHM: a neural parametric head, from identity and expression codes to a signed distance field and its motion."""

from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from ..errors import FaceTalkError
from .deformation import BilinearDeformation, ConcatDeformation, ControlDeformation
from .ensemble import LocalEnsemble
from .official import OfficialDeformation, OfficialEnsemble, anchor_network, precise_gradients


Points = TypeVar("Points", torch.Tensor, np.ndarray)

NUM_LANDMARKS = 68
NUM_FEATURES = 14
"""Besides the landmarks: eyeball centres (left, right), eyeball fronts (left, right), 5 upper and 5 lower tooth crowns
(middle, left canine, left molar, right canine, right molar), from which eyes and teeth are placed."""


class NPHMModel(ModelMixin, ConfigMixin):
    r"""Neural parametric head model (Giebenhain et al., "Learning Neural Parametric Head Models", CVPR 2023).

    An identity code is [global | one local code an anchor | one for the rest] and gives a signed distance field in a
    canonical pose (mouth open). A deformation carries canonical points to the posed head (`"forward"`), posed points
    to the canonical head (`"backward"`), or both share one expression code (`"both"`). Units: 1 = 250 mm, +x the
    subject's left, +y up, +z front. The zero codes are the mean identity and the neutral face with closed lips.

    Args:
        num_anchors (`int`, *optional*, defaults to 39): K, anchors that the local fields sit at.
        num_symmetric_pairs (`int`, *optional*, defaults to 16): mirrored pairs, first in the order of anchors.
        glob_dim (`int`, *optional*, defaults to 48): size of the global identity code.
        loc_dim (`int`, *optional*, defaults to 24): size of each member's code.
        hidden_size, num_layers (`int`, *optional*, default to 96 and 3): of every member's MLP.
        num_octaves (`int`, *optional*, defaults to 5): octaves of the positional encoding of local coordinates.
        num_neighbors (`int`, *optional*, defaults to 6): members that a point is blended from.
        expression_dim (`int`, *optional*, defaults to 64): D.
        deformation (`str`, *optional*, defaults to `"forward"`): `"forward"`, `"backward"` or `"both"`.
        forward_type (`str`, *optional*, defaults to `"bilinear"`): `"bilinear"`, or `"concat"` as in NPHM.
        deformation_hidden_size, deformation_layers (`int`, *optional*, default to 192 and 3): of the forward network.
        rank (`int`, *optional*, defaults to 53): fields of the bilinear network.
        backward_type (`str`, *optional*, defaults to `"concat"`): `"concat"`, or `"controls"` for a network that sees
            where the forward (bilinear) deformation takes the control points; that needs `deformation="both"`.
        backward_hidden_size, backward_layers (`int`, *optional*, default to 192 and 6): of the backward network.
        num_identities (`int`, *optional*, defaults to 32): named identities that come with the weights.
        expression_names (`list[str]`, *optional*): blendshapes whose weights a code stands for, z = E w.
        bounds (`list`, *optional*): lower and upper corner of the box that holds every head, model units.
        neck_plane (`list[float]`, *optional*): (normal, offset) of the plane that heads end at; the surface is wanted
            where normal . x < offset.
        official_ensemble, official_deformation (`dict`, *optional*): sizes of converted NPHM or MonoNPHM networks,
            which then take the place of ours: the arguments of `OfficialEnsemble`, with `anchor_hidden_size`, and of
            `OfficialDeformation`. Such a head has no landmarks. MonoNPHM's identity code is [geometry | appearance],
            its points may bring hyper-coordinates (B, P, 3 + H), and its deformation gives 3 + H numbers.
        num_expressions (`int`, *optional*, defaults to 0): named expressions that come with the weights.
        hair_dim (`int`, *optional*, defaults to 0): how many numbers at the end of the global code say which hair.
    """

    config: Any  # a FrozenDict, whose entries are attributes too
    anchor_mean: torch.Tensor
    identity_codes: torch.Tensor
    expression_codes: torch.Tensor
    expression_basis: torch.Tensor
    point_mean: torch.Tensor
    point_anchor: torch.Tensor
    forward_net: Any  # BilinearDeformation, ConcatDeformation or OfficialDeformation, as the configuration says
    backward_net: Any  # ControlDeformation, ConcatDeformation or OfficialDeformation
    ensemble: LocalEnsemble | OfficialEnsemble
    double_gradients = True
    """Converted heads: gradients by points and codes are computed in double precision, on the CPU."""

    @register_to_config
    def __init__(
        self,
        num_anchors: int = 39,
        num_symmetric_pairs: int = 16,
        glob_dim: int = 48,
        loc_dim: int = 24,
        hidden_size: int = 96,
        num_layers: int = 3,
        num_octaves: int = 5,
        num_neighbors: int = 6,
        expression_dim: int = 64,
        deformation: str = "forward",
        forward_type: str = "bilinear",
        deformation_hidden_size: int = 192,
        deformation_layers: int = 3,
        rank: int = 53,
        backward_hidden_size: int = 192,
        backward_layers: int = 6,
        num_identities: int = 32,
        expression_names: list[str] | None = None,
        bounds: tuple = ((-0.52, -0.66, -0.7), (0.52, 0.72, 0.44)),
        neck_plane: tuple | None = None,
        official_ensemble: dict | None = None,
        official_deformation: dict | None = None,
        num_expressions: int = 0,
        backward_type: str = "concat",
        hair_dim: int = 0,
    ):
        super().__init__()
        if deformation not in ("forward", "backward", "both"):
            raise ValueError(f'deformation is "forward", "backward" or "both", not {deformation!r}')
        if forward_type not in ("bilinear", "concat"):
            raise ValueError(f'forward_type is "bilinear" or "concat", not {forward_type!r}')
        if backward_type not in ("concat", "controls"):
            raise ValueError(f'backward_type is "concat" or "controls", not {backward_type!r}')
        if backward_type == "controls" and (deformation, forward_type) != ("both", "bilinear"):
            raise ValueError('backward_type "controls" needs deformation "both" and forward_type "bilinear"')
        self.geometry_dim = self.identity_dim = glob_dim + (num_anchors + 1) * loc_dim
        if official_ensemble is None:
            self._build_ours()
        else:
            self._build_official(dict(official_ensemble), dict(official_deformation or {}))
        self.register_buffer("identity_codes", torch.zeros(num_identities, self.identity_dim))
        if num_expressions:
            self.register_buffer("expression_codes", torch.zeros(num_expressions, expression_dim))
        if expression_names is not None:
            self.register_buffer("expression_basis", torch.zeros(expression_dim, len(expression_names)))

    def _build_ours(self) -> None:
        config = self.config
        glob_dim, loc_dim, num_anchors = config.glob_dim, config.loc_dim, config.num_anchors
        self.ensemble = LocalEnsemble(
            num_anchors, config.num_symmetric_pairs, glob_dim, loc_dim, config.hidden_size, config.num_layers,
            config.num_octaves, num_neighbors=config.num_neighbors,
        )  # fmt: skip
        self.register_buffer("anchor_mean", torch.randn(num_anchors, 3) * 0.2)
        self.anchor_mlp = nn.Sequential(nn.Linear(glob_dim, 64), nn.SiLU(), nn.Linear(64, 3 * num_anchors))

        # Landmarks and features are an offset from the mean, predicted from the code of the anchor nearest to them.
        num_points = NUM_LANDMARKS + NUM_FEATURES
        self.register_buffer("point_mean", torch.randn(num_points, 3) * 0.2)
        self.register_buffer("point_anchor", torch.zeros(num_points, dtype=torch.long))
        self.point_input = nn.Parameter(torch.randn(num_points, glob_dim + loc_dim, 24) / (glob_dim + loc_dim) ** 0.5)
        self.point_bias = nn.Parameter(torch.zeros(num_points, 24))
        self.point_output = nn.Parameter(torch.zeros(num_points, 24, 3))

        condition_dim = self.identity_dim + 3 * num_anchors
        if config.deformation != "backward":
            if config.forward_type == "bilinear":
                self.forward_net = BilinearDeformation(
                    num_anchors + NUM_LANDMARKS, glob_dim, config.expression_dim, config.rank,
                    config.deformation_hidden_size, config.deformation_layers,
                )  # fmt: skip
            else:
                self.forward_net = ConcatDeformation(
                    condition_dim, config.expression_dim, config.deformation_hidden_size, config.deformation_layers
                )
        if config.backward_type == "controls":
            self.backward_net = ControlDeformation(
                num_anchors + NUM_LANDMARKS, glob_dim, config.rank, config.backward_hidden_size, config.backward_layers
            )
        elif config.deformation != "forward":
            self.backward_net = ConcatDeformation(
                condition_dim, config.expression_dim, config.backward_hidden_size, config.backward_layers,
                num_octaves=4, activation="silu",
            )  # fmt: skip

    def _build_official(self, ensemble: dict, deformation: dict) -> None:
        config = self.config
        if config.deformation == "both" or config.forward_type == "bilinear":
            raise ValueError('converted weights need deformation "forward" or "backward" and forward_type "concat"')
        self.register_buffer("anchor_mean", torch.zeros(config.num_anchors, 3))
        self.anchor_mlp = anchor_network(config.glob_dim, ensemble.pop("anchor_hidden_size"), config.num_anchors)
        self.ensemble = OfficialEnsemble(
            config.num_anchors, config.num_symmetric_pairs, config.glob_dim + config.loc_dim, **ensemble
        )
        if ensemble.get("appearance_dims"):
            glob_dim, loc_dim = ensemble["appearance_dims"]
            self.identity_dim += glob_dim + (config.num_anchors + 1) * loc_dim
        net = OfficialDeformation(
            self.geometry_dim + 3 * config.num_anchors, config.glob_dim, config.expression_dim, **deformation
        )
        self.add_module(f"{config.deformation}_net", net)

    @property
    def is_linear(self) -> bool:
        """Whether motion is linear in the expression code, by a bilinear forward deformation."""
        return self.config.deformation != "backward" and self.config.forward_type == "bilinear"

    # Codes

    @property
    def hair(self) -> slice:
        """The numbers of an identity code (Z,) that say which hair; empty for heads without."""
        return slice(self.config.glob_dim - self.config.hair_dim, self.config.glob_dim)

    def split_identity(self, identity: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Split an identity (B, Z) into the global code (B, glob_dim) and the local codes (B, K + 1, loc_dim)."""
        return self._split(identity[..., : self.geometry_dim], self.config.glob_dim)

    def _split(self, code: torch.Tensor, glob_dim: int) -> tuple[torch.Tensor, torch.Tensor]:
        return code[..., :glob_dim], code[..., glob_dim:].unflatten(-1, (self.config.num_anchors + 1, -1))

    def member_codes(self, identity: torch.Tensor) -> torch.Tensor:
        """Select what each member sees of an identity (B, Z): (B, K + 1, glob_dim + loc_dim)."""
        return _join(*self.split_identity(identity))

    def sample_identity(self, generator: torch.Generator | None = None, scale: float = 0.85) -> torch.Tensor:
        """Draw a new identity (Z,) from the Gaussian with the named identities' mean and covariance.

        Args:
            generator (`torch.Generator`, *optional*): on the CPU.
            scale (`float`, *optional*, defaults to 0.85): factor on the deviation from the mean.

        Raises:
            FaceTalkError: the head has no named identities.
        """
        codes = self.identity_codes
        if not len(codes):
            raise FaceTalkError("this head came without named identities: there is nothing to draw new ones from")
        mean = codes.mean(0)
        weight = torch.randn(len(codes), generator=generator).to(codes)
        code = mean + scale * weight @ (codes - mean) / max(len(codes) - 1, 1) ** 0.5
        if self.config.hair_dim:
            # Half a bun and half a bob is no hair: all of it is that of one of them.
            code[self.hair] = codes[int(torch.randint(len(codes), (), generator=generator)), self.hair]
        return code

    def expression_from_weights(self, weights: torch.Tensor) -> torch.Tensor:
        """Convert blendshape weights (..., W), in the order of `config.expression_names`, to codes (..., D)."""
        return weights @ self.expression_basis.T

    def weights_from_expression(self, expression: torch.Tensor) -> torch.Tensor:
        """Convert codes (..., D) to blendshape weights (..., W), (E^T E)^-1 E^T z: exact although E is in fp16."""
        basis = self.expression_basis.float()
        return (expression.float() @ torch.linalg.pinv(basis).T).to(expression.dtype)

    # Identity

    @precise_gradients
    def anchors(self, identity: torch.Tensor) -> torch.Tensor:
        """Predict the anchors (B, K, 3) of identities (B, Z) in canonical space."""
        glob, _ = self.split_identity(identity)
        return self.anchor_mean + self.anchor_mlp(glob).unflatten(-1, (self.config.num_anchors, 3))

    def feature_points(self, identity: torch.Tensor) -> torch.Tensor:
        """Predict landmarks and `NUM_FEATURES` points for eyes and teeth of identities (B, Z).

        Returns: (B, 68 + 14, 3) in canonical space.

        Raises:
            FaceTalkError: a converted head, which has none.
        """
        if self.config.official_ensemble is not None:
            raise FaceTalkError(
                "converted NPHM and MonoNPHM heads have no landmarks; their anchors are the nearest thing"
            )
        glob, local = self.split_identity(identity)
        local = local[:, self.point_anchor]
        codes = torch.cat([glob.unsqueeze(1).expand(-1, local.shape[1], -1), local], dim=-1)
        hidden = torch.tanh(torch.einsum("bni,nih->bnh", codes, self.point_input) + self.point_bias)
        return self.point_mean + torch.einsum("bnh,nho->bno", hidden, self.point_output)

    def landmarks(self, identity: torch.Tensor) -> torch.Tensor:
        """Predict 68 landmarks (B, 68, 3) of identities (B, Z) in the order of iBUG 300-W, in canonical space."""
        return self.feature_points(identity)[:, :NUM_LANDMARKS]

    @precise_gradients
    def sdf(self, points: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (B, P), negative inside, at canonical points (B, P, 3) of identities (B, Z).

        Points of a MonoNPHM head may bring their hyper-coordinates, (B, P, 3 + H); without, these are zero.
        """
        return self.ensemble(self._with_hyper(points), self.anchors(identity), self.member_codes(identity))

    @precise_gradients
    def color(
        self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compute colours (B, P, 3) at posed points, or at canonical ones without an expression; MonoNPHM only.

        Red, green, blue from -1 to 1 as MonoNPHM's network gives them: (c + 1) / 2 is what a screen shows.
        """
        appearance = (self.config.official_ensemble or {}).get("appearance_dims")
        if not appearance:
            raise FaceTalkError("this head has no colours; only converted MonoNPHM heads have")
        if expression is not None:
            points = self.canonical(points, identity, expression)
        return cast(OfficialEnsemble, self.ensemble).color(
            self._with_hyper(points), self.anchors(identity), self.member_codes(identity),
            _join(*self._split(identity[..., self.geometry_dim :], appearance[0])),
        )  # fmt: skip

    def above_neck(self, points: Points) -> Points:
        """Measure how far canonical points (P, 3), tensor or array, are above the cut through the neck.

        Returns: (P,) in model units, of the same kind; infinity where a head has no cut.
        """
        if self.config.neck_plane is None:
            return points[:, 0] * 0 + float("inf")
        x, y, z, offset = self.config.neck_plane
        return offset - (points[:, 0] * x + points[:, 1] * y + points[:, 2] * z)

    def _with_hyper(self, points: torch.Tensor) -> torch.Tensor:
        size = 3 + (self.config.official_ensemble or {}).get("hyper_dim", 0)
        return points if points.shape[-1] == size else F.pad(points, (0, size - 3))

    # Expression

    def controls(self, identity: torch.Tensor) -> torch.Tensor:
        """Predict anchors and landmarks (B, K + 68, 3), by which the bilinear deformation describes a point."""
        return torch.cat([self.anchors(identity), self.landmarks(identity)], dim=1)

    @precise_gradients
    def deform(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Compute offsets (B, P, 3) from canonical to posed points, or back where the model is backward only.

        MonoNPHM: (B, P, 3 + H), the hyper-coordinates after the offset.
        """
        if self.config.deformation == "backward":
            return self.deform_backward(points, identity, expression)
        if self.config.forward_type == "bilinear":
            glob, _ = self.split_identity(identity)
            return self.forward_net(points, self.controls(identity), glob, expression)
        return self.forward_net(points, self._identity_condition(identity), expression)

    @precise_gradients
    def deform_backward(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Compute offsets (B, P, 3) that carry posed points (B, P, 3) back to canonical space."""
        if self.config.deformation == "forward":
            raise ValueError("this head has no backward deformation")
        if self.config.backward_type == "controls":
            controls, (glob, _) = self.controls(identity), self.split_identity(identity)
            coefficients = self.forward_net.coefficients(expression)
            posed = controls + self.forward_net(controls, controls, glob, expression)
            return self.backward_net(points, controls, posed, glob, coefficients)
        return self.backward_net(points, self._identity_condition(identity), expression)

    @precise_gradients
    def canonical(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Carry posed points (B, P, 3) back, x + F(x), with hyper-coordinates (B, P, 3 + H) where there are."""
        offset = self.deform_backward(points, identity, expression)
        return F.pad(points, (0, offset.shape[-1] - 3)) + offset

    @precise_gradients
    def posed_sdf(self, points: torch.Tensor, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """Compute signed distances (B, P) at posed points, sdf(x + F(x)): FaceTalk's backward formulation."""
        return self.sdf(self.canonical(points, identity, expression), identity)

    def deformation_basis(self, points: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Compute the fields (B, P, R, 3) of the bilinear deformation at canonical points, once for an identity."""
        glob, _ = self.split_identity(identity)
        return self.forward_net.basis(points, self.controls(identity), glob)

    def landmark_jacobian(self, identity: torch.Tensor) -> torch.Tensor:
        """Differentiate the landmarks by the code: (B, D, 68, 3) model units for a unit of each number of the code.

        Exact for the bilinear deformation, whose motion is linear in the code.
        """
        fields = self.deformation_basis(self.landmarks(identity), identity)
        return torch.einsum("bprc,rd->bdpc", fields, self.forward_net.coefficient_map.weight)

    def _identity_condition(self, identity: torch.Tensor) -> torch.Tensor:
        return torch.cat([identity[..., : self.geometry_dim], self.anchors(identity).flatten(1)], dim=-1)


def _join(glob: torch.Tensor, local: torch.Tensor) -> torch.Tensor:
    """Put a global code (B, G) before local codes (B, M, L): (B, M, G + L), what each member sees."""
    return torch.cat([glob.unsqueeze(1).expand(-1, local.shape[1], -1), local], dim=-1)
