# SPDX-License-Identifier: MIT
"""Files as NPHM and MonoNPHM write them, with random weights, and heads made of them."""

import math
from pathlib import Path

import numpy as np
import torch
from components import CODE_DIM

from facetalk_hf import NPHMModel


GLOB, LOC, EXPR, APP_GLOB, APP_LOC = 5, 3, 7, 6, 4


def linear(state: dict, name: str, size: int, inputs: int, count: int | None = None) -> None:
    shape = () if count is None else (count,)
    state[f"{name}.weight"] = torch.randn(*shape, size, inputs) * 1.5 / math.sqrt(inputs)
    state[f"{name}.bias"] = torch.randn(*shape, size) * 0.2


def anchor_layers(state: dict, hidden: int, count: int) -> None:
    for index, (size, inputs) in {0: (hidden, GLOB), 2: (hidden, hidden), 4: (3 * count, hidden)}.items():
        linear(state, f"mlp_pos.{index}", size, inputs)
    state["mlp_pos.4.weight"] *= 0.02
    state["mlp_pos.4.bias"] *= 0.02


def nphm_files(folder: Path, mode: str = "compress", codes: bool = True) -> dict:
    """Write identity and expression checkpoints and anchors; gives the arguments of `convert_nphm`."""
    torch.manual_seed(0)
    identity, expression = {}, {}
    seen = 3 + GLOB + LOC
    for layer, (size, inputs) in enumerate([(16, seen), (16 - seen, 16), (16, 16), (16, 16), (1, 16)]):
        linear(identity, f"ensembled_deep_sdf.lin{layer}", size, inputs, 24)
    anchor_layers(identity, 12, 39)
    identity_dim = GLOB + 40 * LOC
    extra = {"compress": 32, "glob_only": GLOB, "expr_only": 0}[mode]
    if mode == "compress":
        linear(expression, "compressor.0", 32, identity_dim + 117)
    seen, hidden = 3 + extra + EXPR, 52
    sizes = [(hidden, seen), (hidden, hidden), (hidden - seen, hidden), *[(hidden, hidden)] * 3, (3, hidden)]
    for layer, (size, inputs) in enumerate(sizes):
        linear(expression, f"defDeepSDF.lin{layer}", size, inputs)
    files = []
    for name, state, size in (("identity", identity, identity_dim), ("expression", expression, EXPR)):
        file = {"epoch": 7, "decoder_state_dict": state, "optimizer_encoder_state_dict": {"state": {}}}
        if codes:
            file["latent_codes_state_dict"] = {"weight": torch.randn(4, size) * 0.3}
            file["latent_codes_val_state_dict"] = {"weight": torch.randn(2, size) * 0.3}
        files.append(folder / f"{name}.tar")
        torch.save(file, files[-1])
    return {"identity_checkpoint": files[0], "expression_checkpoint": files[1], "anchors": write_anchors(folder, 39)}


