# SPDX-License-Identifier: MIT
"""The head model against its formulas written out."""

import pytest
import torch

from facetalk_hf import NPHMModel
from facetalk_hf.models.deformation import ConcatDeformation
from facetalk_hf.models.ensemble import LocalEnsemble, blending_weights, encode


SIZE = {"num_anchors": 9, "num_symmetric_pairs": 3, "glob_dim": 6, "loc_dim": 4, "hidden_size": 16,
        "num_octaves": 2, "num_neighbors": 3, "expression_dim": 8, "rank": 5, "deformation_hidden_size": 16,
        "backward_hidden_size": 16, "backward_layers": 4, "num_identities": 5}  # fmt: skip


def make(**config) -> NPHMModel:
    torch.manual_seed(0)
    return NPHMModel(**(SIZE | config)).eval()


def inputs(model: NPHMModel, batch: int = 2, points: int = 50):
    generator = torch.Generator().manual_seed(1)
    return (
        0.3 * torch.randn(batch, points, 3, generator=generator),
        0.2 * torch.randn(batch, model.identity_dim, generator=generator),
        0.5 * torch.randn(batch, model.config.expression_dim, generator=generator),
    )


def test_shapes_and_batching():
    model = make(deformation="both", expression_names=["a", "b", "c"])
    points, identity, expression = inputs(model)
    results = {
        "sdf": model.sdf(points, identity),
        "anchors": model.anchors(identity),
        "landmarks": model.landmarks(identity),
        "deform": model.deform(points, identity, expression),
        "posed_sdf": model.posed_sdf(points, identity, expression),
    }
    shapes = {name: tuple(value.shape) for name, value in results.items()}
    assert shapes == {"sdf": (2, 50), "anchors": (2, 9, 3), "landmarks": (2, 68, 3), "deform": (2, 50, 3),
                      "posed_sdf": (2, 50)}  # fmt: skip
    for row in range(2):
        part = slice(row, row + 1)
        alone = model.posed_sdf(points[part], identity[part], expression[part])
        torch.testing.assert_close(alone, results["posed_sdf"][part], atol=1e-5, rtol=1e-4)
        alone = model.deform(points[part], identity[part], expression[part])
        torch.testing.assert_close(alone, results["deform"][part], atol=1e-5, rtol=1e-4)


def test_ensemble_equals_the_member_by_member_sum():
    """Grouping rows by network is bookkeeping: the blend must equal the formula written out."""
    torch.manual_seed(0)
    ensemble = LocalEnsemble(7, 2, 4, 3, 12, 3, 2, num_neighbors=3)
    points, anchors, codes = torch.randn(1, 20, 3) * 0.2, torch.randn(1, 7, 3) * 0.2, torch.randn(1, 8, 7)
    weight, index = blending_weights(points, anchors, 3)
    biases = [bias.view(1, 8, -1) for bias in ensemble.code_biases(codes)]
    expected = torch.zeros(20)
    for p in range(20):
        total = ensemble.global_weight
        members = [(7, torch.tensor(ensemble.global_weight))]
        members += [(int(k), w) for k, w in zip(index[0, p], weight[0, p], strict=True)]
        total = sum(w for _, w in members)
        for k, w in members:
            net = k // 2 if k < 4 else k - 2
            local = (points[0, p] - (anchors[0, k] if k < 7 else 0)) * ensemble.mirror[k] * 4.0
            x = encode(local, 2)
            h = torch.nn.functional.silu(x @ ensemble.input_weight[net] + biases[0][0, k])
            h = torch.nn.functional.silu(h @ ensemble.hidden_weights[0][net] + biases[1][0, k])
            h = h @ ensemble.hidden_weights[1][net] + x @ ensemble.skip_weight[net] + biases[2][0, k]
            value = torch.nn.functional.silu(h) @ ensemble.output_weight[net] + ensemble.output_bias[net]
            expected[p] += w * value[0] / total
    torch.testing.assert_close(ensemble(points, anchors, codes)[0], expected, atol=1e-5, rtol=1e-4)


def test_field_is_continuous_where_neighbours_change():
    model = make()
    _, identity, _ = inputs(model, batch=1)
    line = torch.linspace(-0.5, 0.5, 4001)[:, None] * torch.tensor([1.0, 0.6, -0.4]) + 0.01
    steps = model.sdf(line[None], identity)[0].diff().abs()
    assert steps.max() < 20 * steps.median() + 1e-4


def test_mirrored_codes_give_the_mirrored_head():
    model = make()
    with torch.no_grad():
        pairs = model.anchor_mean[:6].view(3, 2, 3)
        pairs[:, 1] = pairs[:, 0] * torch.tensor([-1.0, 1, 1])
        model.anchor_mean[6:, 0] = 0
        for parameter in model.anchor_mlp.parameters():
            parameter.zero_()
        # The middle and global members see x itself: make them blind to it.
        for name in ("input_weight", "skip_weight"):
            if getattr(model.ensemble, name, None) is not None:
                getattr(model.ensemble, name)[3:].zero_()
    points, identity, _ = inputs(model, batch=1)
    mirrored = identity.clone()
    local = mirrored[:, 6:].view(1, 10, 4)
    local[:, :6] = local[:, :6].view(1, 3, 2, 4).flip(2).reshape(1, 6, 4)
    there = model.sdf(points, identity)
    back = model.sdf(points * torch.tensor([-1.0, 1, 1]), mirrored)
    torch.testing.assert_close(there, back, atol=1e-5, rtol=1e-4)


