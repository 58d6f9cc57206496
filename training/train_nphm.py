# SPDX-License-Identifier: MIT
"""Train the small NPHM of facetalk-tiny on the scans of build_heads.py.

    python training/train_nphm.py --data data/heads --output data/nphm

Three stages, each step-based and resumable from its last checkpoint: `identity` (signed distance, anchors,
landmarks; codes are auto-decoded), `forward` (deformation, the identity frozen) and `backward` (posed points back
to canonical space, for fitting). Every step draws its samples from its own seed, so a resumed run repeats exactly.
"""

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facetalk_hf.blendshapes import EXPRESSIONS
from facetalk_hf.files import atomic_path
from facetalk_hf.mesh.isosurface import extract_surface
from facetalk_hf.models.nphm import NUM_LANDMARKS, NPHMModel
from facetalk_hf.synthetic.expressions import sample_weights
from facetalk_hf.units import MILLIMETRES


NECK_PLANE = (0.0, -0.9285, -0.3714, 0.507)  # build_heads.py closes the scans 5 mm below


class Scans:
    """All training scans in memory; identity i's points, distances and control points."""

    def __init__(self, folder: Path, split: str = "train"):
        paths = sorted(folder.glob(f"{split}_*.npz"))
        if not paths:
            raise SystemExit(f"no {split}_*.npz in {folder}; run build_heads.py first")
        scans = [dict(np.load(path)) for path in tqdm(paths, desc="reading scans")]
        self.points = [torch.from_numpy(scan["points"]) for scan in scans]
        self.distance = [torch.from_numpy(scan["distance"]) for scan in scans]
        self.bounds = [np.searchsorted(scan["kind"], [0, 1, 2, 3]) for scan in scans]
        self.controls = torch.from_numpy(np.stack([scan["controls"] for scan in scans]))
        self.coefficients = torch.from_numpy(np.stack([scan["coefficients"] for scan in scans]))

    def __len__(self) -> int:
        return len(self.points)

    def sample(self, identities: list[int], counts: tuple[int, int, int], generator: torch.Generator):
        """`counts` surface, near and far samples an identity -> points (B, P, 3), distances (B, P)."""
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


def build_model(scans: Scans, options) -> NPHMModel:
    torch.manual_seed(options.seed)
    model = NPHMModel(
        deformation="both" if options.backward_steps else "forward",
        backward_type="controls" if options.backward_steps else "concat",
        backward_layers=4,
        expression_names=list(EXPRESSIONS),
        num_identities=options.named_identities,
        neck_plane=NECK_PLANE,
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


class Trainer:
    """What the three stages share: schedule, checkpoints, progress."""

    def __init__(self, stage: str, steps: int, groups: list[dict], modules: torch.nn.Module, options):
        self.stage, self.steps, self.modules, self.options = stage, steps, modules, options
        self.path = options.output / f"{stage}.pt"
        self.optimizer = torch.optim.Adam(groups)
        warm, floor = 100, 0.02
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer,
            lambda s: min((s + 1) / warm, floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(s / steps, 1.0)))),
        )
        self.step = 0
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            modules.load_state_dict(state["modules"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            self.step = state["step"]

    def run(self, loss_of_step) -> None:
        bar = tqdm(range(self.step, self.steps), initial=self.step, total=self.steps, desc=self.stage, mininterval=10)
        means: dict[str, float] = {}
        for step in bar:
            generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + step)
            terms = loss_of_step(generator)
            loss = sum(terms.values())
            if not torch.isfinite(loss):
                raise SystemExit(f"{self.stage}: loss is not finite at step {step}; last good checkpoint: {self.path}")
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            self.optimizer.step()
            self.schedule.step()
            for name, term in terms.items():
                means[name] = 0.98 * means.get(name, float(term)) + 0.02 * float(term)
            if step % 50 == 0:
                bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()})
            if (step + 1) % self.options.save_every == 0 or step + 1 == self.steps:
                self.step = step + 1
                self.save()

    def save(self) -> None:
        state = {"modules": self.modules.state_dict(), "optimizer": self.optimizer.state_dict(),
                 "schedule": self.schedule.state_dict(), "step": self.step}  # fmt: skip
        with atomic_path(self.path) as temporary:
            torch.save(state, temporary)


