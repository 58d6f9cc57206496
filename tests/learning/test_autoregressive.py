# SPDX-License-Identifier: MIT
"""The autoregressive decoder that diffusion is compared with."""

import torch

from facetalk_hf.learning.autoregressive import AutoregressiveDecoder, scheduled_inputs, shifted


def test_autoregressive_decoder_runs_as_it_was_trained():
    """Frame by frame with kept keys and values it makes what all frames at once make of the same past."""
    torch.manual_seed(0)
    model = AutoregressiveDecoder(6, 10, hidden_size=16, num_layers=2, num_heads=2, period=5).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    audio = torch.randn(2, 17, 10)
    with torch.no_grad():
        codes = model.generate(audio)
        torch.testing.assert_close(model(shifted(codes), audio), codes, atol=1e-5, rtol=1e-4)
        changed = codes.clone()
        changed[:, 8] += 1
        difference = model(shifted(changed), audio) - codes
        louder = model(shifted(codes), torch.where(torch.arange(17)[:, None] == 8, -audio, audio)) - codes
    assert difference.abs().amax((0, 2)).gt(1e-5).nonzero().flatten().tolist() == list(range(9, 17))
    assert louder.abs().amax((0, 2)).gt(1e-5).nonzero().flatten().tolist() == list(range(8, 17))


def test_scheduled_inputs_are_the_models_own():
    torch.manual_seed(0)
    model = AutoregressiveDecoder(6, 10, hidden_size=16, num_layers=1, num_heads=2)
    torch.nn.init.normal_(model.code_out.weight)
    codes, audio = torch.randn(3, 40, 6), torch.randn(3, 40, 10)
    assert torch.equal(scheduled_inputs(model, codes, audio, 0.0), shifted(codes))
    own = shifted(model(shifted(codes), audio))
    torch.testing.assert_close(scheduled_inputs(model, codes, audio, 1.0), own)
    half = scheduled_inputs(model, codes, audio, 0.5)[:, 1:]
    taken = (half == shifted(codes)[:, 1:]).all(-1).float().mean()
    assert 0.3 < taken < 0.7