def test_bilinear_deformation_is_its_basis_times_coefficients():
    model = make()
    points, identity, expression = inputs(model)
    basis = model.deformation_basis(points, identity)
    coefficients = model.forward_net.coefficients(expression)
    expected = torch.einsum("bprc,br->bpc", basis, coefficients)
    torch.testing.assert_close(model.deform(points, identity, expression), expected)
    assert basis.shape == (2, 50, 5, 3)


def test_concatenating_deformation_reads_point_identity_and_expression():
    model = make(forward_type="concat")
    assert isinstance(model.forward_net, ConcatDeformation)
    points, identity, expression = inputs(model)
    with torch.no_grad():
        model.forward_net.output.weight.normal_()
    base = model.deform(points, identity, expression)
    assert not torch.allclose(base, model.deform(points + 0.1, identity, expression))
    assert not torch.allclose(base, model.deform(points, identity + 0.1, expression))
    assert not torch.allclose(base, model.deform(points, identity, expression + 0.1))


def test_backward_only_and_forward_only():
    model = make(deformation="backward")
    points, identity, expression = inputs(model)
    torch.testing.assert_close(
        model.posed_sdf(points, identity, expression),
        model.sdf(points + model.deform(points, identity, expression), identity),
    )
    with pytest.raises(ValueError, match="no backward deformation"):
        make().posed_sdf(points, identity, expression)
    with pytest.raises(ValueError, match="deformation is"):
        make(deformation="sideways")


def test_codes_and_blendshape_weights_are_inverse():
    model = make(expression_names=["a", "b", "c"])
    model.expression_basis.copy_(torch.linalg.qr(torch.randn(8, 3))[0])
    model.expression_basis.copy_(model.expression_basis.half())  # as it is stored: no longer quite orthonormal
    weights = torch.rand(4, 3)
    codes = model.expression_from_weights(weights)
    assert codes.shape == (4, 8)
    torch.testing.assert_close(model.weights_from_expression(codes), weights, atol=2e-6, rtol=0)


def test_sampled_identities_are_seeded_and_follow_the_codebook():
    model = make()
    model.identity_codes.copy_(torch.randn(5, model.identity_dim))
    draw = [model.sample_identity(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1]) and not torch.allclose(draw[0], draw[2])
    spread = torch.stack([model.sample_identity(torch.Generator().manual_seed(s), scale=1.0) for s in range(400)])
    torch.testing.assert_close(spread.mean(0), model.identity_codes.mean(0), atol=0.25, rtol=0)
    expected = model.identity_codes.std(0)
    torch.testing.assert_close(spread.std(0), expected, atol=0.25, rtol=0)


def test_gradients_reach_points_and_codes():
    model = make(deformation="both")
    points, identity, expression = (tensor.requires_grad_() for tensor in inputs(model))
    (model.posed_sdf(points, identity, expression).sum() + model.deform(points, identity, expression).sum()).backward()
    assert all(tensor.grad.abs().sum() > 0 for tensor in (points, identity, expression))


def test_backward_network_sees_where_the_controls_go():
    """With its own part at zero, a posed control is carried back to where it came from, whatever the expression."""
    model = make(deformation="both", backward_type="controls", backward_layers=2)
    _, identity, expression = inputs(model)
    with torch.no_grad():
        model.backward_net.output.weight.zero_()
        model.backward_net.control_scales.fill_(1e-3)  # controls don't hear of each other
        model.forward_net.fields.weight.mul_(20)
    controls = model.controls(identity)
    motion = model.deform(controls, identity, expression)
    assert motion.norm(dim=-1).mean() > 0.01
    back = model.canonical(controls + motion, identity, expression)
    assert (back - controls).norm(dim=-1).median() < 0.06 * motion.norm(dim=-1).median()
    far = torch.full((2, 1, 3), 5.0)
    assert model.deform_backward(far, identity, expression).abs().max() < 1e-6


def test_backward_network_of_controls_reads_codes_and_keeps_the_other_weights():
    model, plain = make(deformation="both", backward_type="controls", backward_layers=2), make()
    # Built from the same seed, the networks that a head had before are the same.
    shared = [name for name in plain.state_dict() if not name.startswith("backward_net")]
    assert all(torch.equal(plain.state_dict()[name], model.state_dict()[name]) for name in shared)
    points, identity, expression = inputs(model)
    with torch.no_grad():
        model.backward_net.output.weight.normal_()
    base = model.posed_sdf(points, identity, expression)
    assert not torch.allclose(base, model.posed_sdf(points, identity + 0.1, expression))
    assert not torch.allclose(base, model.posed_sdf(points, identity, expression + 0.1))
    part = slice(1, 2)
    alone = model.posed_sdf(points[part], identity[part], expression[part])
    torch.testing.assert_close(alone, base[part], atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match='needs deformation "both"'):
        make(backward_type="controls")
    with pytest.raises(ValueError, match="backward_type is"):
        make(backward_type="sideways")


@pytest.mark.parametrize("deformation", ["forward", "backward", "both"])
def test_save_and_load(tmp_path, deformation):
    model = make(deformation=deformation)
    model.save_pretrained(tmp_path)
    again = NPHMModel.from_pretrained(tmp_path)
    points, identity, expression = inputs(model)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    torch.testing.assert_close(again.sdf(points, identity), model.sdf(points, identity))
    torch.testing.assert_close(again.deform(points, identity, expression), model.deform(points, identity, expression))
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()


def test_many_points_at_once_have_the_distances_that_few_have():
    """Rows are then sorted by member, in place of by network, with the codes of two identities."""
    model = make()
    points = torch.randn(2, 1200, 3) * 0.3
    codes = torch.randn(2, model.identity_dim) * 0.3
    few = torch.cat([model.sdf(part, codes) for part in points.split(60, dim=1)], 1)
    torch.testing.assert_close(model.sdf(points, codes), few, rtol=1e-5, atol=1e-6)