def train_identity(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, options) -> None:
    nets = [model.ensemble, model.anchor_mlp]
    own = [p for net in nets for p in net.parameters()] + [model.point_input, model.point_bias, model.point_output]
    groups = [{"params": own, "lr": 2e-3}, {"params": list(codes.parameters()), "lr": 2e-3}]
    modules = torch.nn.ModuleDict({"ensemble": model.ensemble, "anchor_mlp": model.anchor_mlp, "codes": codes})
    modules.points = torch.nn.ParameterList([model.point_input, model.point_bias, model.point_output])
    trainer = Trainer("identity", options.identity_steps, groups, modules, options)

    def step(generator):
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch]
        points, distance = scans.sample(chosen.tolist(), (options.points // 2, options.points // 3, 48), generator)
        # Identity 0 is the mean head: its code stays zero.
        code = codes(chosen) * (chosen > 0)[:, None]
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

    trainer.run(step)


def correspondences(pool: dict, coefficients: torch.Tensor, count: int, generator: torch.Generator):
    """Canonical positions (B, P, 3) of `count` pool samples on heads (B, 100), with the samples' rows (P,)."""
    rows = torch.randint(len(pool["mean"]), (count,), generator=generator)
    identities = pool["identities"][rows].float()
    return pool["mean"][rows] + torch.einsum("bk,pkc->bpc", coefficients, identities), rows


def region_weights(region: torch.Tensor) -> torch.Tensor:
    """Head, face, lips, lids, mouth bag."""
    return torch.tensor([1.0, 1.5, 4.0, 5.0, 1.0])[region.long()]


def train_forward(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, pool: dict, options) -> None:
    net = model.forward_net
    groups = [{"params": [p for p in net.parameters() if p.requires_grad], "lr": 2e-3}]
    trainer = Trainer("forward", options.forward_steps, groups, net, options)
    extent = pool["expressions"].float().norm(dim=-1).amax(0) * MILLIMETRES
    scale = (extent / extent.median()).clamp_min(0.1).rsqrt()
    offset = net.coefficient_map.bias.detach()

    def step(generator):
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch]
        points, rows = correspondences(pool, scans.coefficients[chosen], options.points // 2, generator)
        moved = points + 0.006 * torch.randn(points.shape, generator=generator)
        half = torch.rand(points.shape[:2], generator=generator) < 0.5
        points = torch.where(half[..., None], moved, points)
        with torch.no_grad():
            code = codes(chosen) * (chosen > 0)[:, None]
            code = code + 0.02 * torch.randn(code.shape, generator=generator)
            controls, glob = model.controls(code), model.split_identity(code)[0]
        error = (net.basis(points, controls, glob) - pool["expressions"][rows].float()) * MILLIMETRES
        weight = region_weights(pool["region"][rows])
        weight = weight / weight.mean()
        single = ((error.square().sum(-1) + 1e-4).sqrt() * scale).mean(-1)
        mixed = torch.einsum("bpkc,mk->bpmc", error, sample_weights(8, generator) + offset)
        mixed = (mixed.square().sum(-1) + 1e-4).sqrt().mean(-1)
        return {
            "single": (single * weight).mean(),
            "mixed": 0.5 * (mixed * weight).mean(),
        }

    trainer.run(step)


def train_backward(model: NPHMModel, codes: torch.nn.Embedding, scans: Scans, pool: dict, options) -> None:
    model.forward_net.requires_grad_(False)
    groups = [{"params": list(model.backward_net.parameters()), "lr": 2e-3}]
    trainer = Trainer("backward", options.backward_steps, groups, model.backward_net, options)
    offset = model.forward_net.coefficient_map.bias

    def step(generator):
        chosen = torch.randperm(len(scans), generator=generator)[: options.batch]
        points, rows = correspondences(pool, scans.coefficients[chosen], options.points // 2, generator)
        # All weights a little off, and the motion with them: codes that are fitted are never exactly zero.
        weights = sample_weights(len(chosen), generator)
        weights = weights + 0.03 * torch.randn(weights.shape, generator=generator)
        motion = torch.einsum("pkc,bk->bpc", pool["expressions"][rows].float(), weights + offset)
        noise = 0.006 * torch.randn(points.shape, generator=generator)
        half = torch.rand(points.shape[:2], generator=generator) < 0.5
        posed = points + motion + noise * half[..., None]
        with torch.no_grad():
            code = codes(chosen) * (chosen > 0)[:, None]
            code = code + 0.02 * torch.randn(code.shape, generator=generator)
            expression = model.expression_from_weights(weights)
        error = (model.deform_backward(posed, code, expression) + motion) * MILLIMETRES
        error = (error.square().sum(-1) + 1e-4).sqrt()
        weight = region_weights(pool["region"][rows])
        free = torch.rand(points.shape[0], 16, 3, generator=generator) - 0.5
        return {
            "corresp": (error * weight / weight.mean()).mean(),
            "free": 0.05 * MILLIMETRES * model.deform_backward(free, code, expression).square().sum(-1).mean(),
        }

    trainer.run(step)


@torch.no_grad()
def name_identities(model: NPHMModel, codes: torch.Tensor, count: int) -> None:
    """Store `count` codes with the head: the mean head, then people far from one another whose surface is sound.

    The third with the largest codes is left out (caricatures), and so is the half of the rest whose surface has most
    handles, pierced ears and nostrils: a closed surface with g handles has Euler characteristic 2 - 2 g.
    """
    codes = codes.clone()
    codes[0] = 0
    order = codes.norm(dim=1).argsort()[: max(count, 2 * len(codes) // 3)]
    low, high = torch.tensor(model.config.bounds)
    axes = [
        np.linspace(float(a), float(b), 16 * round(6 * float(b - a) / 1.4) + 1) for a, b in zip(low, high, strict=True)
    ]
    handles = []
    for i in tqdm(order.tolist(), desc="surfaces"):

        def field(points, code=codes[i : i + 1]):
            parts = torch.from_numpy(points).split(8192)
            return torch.cat([model.sdf(part[None], code)[0] for part in parts]).numpy()

        vertices, faces = extract_surface(field, axes)
        handles.append(1 - (len(vertices) - len(faces) // 2) // 2)
    sound = order[torch.tensor(handles).argsort(stable=True)[: max(count, len(order) // 2)]].tolist()
    sound = [0] + [i for i in sound if i != 0]
    candidates = codes[sound]
    chosen = [0]
    while len(chosen) < min(count, len(candidates)):
        chosen.append(int(torch.cdist(candidates, candidates[chosen]).amin(1).argmax()))
    print(f"handles of {len(order)} surfaces: {sorted(handles)}; named: {[sound[i] for i in chosen]}")
    model.identity_codes[: len(chosen)] = candidates[chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder written by build_heads.py")
    parser.add_argument("--output", type=Path, required=True, help="checkpoints, and the finished head in head/")
    parser.add_argument("--identity-steps", type=int, default=5000)
    parser.add_argument("--forward-steps", type=int, default=4000)
    parser.add_argument("--backward-steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=16, help="identities a step")
    parser.add_argument("--points", type=int, default=600, help="points an identity and step")
    parser.add_argument("--named-identities", type=int, default=32)
    parser.add_argument("--save-every", type=int, default=250)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    scans = Scans(options.data)
    model = build_model(scans, options)
    codes = torch.nn.Embedding(len(scans), model.identity_dim)
    glob = model.config.glob_dim
    torch.nn.init.normal_(codes.weight, std=1e-3)
    codes.weight.data[:, :glob] = 0.3 * scans.coefficients[:, :glob]

    train_identity(model, codes, scans, options)
    codes.requires_grad_(False)
    pool = {name: torch.from_numpy(array) for name, array in np.load(options.data / "template.npz").items()}
    train_forward(model, codes, scans, pool, options)
    # A resumed forward network brings the E that it was trained with; a head with a backward network draws another.
    model.expression_basis.copy_(model.forward_net.coefficient_map.weight.T)
    if options.backward_steps:
        train_backward(model, codes, scans, pool, options)

    name_identities(model, codes.weight.detach(), options.named_identities)
    model.eval().half().save_pretrained(options.output / "head")


if __name__ == "__main__":
    main()
