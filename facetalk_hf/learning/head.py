# SPDX-License-Identifier: MIT
"""Training of the small NPHM on the scans of training/build_heads.py, in three stages.

`identity` learns signed distance, anchors and landmarks, with one code a person (auto-decoding); `forward` learns the
deformation, with the identities frozen; `backward` takes posed points back to canonical space, for fitting. Every step
draws its samples from a seed of its own, so a resumed run repeats exactly.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ..blendshapes import EXPRESSIONS
from ..errors import FaceTalkError
from ..head.hair_styles import HAIR_KINDS
from ..mesh.isosurface import extract_surface
from ..models.nphm import NUM_FEATURES, NUM_LANDMARKS, NPHMModel
from ..scripts import REQUIRED, option
from ..synthetic.expressions import sample_weights
from ..synthetic.ict_template import ANCHOR_MIDDLE
from ..units import MILLIMETRES
from .loop import Trainer, TrainingOptions


NECK_PLANE = (0.0, -0.9285, -0.3714, 0.507)  # the scans are closed 5 mm below
HAIRY_BOUNDS = ((-0.54, -0.66, -0.9), (0.54, 0.8, 0.44))  # room for buns and curls
LEARNING_RATE, WARMUP_STEPS, FLOOR = 2e-3, 100, 0.02


@dataclass(kw_only=True)
class HeadOptions:
    """Options of training/train_nphm.py."""

    data: Path = option(REQUIRED, "folder written by build_heads.py")
    output_dir: Path = option(REQUIRED, "checkpoints of the stages, and the finished head in head/")
    identity_steps: int = option(5000, "updates of the signed distance")
    forward_steps: int = option(4000, "updates of the deformation")
    backward_steps: int = option(3000, "updates of the way back; 0 for a head without it")
    batch_size: int = option(16, "identities a step")
    points: int = option(600, "points an identity and step")
    hidden_size: int = option(96, "of every local network of the signed distance")
    octaves: int = option(5, "of the encoding of places by these networks")
    basis: Path | None = option(None, "head whose expression basis is taken over: what moves it moves the new one")
    named_identities: int = option(32, "identities that are stored with the head")
    checkpointing_steps: int = option(250, "updates from one checkpoint to the next; 0 for none")
    resume: bool = option(False, "go on from the last checkpoint of each stage, if there is one")
    threads: int = option(1, "threads of torch")
    seed: int = option(0, "of the weights and of everything that is drawn")


Step = Callable[[torch.Generator], dict[str, torch.Tensor]]
"""The terms of a step's loss, from the generator that its samples are drawn with."""


class Scans:
    """All training scans in memory: points, signed distances and control points of every identity.

    Args:
        folder (`Path`): with train_*.npz, of which the first is the mean head.

    Raises:
        FaceTalkError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        paths = sorted(folder.glob("train_*.npz"))
        if not paths:
            raise FaceTalkError(f"no train_*.npz in {folder}; run build_heads.py first")
        scans = [dict(np.load(path)) for path in tqdm(paths, desc="reading scans")]
        self.points = [torch.from_numpy(scan["points"]) for scan in scans]
        self.distance = [torch.from_numpy(scan["distance"]) for scan in scans]
        self.bounds = [np.searchsorted(scan["kind"], [0, 1, 2, 3]) for scan in scans]
        self.controls = torch.from_numpy(np.stack([scan["controls"] for scan in scans]))
        self.coefficients = torch.from_numpy(np.stack([scan["coefficients"] for scan in scans]))
        # Scans of an older build_heads.py: one a person, without hair.
        self.person = torch.tensor([int(scan.get("person", i)) for i, scan in enumerate(scans)])
        self.hair = torch.from_numpy(np.stack([scan.get("hair", np.zeros(0, np.float32)) for scan in scans]))
        self.still = torch.from_numpy(np.stack([scan.get("still", np.zeros((0, 3), np.float32)) for scan in scans]))

    def __len__(self) -> int:
        return len(self.points)

    def sample(
        self, identities: list[int], counts: tuple[int, int, int], generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw `counts` surface, near and far samples of each identity: points (B, P, 3), distances (B, P)."""
        points, distance = [], []
        for i in identities:
            rows = torch.cat(
                [
                    torch.randint(int(low), int(high), (count,), generator=generator)
                    for low, high, count in zip(self.bounds[i][:-1], self.bounds[i][1:], counts, strict=True)
                ]
            )
            points.append(self.points[i][rows])
            distance.append(self.distance[i][rows])
        return torch.stack(points), torch.stack(distance)