def mononphm_files(folder: Path, codes: bool = True) -> dict:
    """Write a checkpoint and anchors; gives the arguments of `convert_mononphm`."""
    torch.manual_seed(0)
    identity, expression = {}, {}
    for member in range(36):
        for index, (size, inputs) in {
            0: (10, GLOB + LOC + 5),
            2: (10, 10),
            4: (10, 10),
            6: (10, 10),
            8: (1, 10),
        }.items():
            linear(identity, f"deepSDFensemble.layers.{member}.layers.{index}", size, inputs)
        app = {0: (9, APP_GLOB + APP_LOC + 6), 2: (9, 9), 4: (9, 9), 6: (9, 9), 8: (3, 9)}
        for index, (size, inputs) in app.items():
            linear(identity, f"aggr_app.layers.{member}.layers.{index}", size, inputs)
    linear(identity, "communcation_bottleneck1", 8, 10)
    linear(identity, "communcation_bottleneck2", 6, 8)
    anchor_layers(identity, 12, 65)
    geometry = GLOB + 66 * LOC
    linear(expression, "compressor.0", 16, geometry + 195)
    seen = 3 + 16 + EXPR
    for layer, (size, inputs) in enumerate(
        [(20, seen), (20, 20), (20, 20), (20, 20 + seen), (20, 20), (20, 20), (5, 20)]
    ):
        linear(expression, f"defDeepSDF.lin{layer}", size, inputs)
    expression["defDeepSDF.lin6.weight"] *= 0.1
    file = {"epoch": 7, "id_decoder": identity, "ex_decoder": expression, "optimizer_lat": ({"state": {}},)}
    if codes:
        sizes = {"geo": (4, geometry), "app": (4, APP_GLOB + 66 * APP_LOC), "exp": (6, EXPR)}
        file["latent_codes"] = {
            f"codebook.{name}.embedding.weight": torch.randn(*shape) * 0.3 for name, shape in sizes.items()
        }
    torch.save(file, folder / "mono.tar")
    return {"checkpoint": folder / "mono.tar", "anchors": write_anchors(folder, 65)}


def write_anchors(folder: Path, count: int) -> Path:
    path = folder / f"anchors_{count}.npy"
    np.save(path, np.random.default_rng(0).uniform(-0.4, 0.4, (count, 3)).astype(np.float32))
    return path


def layer(state: dict, name: str, x: torch.Tensor, member: int | None = None) -> torch.Tensor:
    weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
    return weight @ x + bias if member is None else weight[member] @ x + bias[member]


def inputs(model: NPHMModel, count: int = 24) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(2, count, 3, generator=generator) * torch.tensor([1.1, 1.2, 1.3]) - 0.6
    identity = torch.randn(2, model.identity_dim, generator=generator) * 0.3
    return points, identity, torch.randn(2, model.config.expression_dim, generator=generator) * 0.3


def official_head(kind: str, backward: bool, seed: int = 0) -> NPHMModel:
    """A small head of official networks whose surface is a ball of 100 mm and whose motion is small and smooth."""
    torch.manual_seed(seed)
    mono = kind == "mononphm"
    ensemble = {"kind": kind, "anchor_hidden_size": 6, "sizes": [16, 16, 16, 1]}
    if mono:
        ensemble |= {"hyper_dim": 2, "appearance_dims": [3, 2], "color_sizes": [8, 8, 3], "bottleneck_sizes": [4, 5]}
    head = NPHMModel(
        num_anchors=30, num_symmetric_pairs=10, glob_dim=4, loc_dim=3, expression_dim=CODE_DIM,
        deformation="backward" if backward else "forward", forward_type="concat", num_identities=2,
        bounds=((-0.55, -0.5, -0.6), (0.55, 0.6, 0.5)), official_ensemble=ensemble,
        official_deformation={"sizes": [24, 24, 5 if mono else 3], "condition": "compress", "compressed_dim": 4},
    )  # fmt: skip
    with torch.no_grad():
        place = torch.nn.functional.normalize(torch.randn(30, 3), dim=1) * 0.4
        place[1:20:2] = place[0:20:2] * torch.tensor([-1.0, 1, 1])
        head.anchor_mean.copy_(place)
        head.anchor_mlp[-1].weight.mul_(0.05)
        head.anchor_mlp[-1].bias.zero_()
        net = head.backward_net if backward else head.forward_net
        net.net.weights[-1].mul_(0.03)
        head.identity_codes[1] = 0.05
    optimizer = torch.optim.Adam(head.ensemble.members.parameters(), lr=1e-2)
    for _ in range(80):
        points = torch.nn.functional.normalize(torch.randn(1, 250, 3), dim=-1) * (0.25 + 0.3 * torch.rand(1, 250, 1))
        error = head.sdf(points, torch.zeros(1, head.identity_dim)) - (points.norm(dim=-1) - 0.4)
        optimizer.zero_grad()
        error.abs().mean().backward()
        optimizer.step()
    return head.eval()
