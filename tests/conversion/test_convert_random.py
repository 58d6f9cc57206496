# SPDX-License-Identifier: MIT
"""Converted checkpoints of random sizes against NPHM's and MonoNPHM's formulas, dense and in float64.

The formulas are written here from the tensors' names alone; no module of the library takes part in them.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from facetalk_hf import NPHMModel
from facetalk_hf.conversion.convert import convert_mononphm, convert_nphm


class Maker:
    """Random sizes and tensors of one seed; `state` collects tensors under what DataParallel may put before them."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.prefix = ("", "module.", "_orig_mod.", "module._orig_mod.")[seed % 4]
        self.dtype = (torch.float32, torch.float64)[seed % 2]

    def size(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def linear(self, state: dict, name: str, size: int, inputs: int, *count: int, scale: float = 1.3) -> None:
        weight = scale * torch.randn(*count, size, inputs) / math.sqrt(inputs)
        state[f"{self.prefix}{name}.weight"] = weight.to(self.dtype)
        state[f"{self.prefix}{name}.bias"] = (0.2 * scale * torch.randn(*count, size)).to(self.dtype)

    def anchors(self, state: dict, path: Path, glob: int, count: int) -> None:
        hidden = self.size(3, 20)
        for index, (size, inputs) in {0: (hidden, glob), 2: (hidden, hidden), 4: (3 * count, hidden)}.items():
            self.linear(state, f"mlp_pos.{index}", size, inputs, scale=1.3 if index < 4 else 0.03)
        mean = self.rng.uniform(-0.4, 0.4, (count, 3)).astype((np.float32, np.float64)[self.size(0, 1)])
        shape = ((count, 3), (1, count, 3), (3 * count,), (1, 3 * count))[self.size(0, 3)]
        np.save(path, mean.reshape(shape))


def tensors(state: dict) -> dict:
    """Float64 tensors by their names without what wraps them."""
    return {name.split("module.")[-1].split("_orig_mod.")[-1]: value.double() for name, value in state.items()}


def softplus(x):
    return torch.where(100 * x > 20, x, torch.log1p(torch.exp(100 * x.clamp(max=0.2))) / 100)


def linear(state, name, x):
    weight, bias = state[f"{name}.weight"].float().double(), state[f"{name}.bias"].float().double()
    return x @ weight.mT + (bias if weight.ndim == 2 else bias[:, None])


def mlp(state, names, x, skip=None, activation=softplus):
    """Layers by name; before layer `skip` the input joins again. Also gives the rows before the last activation."""
    h = feature = x
    for index, name in enumerate(names):
        if index == skip:
            h = torch.cat([h, x], -1) / math.sqrt(2)
        feature, h = h if index == 0 else feature, linear(state, name, h)
        if index < len(names) - 1:
            feature, h = h, activation(h)
    return h, feature


def plain_anchors(state, mean, glob):
    hidden = linear(state, "mlp_pos.2", linear(state, "mlp_pos.0", glob).relu()).relu()
    return mean.reshape(-1, 3).float().double() + linear(state, "mlp_pos.4", hidden).view(-1, 3)


def deformation(state, layers, skip, x, condition):
    inputs = torch.cat([x, condition.expand(len(x), -1)], -1)
    return mlp(state, [f"defDeepSDF.lin{i}" for i in range(layers)], inputs, skip)[0]


def local_inputs(x, anchors, pairs):
    """(K + 1, P, 3 + H) local coordinates: the point minus the anchor, mirrored for the right one of a pair."""
    centers = torch.cat([anchors, torch.zeros(1, 3).double()])
    local = x[None] - torch.nn.functional.pad(centers, (0, x.shape[1] - 3))[:, None]
    sign = torch.ones(len(centers), 1, x.shape[1]).double()
    sign[1 : 2 * pairs : 2, :, 0] = -1
    return local * sign


def networks(anchors, pairs):
    return [k // 2 if k < 2 * pairs else k - pairs for k in range(len(anchors) + 1)]


def compare(value, expected):
    torch.testing.assert_close(value.double(), expected.view(value.shape), atol=3e-6, rtol=3e-6)


def draw(model, count):
    points = torch.rand(1, count, 3) * 1.2 - 0.6
    codes = 0.3 * torch.randn(1, model.identity_dim), 0.3 * torch.randn(1, model.config.expression_dim)
    return [value.requires_grad_() for value in (points, *codes)]


def gradients(value, *inputs):
    return torch.autograd.grad(value.sum(), inputs, retain_graph=True, materialize_grads=True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", ["compress", "glob_only", "expr_only"])
def test_nphm(tmp_path, mode, seed):
    make = Maker(seed)
    glob, loc, expr = make.size(2, 9), make.size(1, 6), make.size(1, 12)
    count, pairs = (39, 16) if seed < 2 else (make.size(4, 30), make.size(0, 2))
    state, seen, depth = {}, 3 + glob + loc, make.size(2, 5)
    hidden, skip = seen + make.size(1, 20), depth // 2
    for i in range(depth + 1):
        size = 1 if i == depth else hidden - seen if i == skip - 1 else hidden
        make.linear(state, f"ensembled_deep_sdf.lin{i}", size, hidden if i else seen, count + 1 - pairs)
    make.anchors(state, tmp_path / "a.npy", glob, count)
    identity_dim, ex = glob + (count + 1) * loc, {}
    small = make.size(1, 33)
    extra = {"compress": small, "glob_only": glob, "expr_only": 0}[mode]
    if mode == "compress":
        make.linear(ex, "compressor.0", small, identity_dim + 3 * count)
    seen, ex_depth = 3 + extra + expr, make.size(2, 7)
    hidden, ex_skip = seen + make.size(1, 20), ex_depth // 2
    for i in range(ex_depth + 1):
        size = 3 if i == ex_depth else hidden - seen if i == ex_skip - 1 else hidden
        make.linear(ex, f"defDeepSDF.lin{i}", size, hidden if i else seen)
    files = {"epoch": seed, "decoder_state_dict": state}, {"epoch": seed, "decoder_state_dict": ex}
    book = ("latent_codes_state_dict", "latent_codes_val_state_dict")[seed % 2]
    files[1][book] = {"weight": torch.randn(make.size(1, 4), expr)}
    for name, file in zip(("id.tar", "ex.tar"), files, strict=True):
        torch.save(file, tmp_path / name)
    convert_nphm(
        tmp_path / "id.tar", tmp_path / "ex.tar", tmp_path / "a.npy", tmp_path / "out", backward=seed % 3 == 0
    )
    model = NPHMModel.from_pretrained(tmp_path / "out")
    assert model.config.official_deformation["condition"] == mode and model.config.num_symmetric_pairs == pairs

    points, identity, expression = draw(model, 40)
    x, z, e = (value.detach()[0].double().requires_grad_() for value in (points, identity, expression))
    net, ex = tensors(state), tensors(ex)
    anchors = plain_anchors(net, torch.from_numpy(np.load(tmp_path / "a.npy")), z[:glob])
    condition = {
        "compress": lambda: linear(ex, "compressor.0", torch.cat([z, anchors.flatten()])),
        "glob_only": lambda: z[:glob],
        "expr_only": lambda: z[:0],
    }[mode]()
    offset = deformation(ex, ex_depth + 1, ex_skip, x, torch.cat([condition, e]))

    def field(x):
        local, codes = local_inputs(x, anchors, pairs), z[glob:].view(count + 1, 1, loc).expand(-1, len(x), -1)
        u = torch.cat([local, z[:glob].expand(count + 1, len(x), -1), codes], -1)
        picked = {name: value[networks(anchors, pairs)] for name, value in net.items() if "deep_sdf" in name}
        f = mlp(picked, [f"ensembled_deep_sdf.lin{i}" for i in range(depth + 1)], u, skip)[0][..., 0]
        distance = (x[None] - anchors[:, None]).norm(dim=-1)
        w = torch.cat([torch.exp(-((distance + 1e-5) ** 2) / 0.01), torch.full((1, len(x)), math.exp(-20)).double()])
        return (w * f).sum(0) / (w.sum(0) + 1e-6)

    sdf = model.sdf(points, identity), field(x)
    moved = model.deform(points, identity, expression), offset
    compare(model.anchors(identity), anchors)
    pairs_of_results = [(sdf, (0, 1)), (moved, (0, 1, 2))]
    if model.config.deformation == "backward":
        pairs_of_results.append(((model.posed_sdf(points, identity, expression), field(x + offset)), (0, 1, 2)))
    for (ours, plain), wanted in pairs_of_results:
        compare(ours, plain)
        found = gradients(ours, *[(points, identity, expression)[i] for i in wanted])
        for a, b in zip(found, gradients(plain, *[(x, z, e)[i] for i in wanted]), strict=True):
            compare(a, b)


@pytest.mark.parametrize("seed", range(6))
def test_mononphm(tmp_path, seed):
    make = Maker(seed)
    glob, loc, expr, hyper = make.size(2, 9), make.size(1, 6), make.size(1, 12), make.size(0, 3)
    app_glob, app_loc, wide = make.size(1, 6), make.size(1, 6), make.size(1, 7)
    count, pairs = (65, 30) if seed < 2 else (make.size(13, 30), make.size(0, 6))
    hidden, color, depth = make.size(4, 16), make.size(4, 16), make.size(2, 5)
    state, ex = {}, {}
    for member in range(count + 1 - pairs):
        for name, first, size, result in (
            ("deepSDFensemble", glob + loc + 3 + hyper, hidden, 1), ("aggr_app", app_glob + app_loc + wide, color, 3)
        ):  # fmt: skip
            for i in range(depth + 1):
                shape = result if i == depth else size, size if i else first
                make.linear(state, f"{name}.layers.{member}.layers.{2 * i}", *shape)
    narrow = make.size(2, 9)
    make.linear(state, "communcation_bottleneck1", narrow, hidden)
    make.linear(state, "communcation_bottleneck2", wide, narrow)
    make.anchors(state, tmp_path / "a.npy", glob, count)
    geometry, small = glob + (count + 1) * loc, make.size(1, 17)
    make.linear(ex, "compressor.0", small, geometry + 3 * count)
    seen, width, layers = 3 + small + expr, make.size(4, 24), make.size(3, 7)
    skip = make.size(1, layers - 1)
    for i in range(layers):
        inputs = seen if i == 0 else width + seen if i == skip else width
        make.linear(ex, f"defDeepSDF.lin{i}", 3 + hyper if i == layers - 1 else width, inputs, scale=0.8)
    sizes = {"geo": geometry, "app": app_glob + (count + 1) * app_loc, "exp": expr}
    books = {f"{make.prefix}codebook.{name}.embedding.weight": torch.randn(3, size) for name, size in sizes.items()}
    torch.save({"epoch": 1, "id_decoder": state, "ex_decoder": ex, "latent_codes": books}, tmp_path / "m.tar")
    convert_mononphm(tmp_path / "m.tar", tmp_path / "a.npy", tmp_path / "out")
    model = NPHMModel.from_pretrained(tmp_path / "out")
    assert len(model.identity_codes) == len(model.expression_codes) == 3

    points, identity, expression = draw(model, 30)
    x, z, e = (value.detach()[0].double().requires_grad_() for value in (points, identity, expression))
    net, ex = tensors(state), tensors(ex)
    geo, app = z.split([sizes["geo"], sizes["app"]])
    anchors = plain_anchors(net, torch.from_numpy(np.load(tmp_path / "a.npy")), geo[:glob])
    condition = torch.cat([linear(ex, "compressor.0", torch.cat([geo, anchors.flatten()])), e])
    offset = deformation(ex, layers, skip, x, condition)
    q = torch.cat([x + offset[:, :3], offset[:, 3:]], -1)
    distance = (q[None, :, :3] - anchors[:, None]).norm(dim=-1)
    order = distance.argsort(0)
    near = torch.zeros_like(distance).scatter(0, order[:12], 1.0)
    scale = distance.gather(0, order[7:8]) / 3.75
    w = torch.exp(-0.5 * (torch.cat([distance, torch.full((1, len(x)), 0.75).double()]) / scale) ** 2)
    w = w * torch.cat([near, torch.ones(1, len(x)).double()])
    w = w / (w.sum(0) + 1e-8)
    local, sdf, rgb = local_inputs(q, anchors, pairs), 0, 0
    for k, number in enumerate(networks(anchors, pairs)):
        rows = torch.cat([geo[:glob].expand(len(x), -1), geo[glob:].view(-1, loc)[k].expand(len(x), -1), local[k]], -1)
        names = [f"deepSDFensemble.layers.{number}.layers.{2 * i}" for i in range(depth + 1)]
        f, feature = mlp(net, names, rows)
        feature = linear(net, "communcation_bottleneck2", linear(net, "communcation_bottleneck1", feature).relu())
        codes = torch.cat([app[:app_glob], app[app_glob:].view(-1, app_loc)[k]]).expand(len(x), -1)
        names = [f"aggr_app.layers.{number}.layers.{2 * i}" for i in range(depth + 1)]
        c, _ = mlp(net, names, torch.cat([codes, feature], -1), activation=torch.relu)
        sdf, rgb = sdf + w[k] * f[:, 0], rgb + w[k, :, None] * c

    compare(model.anchors(identity), anchors)
    for ours, plain in (
        (model.deform(points, identity, expression), offset),
        (model.posed_sdf(points, identity, expression), sdf),
        (model.color(points, identity, expression), rgb),
    ):
        compare(ours, plain)
        for a, b in zip(gradients(ours, points, identity, expression), gradients(plain, x, z, e), strict=True):
            compare(a, b)