def make_head(scans: Scans, options: HeadOptions) -> NPHMModel:
    """Make an untrained head whose anchors and landmarks lie where those of the mean scan do, from the seed."""
    torch.manual_seed(options.seed)
    num_anchors, hair_dim = scans.controls.shape[1] - NUM_LANDMARKS - NUM_FEATURES, scans.hair.shape[1]
    model = NPHMModel(
        num_anchors=num_anchors,
        num_symmetric_pairs=(num_anchors - len(ANCHOR_MIDDLE)) // 2,
        glob_dim=48 + hair_dim,
        hair_dim=hair_dim,
        hidden_size=options.hidden_size,
        num_octaves=options.octaves,
        deformation="both" if options.backward_steps else "forward",
        backward_type="controls" if options.backward_steps else "concat",
        backward_layers=4,
        expression_names=list(EXPRESSIONS),
        num_identities=options.named_identities,
        neck_plane=NECK_PLANE,
        **({"bounds": HAIRY_BOUNDS} if hair_dim else {}),
    )
    mean = scans.controls.mean(0)
    anchors, points = mean[: model.config.num_anchors], mean[model.config.num_anchors :]
    model.anchor_mean.copy_(anchors)
    model.point_mean.copy_(points)
    model.point_anchor.copy_(torch.cdist(points, anchors).argmin(1))
    torch.nn.init.normal_(model.anchor_mlp[2].weight, std=1e-2)
    torch.nn.init.zeros_(model.anchor_mlp[2].bias)
    torch.nn.init.normal_(model.point_output, std=1e-2)
    basis = torch.linalg.qr(torch.randn(model.config.expression_dim, len(EXPRESSIONS)))[0]
    if options.basis:
        basis = read_basis(options.basis)
    model.expression_basis.copy_(basis)
    # The motion of ICT-FaceKit is linear in its weights, and codes are z = E w: c(z) = E^T z - w_canonical.
    model.forward_net.coefficient_map.weight.data.copy_(basis.T)
    canonical = torch.from_numpy(np.load(options.data / "template.npz")["canonical_weights"])
    model.forward_net.coefficient_map.bias.data.copy_(-canonical)
    model.forward_net.coefficient_map.requires_grad_(False)
    reach = torch.full((NUM_LANDMARKS,), 0.045)
    reach[:17], reach[36:48], reach[48:] = 0.09, 0.026, 0.032
    reach = torch.cat([torch.full((model.config.num_anchors,), 0.13), reach])
    model.forward_net.control_scales.copy_(reach)
    if options.backward_steps:
        model.backward_net.control_scales.copy_(reach)
    return model


def read_basis(folder: Path) -> torch.Tensor:
    """Read the expression basis (D, 53) of a head's folder, fp16 if that is how it was saved.

    Raises:
        FaceTalkError: a head of other shapes, or without any.
    """
    head = NPHMModel.from_pretrained(folder, torch_dtype=torch.float32)
    if list(head.config.expression_names or ()) != list(EXPRESSIONS):
        raise FaceTalkError(f"the codes of {folder} do not stand for our {len(EXPRESSIONS)} blendshapes")
    return head.expression_basis


