# SPDX-License-Identifier: MIT
"""Encoded clips and the random segments that training draws from them."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from facetalk_hf.data.segments import EncodedClips, SegmentDataset, take_batch
from facetalk_hf.errors import FaceTalkError


def make_clips(lengths=(30, 12, 60), folder=None) -> EncodedClips:
    """Channel 0 of codes and audio counts the frames of all clips from 1."""
    rng, clips, first = np.random.default_rng(0), [], 1
    for length in lengths:
        codes, audio = rng.standard_normal((length, 3)), rng.standard_normal((length, 5))
        codes[:, 0] = audio[:, 0] = np.arange(first, first + length)
        clips.append((codes, audio))
        first += length
    return EncodedClips.collect(iter(clips), folder)


def test_clips_in_memory_and_mapped_are_the_same(tmp_path):
    memory, mapped = make_clips(), make_clips(folder=tmp_path / "cache" / "train")
    assert isinstance(mapped.codes, np.memmap) and not isinstance(memory.codes, np.memmap)
    assert memory.starts.tolist() == [0, 30, 42, 102] and np.array_equal(memory.starts, mapped.starts)
    assert np.array_equal(memory.codes, mapped.codes) and np.array_equal(memory.audio, mapped.audio)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["train"]


def test_nothing_is_left_of_clips_that_fail(tmp_path):
    def broken():
        yield np.zeros((5, 3)), np.zeros((5, 2))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        EncodedClips.collect(broken(), tmp_path / "cache")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FaceTalkError, match="frame rates"):
        EncodedClips.collect([(np.zeros((24, 3)), np.zeros((30, 2)))])
    with pytest.raises(FaceTalkError, match="clip 1 has codes of 4 numbers, those before it have 3"):
        EncodedClips.collect([(np.zeros((24, 3)), np.zeros((24, 2))), (np.zeros((24, 4)), np.zeros((24, 2)))])
    with pytest.raises(FaceTalkError, match="no clips"):
        EncodedClips.collect([])


def test_statistics():
    clips = make_clips((5000,))
    clips.codes[:, 0] = 7  # a channel that never moves
    mean, std = clips.statistics()
    torch.testing.assert_close(mean, torch.from_numpy(clips.codes.mean(0)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(std[1:], torch.from_numpy(clips.codes.std(0)[1:]), atol=1e-4, rtol=1e-4)
    assert 0.01 < std[0] < 0.1


def test_segments_are_cut_from_one_clip():
    clips = make_clips()
    batch = SegmentDataset(clips, 20).__getitems__(list(range(300)))
    lengths = batch["frame_mask"].sum(1)
    for codes, audio, length in zip(batch["codes"], batch["audio"], lengths, strict=True):
        frames = codes[:length, 0]
        assert torch.equal(frames, audio[:length, 0]) and codes[length:].abs().sum() == audio[length:].abs().sum() == 0
        assert torch.equal(frames, frames[0] + torch.arange(length))
        clip = np.searchsorted(clips.starts, frames[0] - 1, side="right") - 1
        assert clips.starts[clip] < frames[-1] <= clips.starts[clip + 1]
        assert length == min(20, clips.starts[clip + 1] - clips.starts[clip])
    seen = torch.bincount(batch["codes"][..., 0].flatten().long(), minlength=103)[1:]
    assert seen.min() > 0.2 * seen.float().mean()  # the ends of clips are not starved


def test_draws():
    dataset = SegmentDataset(make_clips(), 20, augmentation=(0.5, 1.5), num_timesteps=100)
    batch = dataset.__getitems__(list(range(2000)))
    assert abs(batch["audio_keep"].float().mean() - 0.75) < 0.03
    assert batch["timestep"].min() == 0 and batch["timestep"].max() == 99
    assert abs(batch["noise"].std() - 1) < 0.01 and abs(batch["noise"].mean()) < 0.01
    factor = batch["codes"][:, 0, 0] / batch["audio"][:, 0, 0]
    assert 0.5 < factor.min() < 0.55 and 1.45 < factor.max() < 1.5 and abs(factor.mean() - 1) < 0.03
    torch.testing.assert_close(batch["intensity"], factor, atol=2e-3, rtol=2e-3)  # audio is float16
    dataset.intensity_dropout = 0.2
    told = ~dataset.__getitems__(list(range(2000)))["intensity"].isnan()
    assert abs(told.float().mean() - 0.8) < 0.03


def test_a_sample_depends_on_seed_and_index_alone():
    def collect(dataset, **options):
        batches = list(DataLoader(dataset, collate_fn=take_batch, **options))
        return {key: torch.cat([batch[key] for batch in batches]) for key in batches[0]}

    clips = make_clips()
    whole = collect(SegmentDataset(clips, 20, 12, seed=3), batch_size=4)
    others = [
        (collect(SegmentDataset(clips, 20, 12, seed=3), batch_size=6), slice(0, 12)),
        (collect(SegmentDataset(clips, 20, 6, offset=6, seed=3), batch_size=3), slice(6, 12)),
        (collect(SegmentDataset(clips, 20, 12, seed=3), batch_size=4, num_workers=2), slice(0, 12)),
    ]
    for part, rows in others:
        assert all(torch.equal(part[key], value[rows]) for key, value in whole.items())
    assert torch.equal(SegmentDataset(clips, 20, 12, seed=3)[5]["noise"], whole["noise"][5])
    assert not torch.equal(SegmentDataset(clips, 20, 12, seed=4)[5]["noise"], whole["noise"][5])
