# SPDX-License-Identifier: MIT
"""Converted NPHM and MonoNPHM checkpoints against their formulas, written out point by point in float64."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import assert_one_line, facetalk  # noqa: F401
from official import APP_GLOB, APP_LOC, EXPR, GLOB, LOC, inputs, layer, mononphm_files, nphm_files  # noqa: F401

from facetalk_hf import FaceTalkError, NPHMModel
from facetalk_hf.conversion.convert import convert_mononphm, convert_nphm


FIXTURES = Path(__file__).parents[3] / "shared" / "data" / "nphm_reference"
TOLERANCE = {"atol": 2e-5, "rtol": 2e-6}


# What the training scripts of NPHM and MonoNPHM save, in small


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


def double(state: dict) -> dict:
    return {name: value.double() for name, value in state.items()}


# The formulas, one point and one member at a time


def softplus(x: torch.Tensor) -> torch.Tensor:
    return torch.where(100 * x > 20, x, torch.log1p(torch.exp(100 * x.clamp(max=0.2))) / 100)


def plain_anchors(state: dict, mean: torch.Tensor, glob: torch.Tensor) -> torch.Tensor:
    hidden = layer(state, "mlp_pos.0", glob).relu()
    return mean + layer(state, "mlp_pos.4", layer(state, "mlp_pos.2", hidden).relu()).view(-1, 3)


def plain_nphm(state: dict, anchors: torch.Tensor, x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    glob, local = code[:GLOB], code[GLOB:].view(40, LOC)
    above = below = 0
    for k in range(40):
        place = x - anchors[k] if k < 39 else x
        if k < 32 and k % 2:
            place = place * torch.tensor([-1.0, 1, 1])
        u, net = torch.cat([place, glob, local[k]]), k // 2 if k < 32 else k - 16
        h = softplus(layer(state, "ensembled_deep_sdf.lin0", u, net))
        h = softplus(layer(state, "ensembled_deep_sdf.lin1", h, net))
        h = torch.cat([h, u]) / math.sqrt(2)
        h = softplus(layer(state, "ensembled_deep_sdf.lin2", h, net))
        h = softplus(layer(state, "ensembled_deep_sdf.lin3", h, net))
        f = layer(state, "ensembled_deep_sdf.lin4", h, net)[0]
        w = torch.exp(-((place.norm() + 1e-5) ** 2) / 0.01) if k < 39 else math.exp(-0.2 / 0.01)
        above, below = above + w * f, below + w
    return above / (below + 1e-6)


def plain_deformation(state: dict, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    u = h = torch.cat([x, condition])
    for index in range(6):
        if index == 3:
            h = torch.cat([h, u]) / math.sqrt(2)
        h = softplus(layer(state, f"defDeepSDF.lin{index}", h))
    return layer(state, "defDeepSDF.lin6", h)


def plain_mononphm(state: dict, anchors: torch.Tensor, q: torch.Tensor, geo: torch.Tensor, app: torch.Tensor):
    """(sdf, rgb) at q = [x, hyper]."""
    distance = (q[:3] - anchors).norm(dim=1)
    order = distance.argsort()
    members = [*order[:12].tolist(), 65]
    s = distance[order[7]] / 3.75
    distance = torch.cat([distance, torch.tensor([0.75])])
    w = torch.stack([torch.exp(-0.5 * (distance[k] / s) ** 2) for k in members])
    w = w / (w.sum() + 1e-8)
    result = 0
    for weight, k in zip(w, members, strict=True):
        place = q - torch.cat([anchors[k], torch.zeros(2)]) if k < 65 else q
        if k < 60 and k % 2:
            place = place * torch.tensor([-1.0, 1, 1, 1, 1])
        net = k // 2 if k < 60 else k - 30
        name = f"deepSDFensemble.layers.{net}.layers"
        h = torch.cat([geo[:GLOB], geo[GLOB:].view(66, LOC)[k], place])
        for index in (0, 2, 4, 6):
            feature = layer(state, f"{name}.{index}", h)
            h = softplus(feature)
        f = layer(state, f"{name}.8", h)
        feature = layer(state, "communcation_bottleneck2", layer(state, "communcation_bottleneck1", feature).relu())
        c = torch.cat([app[:APP_GLOB], app[APP_GLOB:].view(66, APP_LOC)[k], feature])
        for index in (0, 2, 4, 6):
            c = layer(state, f"aggr_app.layers.{net}.layers.{index}", c).relu()
        c = layer(state, f"aggr_app.layers.{net}.layers.8", c)
        result = result + weight * torch.cat([f, c])
    return result[0], result[1:]


@pytest.fixture(autouse=True)
def float64_constants():
    """Plain formulas are float64 throughout; converted models are float32 whatever the default is."""
    yield
    torch.set_default_dtype(torch.float32)


def gradient(value: torch.Tensor, *wanted: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(value.sum(), wanted)


def compare(value: torch.Tensor, expected: torch.Tensor, **tolerance: float) -> None:
    torch.testing.assert_close(value.double(), expected.double().view(value.shape), **(TOLERANCE | tolerance))


@pytest.mark.parametrize("mode", ["compress", "glob_only", "expr_only"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_nphm_equals_its_formulas(tmp_path, mode, backward):
    files = nphm_files(tmp_path, mode)
    convert_nphm(**files, output=tmp_path / "head", backward=backward)
    model = NPHMModel.from_pretrained(tmp_path / "head")
    assert model.config.deformation == ("backward" if backward else "forward")
    points, identity, expression = (value.requires_grad_() for value in inputs(model))
    results = [model.sdf(points, identity), model.anchors(identity), model.deform(points, identity, expression)]
    with torch.no_grad():
        compare(model.sdf(points, identity), results[0])
    if backward:
        results.append(model.posed_sdf(points, identity, expression))
    gradients = gradient(results[0], points, identity) + gradient(results[2], points, expression)

    torch.set_default_dtype(torch.float64)
    net, ex = (double(read(files[f"{name}_checkpoint"])["decoder_state_dict"]) for name in ("identity", "expression"))
    mean = torch.from_numpy(np.load(files["anchors"])).double()
    x, z, e = (value.detach().double().requires_grad_() for value in (points, identity, expression))
    anchors = torch.stack([plain_anchors(net, mean, row[:GLOB]) for row in z])
    sdf = torch.stack([torch.stack([plain_nphm(net, anchors[b], p, z[b]) for p in x[b]]) for b in range(2)])
    offsets = []
    for b in range(2):
        condition = {
            "compress": lambda b=b: layer(ex, "compressor.0", torch.cat([z[b], anchors[b].flatten()])),
            "glob_only": lambda b=b: z[b, :GLOB],
            "expr_only": lambda: torch.zeros(0),
        }[mode]()
        offsets.append(torch.stack([plain_deformation(ex, p, torch.cat([condition, e[b]])) for p in x[b]]))
    offsets = torch.stack(offsets)
    expected = [sdf, anchors, offsets]
    if backward:
        moved = x + offsets
        expected.append(
            torch.stack([torch.stack([plain_nphm(net, anchors[b], p, z[b]) for p in moved[b]]) for b in range(2)])
        )
    for value, right in zip(results, expected, strict=True):
        compare(value, right)
    for value, right in zip(
        gradients, [*torch.autograd.grad(sdf.sum(), (x, z), retain_graph=True), *gradient(offsets, x, e)], strict=True
    ):
        compare(value, right)


def test_mononphm_equals_its_formulas(tmp_path):
    files = mononphm_files(tmp_path)
    convert_mononphm(**files, output=tmp_path / "head")
    model = NPHMModel.from_pretrained(tmp_path / "head")
    points, identity, expression = inputs(model, 12)
    points.requires_grad_()
    sdf, color = model.posed_sdf(points, identity, expression), model.color(points, identity, expression)
    deformation, slope = model.deform(points, identity, expression), gradient(sdf, points)[0]
    canonical = model.sdf(points, identity), model.color(points, identity)

    torch.set_default_dtype(torch.float64)
    net, ex = (double(read(files["checkpoint"])[f"{name}_decoder"]) for name in ("id", "ex"))
    mean = torch.from_numpy(np.load(files["anchors"])).double()
    for b in range(2):
        z, e = identity[b].double(), expression[b].double()
        geo, app = z.split([GLOB + 66 * LOC, APP_GLOB + 66 * APP_LOC])
        anchors = plain_anchors(net, mean, geo[:GLOB])
        compare(model.anchors(identity)[b], anchors)
        condition = torch.cat([layer(ex, "compressor.0", torch.cat([geo, anchors.flatten()])), e])
        for i in range(12):
            x = points[b, i].detach().double().requires_grad_()
            offset = plain_deformation(ex, x, condition)
            f, c = plain_mononphm(net, anchors, torch.cat([x, torch.zeros(2)]) + offset, geo, app)
            compare(deformation[b, i], offset)
            compare(sdf[b, i], f)
            compare(color[b, i], c)
            compare(slope[b, i], gradient(f, x)[0])
            f, c = plain_mononphm(net, anchors, torch.cat([x, torch.zeros(2)]), geo, app)
            compare(canonical[0][b, i], f)
            compare(canonical[1][b, i], c)


def test_last_point_is_like_any_other(tmp_path):
    """The published code puts 1 into the last point of a batch in eval mode."""
    model = convert_nphm(**nphm_files(tmp_path)).eval()
    points, identity, _ = inputs(model)
    compare(model.sdf(points, identity)[:, :5], model.sdf(points[:, :5], identity))


def test_codebooks_become_named_codes(tmp_path):
    files = nphm_files(tmp_path)
    model = convert_nphm(**files)
    for name, codes in (("identity", model.identity_codes), ("expression", model.expression_codes)):
        assert torch.equal(codes, read(files[f"{name}_checkpoint"])["latent_codes_state_dict"]["weight"])
    files = mononphm_files(tmp_path)
    model, books = convert_mononphm(**files), read(files["checkpoint"])["latent_codes"]
    both = torch.cat([books[f"codebook.{name}.embedding.weight"] for name in ("geo", "app")], dim=1)
    assert torch.equal(model.identity_codes, both)
    assert torch.equal(model.expression_codes, books["codebook.exp.embedding.weight"])
    assert model.sample_identity(torch.Generator().manual_seed(0)).shape == (model.identity_dim,)


def test_files_without_codebooks(tmp_path):
    model = convert_nphm(**nphm_files(tmp_path, codes=False), output=tmp_path / "head")
    assert NPHMModel.from_pretrained(tmp_path / "head").identity_codes.shape == (0, model.identity_dim)
    with pytest.raises(FaceTalkError, match="named identities"):
        model.sample_identity()
    files = nphm_files(tmp_path, "glob_only", codes=False)
    with pytest.raises(FaceTalkError, match="choose mode"):
        convert_nphm(**files)
    assert convert_nphm(**files, mode="glob_only").config.expression_dim == EXPR
    assert convert_nphm(**files, mode="expr_only").config.expression_dim == EXPR + GLOB
    with pytest.raises(FaceTalkError, match="no compressor"):
        convert_nphm(**files, mode="compress")
    with pytest.raises(FaceTalkError, match="mode must be"):
        convert_nphm(**files, mode="everything")
    # Without a codebook the local appearance code is taken to be as large as the local geometry code.
    model = convert_mononphm(**mononphm_files(tmp_path, codes=False))
    assert list(model.config.official_ensemble["appearance_dims"]) == [APP_GLOB + APP_LOC - LOC, LOC]


def test_what_a_converted_head_lacks_is_said(tmp_path):
    model = convert_nphm(**nphm_files(tmp_path))
    points, identity, expression = inputs(model)
    for call in (lambda: model.landmarks(identity), lambda: model.color(points, identity, expression)):
        with pytest.raises(FaceTalkError):
            call()


# Bad input


def change(path: Path, edit) -> None:
    file = read(path)
    edit(file)
    torch.save(file, path)


BAD = {
    "cut short": lambda f: f["identity_checkpoint"].write_bytes(f["identity_checkpoint"].read_bytes()[:5000]),
    "checkpoint": lambda f: f["identity_checkpoint"].write_bytes(b"not a zip at all" * 9),
    "no checkpoint": lambda f: f["expression_checkpoint"].unlink(),
    "of torch.save": lambda f: f["expression_checkpoint"].write_bytes(b""),
    "more than tensors": lambda f: torch.save({"a": Path("x")}, f["identity_checkpoint"]),
    "list": lambda f: torch.save([1], f["identity_checkpoint"]),
    "decoder_state_dict": lambda f: torch.save({"epoch": 1}, f["identity_checkpoint"]),
    "MonoNPHM": lambda f: torch.save({"id_decoder": {}}, f["identity_checkpoint"]),
    "swapped": lambda f: f["expression_checkpoint"].write_bytes(f["identity_checkpoint"].read_bytes()),
    "mlp_pos.2.weight": lambda f: change(
        f["identity_checkpoint"], lambda file: file["decoder_state_dict"].pop("mlp_pos.2.weight")
    ),
    "don't serve": lambda f: change(
        f["identity_checkpoint"],
        lambda file: file["decoder_state_dict"].update(
            {k: v[:20] for k, v in file["decoder_state_dict"].items() if "sdf" in k}
        ),
    ),
    "lacks": lambda f: change(
        f["expression_checkpoint"], lambda file: file["decoder_state_dict"].update(gnn=torch.zeros(3))
    ),
    "finite": lambda f: change(
        f["expression_checkpoint"], lambda file: file["decoder_state_dict"]["compressor.0.bias"].fill_(torch.nan)
    ),
    "compresses": lambda f: change(
        f["expression_checkpoint"],
        lambda file: file["decoder_state_dict"].update({"compressor.0.weight": torch.zeros(32, 1461)}),
    ),
    "layer before": lambda f: change(
        f["expression_checkpoint"],
        lambda file: file["decoder_state_dict"].update({"defDeepSDF.lin4.weight": torch.zeros(52, 50)}),
    ),
    "are missing": lambda f: change(
        f["expression_checkpoint"], lambda file: file["decoder_state_dict"].pop("defDeepSDF.lin2.weight")
    ),
    "identity codes have": lambda f: change(
        f["identity_checkpoint"], lambda file: file.update(latent_codes_state_dict={"weight": torch.zeros(4, 9)})
    ),
    "no anchors": lambda f: f["anchors"].unlink(),
    "NumPy": lambda f: f["anchors"].write_bytes(b"x"),
    "39 anchors": lambda f: np.save(f["anchors"], np.zeros((65, 3))),
    "model units": lambda f: np.save(f["anchors"], 250 * np.load(f["anchors"])),
}


@pytest.mark.parametrize("word", BAD)
def test_bad_files_get_one_line(tmp_path, word, facetalk):  # noqa: F811
    files = nphm_files(tmp_path)
    BAD[word](files)
    options = [part for name, path in files.items() for part in (f"--{name.replace('_', '-')}", path)]
    assert_one_line(facetalk("convert", "nphm", *options, "--output", tmp_path / "head"), word)
    assert not (tmp_path / "head").exists()


def test_bad_mononphm_files(tmp_path, facetalk):  # noqa: F811
    files = mononphm_files(tmp_path)
    out = ("--anchors", files["anchors"], "--output", tmp_path / "head")
    other = nphm_files(tmp_path)["identity_checkpoint"]
    assert_one_line(facetalk("convert", "mononphm", "--checkpoint", other, *out), "NPHM checkpoint")
    name = "deepSDFensemble.layers.17.layers.4.weight"
    change(files["checkpoint"], lambda file: file["id_decoder"].pop(name))
    assert_one_line(facetalk("convert", "mononphm", "--checkpoint", files["checkpoint"], *out), "missing")


def test_command_converts(tmp_path, facetalk):  # noqa: F811
    files = mononphm_files(tmp_path)
    (tmp_path / "taken").write_text("")
    options = ("convert", "mononphm", "--checkpoint", files["checkpoint"], "--anchors", files["anchors"], "--output")
    assert_one_line(facetalk(*options, tmp_path / "taken"), "taken")
    code, out, _ = facetalk(*options, tmp_path / "head")
    assert code == 0 and "65 anchors" in out
    assert sorted(path.name for path in (tmp_path / "head").iterdir()) == [
        "config.json", "diffusion_pytorch_model.safetensors",
    ]  # fmt: skip


# The authors' own outputs

needs_fixtures = pytest.mark.skipif(
    not FIXTURES.is_dir(), reason="needs outputs of the official code in ../shared/data/nphm_reference"
)


@needs_fixtures
@pytest.mark.parametrize(
    ("identity", "name"), [("dev_nphm", "dev_nphm"), ("dev_nphm_tiny",) * 2, ("dev_nphm", "dev_nphm_globonly")]
)
def test_nphm_equals_official_outputs(tmp_path, identity, name):
    arrays = {key: torch.from_numpy(value) for key, value in np.load(FIXTURES / f"{name}.npz").items()}
    points = arrays["points"].requires_grad_()
    codes = [arrays[key][:, 0].requires_grad_() for key in ("z_id", "z_expr")]
    files = f"{identity}_id_checkpoint_epoch_15000.tar", f"{name}_expr_checkpoint_epoch_2500.tar", "anchors_39.npy"
    for backward in (False, True):
        convert_nphm(*(FIXTURES / file for file in files), tmp_path, backward)
        model = NPHMModel.from_pretrained(tmp_path)
        offsets = model.deform(points, *codes)
        compare(offsets, arrays["offsets"])
        rows = [torch.autograd.grad(offsets[..., i].sum(), points, retain_graph=True)[0] for i in range(3)]
        compare(torch.stack(rows, dim=-2), arrays["offsets_jac"])
        # A sum over 1536 numbers, up to 91: the reference's float32 is itself 4e-5 from the exact sum.
        total = arrays["offsets_sum_grad_z_expr"]
        compare(gradient(offsets, codes[1])[0], total, atol=1e-6 * float(total.abs().max()))
        if "sdf" not in arrays:
            continue
        compare(model.anchors(codes[0]), arrays["anchors"])
        sdf = model.sdf(points, codes[0])
        compare(sdf, arrays["sdf"])
        slope, codes_slope = gradient(sdf, points, codes[0])
        compare(slope, arrays["sdf_grad"])
        compare(codes_slope, arrays["sdf_sum_grad_z_id"])
        if backward:
            compare(model.posed_sdf(points, *codes), arrays["sdf_backward"])


@needs_fixtures
def test_mononphm_equals_official_outputs(tmp_path):
    arrays = {key: torch.from_numpy(value) for key, value in np.load(FIXTURES / "dev_mononphm.npz").items()}
    points, expression = arrays["points"].requires_grad_(), arrays["z_exp"][:, 0]
    identity = torch.cat([arrays["z_geo"], arrays["z_app"]], dim=-1)[:, 0]
    convert_mononphm(FIXTURES / "dev_mononphm_checkpoint_epoch_2500.tar", FIXTURES / "anchors_65.npy", tmp_path)
    model = NPHMModel.from_pretrained(tmp_path)
    compare(model.anchors(identity), arrays["anchors"])
    sdf = model.posed_sdf(points, identity, expression)
    compare(sdf, arrays["sdf"])
    compare(gradient(sdf, points)[0], arrays["gradient"])
    compare(model.color(points, identity, expression), arrays["color"])
    compare(model.deform(points, identity, expression), torch.cat([arrays["offsets"], arrays["hyper_coords"]], -1))
    compare(model.sdf(arrays["queries_can"], identity), arrays["sdf"])
    compare(model.sdf(points, identity), arrays["sdf_id_only_zero_hyper"])
    compare(model.color(points, identity), arrays["color_id_only_zero_hyper"])