def cosine_to_floor(step: int, steps: int) -> float:
    """Factor of the learning rate: up in 100 updates, then a cosine down to 2 %; diffusers' cosine ends at 0."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
    return min((step + 1) / WARMUP_STEPS, FLOOR + (1 - FLOOR) * cosine)


def train_stage(
    stage: str, steps: int, module: torch.nn.Module, groups: list[dict[str, Any]], terms: Step, options: HeadOptions
) -> None:
    """Train one stage by the common loop, or go on with it.

    Args:
        stage (`str`): "identity", "forward" or "backward"; its checkpoints go into a folder of this name.
        steps (`int`): updates.
        module (`torch.nn.Module`): what checkpoints hold.
        groups: parameters for Adam.
        terms: of the loss of a step.
        options ([`HeadOptions`]): the others.
    """
    loop = TrainingOptions(
        output_dir=options.output_dir / stage, batch_size=options.batch_size, max_train_steps=steps,
        seed=options.seed, checkpointing_steps=options.checkpointing_steps, resume=options.resume,
    )  # fmt: skip
    trainer = Trainer(loop, stage)
    optimizer = torch.optim.Adam(groups, LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_to_floor(step, steps))

    def loss(_: torch.nn.Module, generator: torch.Generator) -> Mapping[str, torch.Tensor]:
        found = terms(generator)
        return {"loss": torch.stack(list(found.values())).sum()} | found

    seeds = (torch.Generator().manual_seed(options.seed * 1_000_003 + step) for step in trainer.steps)
    trainer.run(module, optimizer, schedule, seeds, loss)
    trainer.close()


def make_codes(model: NPHMModel, scans: Scans) -> torch.nn.Embedding:
    """Make a code for each person; its first numbers begin with the coefficients of ICT-FaceKit."""
    people = int(scans.person.max()) + 1
    codes, learnt = torch.nn.Embedding(people, model.identity_dim), model.hair.start
    torch.nn.init.normal_(codes.weight, std=1e-3)
    codes.weight.data[scans.person, :learnt] = 0.3 * scans.coefficients[:, :learnt]
    return codes


def identity_codes(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, chosen: torch.Tensor) -> torch.Tensor:
    """Put together the codes (B, Z) of scans (B,): what is learnt of the person, and the hair that was worn."""
    person = scans.person[chosen]
    # Person 0 is the mean head: its code stays zero.
    code, hair = codes(person) * (person > 0)[:, None], model.hair
    return torch.cat([code[:, : hair.start], scans.hair[chosen], code[:, hair.stop :]], 1)


def train_identity(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, options: HeadOptions) -> None:
    """Train signed distance, anchors, landmarks and codes."""
    nets = [model.ensemble, model.anchor_mlp]
    own = [p for net in nets for p in net.parameters()] + [model.point_input, model.point_bias, model.point_output]
    groups = [{"params": own}, {"params": list(codes.parameters())}]
    modules = torch.nn.ModuleDict({"ensemble": model.ensemble, "anchor_mlp": model.anchor_mlp, "codes": codes})
    modules.points = torch.nn.ParameterList([model.point_input, model.point_bias, model.point_output])

    def step(generator: torch.Generator) -> dict[str, torch.Tensor]:
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch_size]
        points, distance = scans.sample(chosen.tolist(), (options.points // 2, options.points // 3, 48), generator)
        code = identity_codes(model, codes, scans, chosen)
        predicted = model.sdf(points, code)
        surface = slice(0, options.points // 2)
        truth, weight = distance.clamp(-0.15, 0.15), 1.0 / (1.0 + distance.abs() / 0.02)
        error = (predicted.clamp(-0.2, 0.2) - truth).abs()
        points_error = torch.cat([model.anchors(code), model.feature_points(code)], 1) - scans.controls[chosen]
        return {
            "surface": MILLIMETRES * 2 * error[:, surface].mean() * 0.1,
            "space": MILLIMETRES * 2 * (weight * error)[:, surface.stop :].mean() * 0.1,
            "points": MILLIMETRES * points_error.norm(dim=-1).mean() * 0.02,
            "code": 1e-3 * code.square().sum(-1).mean(),
        }

    train_stage("identity", options.identity_steps, modules, groups, step, options)


def correspondences(
    pool: dict[str, torch.Tensor], scans: Scans, chosen: torch.Tensor, count: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw samples of the pool on the heads of scans (B,), and a twelfth as many of the hair that nothing moves.

    A third of those where hair or a beard can grow stand off the skin, by up to `reach`, and move with it.

    Returns: canonical positions (B, P, 3), motion fields (P, 53, 3), weights (P,) of mean 1.
    """
    rows = torch.randint(len(pool["mean"]), (count,), generator=generator)
    points = torch.einsum("bk,pkc->bpc", scans.coefficients[chosen], pool["identities"][rows].float())
    points, fields = points + pool["mean"][rows], pool["expressions"][rows].float()
    weight = region_weights(pool["region"][rows])
    if scans.still.shape[1]:
        off = pool["reach"][rows] * torch.rand(count, generator=generator)
        off = off * (torch.rand(count, generator=generator) < 1 / 3)
        points = points + off[:, None] * pool["normals"][rows]
        places = torch.randint(scans.still.shape[1], (len(chosen), count // 12), generator=generator)
        points = torch.cat([points, scans.still[chosen[:, None], places]], 1)
        fields = torch.cat([fields, fields.new_zeros(count // 12, *fields.shape[1:])])
        weight = torch.cat([weight, weight.new_ones(count // 12)])
    return points, fields, weight / weight.mean()


def region_weights(region: torch.Tensor) -> torch.Tensor:
    """Weigh errors by the region of a point: head, face, lips, lids, mouth bag."""
    return torch.tensor([1.0, 1.5, 4.0, 5.0, 1.0])[region.long()]


def train_forward(
    model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, pool: dict[str, torch.Tensor], options: HeadOptions
) -> None:
    """Train the deformation from canonical to posed space, each blendshape alone and mixed."""
    net = model.forward_net
    extent = pool["expressions"].float().norm(dim=-1).amax(0) * MILLIMETRES
    scale = (extent / extent.median()).clamp_min(0.1).rsqrt()
    offset = net.coefficient_map.bias.detach()

    def step(generator: torch.Generator) -> dict[str, torch.Tensor]:
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch_size]
        points, fields, weight = correspondences(pool, scans, chosen, options.points // 2, generator)
        moved = points + 0.006 * torch.randn(points.shape, generator=generator)
        half = torch.rand(points.shape[:2], generator=generator) < 0.5
        points = torch.where(half[..., None], moved, points)
        with torch.no_grad():
            code = identity_codes(model, codes, scans, chosen)
            code = code + 0.02 * torch.randn(code.shape, generator=generator)
            controls, glob = model.controls(code), model.split_identity(code)[0]
        error = (net.basis(points, controls, glob) - fields) * MILLIMETRES
        single = ((error.square().sum(-1) + 1e-4).sqrt() * scale).mean(-1)
        mixed = torch.einsum("bpkc,mk->bpmc", error, sample_weights(8, generator) + offset)
        mixed = (mixed.square().sum(-1) + 1e-4).sqrt().mean(-1)
        return {
            "single": (single * weight).mean(),
            "mixed": 0.5 * (mixed * weight).mean(),
        }

    parameters = [p for p in net.parameters() if p.requires_grad]
    train_stage("forward", options.forward_steps, net, [{"params": parameters}], step, options)


def train_backward(
    model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, pool: dict[str, torch.Tensor], options: HeadOptions
) -> None:
    """Train the way from posed back to canonical space."""
    model.forward_net.requires_grad_(False)
    offset = model.forward_net.coefficient_map.bias

    def step(generator: torch.Generator) -> dict[str, torch.Tensor]:
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch_size]
        points, fields, weight = correspondences(pool, scans, chosen, options.points // 2, generator)
        # All weights a little off, and the motion with them: codes that are fitted are never exactly zero.
        weights = sample_weights(len(chosen), generator)
        weights = weights + 0.03 * torch.randn(weights.shape, generator=generator)
        motion = torch.einsum("pkc,bk->bpc", fields, weights + offset)
        noise = 0.006 * torch.randn(points.shape, generator=generator)
        half = torch.rand(points.shape[:2], generator=generator) < 0.5
        posed = points + motion + noise * half[..., None]
        with torch.no_grad():
            code = identity_codes(model, codes, scans, chosen)
            code = code + 0.02 * torch.randn(code.shape, generator=generator)
            expression = model.expression_from_weights(weights)
        error = (model.deform_backward(posed, code, expression) + motion) * MILLIMETRES
        error = (error.square().sum(-1) + 1e-4).sqrt()
        free = torch.rand(points.shape[0], 16, 3, generator=generator) - 0.5
        return {
            "corresp": (error * weight).mean(),
            "free": 0.05 * MILLIMETRES * model.deform_backward(free, code, expression).square().sum(-1).mean(),
        }

    net = model.backward_net
    train_stage("backward", options.backward_steps, net, [{"params": list(net.parameters())}], step, options)


@torch.no_grad()
def name_identities(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, count: int) -> None:
    """Store `count` codes with the head: the mean head, then people far from one another whose surface is sound.

    Kinds of hair take turns, and nobody is named twice while there are others.

    The third with the largest codes is left out (caricatures), and so is the half of the rest whose surface has most
    handles, pierced ears and nostrils: a closed surface with g handles has Euler characteristic 2 - 2 g.
    """
    sizes = codes.weight.norm(dim=1)[scans.person]
    all_codes = identity_codes(model, codes, scans, torch.arange(len(scans)))
    order = sizes.argsort()[: max(count, 2 * len(all_codes) // 3)]
    low, high = torch.tensor(model.config.bounds)
    axes = [
        np.linspace(float(a), float(b), 16 * round(6 * float(b - a) / 1.4) + 1) for a, b in zip(low, high, strict=True)
    ]
    handles = []
    for i in tqdm(order.tolist(), desc="surfaces"):

        def field(points: np.ndarray, code: torch.Tensor = all_codes[i : i + 1]) -> np.ndarray:
            parts = torch.from_numpy(points).split(8192)
            return torch.cat([model.sdf(part[None], code)[0] for part in parts]).numpy()

        vertices, faces = extract_surface(field, axes)
        handles.append(1 - (len(vertices) - len(faces) // 2) // 2)
    sound = order[torch.tensor(handles).argsort(stable=True)[: max(count, len(order) // 2)]].tolist()
    sound = [0] + [i for i in sound if i != 0]
    one_of = torch.nn.functional.pad(scans.hair[:, : len(HAIR_KINDS) - 1], (1, 0), value=0.5)  # the first is no other
    kinds = one_of.argmax(1)
    chosen = [0]
    while len(chosen) < min(count, len(sound)):
        rest = torch.tensor([i for i in sound if i not in chosen])
        apart = torch.cdist(all_codes[rest], all_codes[chosen]).amin(1)
        again = torch.isin(scans.person[rest], scans.person[chosen])
        used = (kinds[rest][:, None] == kinds[chosen]).sum(1)
        chosen.append(int(rest[(apart - 1e3 * used - 1e6 * again).argmax()]))
    print(f"handles of {len(order)} surfaces: {sorted(handles)}; named: {chosen}")
    model.identity_codes[: len(chosen)] = all_codes[chosen]
